"""Dead channels: those whose removal provably leaves every output as it is.

A channel may go where every sum over it is indifferent to it: its weights there are zero (or feed
only dead channels), or its value there is zero, or a constant that can be folded into the offset.
What is not summed over is carried on, tied or pinned (the walk sees to it), so that the sums are
all there is to ask.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional

import numpy as np

from graphslim.analysis.values import Value, Values
from graphslim.channels.facts import Fact, laid_out, per_channel
from graphslim.channels.groups import Channels, Removal
from graphslim.channels.notes import Contraction
from graphslim.ir import Port
from graphslim.ops.fused import takes_offset


class Constant(NamedTuple):
    """What dead channels leave behind at a contraction: constants to be folded into its offset.

    Attributes:
        node: the contraction's node.
        indices: positions along its summed-over axis; int64 of shape (n,).
        values: the constants that stand there; float64 of shape (n,).
    """

    node: str
    indices: np.ndarray
    values: np.ndarray


class Consumer(NamedTuple):
    """A contraction, reduced to what decides over its input channels.

    Attributes:
        contraction: the contraction.
        into: the channels that it sums over; int64 of shape (c_in,).
        out: the channels that it produces, int64 of shape (c_out,); None if not followed.
        heavy: whether input i has a weight for output o; bool of shape (c_in, c_out).
        idle: whether the sum is indifferent to input i whatever its weights, since its value is
            zero or can be folded into an offset; bool of shape (c_in,).
        value: the constant that input i is, NaN where it is none; float64 of shape (c_in,).
        upholds: whether an output is constant because input i is constant, and nothing can make up
            for its loss: an output that is dead, but kept, has to stay that constant; bool of
            shape (c_in,).
    """

    contraction: Contraction
    into: np.ndarray
    out: Optional[np.ndarray]
    heavy: np.ndarray
    idle: np.ndarray
    value: np.ndarray
    upholds: np.ndarray

    def read(self, staying: np.ndarray) -> np.ndarray:
        """Which inputs have a weight for an output that is kept; bool of shape (c_in,)."""
        heavy = self.heavy if self.out is None else self.heavy[:, staying[self.out]]
        return np.asarray(heavy.any(axis=1))


def consumers_of(channels: Channels, values: Values, zero_below: float) -> List[Consumer]:
    """Every contraction, with what decides over its input channels.

    Args:
        channels: the channel analysis.
        values: the value analysis, made with the same threshold.
        zero_below: weights with a smaller magnitude count as zero (0: only exact zeros do).
    """
    return [_consumer(channels, values, summed, zero_below) for summed in channels.contractions]


def find_dead(channels: Channels, consumers: List[Consumer], allowed: np.ndarray) -> np.ndarray:
    """The dead channels among those `allowed`; bool of shape (channels.count,).

    A channel is needed if something that is needed reads it; what nothing needs is dead, loops of
    channels that only feed each other too.
    """
    owned = channels.owned()
    needed = channels.pinned() | ~(allowed | owned)
    for statistic in channels.statistics:  # a zero counts in a mean
        needed[channels.label[statistic.ids]] = True
    while True:
        before = np.count_nonzero(needed)
        for consumer in reversed(consumers):  # against the flow, so that few rounds do
            wanted = (consumer.read(needed) | consumer.upholds) & ~consumer.idle
            needed[consumer.into[wanted]] = True
        channels.owning(needed)
        if np.count_nonzero(needed) == before:
            return ~needed & ~owned


def constants_of(consumers: List[Consumer], removed: np.ndarray) -> List[Constant]:
    """The constants other than zero that removed channels leave at their consumers.

    `removed` is bool of shape (channels,).
    """
    constants, staying = [], ~removed
    for consumer in consumers:
        gone = (
            removed[consumer.into] & consumer.idle & (consumer.value != 0) & consumer.read(staying)
        )
        if gone.any():
            indices = np.flatnonzero(gone)
            node = consumer.contraction.node
            constants.append(Constant(node, indices, consumer.value[indices]))
    return constants


def constants_left(
    channels: Channels, values: Values, zero_below: float, removed: np.ndarray
) -> List[Constant]:
    """`constants_of` all contractions; those that no constant reaches are not looked into.

    `removed` is bool of shape (channels,).
    """
    consumers, removal = [], Removal(channels, removed)
    for summed in channels.contractions:
        data = channels.graph.data_inputs(summed.node)[summed.data]
        if values.is_open(data):
            continue
        gone = removal.of(summed.into)
        if gone.any():
            value = per_channel(values.at(data), summed.axis, len(gone))
            if (gone & np.isfinite(value) & (value != 0)).any():
                consumers.append(_consumer(channels, values, summed, zero_below))
    return constants_of(consumers, removed)


def _consumer(
    channels: Channels, values: Values, summed: Contraction, zero_below: float
) -> Consumer:
    graph, at = channels.graph, Port(summed.node)
    inputs = graph.data_inputs(summed.node)
    into = channels.label[summed.into]
    out = None if summed.out is None else channels.label[summed.out]
    read = inputs[summed.weights]
    weights = laid_out(values.at(read), channels.fact(read).shape)
    if weights is None:
        heavy = np.broadcast_to(np.array(True), (len(into), 1 if out is None else len(out)))
    else:
        # Laid out as bytes: filters in groups become far more numbers than they have.
        counted = ~(np.abs(weights) < zero_below) if zero_below > 0 else weights != 0
        heavy = (summed.matrix(counted.astype(np.uint8)) != 0).any(axis=0)
    value = per_channel(values.at(inputs[summed.data]), summed.axis, len(into))
    takes_constants = summed.uniform and out is not None and takes_offset(graph[summed.node])
    known = weights is not None and not np.isnan(weights).any()
    foldable = takes_constants and known and at not in graph.outputs
    idle = np.isfinite(value) if foldable else value == 0
    upholds = np.zeros(len(into), bool)
    if not foldable and out is not None:
        steady = _steady(channels.fact(at), values.at(at), np.asarray(summed.out))
        upholds = np.isfinite(value) & heavy[:, steady].any(axis=1)
    return Consumer(summed, into, out, heavy, idle, value, upholds)


def _steady(known: Fact, value: Value, out: np.ndarray) -> np.ndarray:
    """Which of the channels produced have a known value somewhere; bool of shape (c_out,)."""
    places = [
        axis for axis, ids in enumerate(known.ids) if ids is not None and np.array_equal(ids, out)
    ]
    if value is None or not places:
        return np.full(len(out), value is not None)
    finite = np.moveaxis(np.isfinite(value), places[-1], -1)
    finite = np.broadcast_to(finite, (*finite.shape[:-1], len(out)))
    return np.logical_or.reduce(finite, axis=tuple(range(finite.ndim - 1)))
