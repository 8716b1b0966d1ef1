"""Which channels hold a known constant, whatever the input: the second walk over the graph."""

from __future__ import annotations

from typing import Dict, Iterable, Optional, Sequence

import numpy as np

from graphslim.channels.computed import as_tensor
from graphslim.channels.groups import Channels, analyse
from graphslim.channels.rules import ValueVisit, value_outputs
from graphslim.ir import IDENTITIES, Graph, Node, Port, Tensor
from graphslim.ir.families import (
    BATCH_NORMS,
    BIASES,
    POOLS,
    QUOTIENTS,
    RESHAPES,
    RESIZES,
    SUMS,
    UNARY,
)
from graphslim.ir.query import behind, constant_nodes
from graphslim.ops import VALUE_RULES

Value = Optional[np.ndarray]
"""What is known of a tensor: float64, of size 1 along axes over which it does not vary, NaN where
unknown; None where nothing is known."""
_KEPT = 1 << 29
"""How many bytes of values are kept, beside eight for each of the file's."""
_NEEDS = {
    **dict.fromkeys(UNARY.union(IDENTITIES, POOLS, RESIZES, RESHAPES, {"Mean"}), slice(1)),
    **dict.fromkeys(SUMS.union(QUOTIENTS, BIASES, {"Sub"}), slice(None)),
    **dict.fromkeys(("ZerosLike", "OnesLike"), slice(0)),
}
"""By op, the inputs of which something has to be known if anything is to be known of the op."""
_FILTERS = {
    **dict.fromkeys(("Conv2D", "_FusedConv2D", "MatMul"), 1),
    **dict.fromkeys(("DepthwiseConv2dNative", "_FusedDepthwiseConv2dNative"), 2),
}
"""Ops that are known where filters are zero, and along how many last axes of these outputs lie."""


class Values:
    """Known values per port: arrays of size 1 along axes over which they do not vary, NaN unknown.

    They are computed in double precision by the value rules of the ops, and hold for the graph as
    it is when they are computed. What is fed is unknown.

    Args:
        graph: the graph.
        channels: its channel analysis; by default made now.
        zero_below: weights with a smaller magnitude count as zero (0: only exact zeros do).
        at_once: whether all is computed now. Else values are computed when they are asked for,
            until when the graph may not change, and the rules of ops are passed over of which it
            is plain that nothing is known.

    Attributes:
        graph, channels: as given.
    """

    def __init__(
        self,
        graph: Graph,
        channels: Optional[Channels] = None,
        zero_below: float = 0.0,
        at_once: bool = True,
    ) -> None:
        self.graph = graph
        self.channels = channels = analyse(graph) if channels is None else channels
        self._values: Dict[str, Sequence[Value]] = {}
        self._room = _KEPT + 8 * (len(graph.origin.data) if graph.origin else 0)
        self._zero_below, self._fed = zero_below, frozenset(graph.inputs)
        self._at_once, self._constant = at_once, constant_nodes(graph)
        if at_once:
            self._visit(graph.order())

    def _visit(self, nodes: Iterable[Node]) -> None:
        """Computes the values of nodes, which come in the order of the graph."""
        for node in nodes:
            if node.op not in VALUE_RULES or node.name in self._fed:
                continue
            ports = self.graph.data_inputs(node)
            late = not self._at_once and node.name not in self._constant
            if late and self._is_open(node, ports):
                continue
            values = [self.at(port) for port in ports]
            facts = [self.channels.fact(port) for port in ports]
            outs = self.channels.facts[node.name]
            visit = ValueVisit(node, values, facts, outs, self._zero_below)
            if visit.outs:
                self._values[node.name] = self._kept(visit, value_outputs(self.graph, visit))

    def _visit_late(self, name: str) -> None:
        """Computes the values of a constant node and of what it is made of, or of all others."""
        names = [name]
        if name not in self._constant:
            names = [node.name for node in self.graph.order() if node.name not in self._constant]
        elif self.graph[name].op != "Const":
            reached = {name}
            for source in names:
                # Beyond what is computed already there is nothing to compute.
                for port in self.graph.data_inputs(source):
                    done = port.node in reached or port.node in self._values
                    if port.node in self._constant and not done:
                        reached.add(port.node)
                        names.append(port.node)
            names.sort(key=self.graph.memo("places", _places).__getitem__)
        self._values.update(dict.fromkeys(names, ()))
        self._visit([self.graph[name] for name in names])

    def _is_open(self, node: Node, ports: Sequence[Port]) -> bool:
        """Whether it is plain, without asking its rule, that nothing is known of what an op gives.

        What the rules of graphslim itself say where data is unknown is foreseen here.
        """
        if not VALUE_RULES[node.op].__module__.startswith("graphslim."):
            return False
        unknown = [port.node not in self._constant and self.at(port) is None for port in ports]
        if any(unknown[_NEEDS.get(node.op, slice(0))]):
            return True
        if node.op == "Mul" and any(unknown):
            others = [port for port, open_too in zip(ports, unknown) if not open_too]
            return not any(self._has_zeros(port) for port in others)
        if not unknown or not unknown[0]:
            return False
        if node.op in BATCH_NORMS:
            scale, variance = ports[1], self._stored(ports[4])
            finite = variance is not None and np.isfinite(variance).all()
            return bool(finite) and not self._has_zeros(scale)
        if node.op in _FILTERS and b"FusedBatchNorm" not in node.attrs.get("fused_ops", ()):
            turned = node.op == "MatMul" and node.attrs.get("transpose_b")
            return not turned and not self._has_zeros(ports[1], _FILTERS[node.op])
        return False

    def _stored(self, port: Port) -> Value:
        """The numbers at a port that is constant, None where they are not known."""
        node = self.graph[behind(self.graph, port).node]
        if node.op == "Const" and node.attrs["value"].dtype.is_floating:
            numbers: np.ndarray = node.attrs["value"].numbers()
            return numbers
        return self.constant(port) if port.node in self._constant else None

    def _has_zeros(self, port: Port, axes: int = 0) -> bool:
        """Whether numbers count as zero, all along any but some last axes; in doubt they do."""
        numbers = self._stored(port)
        if numbers is None or not numbers.size or numbers.ndim < axes:
            return True
        if not axes:
            return bool(self._is_zero(numbers).any())
        rows = numbers.reshape(-1, int(np.prod(numbers.shape[-axes:])))
        # Most filters have no zero among their first weights.
        return bool(self._is_zero(rows[:, self._is_zero(rows[0])]).all(axis=0).any())

    def _is_zero(self, numbers: np.ndarray) -> np.ndarray:
        return np.abs(numbers) < self._zero_below if self._zero_below > 0 else numbers == 0

    def _kept(self, visit: ValueVisit, outs: Sequence[Value]) -> Sequence[Value]:
        """The values of an op, unknown where all of them take more room than the file may have."""
        values = [None if out is None or _all_unknown(out) else out for out in outs]
        given = {id(value) for value in visit.values}
        new = [value for value in values if value is not None and id(value) not in given]
        self._room -= sum([value.nbytes for value in new])
        return values if self._room >= 0 else [None] * len(values)

    def at(self, port: Port) -> Value:
        """What is known at a port, or None."""
        if not self._at_once and port.node not in self._values:
            self._visit_late(port.node)
        outs = self._values.get(port.node, ())
        return outs[port.port] if 0 <= port.port < len(outs) else None

    def constant(self, port: Port) -> Value:
        """The value at a port if it is wholly known, else None."""
        value = self.at(port)
        return None if value is None or np.isnan(value).any() else value

    def tensor(self, port: Port) -> Optional[Tensor]:
        """The value at a port, rounded to its element type; None if it is not wholly known."""
        return as_tensor(self.at(port), self.channels.fact(port), self.graph[port.node])


def _places(graph: Graph) -> Dict[str, int]:
    return {node.name: place for place, node in enumerate(graph.order())}


def _all_unknown(value: np.ndarray) -> bool:
    if value.dtype.kind != "f" or not value.size or not np.isnan(value.flat[0]):
        return False
    return bool(np.isnan(value).all())
