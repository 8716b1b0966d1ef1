"""The walk over a graph that names every channel: facts, ties, pins and contractions."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple, Type

import numpy as np

from graphslim import ops  # noqa: F401  (registers the rules)
from graphslim.analysis.audit import audit
from graphslim.analysis.computed import ComputedWeights, element_type
from graphslim.analysis.joints import Pin
from graphslim.analysis.sizes import Sizes
from graphslim.channels.reasons import IsInput, IsOutput, Reason, WeightsMade, WeightsMadeInRun
from graphslim.errors import AnalysisError
from graphslim.ir import IDENTITIES, Graph, Node, Port, Tensor, Use
from graphslim.ir.query import constant_nodes
from graphslim.ops.guard import FOLLOWED, LONGEST, guarded
from graphslim.ops.joints import LONGEST_FLAT, Joint
from graphslim.ops.table import (
    CHANNEL_RULES,
    UNKNOWN,
    Contraction,
    Fact,
    Ids,
    OpVisit,
    fact,
)
from graphslim.ops.walls import stated, wall

_STEPWISE = frozenset(
    ("Add", "AddV2", "Sub", "Mul", "RealDiv", "Maximum", "Minimum", "SquaredDifference")
)
"""Ops that take a vector laid along an axis of their other operand."""


class ParamAxis(NamedTuple):
    """An axis of a constant; its positions have the ids `start` to `start + size`.

    `use` is the one reader that the ids hold for, where a constant has more than one width to
    choose from (see `Walk.read`); None for all of them.
    """

    param: str
    axis: int
    start: int
    size: int
    use: Optional[Use] = None


def _shaped(node: Node, outs: List[Fact]) -> List[Fact]:
    """The outputs of an op, with the shapes that its attributes state where a rule knows none."""
    if all(out.shape is not None for out in outs) or "_output_shapes" not in node.attrs:
        return outs
    known = stated(node, ())
    return [
        known[place] if out.shape is None and place < len(known) else out
        for place, out in enumerate(outs)
    ]


def is_vector(tensor: Tensor) -> bool:
    """Whether a constant holds real numbers along one axis alone."""
    return tensor.dtype.is_floating and tensor.size > 1 and tensor.size == max(tensor.shape)


class Walk:
    """One walk over the graph that collects facts, ties, pins and contractions."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.facts: Dict[str, Sequence[Fact]] = {}
        self.axes: List[ParamAxis] = []
        self.ties: List[Tuple[np.ndarray, np.ndarray]] = []
        self.pins: List[Pin] = []
        self.marks: List[Tuple[np.ndarray, str, str]] = []
        self.contractions: List[Contraction] = []
        self.joints: List[Joint] = []
        self.sizes = Sizes(self)
        self.count = 0
        self._shared: Dict[Port, Optional[Node]] = {}
        self._spent, self._seen = 0, {}  # type: int, Dict[int, np.ndarray]
        self._budget = FOLLOWED + (len(graph.origin.data) if graph.origin else 0)
        self._constants: Set[str] = set(constant_nodes(graph))
        self.computed = ComputedWeights(graph, self.facts)

    def run(self) -> None:
        """Visits every node; what the rules find is left in the attributes."""
        for node in self.graph.order():
            guarded(self.visit, self.graph, node, node)
        for port in self.graph.outputs:
            node, known = self.graph[port.node], self.fact(port)
            for ids in [*known.ids, *self.sizes.counted_by(known)]:
                self.pin(node, ids, IsOutput("it is a graph output"))

    def visit(self, node: Node) -> None:
        """Lets the rule of an op work, and sees to what it forgets."""
        notes = self._notes()
        before = [len(some) for some in notes]
        inputs = self._room_for(node, self.read(node))
        computable = self.computed.note(node)
        rule = CHANNEL_RULES.get(node.op)
        visit = OpVisit(node, inputs, self)
        if rule is None:
            visit.pin_all(wall(node))
            self._tell_of_weights(node, inputs, before[1], computable)
            self.facts[node.name] = self.sizes.follow(node, inputs, stated(node, inputs))
            return
        given = rule(visit)
        outs = _shaped(node, [given] if isinstance(given, Fact) else list(given))
        outs = self.facts[node.name] = self.sizes.follow(node, inputs, outs)
        self.spend([ids for out in outs for ids in out.ids if ids is not None])
        audit(self, node, inputs, outs, before)
        if node.op != "Const" and node.name in self._constants:
            weighs = len(self.contractions) > before[2] or self._pins_many(inputs, before[1])
            if weighs and computable and self.computed.store(node, outs):
                for some, length in zip(notes, before):
                    del some[length:]
                self.facts[node.name] = [
                    self.parameter(node, [size or 0 for size in outs[0].shape or ()])
                ]
                return
            self._tell_of_weights(node, inputs, before[1], computable)
        if node.name in self.graph.inputs:
            for ids in (ids for out in outs for ids in out.ids):
                self.pin(node, ids, IsInput("it is a graph input"))

    def _notes(self) -> Tuple[List[Any], ...]:
        """All that a visit may add to; first what the audit looks at, in its order."""
        sizes = self.sizes
        lists: Tuple[List[Any], ...] = (self.ties, self.pins, self.contractions, self.joints)
        return (*lists, self.marks, self.axes, sizes.resizes, sizes.renumbers, sizes.awaited)

    def _pins_many(self, inputs: Sequence[Fact], first: int) -> bool:
        """Whether one of the pins from the first on holds more than an axis of size 1.

        Those of axes, sizes and the like do not count.
        """
        numbers = {id(ids) for known in inputs if known.value is not None for ids in known.ids}
        return any(len(pin.ids) > 1 and id(pin.ids) not in numbers for pin in self.pins[first:])

    def _tell_of_weights(
        self, node: Node, inputs: Sequence[Fact], first: int, computable: bool
    ) -> None:
        """Says of the pins from the first on that it is weights that are held, if they are."""
        dtype = element_type(node)
        if (
            node.op == "Const"
            or node.name not in self._constants
            or not self._pins_many(inputs, first)
        ):
            return
        if dtype is None or not dtype.is_floating:
            return
        kind: Type[Reason] = WeightsMade
        if node.name in self.computed.opaque:
            how = "in a way that is not known"
        elif computable:
            how = "to numbers that are not known"
        else:
            kind, how = WeightsMadeInRun, "while the graph runs"
        why = kind(f"weights are computed from it by a {node.op}, {how}")
        self.pins[first:] = [pin._replace(why=why) for pin in self.pins[first:]]

    def fact(self, port: Port) -> Fact:
        """What is known of the tensor at a port."""
        outs = self.facts.get(port.node, ())
        return outs[port.port] if 0 <= port.port < len(outs) else UNKNOWN

    def read(self, node: Node) -> List[Fact]:
        """What a node reads.

        A vector that several ops read, such as the ones that grappler merged, couples none of
        them: each has ids of its own for it, and gets a copy of its own where their widths come
        to differ.
        """
        ports = self.graph.data_inputs(node)
        found = [self.fact(port) for port in ports]
        if node.op in IDENTITIES:
            return found
        for slot, port in enumerate(ports):
            if port not in self._shared:
                self._shared[port] = self._shared_vector(port)
            source = self._shared[port]
            if source is not None:
                shape, size = source.attrs["value"].shape, source.attrs["value"].size
                axis, use = shape.index(size), Use(node.name, slot)
                self.axes.append(ParamAxis(source.name, axis, self.count, size, use))
                found[slot] = fact(shape, {axis: self.fresh(size)})
        return found

    def _shared_vector(self, port: Port) -> Optional[Node]:
        """The constant at a port, behind identities, if it is a vector and others read it too."""
        path = [port]
        while self.graph[path[-1].node].op in IDENTITIES:
            path.append(self.graph.data_inputs(path[-1].node)[0])
        node = self.graph[path[-1].node]
        if node.op != "Const" or not is_vector(node.attrs["value"]):
            return None
        uses = [use for one in path for use in self.graph.uses_of(one)]
        outputs = [one for one in path if one in self.graph.outputs]
        # Each identity on the way is itself one reader of what stands before it.
        if len(uses) - len(path) + len(outputs) <= 0:
            return None
        # One of several axes may be a filter that convolutions share: that is one parameter.
        readers = {self.graph[use.node].op for use in uses} - IDENTITIES
        return node if len(node.attrs["value"].shape) == 1 or readers <= _STEPWISE else None

    # ------------------------------------------------- what the rules call, through OpVisit

    def is_constant(self, node: Node, index: int) -> bool:
        """See `OpVisit.is_constant`."""
        return self.graph.data_inputs(node)[index].node in self._constants

    def fresh(self, size: int) -> np.ndarray:
        """New ids that belong to no parameter."""
        self.count += size
        self._check(self.count + self._spent)
        return np.arange(self.count - size, self.count)

    def parameter(self, node: Node, shape: Sequence[int]) -> Fact:
        """The fact of a parameter: fresh ids on every axis."""
        ids: Dict[int, Ids] = {}
        for axis, size in enumerate(shape):
            if size > LONGEST:
                continue
            self.axes.append(ParamAxis(node.name, axis, self.count, size))
            ids[axis] = self.fresh(size)
        return fact(tuple(shape), ids)

    def constant(self, node: Node, tensor: Tensor, tracked: bool) -> Fact:
        """The fact of a constant: fresh ids on every axis, and its numbers if `tracked`."""
        known = self.parameter(node, tensor.shape)
        if not tracked:
            return known
        atoms = self.sizes.constant(node.name, tensor.shape, tensor.size)
        return known._replace(value=tensor.numbers().astype(np.float64), atoms=atoms)

    def tie(self, node: Node, first: Ids, second: Ids) -> None:
        """See `OpVisit.tie`."""
        if first is None or second is None:
            self.pin(
                node, first if second is None else second, "it meets an axis that is not followed"
            )
        elif first is not second:
            if len(first) != len(second):
                raise AnalysisError(
                    f"{len(first)} channels meet {len(second)} in this {node.op}",
                    node.name,
                    "the graph is damaged or was changed by hand",
                )
            self.ties.append((first, second))
            self.spend((first,))

    def merge(self, node: Node, factors: Sequence[Ids], sizes: Sequence[int]) -> Ids:
        """See `OpVisit.merge`; an axis that was merged before counts as those that it came from."""
        parts: List[Ids] = []
        widths: List[int] = []
        for ids, size in zip(factors, sizes):
            before = self.apart(ids)
            parts.extend([ids] if before is None else before.factors)
            widths.extend([size] if before is None else before.sizes)
        length = int(np.prod(widths, dtype=object))
        if length > LONGEST_FLAT:
            for ids in factors:
                self.pin(node, ids, "it is flattened into an axis that is too long to follow")
            return None
        flat = self.fresh(length)
        self.joints.append(Joint(node.name, flat, tuple(widths), tuple(parts)))
        return flat

    def split(
        self, node: Node, flat: np.ndarray, sizes: Sequence[int], preferred: Optional[int]
    ) -> List[Ids]:
        """See `OpVisit.split`."""
        parts: List[Ids] = [self.fresh(size) for size in sizes]
        self.joints.append(Joint(node.name, flat, tuple(sizes), tuple(parts), preferred))
        return parts

    def apart(self, flat: Ids) -> Optional[Joint]:
        """See `OpVisit.apart`; the joint is noted again, so that the audit sees it followed."""
        if flat is None:
            return None
        for joint in self.joints:
            if joint.preferred is None and np.array_equal(joint.flat, flat):
                self.joints.append(joint)
                return joint
        return None

    def pin(self, node: Node, ids: Ids, why: str) -> None:
        """See `OpVisit.pin`."""
        if ids is not None and len(ids):
            self.pins.append(Pin(ids, why, node.name))

    def mark(self, node: Node, ids: Ids, role: str) -> None:
        """See `OpVisit.mark`."""
        if ids is not None:
            self.marks.append((ids, role, node.name))

    # ------------------------------------------------- what keeps a walk within bounds

    def spend(self, arrays: Iterable[np.ndarray]) -> None:
        """Counts the positions of arrays that a walk keeps; each array once.

        Raises:
            AnalysisError: they are more than a file of this size may state.
        """
        for ids in arrays:
            if id(ids) not in self._seen:
                self._seen[id(ids)] = ids
                self._spent += len(ids)
        self._check(self._spent + self.count)

    def _check(self, positions: int) -> None:
        if positions > self._budget:
            raise AnalysisError(
                f"the graph states more channels than are followed: {positions:,} positions, "
                f"where a file of this size may have {self._budget:,}",
                hint="its sizes look damaged",
            )

    def _room_for(self, node: Node, inputs: List[Fact]) -> List[Fact]:
        """What a node reads, without ids if they are too many to lay side by side."""
        lengths = [len(ids) for known in inputs for ids in known.ids if ids is not None]
        if sum(lengths) <= 4 * LONGEST:
            return inputs
        for known in inputs:
            for ids in known.ids:
                self.pin(node, ids, "it has too many positions to follow")
        return [known._replace(ids=(None,) * len(known.ids)) for known in inputs]
