"""One walk over a graph that turns what computes in NCHW, and keeps track of what stands where.

Ops are changed in place, so that a tensor that had the axes (N, C, H, W) has (N, H, W, C) under
the same name from then on. A reader that cannot take it so gets a Transpose back.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from graphslim.channels.facts import known
from graphslim.channels.groups import Channels, analyse
from graphslim.channels.rules import guarded, registering
from graphslim.ir import CONTROL, Attrs, DType, Graph, Node, Port, Tensor
from graphslim.ir.families import TRUTH_VALUED
from graphslim.ir.query import in_loop
from graphslim.layout.visit import LayoutRule, LayoutVisit

TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
"""What a Transpose is given; `TO_NCHW[axis]` is also where an axis of an NCHW tensor goes."""

KERNELS: Dict[str, Callable[[LayoutVisit], None]] = {}
"""By op that has a `data_format`, how its nodes are turned."""

CARRIES: Dict[str, LayoutRule] = {}
"""By op, how a node is turned whose input is turned."""

RUNS_ANYWHERE = frozenset(("BiasAdd",))
"""Ops whose CPU kernels take NCHW in every TensorFlow."""


def kernel(*ops: str) -> Callable[[Callable[[LayoutVisit], None]], Callable[[LayoutVisit], None]]:
    """Registers how ops with a `data_format` are turned."""

    def register(function: Callable[[LayoutVisit], None]) -> Callable[[LayoutVisit], None]:
        KERNELS.update(dict.fromkeys(ops, function))
        return function

    return register


def layout_rule(*ops: str, replace: bool = False) -> Callable[[LayoutRule], LayoutRule]:
    """Registers how ops pass NHWC on: a function that gets a `LayoutVisit` of an op with an input
    whose NHWC form is there.

    It lets the op read and give NHWC, and gives True; or it gives False and has changed nothing,
    and the op is handed NCHW as before, as an op without a rule is.

    Raises:
        AnalysisError: an op has a rule already and `replace` is not given.
    """
    return registering(CARRIES, "layout", ops, replace)


def to_nhwc(graph: Graph) -> int:
    """Turns every op that computes in NCHW, in place; gives how many there were.

    Inputs and outputs keep their names, shapes and values.

    Raises:
        AnalysisError: the graph contradicts itself.
    """
    layouts = Layouts(graph)
    if layouts.kernels:
        layouts.run()
    return len(layouts.kernels)


def needs_nhwc(graph: Graph) -> bool:
    """Whether a graph holds NCHW ops that TensorFlow has no CPU kernel for."""
    return any(_is_nchw(node) and node.op not in RUNS_ANYWHERE for node in graph)


def runnable(graph: Graph) -> Graph:
    """The graph, or its NHWC twin where TensorFlow's CPU kernels do not take its NCHW ops."""
    if not needs_nhwc(graph):
        return graph
    twin = graph.copy()
    to_nhwc(twin)
    return twin


def _is_nchw(node: Node) -> bool:
    return node.op in KERNELS and node.text("data_format", "NHWC") == "NCHW"


class Layouts:
    """Where the NHWC form of each NCHW tensor stands, and the changes to the graph.

    Attributes:
        graph: the graph, changed in place.
        facts: shapes and numbers of before.
        kernels: names of the ops to turn.
        made: Transposes that the walk added.
        loose: Transposes that it made an Identity of, which it will remove.
        fixed: nodes that depend on constants alone.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.facts = graph, _facts(graph)
        self.ends = {port.node for port in graph.outputs}
        self.kernels = {node.name for node in graph if _is_nchw(node) and self._can_turn(node)}
        self.made: Set[str] = set()
        self.loose: List[str] = []
        self.fixed: Set[str] = set()
        self._nhwc: Dict[Port, Port] = {}
        self._nchw: Dict[Port, Port] = {}
        self._orders: Dict[Tuple[int, ...], Port] = {}
        self._in_loop = set(in_loop(graph))

    def _can_turn(self, node: Node) -> bool:
        """Whether an NCHW op is computed in the graph, on a tensor of four axes."""
        if node.name in self.graph.inputs:
            return False
        if any(port.node == node.name and port.port for port in self.graph.outputs):
            return False
        if node.op != "BiasAdd":
            return True
        inputs = self.graph.data_inputs(node)
        return bool(inputs) and self.facts.fact(inputs[0]).rank == 4

    def run(self) -> None:
        """Visits every node, then removes what nobody reads any more."""
        idle = {node.name for node in self.graph if not self.graph.uses_of(node)}
        for node in self.graph.order():
            rule = KERNELS[node.op] if node.name in self.kernels else CARRIES.get(node.op)
            guarded(self._visit, self.graph, node, node, rule=rule)
        self._sweep(idle)

    def _visit(self, node: Node) -> None:
        visit = LayoutVisit(self, node)
        self._note_fixed(node)
        if node.name in self.kernels:
            KERNELS[node.op](visit)
        elif node.op == "Transpose" or any(map(visit.is_turned, range(len(visit.inputs)))):
            rule = None if node.name in self.graph.inputs else CARRIES.get(node.op)
            is_turned = rule is not None and rule(visit)
            if not isinstance(is_turned, (bool, np.bool_)):
                raise TypeError(f"a layout rule gives True or False, not {is_turned!r}")
            if not is_turned:
                visit.keep()

    def _note_fixed(self, node: Node) -> None:
        inputs = self.graph.inputs_of(node)
        known = all(port.node in self.fixed and port.port != CONTROL for port in inputs)
        if node.op == "Const" or (inputs and known and node.name not in self.graph.inputs):
            self.fixed.add(node.name)

    # ------------------------------------------------------------------ which form stands where

    def is_turned(self, port: Port) -> bool:
        """Whether the NHWC form of a tensor is there."""
        return port in self._nhwc

    def is_in_place(self, port: Port) -> bool:
        """Whether only the NHWC form of a tensor is there."""
        return self._nhwc.get(port) == port

    def alias(self, port: Port, nhwc: Port) -> None:
        """Notes where the NHWC form of a tensor stands."""
        self._nhwc[port] = nhwc

    def is_free(self, port: Port) -> bool:
        """Whether the NHWC form of a tensor takes no new Transpose."""
        if self.is_turned(port) or self.constant(port) is not None:
            return True
        return self._is_reshaped(port) or self._fixed_vector(port) is not None

    def nhwc(self, port: Port, dtype: DType) -> Port:
        """Where the NHWC form of a tensor of four axes stands; it is made if need be."""
        turned = self._nhwc.get(port)
        if turned is None:
            vector = self._fixed_vector(port)
            if self.constant(port) is not None:
                turned = self.copied(port, TO_NHWC)
            elif self._is_reshaped(port):
                turned = self._reshaped(port)
            elif vector is not None:
                sizes = [vector[axis] for axis in TO_NHWC]
                turned = self.reshape(f"{port.node}/nhwc", port, sizes, dtype)
            else:
                turned = self._transposed(port, TO_NHWC, dtype, "nhwc")
            self._nhwc[port] = turned
        return turned

    def nchw(self, port: Port) -> Port:
        """Where a tensor stands in its original form."""
        if not self.is_in_place(port):
            return port
        if port not in self._nchw:
            dtype = _dtype(self.graph[port.node], port.port)
            self._nchw[port] = self._transposed(port, TO_NCHW, dtype, "nchw")
        return self._nchw[port]

    def turned(self, node: Node, ports: Sequence[int]) -> None:
        """Notes that outputs of a node have become NHWC; an output of the graph keeps its form."""
        self.graph.drop_attr(node, "_output_shapes")
        source = self._set_apart(node) if node.name in self.ends else node.name
        for port in ports:
            self._nhwc[Port(node.name, port)] = Port(source, port)

    def _set_apart(self, node: Node) -> str:
        """Moves the work of a node to a new node, and makes the old node the Transpose of that."""
        name = self.graph.fresh_name(f"{node.name}/nhwc")
        twin = Node(name, node.op, node.attrs.copy(), node.device)
        self.graph.add(twin, self.graph.inputs_of(node))
        for use in self.graph.uses_of(node):
            port = self.graph.inputs_of(use.node)[use.index].port
            if port > 0:
                self.graph.rewire(use.node, use.index, Port(name, port))
        dtype = _dtype(node, 0)
        inputs = [Port(name), self.order(TO_NCHW, Port(name))]
        self.graph.replace(_transpose(node.name, dtype, node.device), inputs)
        return name

    # ------------------------------------------------------------------ new nodes

    def number(self, name: str, numbers: object, dtype: DType, beside: Port) -> Port:
        """A new integer constant, in the frame of the loop in which `beside` is, if any."""
        tensor = Tensor.from_numbers(np.asarray(numbers), dtype)
        attrs = Attrs({"dtype": dtype, "value": tensor})
        control = [Port(beside.node, CONTROL)] if beside.node in self._in_loop else []
        node = Node(self.graph.fresh_name(name), "Const", attrs)
        if control:
            self._in_loop.add(node.name)
        return Port(self.graph.add(node, control).name)

    def order(self, axes: Sequence[int], beside: Port) -> Port:
        """A constant for a Transpose or a GatherV2; the same for all outside of loops."""
        key = tuple(axes)
        if beside.node in self._in_loop:
            return self.number(f"{beside.node}/axes", key, DType.int32, beside)
        if key not in self._orders:
            end = "_to_nhwc" if key == TO_NHWC else "_to_nchw" if key == TO_NCHW else ""
            self._orders[key] = self.number(f"axes{end}", key, DType.int32, beside)
        return self._orders[key]

    def reordered(self, port: Port, axes: Sequence[int], dtype: DType, name: str) -> Port:
        """A vector of four numbers, or a matrix of four rows, in another order."""
        numbers = known(self.facts.fact(port).value) if port.node in self.fixed else None
        if numbers is not None:
            return self.number(name, numbers[list(axes)], dtype, port)
        maker = self.graph[port.node]
        parts = self.graph.data_inputs(maker)
        name = self.graph.fresh_name(name)
        if maker.op == "Pack" and len(parts) == 4:
            node = Node(name, "Pack", maker.attrs.copy(), maker.device)
            self.graph.add(node, [parts[axis] for axis in axes])
        else:
            attrs = {"Tparams": dtype, "Tindices": DType.int32, "Taxis": DType.int32}
            node = Node(name, "GatherV2", Attrs(attrs), maker.device)
            zero = self.number(f"{name}/axis", 0, DType.int32, port)
            self.graph.add(node, [port, self.order(axes, port), zero])
        if port.node in self._in_loop:
            self._in_loop.add(name)
        return Port(name)

    def control(self, node: Node) -> List[Port]:
        """What a node waits for without reading it."""
        return [port for port in self.graph.inputs_of(node) if port.port == CONTROL]

    def constant(self, port: Port) -> Optional[Node]:
        """The Const that a port is, or passes on; else None."""
        node = self._behind(port)
        return node if node.op == "Const" else None

    def _behind(self, port: Port) -> Node:
        """The node that a value comes from, behind identities that wait for nothing else."""
        node = self.graph[port.node]
        while node.op == "Identity" and node.name not in self.graph.inputs:
            inputs = self.graph.inputs_of(node)
            if len(inputs) != 1:
                break
            node = self.graph[inputs[0].node]
        return node

    def _fixed_vector(self, port: Port) -> Optional[Sequence[int]]:
        """The sizes of a tensor computed from constants along one axis; else None."""
        shape = self.facts.fact(port).shape
        if port.node not in self.fixed or shape is None or len(shape) != 4:
            return None
        sizes = [size for size in shape if size is not None]
        return sizes if len(sizes) == 4 and is_vector(sizes) else None

    def copied(self, port: Port, axes: Sequence[int]) -> Port:
        """A copy in NHWC of a constant of up to four axes, which stays for other readers."""
        source = self.constant(port)
        assert source is not None
        tensor = source.attrs["value"]
        array = tensor.array.reshape((1,) * (4 - len(tensor.shape)) + tensor.shape)
        turned = Tensor.of(np.transpose(array, axes), tensor.dtype)
        attrs = Attrs({"dtype": tensor.dtype, "value": turned})
        node = Node(self.graph.fresh_name(f"{source.name}/nhwc"), "Const", attrs, source.device)
        self.graph.add(node, self.graph.inputs_of(source))
        if source.name in self._in_loop:
            self._in_loop.add(node.name)
        return Port(node.name)

    def reshape(self, name: str, port: Port, sizes: Sequence[int], dtype: DType) -> Port:
        """A tensor in another shape."""
        name = self.graph.fresh_name(name)
        target = self.number(f"{name}/shape", list(sizes), DType.int32, port)
        node = Node(name, "Reshape", Attrs({"T": dtype, "Tshape": DType.int32}))
        return Port(self.graph.add(node, [port, target]).name)

    def pass_on(self, node: Node, source: Port) -> None:
        """Makes an Identity of a Transpose that only undoes what the walk did."""
        attrs = Attrs({"T": node.attrs.get("T", DType.float32)})
        twin = Node(node.name, "Identity", attrs, node.device)
        self.graph.replace(twin, [source, *self.control(node)])
        self.loose.append(node.name)

    def ask_sizes(self, node: Node, source: Port, dtype: DType) -> None:
        """Lets a Shape read the NHWC form, and puts its numbers in the order of NCHW."""
        name = self.graph.fresh_name(f"{node.name}/nhwc")
        self.graph.add(Node(name, "Shape", node.attrs.copy(), node.device), [source])
        attrs = Attrs({"Tparams": dtype, "Tindices": DType.int32, "Taxis": DType.int32})
        zero = self.number(f"{node.name}/axis", 0, DType.int32, source)
        inputs = [Port(name), self.order(TO_NCHW, source), zero]
        twin = Node(node.name, "GatherV2", attrs, node.device)
        self.graph.replace(twin, [*inputs, *self.control(node)])

    def _is_reshaped(self, port: Port) -> bool:
        """Whether a tensor comes from a Reshape that may as well give it the axes of NHWC."""
        node, shape = self._behind(port), self.facts.fact(port).shape
        if node.op != "Reshape" or node.name in self.graph.inputs:
            return False
        return shape is not None and len(shape) == 4 and is_vector(shape)

    def _reshaped(self, port: Port) -> Port:
        maker = self._behind(port)
        data, target = self.graph.data_inputs(maker)[:2]
        dtype = maker.attrs.get("Tshape", DType.int32)
        name = self.graph.fresh_name(f"{maker.name}/nhwc")
        sizes = self.reordered(target, TO_NHWC, dtype, f"{name}/shape")
        twin = Node(name, "Reshape", maker.attrs.copy(), maker.device)
        self.graph.add(twin, [data, sizes, *self.control(maker)])
        self.graph.drop_attr(name, "_output_shapes")
        return Port(name)

    def _transposed(self, port: Port, axes: Sequence[int], dtype: DType, end: str) -> Port:
        name = f"{port.node}/{end}" + (f"_{port.port}" if port.port else "")
        node = _transpose(self.graph.fresh_name(name), dtype, self.graph[port.node].device)
        self.graph.add(node, [port, self.order(axes, port)])
        self.made.add(node.name)
        if port.node in self._in_loop:
            self._in_loop.add(node.name)
        return Port(node.name)

    # ------------------------------------------------------------------ afterwards

    def _sweep(self, idle: Set[str]) -> None:
        """Removes the identities left of Transposes, and what has no readers but had some."""
        for name in self.loose:
            inputs = self.graph.inputs_of(name)
            if name not in self.ends and len(inputs) == 1:
                self.graph.replace_uses(Port(name), inputs[0])
        needed = idle.union(self.ends, self.graph.inputs)
        waiting = [node.name for node in self.graph]
        while waiting:
            name = waiting.pop()
            if name in self.graph and name not in needed and not self.graph.nx.succ[name]:
                waiting.extend([port.node for port in self.graph.inputs_of(name)])
                self.graph.set_inputs(name, [])
                self.graph.remove(name)


def _facts(graph: Graph) -> Channels:
    """Shapes that hold for whatever the graph can be fed, not for the shapes given alone."""
    if not graph.input_shapes:
        return analyse(graph)
    free = graph.copy()
    free.input_shapes = {}
    return analyse(free)


def is_vector(shape: Sequence[Optional[int]]) -> bool:
    """Whether at most one of the axes behind the first is not of size 1."""
    return len([size for size in shape[1:] if size != 1]) < 2


def _transpose(name: str, dtype: DType, device: str) -> Node:
    return Node(name, "Transpose", Attrs({"T": dtype, "Tperm": DType.int32}), device)


def _dtype(node: Node, port: int) -> DType:
    """The element type of an output of an op that the walk turns."""
    if node.op in TRUTH_VALUED:
        return DType.bool
    key = {"Cast": "DstT", "GatherV2": "Tparams"}.get(node.op, "T")
    dtype = node.attrs.get(key, DType.float32)
    if isinstance(dtype, list):
        dtype = dtype[port]
    return dtype if isinstance(dtype, DType) else DType.float32
