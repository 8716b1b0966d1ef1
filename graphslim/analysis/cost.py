"""What a graph costs, node by node: parameters and multiply-accumulates.

Parameters are the elements of floating-point and quantised constants of rank 1 and more that an
output depends on: weights, biases and all four batch-norm vectors, as Keras counts them. MACs are
those of convolutions and matrix products for one example, as papers count them; the additions
of bias, batch norm, activations and pooling are left out, and so is what weights are computed by.
"""

from __future__ import annotations

from fractions import Fraction
from typing import (
    Any,
    Collection,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import numpy as np

from graphslim.channels.computed import element_type
from graphslim.channels.facts import Fact, product
from graphslim.channels.groups import Removal, analyse, copies_needed
from graphslim.channels.rules import cost_of
from graphslim.ir import DType, Graph, Node, Port
from graphslim.ir.families import FROM_BATCH, REARRANGES, TO_BATCH
from graphslim.ir.query import constant_nodes, executed
from graphslim.ops import COST_RULES
from graphslim.ops.pool import blocks_of


class Cost(NamedTuple):
    """Parameters (elements) and multiply-accumulates; None where a size is open."""

    params: int
    macs: Optional[int]


NOTHING = Cost(0, 0)
"""The cost of a node that costs nothing."""


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs; its multiply-accumulates are None where those of a part are unknown."""
    params, macs = 0, 0  # type: int, Optional[int]
    for part in costs:
        params += part.params
        macs = None if macs is None or part.macs is None else macs + part.macs
    return Cost(params, macs)


def cost(graph: Graph) -> Cost:
    """What a graph costs; kept until it changes."""
    return graph.memo("cost", lambda graph: cost_without(graph, None))


def costs_of(graph: Graph) -> Dict[str, Cost]:
    """What each node costs, for those that cost something; kept until the graph changes."""
    return graph.memo("costs", _costs_of)


def _costs_of(graph: Graph) -> Dict[str, Cost]:
    sizes = _sizes(graph)
    costs = {name: Cost(int(sizes.whole[place]), 0) for name, place in sizes.weights.items()}
    costs.update({name: Cost(0, macs) for name, macs in _macs(graph, None).items()})
    return {node.name: costs[node.name] for node in graph if node.name in costs}


def cost_without(graph: Graph, removed: Optional[np.ndarray], what: Optional[str] = None) -> Cost:
    """What a graph would cost without some channels.

    Args:
        graph: the graph.
        removed: which channels go, bool of shape (channels,); None for none.
        what: `params` or `macs`, where that alone is asked for.

    Raises:
        AnalysisError: a cost rule fails, since the node is damaged.
    """
    removal = None if removed is None else Removal(analyse(graph), removed)
    stored = [] if removal is None else removal.to_store()
    idle = _unread(graph, stored)
    params, macs = 0, 0  # type: int, Optional[int]
    if what != "macs":
        sizes = _sizes(graph)
        left = sizes.whole if removal is None else sizes.left(removal, stored, idle)
        params = int(left[sizes.counted].sum())
    if what != "params":
        _, macs = total(
            [
                Cost(0, spent)
                for name, spent in _macs(graph, removal).items()
                if name not in idle and name not in stored
            ]
        )
    return Cost(params, macs)


def bytes_without(graph: Graph, removed: np.ndarray) -> int:
    """How many bytes of constants the graph would lose with some channels.

    `removed` is bool of shape (channels,). Constants of any type count, those that no output
    depends on too, since a file holds them.
    """
    removal = Removal(analyse(graph), removed)
    stored = removal.to_store()
    sizes = _sizes(graph)
    left = sizes.left(removal, stored, _unread(graph, stored))
    return int(((sizes.whole - left) * sizes.room).sum())


def _unread(graph: Graph, stored: Collection[str]) -> Set[str]:
    """The nodes that nothing reads any more once the results of some nodes are stored."""
    signature = {*graph.inputs, *[port.node for port in graph.outputs]}
    unread: Set[str] = set()
    waiting = [port.node for name in stored for port in graph.inputs_of(name)]
    while waiting:
        name = waiting.pop()
        left = [use for use in graph.uses_of(name) if use.node not in stored]
        if name not in signature | unread and all(use.node in unread for use in left):
            unread.add(name)
            waiting.extend([port.node for port in graph.inputs_of(name)])
    return unread


class _Sizes:
    """The sizes of all parameters of a graph, and what they become.

    Attributes:
        whole: how many elements each has in the file, int64 of shape (n,): constants of rank 1 and
            more, then computed parameters, which have none there unless they are stored.
        room: bytes that an element takes.
        counted: which are weights that an output depends on, bool of shape (n,).
        weights: the names of the constants among these, and their places.
    """

    def __init__(self, graph: Graph) -> None:
        channels, used = analyse(graph), executed(graph)
        kinds = {dtype: (dtype.storage.itemsize, dtype.is_real) for dtype in DType}
        rows = []  # type: List[Tuple[str, int, int, bool]]
        for node in graph:
            if node.op == "Const" and node.attrs["value"].shape:
                tensor = node.attrs["value"]
                room, is_real = kinds[tensor.dtype]
                rows.append((node.name, tensor.size, room, is_real and node.name in used))
        constants = len(rows)
        for name in channels.stored:
            shape, dtype = channels.facts[name][0].shape or (), element_type(graph[name])
            room = dtype.storage.itemsize if dtype else 0
            rows.append((name, product(shape) or 0, room, bool(shape) and name in used))
        names, sizes, rooms, counted = zip(*rows) if rows else ((), (), (), ())
        self._place = {name: place for place, name in enumerate(names)}
        self._computed = list(channels.stored)
        self.room, self.counted = np.array(rooms, np.int64), np.array(counted, bool)
        self.whole = np.array(sizes, np.int64)
        axes = [axis for axis in channels.axes if axis.use is None and axis.param in self._place]
        self._owner = np.array([self._place[axis.param] for axis in axes], np.int64)
        self._starts = np.array([axis.start for axis in axes], np.int64)
        self._lengths = np.array([axis.size for axis in axes], np.int64)
        followed = np.ones_like(self.whole)
        np.multiply.at(followed, self._owner, self._lengths)
        self._others = self.whole // np.maximum(followed, 1)
        self.whole[constants:] = 0
        self.weights = {name: place for name, place in self._place.items() if counted[place]}

    def left(self, removal: Removal, stored: Collection[str], idle: Collection[str]) -> np.ndarray:
        """How many elements of each are left in the file, in all copies; none of what is idle."""
        kept = np.concatenate([[0], np.cumsum(~removal.mask[removal.channels.label])])
        left = self._others.copy()
        along = kept[self._starts + self._lengths] - kept[self._starts]
        np.multiply.at(left, self._owner, along)
        for name, copies in copies_needed(removal).items():
            left[self._place[name]] = sum([np.count_nonzero(~dead) for dead, _ in copies])
        gone = [name for name in self._computed if name not in stored]
        left[[self._place[name] for name in (*gone, *idle) if name in self._place]] = 0
        return left


def _sizes(graph: Graph) -> _Sizes:
    return graph.memo("sizes of parameters", _Sizes)


class _Ops:
    """The nodes with a cost rule that run, the widths that decide, and what is of one example."""

    def __init__(self, graph: Graph) -> None:
        used, channels = executed(graph), analyse(graph)
        self.facts: Dict[str, Tuple[Node, List[Fact], Sequence[Fact]]] = {}
        self.arrays: Dict[str, List[int]] = {}
        self.costs: Dict[Tuple[Any, ...], Optional[int]] = {}
        self._batch, constant = _batch(graph), constant_nodes(graph)
        self._open_rows = _open_rows(graph) if self._batch is None else {}
        arrays: Dict[int, np.ndarray] = {}
        for node in graph:
            if node.op in COST_RULES and node.name in used - constant:
                read = [channels.fact(port) for port in graph.data_inputs(node)]
                outs = channels.facts[node.name]
                ids = [ids for known in (*read, *outs) for ids in known.ids if ids is not None]
                arrays.update([(id(array), array) for array in ids if len(array)])
                self.facts[node.name] = node, read, outs
                self.arrays[node.name] = [id(array) for array in ids if len(array)]
        sizes = [len(array) for array in arrays.values()]
        self.plain = dict(zip(arrays, sizes))
        self._labels = channels.label[np.concatenate([np.zeros(0, np.int64), *arrays.values()])]
        self._starts = np.cumsum([0, *sizes])[:-1]

    def rows(self, name: str, outs: Sequence[Fact]) -> Fraction:
        """How long the first axis of a node's result is for one example; cost rules leave it out.

        That is 1 as long as it is the axis of the examples; where space has moved into the batch,
        or positions have become rows of a matrix, it is more.
        """
        length = outs[0].size(0) if outs else None
        if length is None:
            return self._open_rows.get(name, Fraction(1))
        return Fraction(length, self._batch or 1)

    def widths(self, removal: Removal) -> Dict[int, int]:
        """How many channels are left along each array of ids, by its `id`."""
        left = np.add.reduceat(~removal.mask[self._labels], self._starts, dtype=np.int64)
        return dict(zip(self.plain, left.tolist()))


def _macs(graph: Graph, removal: Optional[Removal]) -> Dict[str, Optional[int]]:
    """The multiply-accumulates of each node that has some, without some channels.

    What a node takes at the same widths is asked for once.
    """
    ops = graph.memo("ops that cost", _Ops)
    widths = ops.plain if removal is None or not ops.plain else ops.widths(removal)
    macs: Dict[str, Optional[int]] = {}
    for name, arrays in ops.arrays.items():
        key = (name, *[widths[array] for array in arrays])
        if key not in ops.costs:
            node, read, outs = ops.facts[name]
            if widths is not ops.plain:
                read = [_narrowed(known, widths) for known in read]
                outs = [_narrowed(known, widths) for known in outs]
            count = cost_of(graph, node, read, outs)
            ops.costs[key] = None if count is None else int(count * ops.rows(name, outs))
        macs[name] = ops.costs[key]
    return macs


def _open_rows(graph: Graph) -> Dict[str, Fraction]:
    """How long the open axis of each result is for one example, where the batch is open.

    What a run alone knows, as how many boxes there are, counts as one for each example.
    """
    channels = analyse(graph)
    rows = {name: Fraction(1) for name in graph.inputs}
    for node in graph.order():
        read = [port for port in graph.data_inputs(node) if port.node in rows]
        if node.name in rows or not read or not channels.facts[node.name]:
            continue
        first, out = channels.fact(read[0]), channels.facts[node.name][0]
        alike = [port for port in read if channels.fact(port).rank == out.rank] or read[:1]
        rows[node.name] = max([rows[port.node] for port in alike])
        if node.op in TO_BATCH | FROM_BATCH:
            blocks = blocks_of(node, channels.fact(graph.data_inputs(node)[1]))
            cells = int(np.prod(blocks or 1))
            rows[node.name] *= cells if node.op in TO_BATCH else Fraction(1, cells)
        elif node.op in REARRANGES and first.shape and out.shape:
            before, after = [
                product([size for size in known.shape or () if size is not None]) or 1
                for known in (first, out)
            ]
            rows[node.name] = rows[read[0].node] * Fraction(before, after)
    return rows


def _batch(graph: Graph) -> Optional[int]:
    """How many examples the inputs hold; None where that is open.

    Inputs of rank 3 and more tell, where there are any, and state it together. A matrix may have no
    axis for examples, and neither may a picture, of which no output has as many rows: that is one
    example.
    """
    channels = analyse(graph)
    inputs = [channels.fact(Port(name)) for name in graph.inputs]
    sizes = {known.size(0) for known in inputs if (known.rank or 0) > 2}
    if None in (sizes or {known.size(0) for known in inputs if known.rank}):
        return None
    batch = (sizes.pop() if len(sizes) == 1 else None) or 1
    ends = [channels.fact(port).size(0) for port in graph.outputs]
    return batch if any([size is None or size % batch == 0 for size in ends]) else 1


def _narrowed(known: Fact, widths: Mapping[int, int]) -> Fact:
    """A fact at other widths."""
    if known.shape is None:
        return known
    sizes = [widths.get(id(ids), size) for size, ids in zip(known.shape, known.ids)]
    return Fact(tuple(sizes), *known[1:])
