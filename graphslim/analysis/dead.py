"""Dead channels: those whose removal provably leaves every output as it is.

A channel may go where every sum over it is indifferent to it: its weights there are zero (or feed
only dead channels), or its value there is zero, or a constant that can be folded into the offset.
"""

from __future__ import annotations

from typing import List, NamedTuple

import numpy as np

from graphslim.analysis.channels import Channels
from graphslim.analysis.values import Values
from graphslim.ir import Port
from graphslim.ops.table import Contraction, per_channel


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
    out: np.ndarray
    heavy: np.ndarray
    """Whether input i has a weight for output o; bool of shape (c_in, c_out)."""
    idle: np.ndarray
    """Whether input i is indifferent here whatever its weights; bool of shape (c_in,)."""
    value: np.ndarray


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

    What feeds only dead channels is dead, so that the search goes on until nothing changes.
    """
    eligible = allowed & ~channels.pinned()
    dead = np.zeros(channels.count, bool)
    while True:
        needed = np.zeros(channels.count, bool)
        for one in consumers:
            wanted = one.heavy[:, ~dead[one.out]].any(axis=1) & ~one.idle
            needed[one.into[wanted]] = True
        now = eligible & ~needed
        if (now == dead).all():
            return dead
        dead = now


def constants_of(consumers: List[Consumer], removed: np.ndarray) -> List[Constant]:
    """The constants other than zero that removed channels leave at their consumers."""
    found = []
    for one in consumers:
        gone = removed[one.into] & np.isfinite(one.value) & (one.value != 0)
        gone &= one.heavy[:, ~removed[one.out]].any(axis=1)
        if gone.any():
            indices = np.flatnonzero(gone)
            found.append(Constant(one.contraction.node, indices, one.value[indices]))
    return found


def _consumer(channels: Channels, values: Values, one: Contraction, zero_below: float) -> Consumer:
    graph = channels.graph
    inputs = graph.data_inputs(one.node)
    into, out = channels.label[one.into], channels.label[one.out]
    weights = values.at(inputs[one.weights])
    if weights is None or np.isnan(weights).any():
        heavy = np.ones((len(into), len(out)), bool)
    else:
        matrix = np.abs(one.matrix(weights))
        heavy = (matrix >= zero_below if zero_below > 0 else matrix != 0).any(axis=0)
    value = per_channel(values.at(inputs[one.data]), one.axis, len(into))
    foldable = one.uniform and weights is not None and Port(one.node) not in graph.outputs
    idle = np.isfinite(value) if foldable else value == 0
    return Consumer(one, into, out, heavy, idle, value)
