"""The walk over a graph that names every channel: facts, ties, pins and contractions."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from graphslim import ops  # noqa: F401  (registers the rules)
from graphslim.analysis.audit import audit
from graphslim.analysis.joints import Pin
from graphslim.analysis.sizes import Sizes
from graphslim.errors import AnalysisError
from graphslim.ir import IDENTITY_OPS, Graph, Node, Port, Tensor, Use
from graphslim.ops.joints import LONGEST, Joint
from graphslim.ops.table import (
    CHANNEL_RULES,
    MALFORMED,
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
        self._constants: Set[str] = set()

    def run(self) -> None:
        """Visits every node; what the rules find is left in the attributes."""
        for node in self.graph.order():
            self.visit(node)
        for port in self.graph.outputs:
            node, known = self.graph[port.node], self.fact(port)
            for ids in [*known.ids, *self.sizes.counted_by(known)]:
                self.pin(node, ids, "it is a graph output")

    def visit(self, node: Node) -> None:
        """Lets the rule of an op work, and sees to what it forgets."""
        inputs = self.read(node)
        sources = {port.node for port in self.graph.data_inputs(node)}
        if node.op == "Const" or (sources and sources <= self._constants):
            self._constants.add(node.name)
        rule = CHANNEL_RULES.get(node.op)
        visit = OpVisit(node, inputs, self)
        before = (len(self.ties), len(self.pins), len(self.contractions), len(self.joints))
        if rule is None:
            visit.pin_all(wall(node))
            self.facts[node.name] = self.sizes.follow(node, inputs, stated(node, inputs))
            return
        try:
            given = rule(visit)
            outs = [given] if isinstance(given, Fact) else list(given)
            outs = self.facts[node.name] = self.sizes.follow(node, inputs, outs)
        except MALFORMED as error:
            raise AnalysisError(
                f"this {node.op} is malformed: {error!r}", node.name, "export the graph again"
            ) from error
        audit(self, node, inputs, outs, before)
        if node.name in self.graph.inputs:
            for ids in (ids for out in outs for ids in out.ids):
                self.pin(node, ids, "it is a graph input")

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
        if node.op in IDENTITY_OPS:
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
        while self.graph[path[-1].node].op in IDENTITY_OPS:
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
        readers = {self.graph[use.node].op for use in uses} - IDENTITY_OPS
        return node if len(node.attrs["value"].shape) == 1 or readers <= _STEPWISE else None

    # ------------------------------------------------- what the rules call, through OpVisit

    def is_constant(self, node: Node, index: int) -> bool:
        """See `OpVisit.is_constant`."""
        return self.graph.data_inputs(node)[index].node in self._constants

    def fresh(self, size: int) -> np.ndarray:
        """New ids that belong to no parameter."""
        self.count += size
        return np.arange(self.count - size, self.count)

    def constant(self, node: Node, tensor: Tensor, tracked: bool) -> Fact:
        """The fact of a constant: fresh ids on every axis, and its numbers if `tracked`."""
        ids: Dict[int, Ids] = {}
        for axis, size in enumerate(tensor.shape):
            self.axes.append(ParamAxis(node.name, axis, self.count, size))
            ids[axis] = self.fresh(size)
        known = fact(tensor.shape, ids)
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

    def merge(self, node: Node, factors: Sequence[Ids], sizes: Sequence[int]) -> Ids:
        """See `OpVisit.merge`; an axis that was merged before counts as those that it came from."""
        parts: List[Ids] = []
        widths: List[int] = []
        for ids, size in zip(factors, sizes):
            before = self.apart(ids)
            parts.extend([ids] if before is None else before.factors)
            widths.extend([size] if before is None else before.sizes)
        length = int(np.prod(widths, dtype=object))
        if length > LONGEST:
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
