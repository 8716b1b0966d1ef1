"""Weights that are computed from constants: how far channels are followed, and what is stored.

An op that only moves, joins or combines the positions of constants is followed like any other.
One that weighs them against each other, as the length of a filter does in weight normalisation,
would give other numbers for a filter that lost channels. What it gives is therefore taken for a
parameter of its own: its positions get ids of their own, and once channels go that it stems from
or holds, the numbers that it has now are stored in its place. That is exact, and keeps the
computation around it.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, Optional, Sequence, Set

import numpy as np

from graphslim.errors import AnalysisError
from graphslim.ir import CONTROL, DType, Graph, Node, Port, Tensor
from graphslim.ir.query import constant_nodes
from graphslim.ops.guard import guarded
from graphslim.ops.table import VALUE_RULES, Fact, ValueVisit, product

_MOST_STEPS, _LARGEST = 256, 1 << 26
"""How many ops, and how large a tensor, a computation may have that is carried out here."""
_BRANCHING = frozenset(("Switch", "RefSwitch", "Merge", "RefMerge"))
_TRUTHS = frozenset(
    (
        *("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual"),
        *("LogicalAnd", "LogicalOr", "LogicalNot", "All", "Any"),
        *("IsNan", "IsInf", "IsFinite"),
    )
)
_TYPED_BY = {
    "Cast": "DstT",
    "Shape": "out_type",
    "ShapeN": "out_type",
    "Size": "out_type",
    "Range": "Tidx",
    "Gather": "Tparams",
    "GatherV2": "Tparams",
}
"""Which attribute says the element type of a result, where that is not `T`."""
_EXACT = 2**53
"""Integers are known exactly up to here, since they are computed in double precision."""


def element_type(node: Node) -> Optional[DType]:
    """The element type of what a node makes, if it is one that can be computed here."""
    if node.op in _TRUTHS:
        return DType.bool
    default = DType.int32 if node.op in ("Shape", "ShapeN", "Size", "Rank", "Range") else None
    dtype = node.attrs.get(_TYPED_BY.get(node.op, "T"), default)
    if node.op == "Rank":
        dtype = DType.int32
    fits_in = isinstance(dtype, DType) and (dtype.is_floating or dtype.is_integral)
    return dtype if fits_in or dtype is DType.bool else None


def as_tensor(value: Any, known: Fact, node: Node) -> Optional[Tensor]:
    """A value at its full size and as the element type that a node gives it.

    None where something of it is not known, or the element type does not hold it exactly.
    """
    dtype, shape = element_type(node), [size for size in known.shape or () if size is not None]
    if value is None or known.shape is None or len(shape) < len(known.shape) or dtype is None:
        return None
    if value.dtype.kind == "f" and np.isnan(value).any():
        return None
    if dtype.is_integral and value.size and float(np.abs(value).max()) > _EXACT:
        return None
    with np.errstate(over="ignore"):
        tensor = Tensor.from_numbers(np.broadcast_to(value, shape), dtype)
    if dtype.is_floating and (np.isinf(tensor.numbers()) != np.isinf(value)).any():
        return None
    return tensor


class ComputedWeights:
    """The ops of a graph that are computed from constants alone, in the order of the walk.

    Args:
        graph: the graph.
        facts: per node, what the walk found of its outputs.

    Attributes:
        stored: by name, the ops whose result is a parameter of its own, with the names of all
            constants and other such ops that it stems from.
        opaque: the names of those that are computed in a way that is not known.
    """

    def __init__(self, graph: Graph, facts: Dict[str, Sequence[Fact]]) -> None:
        self._graph, self._facts = graph, facts
        self._place: Dict[str, int] = {}
        self._values: Dict[str, Sequence[Any]] = {}
        self.stored: Dict[str, FrozenSet[str]] = {}
        self.opaque: Set[str] = set()

    def note(self, node: Node) -> bool:
        """Notes a node that the walk has come to; whether it can be computed here.

        Constants that stand for variables of a checkpoint are not: they are cut where they are
        stored, and what is computed from them goes on being computed. Neither are those of one
        branch or loop, which a control input holds to their place.
        """
        ports = self._graph.inputs_of(node)
        if node.name in constant_nodes(self._graph) and (
            node.op not in VALUE_RULES or any(port.node in self.opaque for port in ports)
        ):
            self.opaque.add(node.name)
        if node.name in self._graph.inputs or node.name in self._graph.variables:
            return False
        begins = node.op == "Const" and not ports
        if not begins and not (
            ports
            and node.op in VALUE_RULES
            and node.op not in _BRANCHING
            and all(port.port != CONTROL and port.node in self._place for port in ports)
        ):
            return False
        self._place[node.name] = len(self._place)
        return True

    def store(self, node: Node, outs: Sequence[Fact]) -> bool:
        """Makes the result of a node a parameter, if its numbers are real and known."""
        dtype = element_type(node)
        size = product(outs[0].shape or ()) if len(outs) == 1 else None
        if size is None or size > _LARGEST or dtype is None or not dtype.is_floating:
            return False
        steps = self._steps(node)
        if steps is None:
            return False
        values = dict(self._values)
        try:
            for step in steps:
                values[step.name] = self._computed(step, values, outs if step is node else None)
        except AnalysisError:
            return False
        value = values[node.name][0]
        if as_tensor(value, outs[0], node) is None:
            return False
        self._values[node.name] = [value]
        names = {step.name for step in steps if step.op == "Const"}
        before = [self.stored[name] | {name} for name in self._sources(steps) & set(self.stored)]
        self.stored[node.name] = frozenset(names.union(*before))
        return True

    def _steps(self, node: Node) -> Optional[List[Node]]:
        """What has to be computed for a node, in order; None where that is too much."""
        found: Set[str] = {node.name}
        waiting = [node.name]
        while waiting:
            for port in self._graph.data_inputs(waiting.pop()):
                if port.node not in found and port.node not in self.stored:
                    found.add(port.node)
                    waiting.append(port.node)
            if len(found) > _MOST_STEPS:
                return None
        sizes = [
            product(known.shape) if known.shape is not None else None
            for name in found - {node.name}
            for known in self._facts[name]
        ]
        if any(size is not None and size > _LARGEST for size in sizes):
            return None
        return [self._graph[name] for name in sorted(found, key=self._place.__getitem__)]

    def _sources(self, steps: Sequence[Node]) -> Set[str]:
        return {port.node for step in steps for port in self._graph.data_inputs(step)}

    def _computed(
        self, node: Node, values: Dict[str, Sequence[Any]], outs: Optional[Sequence[Fact]]
    ) -> Sequence[Any]:
        """What a node computes from the values of those before it."""
        ports = self._graph.data_inputs(node)
        visit = ValueVisit(
            node,
            [_at(values, port) for port in ports],
            [self._facts[port.node][port.port] for port in ports],
            self._facts[node.name] if outs is None else outs,
            0.0,
        )
        result = guarded(VALUE_RULES[node.op], self._graph, node, visit)
        return result if isinstance(result, tuple) else (result,)


def _at(values: Dict[str, Sequence[Any]], port: Port) -> Any:
    outs = values[port.node]
    return outs[port.port] if 0 <= port.port < len(outs) else None
