"""Dead channels: those whose removal provably leaves every output as it is.

A channel may go where every sum over it is indifferent to it: its weights there are zero (or feed
only dead channels), or its value there is zero, or a constant that can be folded into the offset.
What is not summed over is carried on, tied or pinned (`analysis.audit` sees to it), so that the
sums are all there is to ask.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional

import numpy as np

from graphslim.analysis.channels import Channels
from graphslim.analysis.values import Value, Values
from graphslim.ir import Port
from graphslim.ops.fused import takes_offset
from graphslim.ops.guard import laid_out
from graphslim.ops.table import Contraction, Fact, per_channel


class Constant(NamedTuple):
    """What dead channels leave behind at a contraction: constants to be folded into its offset.

    Attributes:
        node: the contraction's node.
        indices: positions along its summed-over axis.
        values: the constants that stand there.
    """

    node: str
    indices: np.ndarray
    values: np.ndarray


class Consumer(NamedTuple):
    """A contraction, reduced to what decides over its input channels."""

    contraction: Contraction
    into: np.ndarray
    out: Optional[np.ndarray]
    heavy: np.ndarray
    """Whether input i has a weight for output o; bool of shape (c_in, c_out)."""
    idle: np.ndarray
    """Whether input i is indifferent here whatever its weights; bool of shape (c_in,)."""
    value: np.ndarray
    held: np.ndarray
    """Whether an output is a constant because input i is one, and nothing can make up for its
    loss: an output that is dead, but kept, has to stay that constant; bool of shape (c_in,)."""

    def read(self, kept: np.ndarray) -> np.ndarray:
        """Which inputs have a weight for an output that is kept; bool of shape (c_in,)."""
        kept = self.heavy if self.out is None else self.heavy[:, kept[self.out]]
        return np.asarray(kept.any(axis=1))


def consumers_of(channels: Channels, values: Values, zero_below: float) -> List[Consumer]:
    """Every contraction, with what decides over its input channels.

    Args:
        channels: the channel analysis.
        values: the value analysis, made with the same threshold.
        zero_below: weights with a smaller magnitude count as zero (0: only exact zeros do).
    """
    return [_consumer(channels, values, one, zero_below) for one in channels.contractions]


def find_dead(channels: Channels, consumers: List[Consumer], allowed: np.ndarray) -> np.ndarray:
    """The dead channels among those `allowed`; bool of shape (channels.count,).

    A channel is needed if something that is needed reads it; what nothing needs is dead, loops of
    channels that only feed each other too.
    """
    owned = channels.owned()
    needed = channels.pinned() | ~(allowed | owned)
    while True:
        before = np.count_nonzero(needed)
        for one in reversed(consumers):  # against the flow, so that few rounds do
            wanted = (one.read(needed) | one.held) & ~one.idle
            needed[one.into[wanted]] = True
        channels.owning(needed)
        if np.count_nonzero(needed) == before:
            return ~needed & ~owned


def constants_of(consumers: List[Consumer], removed: np.ndarray) -> List[Constant]:
    """The constants other than zero that removed channels leave at their consumers."""
    found, kept = [], ~removed
    for one in consumers:
        gone = removed[one.into] & one.idle & (one.value != 0) & one.read(kept)
        if gone.any():
            indices = np.flatnonzero(gone)
            found.append(Constant(one.contraction.node, indices, one.value[indices]))
    return found


def constants_left(
    channels: Channels, values: Values, zero_below: float, removed: np.ndarray
) -> List[Constant]:
    """`constants_of` all contractions; those that no constant reaches are not looked into."""
    consumers = []
    for one in channels.contractions:
        gone = removed[channels.label[one.into]]
        if gone.any():
            data = channels.graph.data_inputs(one.node)[one.data]
            value = per_channel(values.at(data), one.axis, len(gone))
            if (gone & np.isfinite(value) & (value != 0)).any():
                consumers.append(_consumer(channels, values, one, zero_below))
    return constants_of(consumers, removed)


def _consumer(channels: Channels, values: Values, one: Contraction, zero_below: float) -> Consumer:
    graph = channels.graph
    inputs = graph.data_inputs(one.node)
    into = channels.label[one.into]
    out = None if one.out is None else channels.label[one.out]
    weights = _whole(values.at(inputs[one.weights]), channels.fact(inputs[one.weights]).shape)
    if weights is None:
        heavy = np.broadcast_to(np.array(True), (len(into), 1 if out is None else len(out)))
    else:
        matrix = np.abs(one.matrix(weights))
        heavy = (~(matrix < zero_below) if zero_below > 0 else matrix != 0).any(axis=0)
    value = per_channel(values.at(inputs[one.data]), one.axis, len(into))
    foldable = one.uniform and out is not None and takes_offset(graph[one.node])
    foldable = foldable and Port(one.node) not in graph.outputs
    foldable = foldable and weights is not None and not np.isnan(weights).any()
    idle = np.isfinite(value) if foldable else value == 0
    held = np.zeros(len(into), bool)
    if not foldable and out is not None:
        at = Port(one.node)
        steady = _steady(channels.fact(at), values.at(at), np.asarray(one.out))
        held = np.isfinite(value) & heavy[:, steady].any(axis=1)
    return Consumer(one, into, out, heavy, idle, value, held)


def _steady(known: Fact, value: Value, out: np.ndarray) -> np.ndarray:
    """Which of the channels produced have a known value somewhere; bool of shape (c_out,)."""
    places = [
        axis for axis, ids in enumerate(known.ids) if ids is not None and np.array_equal(ids, out)
    ]
    if value is None or not places:
        return np.full(len(out), value is not None)
    found = np.moveaxis(np.isfinite(value), places[-1], -1)
    found = np.broadcast_to(found, (*found.shape[:-1], len(out)))
    return np.logical_or.reduce(found, axis=tuple(range(found.ndim - 1)))


def _whole(value: Value, shape: Optional[tuple]) -> Value:
    """A value at its full size, NaN where unknown; None where its size is open."""
    if value is None or shape is None or None in shape:
        return None
    return laid_out(value, shape)
