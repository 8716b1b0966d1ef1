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

from graphslim.channels.facts import Fact, product
from graphslim.channels.rules import VALUE_RULES, ValueVisit, value_outputs
from graphslim.errors import AnalysisError
from graphslim.ir import CONTROL, DType, Graph, Node, Tensor
from graphslim.ir.families import MEASURES, MERGES, SWITCHES, TRUTH_VALUED
from graphslim.ir.query import constant_nodes

_MOST_STEPS, _LARGEST = 256, 1 << 26
"""How many ops, and how large a tensor, a computation may have that is carried out here."""
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
    if node.op in TRUTH_VALUED:
        return DType.bool
    if node.op == "Rank":
        return DType.int32
    default = DType.int32 if node.op in MEASURES | {"Range"} else None
    dtype = node.attrs.get(_TYPED_BY.get(node.op, "T"), default)
    holds_numbers = isinstance(dtype, DType) and (dtype.is_floating or dtype.is_integral)
    return dtype if holds_numbers or dtype is DType.bool else None


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
    """

    def __init__(self, graph: Graph, facts: Dict[str, Sequence[Fact]]) -> None:
        self._graph, self._facts = graph, facts
        self._place: Dict[str, int] = {}
        self._opaque: Set[str] = set()
        self._values: Dict[str, Sequence[Any]] = {}
        self.stored: Dict[str, FrozenSet[str]] = {}

    def is_opaque(self, node: Node) -> bool:
        """Whether a node that depends on constants alone is computed in a way that is not known."""
        self._classify()
        return node.name in self._opaque

    def is_computable(self, node: Node) -> bool:
        """Whether a node that depends on constants alone can be computed here.

        Constants that stand for variables of a checkpoint are not: they are cut where they are
        stored, and what is computed from them goes on being computed. Neither are those of one
        branch or loop, which a control input holds to their place.
        """
        self._classify()
        return node.name in self._place

    def _classify(self) -> None:
        """Notes, once, which nodes that depend on constants alone are opaque or computable."""
        graph = self._graph
        if self._place or self._opaque:
            return
        constants = constant_nodes(graph)
        for node in graph.order() if constants else ():
            if node.name not in constants:
                continue
            ports = graph.inputs_of(node)
            if node.op not in VALUE_RULES or any([port.node in self._opaque for port in ports]):
                self._opaque.add(node.name)
            if node.name in graph.inputs or node.name in graph.variables:
                continue
            if (node.op == "Const" and not ports) or (
                ports
                and node.op in VALUE_RULES
                and node.op not in SWITCHES
                and node.op not in MERGES
                and all([port.port != CONTROL and port.node in self._place for port in ports])
            ):
                self._place[node.name] = len(self._place)

    def store(self, node: Node, outs: Sequence[Fact]) -> bool:
        """Makes the result of a node a parameter, if its numbers are real and known."""
        if not self.is_computable(node):
            return False
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
                values[step.name] = self._computed(step, values)
        except AnalysisError:
            return False
        value = values[node.name][0]
        if as_tensor(value, outs[0], node) is None:
            return False
        self._values[node.name] = [value]
        sources = {port.node for step in steps for port in self._graph.data_inputs(step)}
        before = [self.stored[name] | {name} for name in sources & set(self.stored)]
        constants = [step.name for step in steps if step.op == "Const"]
        self.stored[node.name] = frozenset(constants).union(*before)
        return True

    def _steps(self, node: Node) -> Optional[List[Node]]:
        """What has to be computed for a node, in order; None where that is too much."""
        names: Set[str] = {node.name}
        waiting = [node.name]
        while waiting:
            for port in self._graph.data_inputs(waiting.pop()):
                if port.node not in names and port.node not in self.stored:
                    names.add(port.node)
                    waiting.append(port.node)
            if len(names) > _MOST_STEPS:
                return None
        facts = [known for name in names - {node.name} for known in self._facts[name]]
        sizes = [product(known.shape) for known in facts if known.shape is not None]
        if any(size is not None and size > _LARGEST for size in sizes):
            return None
        return [self._graph[name] for name in sorted(names, key=self._place.__getitem__)]

    def _computed(self, node: Node, values: Dict[str, Sequence[Any]]) -> Sequence[Any]:
        """What a node computes from the values of those before it."""
        inputs = []
        ports = self._graph.data_inputs(node)
        for port in ports:
            outs = values[port.node]
            inputs.append(outs[port.port] if 0 <= port.port < len(outs) else None)
        facts = [self._facts[port.node][port.port] for port in ports]
        visit = ValueVisit(node, inputs, facts, self._facts[node.name], 0.0)
        return value_outputs(self._graph, visit)
