"""Which channels hold a known constant, whatever the input: the second walk over the graph."""

from __future__ import annotations

import math
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple

import numpy as np

from graphslim.channels.computed import as_tensor
from graphslim.channels.facts import channel_axis, per_channel
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
_DECIDED = {
    **dict.fromkeys(("Mul", *BATCH_NORMS), 0),
    **dict.fromkeys(("Conv2D", "_FusedConv2D", "MatMul"), 1),
    **dict.fromkeys(("DepthwiseConv2dNative", "_FusedDepthwiseConv2dNative"), 2),
}
"""Ops that are known where something that they read is zero alone: of weights, whole filters, and
along how many last axes their outputs lie; of others any number, for which 0 stands."""

_ANY = 0.0, math.inf
_DEEPEST = 50
"""So many ops on the way from constants to what is read are looked through for magnitudes."""
_SURE = 1 + 1e-6
"""By how much a magnitude has to be above a bound, as rounding may have made it larger."""
_MAGNITUDES: Dict[str, Callable[..., Tuple[float, float]]] = {
    **dict.fromkeys(RESHAPES, lambda x, *_: x),
    **dict.fromkeys(SUMS, lambda x, y: (0.0, x[1] + y[1])),
    **dict.fromkeys(QUOTIENTS, lambda x, y: (x[0] * _inverse(y[1]), x[1] * _inverse(y[0]))),
    "Mul": lambda x, y: (x[0] * y[0], x[1] * y[1]),
    "Sqrt": lambda x: (math.sqrt(x[0]), math.sqrt(x[1])),
    "Rsqrt": lambda x: (_inverse(math.sqrt(x[1])), _inverse(math.sqrt(x[0]))),
}
"""Between which magnitudes the numbers of an op lie, from the bounds of what it reads."""


def _inverse(size: float) -> float:
    return 1 / size if size else math.inf


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
        self._bounds: Dict[str, Tuple[float, float]] = {}
        self._room = _KEPT + 8 * (len(graph.origin.data) if graph.origin else 0)
        self._zero_below, self._fed = zero_below, frozenset(graph.inputs)
        self._at_once, self._constant = at_once, constant_nodes(graph)
        self._is_walked = at_once
        if at_once:
            self._visit(graph.order())

    def _visit(self, nodes: Iterable[Node]) -> None:
        """Computes the values of nodes, which come in the order of the graph."""
        for node in nodes:
            if node.op not in VALUE_RULES or node.name in self._fed:
                continue
            ports = self.graph.data_inputs(node)
            values = [self.at(port) for port in ports]
            facts = [self.channels.fact(port) for port in ports]
            outs = self.channels.facts[node.name]
            visit = ValueVisit(node, values, facts, outs, self._zero_below)
            if visit.outs:
                self._values[node.name] = self._kept(visit, value_outputs(self.graph, visit))

    def _walk(self) -> None:
        """Computes what is known of all that is not constant.

        Where nothing is known of the data, nothing is of most results, and these are passed over.
        """
        nodes = [
            node
            for node in self.graph.order()
            if node.op in VALUE_RULES
            and node.name not in self._constant
            and node.name not in self._fed
        ]
        first = self._beginnings(nodes)
        begin: Dict[str, Sequence[Value]] = {node.name: () for node in first}
        if not any(node.op in _DECIDED for node in first):
            self._visit(first)
            if not any(map(self._is_read, first)):
                return
            begin = {name: self._values.pop(name, ()) for name in begin}
        known: Set[str] = set()
        for node in nodes:
            ports = self.graph.data_inputs(node)
            alone = known.isdisjoint([port.node for port in ports])
            if alone and begin.get(node.name):
                self._values[node.name] = begin[node.name]
            elif node.name in begin or not (alone or self._is_open(node, ports)):
                self._visit([node])
            if self._is_known(node):
                known.add(node.name)

    def _is_known(self, node: Node) -> bool:
        """Whether anything was found to be known of what a node gives."""
        return any(value is not None for value in self._values.get(node.name, ()))

    def _is_read(self, node: Node) -> bool:
        """Whether anything reads what is known of what a node gives."""
        uses = self.graph.uses_of(node) if self._is_known(node) else ()
        return any(self.at(self.graph.inputs_of(use.node)[use.index]) is not None for use in uses)

    def _beginnings(self, nodes: Iterable[Node]) -> List[Node]:
        """The nodes of which something may be known though nothing is of their data.

        All stored numbers of which one would have to be zero for that are looked at together.
        """
        first, asked, owners = [], [], []  # type: List[Node], List[Node], List[Node]
        numbers: List[np.ndarray] = []
        needs = {op: needed for op, needed in _NEEDS.items() if _is_own(op)}
        decided = frozenset(filter(_is_own, _DECIDED))
        for node in nodes:
            ports = self.graph.data_inputs(node)
            if node.op in needs:
                if all([port.node in self._constant for port in ports[needs[node.op]]]):
                    asked.append(node)
                continue
            deciding = self._deciding(node, ports) if node.op in decided else None
            stored = [self._some(port, _DECIDED[node.op]) for port in deciding or ()]
            few = [array for array in stored if array is not None]
            if deciding is None or len(few) < len(stored):
                asked.append(node)
            numbers.extend(few)
            owners.extend([node] * len(few))
        if numbers:
            sizes = np.abs(np.concatenate(numbers))
            plain = (sizes >= self._zero_below) & (sizes > 0) & (sizes < math.inf)
            ends = np.cumsum([len(array) for array in numbers])
            doubtful = np.unique(np.searchsorted(ends, np.flatnonzero(~plain), "right"))
            for node in [owners[place] for place in doubtful.tolist()]:
                (asked if _DECIDED[node.op] else first).append(node)
        first.extend(
            [node for node in asked if not self._is_open(node, self.graph.data_inputs(node))]
        )
        return first

    def _computed(self, name: str) -> Sequence[Value]:
        """The values of a node, computed now: with what a constant is made of, or all others."""
        if name in self._constant and self.graph[name].op in IDENTITIES and _is_own("Identity"):
            self._values[name] = [self.at(behind(self.graph, Port(name)))]
        elif name in self._constant:
            names = [name]
            reached = {name}
            for source in names if self.graph[name].op != "Const" else ():
                # Beyond what is computed already there is nothing to compute.
                for port in self.graph.data_inputs(source):
                    done = port.node in reached or port.node in self._values
                    if port.node in self._constant and not done:
                        reached.add(port.node)
                        names.append(port.node)
            if len(names) > 1:
                names.sort(key=self.graph.memo("places", _places).__getitem__)
            self._values.update(dict.fromkeys(names, ()))
            self._visit([self.graph[name] for name in names])
        elif not self._is_walked:
            self._is_walked = True
            self._walk()
        return self._values.get(name, ())

    def _is_open(self, node: Node, ports: Sequence[Port]) -> bool:
        """Whether it is plain, without asking its rule, that nothing is known of what an op gives.

        What the rules of graphslim itself say where data is unknown is foreseen here.
        """
        if not _is_own(node.op):
            return False
        needed = _NEEDS.get(node.op)
        if needed is not None:
            return any(map(self.is_open, ports[needed]))
        if node.op == "ConcatV2":
            return all(map(self.is_open, ports[:-1]))
        deciding = self._deciding(node, ports) if node.op in _DECIDED else None
        if deciding is None:
            return node.op == "Conv2D" and self._is_dense(node, ports)
        if node.op in BATCH_NORMS and not self._magnitudes(ports[4])[1] < math.inf:
            return False
        return not any(self._has_zeros(port, _DECIDED[node.op]) for port in deciding)

    def _deciding(self, node: Node, ports: Sequence[Port]) -> Optional[Sequence[Port]]:
        """What decides alone whether anything is known of an op of which the data is unknown.

        Nothing is where all of it is finite and none of it is zero; of filters, none as a whole.
        None where that does not decide, or where something is known of the data.
        """
        if node.op == "Mul":
            known = [port for port in ports if not self.is_open(port)]
            return known if len(known) < len(ports) else None
        turned = node.op == "MatMul" and node.attrs.get("transpose_b")
        if turned or b"FusedBatchNorm" in node.attrs.get("fused_ops", ()):
            return None
        # A node of a damaged file that lacks inputs is left to its rule, which says so.
        if len(ports) < (5 if node.op in BATCH_NORMS else 2) or not self.is_open(ports[0]):
            return None
        return [ports[1], ports[4]] if node.op in BATCH_NORMS else [ports[1]]

    def _is_dense(self, node: Node, ports: Sequence[Port]) -> bool:
        """Whether every output of a convolution reads a channel of which nothing is known."""
        axis, weights = channel_axis(node), self._stored(ports[1])
        if weights is None or weights.ndim != 4 or not weights.size:
            return False
        width = self.channels.fact(ports[0]).size(axis)
        if width is None or width != weights.shape[2]:
            return False
        unknown = np.isnan(per_channel(self.at(ports[0]), axis, width))
        taps = weights.shape[0] * weights.shape[1]
        rows = np.flatnonzero(np.tile(unknown, taps))
        return not self._has_empty(weights.reshape(-1, weights.shape[3]), rows)

    def _has_empty(self, weights: np.ndarray, rows: np.ndarray) -> bool:
        """Whether a column of weights is all zeros in some rows; the first tell, for most."""
        empty = np.ones(weights.shape[1], bool)
        start, count = 0, 1
        while start < len(rows) and empty.any():
            empty &= self._is_zero(weights[rows[start : start + count]]).all(axis=0)
            start, count = start + count, 8 * count
        return bool(empty.any())

    def _stored(self, port: Port) -> Value:
        """The numbers at a port that is constant, None where they are not known."""
        node = self.graph[behind(self.graph, port).node]
        if node.op == "Const" and node.attrs["value"].dtype.is_floating:
            numbers: np.ndarray = node.attrs["value"].numbers()
            return numbers
        return self.constant(port) if port.node in self._constant else None

    def _some(self, port: Port, axes: int) -> Optional[np.ndarray]:
        """Stored numbers at a port, flat, with a zero if `_has_zeros`; None if none are stored.

        Of filters, along some last axes of weights, the first weights of each.
        """
        node = self.graph[behind(self.graph, port).node]
        if node.op != "Const" or not node.attrs["value"].dtype.is_floating:
            return None
        numbers: np.ndarray = node.attrs["value"].numbers()
        if not numbers.size or numbers.ndim < axes:
            return None
        return (numbers[(0,) * (numbers.ndim - axes)] if axes else numbers).ravel()

    def _has_zeros(self, port: Port, axes: int = 0) -> bool:
        """Whether numbers count as zero, all along any but some last axes; in doubt they do."""
        if not axes and self._magnitudes(port)[0] > max(self._zero_below, 0.0) * _SURE:
            return False
        numbers = self._stored(port)
        if numbers is None or not numbers.size or numbers.ndim < axes:
            return True
        if not axes:
            return bool(self._is_zero(numbers).any())
        weights = numbers.reshape(-1, int(np.prod(numbers.shape[-axes:])))
        return self._has_empty(weights, np.arange(len(weights)))

    def _magnitudes(self, port: Port, depth: int = 0) -> Tuple[float, float]:
        """The least magnitude, and the largest, that a known number at a constant port may have.

        What scales a batch norm in pieces is thus seen to have no zeros without computing it.
        """
        node = self.graph[behind(self.graph, port).node]
        if node.name not in self._bounds:
            self._bounds[node.name] = self._bounded(node, depth)
        return self._bounds[node.name]

    def _bounded(self, node: Node, depth: int) -> Tuple[float, float]:
        """`_magnitudes` of what a node gives, `depth` ops before the port that was asked about."""
        if node.op == "Const" and node.attrs["value"].dtype.is_floating:
            sizes = np.abs(node.attrs["value"].numbers()).ravel()
            if not sizes.size:
                return _ANY
            return float(np.minimum.reduce(sizes)), float(np.maximum.reduce(sizes))
        if node.op not in _MAGNITUDES or not _is_own(node.op) or depth == _DEEPEST:
            return _ANY
        sources = self.graph.data_inputs(node)[:2]
        given = [self._magnitudes(source, depth + 1) for source in sources]
        if node.op == "Mul" and min(given)[0] <= self._zero_below:
            return _ANY  # the smaller factor counts as zero
        return _MAGNITUDES[node.op](*given)

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
        outs = self._values.get(port.node)
        if outs is None:
            outs = () if self._at_once else self._computed(port.node)
        return outs[port.port] if 0 <= port.port < len(outs) else None

    def is_open(self, port: Port) -> bool:
        """Whether nothing is known at a port; what is constant is not computed to tell."""
        return port.node not in self._constant and self.at(port) is None

    def constant(self, port: Port) -> Value:
        """The value at a port if it is wholly known, else None."""
        value = self.at(port)
        return None if value is None or np.isnan(value).any() else value

    def tensor(self, port: Port) -> Optional[Tensor]:
        """The value at a port, rounded to its element type; None if it is not wholly known."""
        return as_tensor(self.at(port), self.channels.fact(port), self.graph[port.node])


def _is_own(op: str) -> bool:
    """Whether graphslim itself says what is known of an op."""
    return op in VALUE_RULES and VALUE_RULES[op].__module__.startswith("graphslim.")


def _places(graph: Graph) -> Dict[str, int]:
    return {node.name: place for place, node in enumerate(graph.order())}


def _all_unknown(value: np.ndarray) -> bool:
    if value.dtype.kind != "f" or not value.size or value.item(0) == value.item(0):
        return False
    return bool(np.isnan(value).all())
