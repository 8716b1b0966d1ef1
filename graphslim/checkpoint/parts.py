"""The part of a graph that its outputs need, and the placeholders where data enters it."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional, Sequence, Set

import numpy as np

from graphslim.errors import LoadError
from graphslim.graphdef.signature import known_port
from graphslim.ir import CONTROL, Attrs, DType, Graph, Node, Port, Shape, Tensor
from graphslim.ir.families import CONTROL_FLOW, IDENTITIES, PLACEHOLDERS
from graphslim.ir.query import in_branch

_PIPELINES = (
    *("IteratorGetNext", "IteratorGetNextSync", "IteratorGetNextAsOptional", "OptionalGetValue"),
    *("QueueDequeue", "ReaderRead", "ReaderReadUpTo", "Unstage", "MapUnstage", "OutfeedDequeue"),
    *("InfeedDequeue", "ReadFile", "WholeFileRead"),
)
"""Beginnings of the names of ops that fetch data from outside."""
_DECODERS = (
    *("Decode", "ParseExample", "ParseSingleExample", "ParseSequenceExample", "PyFunc"),
    *("EagerPyFunc", "ParseSingleSequenceExample", "ParseTensor"),
)
"""Beginnings of the names of ops that make tensors of what was fetched."""
_LISTED = ("output_types", "component_types", "Tout", "dtypes", "Tdense", "out_type")
_SINGLE = ("DstT", "dtype", "out_type", "output_type", "T", "Tparams", "Tdim")
"""Attributes that say element types: a list with one for each output, or one for all outputs."""


# ------------------------------------------------------------------ changes of nodes


def put(graph: Graph, name: str, op: str, inputs: Iterable[Port] = (), **attrs: Any) -> None:
    """Replaces a node by one of another op under the same name, which its readers then read."""
    graph.replace(Node(name, op, Attrs(attrs), graph[name].device), inputs)


def add(graph: Graph, base: str, op: str, inputs: Iterable[Port] = (), **attrs: Any) -> Port:
    """Adds a node named `base`, numbered if that name is taken; returns its first output."""
    name = graph.fresh_name(base)
    graph.add(Node(name, op, Attrs(attrs)), inputs)
    return Port(name)


def add_constant(graph: Graph, base: str, value: np.ndarray) -> Port:
    """Adds a constant named `base`, numbered if that name is taken; returns its output."""
    tensor = Tensor.of(value)
    return add(graph, base, "Const", dtype=tensor.dtype, value=tensor)


def become_identity(graph: Graph, name: str, source: Port) -> None:
    """Replaces a node that has an attribute `T` by an identity of `source`."""
    put(graph, name, "Identity", [source], T=graph[name].attrs["T"])


def read_variable(part: Graph, whole: Graph, variable: str) -> Port:
    """A port of `part` with the value of a variable of `whole`, which is copied if needed."""
    if variable not in part:
        part.add(whole[variable].copy())
    if part[variable].op != "VarHandleOp":
        return Port(variable)
    for graph in (part, whole):
        for use in graph.uses_of(Port(variable)):
            reader = graph[use.node]
            if reader.op == "ReadVariableOp" and len(graph.inputs_of(reader)) == 1:
                if reader.name not in part:
                    part.add(reader.copy(), [Port(variable)])
                return Port(reader.name)
    name, dtype = f"{variable}/Read/ReadVariableOp", part[variable].attrs["dtype"]
    return add(part, name, "ReadVariableOp", [Port(variable)], dtype=dtype)


# ------------------------------------------------------------------ what outputs need


def part_of(graph: Graph) -> Graph:
    """A graph of copies of the nodes that the outputs of `graph` need, and of its inputs.

    Control inputs are left out, but for those that decide whether a branch runs.
    """
    inside = in_branch(graph)

    def counts(port: Port) -> bool:
        node = graph[port.node]
        return port.port != CONTROL or (
            node.op in CONTROL_FLOW or (node.name in inside and node.op in IDENTITIES)
        )

    needed: Set[str] = set()
    waiting = [port.node for port in graph.outputs]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend([port.node for port in graph.inputs_of(name) if counts(port)])
    needed |= set(graph.inputs)
    part = Graph(graph.name)
    nodes_with_inputs = []
    for node in graph:
        if node.name in needed:
            twin, before = node.copy(), graph.inputs_of(node)
            after = [port for port in before if port.node in needed and counts(port)]
            twin.rewired = node.rewired or len(after) != len(before)
            nodes_with_inputs.append((twin, after))
    part.load(nodes_with_inputs)
    part.inputs, part.outputs = list(graph.inputs), list(graph.outputs)
    part.input_shapes = dict(graph.input_shapes)
    part.origin = graph.origin
    part.gone = graph.gone | {node.name for node in graph if node.name not in needed}
    return part


# ------------------------------------------------------------------ where data enters


def is_pipeline(node: Node) -> bool:
    """Whether an op fetches data from outside the graph."""
    return node.op.startswith(_PIPELINES)


def open_inputs(graph: Graph, inputs: Optional[Sequence[str]]) -> List[str]:
    """Makes placeholders, in place, of given tensors or of what comes from input pipelines.

    Args:
        graph: its outputs are known; it is changed.
        inputs: names (`node` or `node:port`) of tensors to feed; None for what the outputs need.

    Returns:
        the names of the placeholders of given inputs, or of those that pipelines became.

    Raises:
        LoadError: a given name is not in the graph, or the element type of a port is not known.
    """
    ports = [known_port(graph, text, "--inputs") for text in inputs or ()]
    names = [_open(graph, port) for port in ports]
    for port in _pipelines(graph, set(names)):
        names.append(_open(graph, port))
    return list(dict.fromkeys(names))


def _pipelines(graph: Graph, fed: Set[str]) -> List[Port]:
    """The ports of input pipelines that the outputs depend on, nearest to the outputs first."""
    served: Set[str] = set()
    for node in graph.order():
        is_fed = node.op in PLACEHOLDERS or node.name in fed
        if is_fed or any(port.node in served for port in graph.data_inputs(node)):
            served.add(node.name)
    pipelines: List[Port] = []
    waiting = list(graph.outputs)
    visited = set(waiting)
    for port in waiting:
        node = graph[port.node]
        if is_pipeline(node) or (
            # An op that decodes a string that is fed belongs to the network, as when it is served.
            node.op.startswith(_DECODERS) and node.name not in served
        ):
            pipelines.append(port)
        else:
            fresh = [source for source in graph.data_inputs(node) if source not in visited]
            waiting.extend(dict.fromkeys(fresh))
            visited.update(fresh)
    return list(dict.fromkeys(pipelines))


def _open(graph: Graph, port: Port) -> str:
    """Replaces a port by a placeholder, and returns its name."""
    node = graph[port.node]
    if node.op in PLACEHOLDERS:
        return node.name
    attrs: Dict[str, Any] = {
        "dtype": _dtype(graph, node, port.port),
        "shape": _shape(node, port.port),
    }
    if port.port == 0:
        _move_others(graph, node)
        put(graph, node.name, "Placeholder", **attrs)
        return node.name
    opened = add(graph, f"{node.name}_{port.port}", "Placeholder", **attrs)
    _reconnect(graph, {port: opened})
    return opened.node


def _move_others(graph: Graph, node: Node) -> None:
    """Moves the further ports of a node that becomes a placeholder to a copy of the node."""
    ports = {graph.inputs_of(use.node)[use.index] for use in graph.uses_of(node)}
    further = sorted(
        port.port for port in {*ports, *graph.outputs} if port.node == node.name and port.port > 0
    )
    if further:
        name = graph.fresh_name(f"{node.name}_further")
        graph.add(Node(name, node.op, node.attrs.copy(), node.device), graph.inputs_of(node))
        _reconnect(graph, {Port(node.name, index): Port(name, index) for index in further})


def _reconnect(graph: Graph, moved: Dict[Port, Port]) -> None:
    """Lets the readers of each port, the graph's outputs among them, read the port given for it."""
    for before, after in moved.items():
        graph.replace_uses(before, after)
    graph.outputs = [moved.get(port, port) for port in graph.outputs]


def _dtype(graph: Graph, node: Node, index: int) -> DType:
    for key in _LISTED:
        kinds = node.attrs.get(key)
        if isinstance(kinds, list) and index < len(kinds) and isinstance(kinds[index], DType):
            return kinds[index]
    for key in _SINGLE:
        kind = node.attrs.get(key)
        if isinstance(kind, DType):
            return kind
    if node.op.startswith("Decode"):
        return DType.uint8
    raise LoadError(
        f"the element type of output {index} of this {node.op} is not known",
        f"{graph.name}: node {node.name}",
        "give a tensor behind it with --inputs",
    )


def _shape(node: Node, index: int) -> Shape:
    """The shape that a port states."""
    for key in ("_output_shapes", "output_shapes"):
        shapes = node.attrs.get(key)
        if isinstance(shapes, list) and index < len(shapes) and isinstance(shapes[index], Shape):
            return shapes[index]
    return Shape(None)
