"""What layers lose when channels that they read go and their other weights make up for it.

A layer's sums are linear in its weights. So the covariance of what it reads tells what squared
error is left when some weights are zero and all others are fitted anew: that of the optimal brain
surgeon (Hassibi and Stork 1993), here for all weights that read a channel at once, as in ZipLM.
"""

from __future__ import annotations

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

DAMPING = 1e-3
"""What a changed weight costs beside the error that it makes: a ridge, as a share of the mean
variance of what the layer reads, since the covariance is that of some inputs only."""
_AT_ONCE = 32
"""An update removes 1/32 of the channels that are left, and at least one."""
_NOISE = 1e-12
"""Costs below this share of what the layers compute are rounding errors."""


class Moments(NamedTuple):
    """A layer that reads channels of a group: its weights, what it reads, and who reads on.

    Its inputs are in rows: the input channels at each tap of its kernel. One without a kernel has
    as many rows as it has input channels.

    Attributes:
        channel: for each row the index of its channel in the group, -1 for a row of another group;
            int64 of shape (rows,).
        weights: float64 of shape (rows, outputs).
        covariance: that of the rows over examples and output positions, float64 of shape
            (rows, rows).
        sensitivity: how an error of the layer's sums becomes one of the network's outputs: an error
            e at one position, of shape (outputs,), costs e @ sensitivity @ e times the number of
            output positions; float64 of shape (outputs, outputs).
    """

    channel: np.ndarray
    weights: np.ndarray
    covariance: np.ndarray
    sensitivity: np.ndarray


def elimination_costs(channels: int, readers: Sequence[Moments]) -> np.ndarray:
    """What is lost when each channel of a group goes and all that are cheaper have gone before.

    Every time one is gone, what is left is fitted anew; so two channels that say the same are cheap
    once. Of up to 63 channels left the cheapest goes, one by one. Of more than that some go before
    all costs are worked out again, each fitted to those among the cheapest that went before it.

    Args:
        channels: the number of channels of the group.
        readers: the layers that read them.

    Returns:
        the costs so far, which rank the channels in the order of elimination; float64 of shape
        (channels,), 0 and more.
    """
    layers = [_Layer.of(reader, channels) for reader in readers]
    floor = _NOISE * sum([layer.power for layer in layers])
    left, costs = np.arange(channels), np.zeros(channels)
    total = 0.0
    while len(left):
        number = max(1, len(left) // _AT_ONCE)
        for channel, cost in _cheapest(layers, left, number):
            total += cost if cost > floor else 0.0
            costs[channel] = total
            left = left[left != channel]
        layers = [layer.fitted(left) for layer in layers]
    return costs


def _cheapest(layers: Sequence[_Layer], left: np.ndarray, number: int) -> List[Tuple[int, float]]:
    """So many of the channels that are left and their costs, in the order in which they go."""
    costs = np.sum([layer.costs() for layer in layers], axis=0)[left]
    order = np.argsort(costs, kind="stable")
    if number == 1:
        return [(int(left[order[0]]), float(costs[order[0]]))]
    candidates, picked = left[order[: 2 * number]], []
    some = [layer.part(layer.rows(candidates)) for layer in layers]
    for _ in range(number):
        picked += _cheapest(some, candidates, 1)
        candidates = candidates[candidates != picked[-1][0]]
        some = [layer.fitted(candidates) for layer in some]
    return picked


class _Layer(NamedTuple):
    """A layer from which channels go.

    Attributes:
        channel: for each row that is left its channel in the group, in order; int64 of shape (n,).
        inverse: those rows of the inverse of the covariance, with a ridge; float64 of shape (n, n).
        weights: as fitted so far, of outputs whose errors count alike; float64 (n, such outputs).
        penalty: by channel, what the ridge says of its own weights; float64 of shape (channels,).
        power: what the layer computes, in the units of the costs.
    """

    channel: np.ndarray
    inverse: np.ndarray
    weights: np.ndarray
    penalty: np.ndarray
    power: float

    @classmethod
    def of(cls, reader: Moments, channels: int) -> _Layer:
        """A layer as it is before any channel goes."""
        size = max(1, len(reader.covariance))
        ridge = DAMPING * float(np.trace(reader.covariance)) / size
        ridge, identity = ridge if ridge > 0 else 1.0, np.eye(len(reader.covariance))
        while np.isfinite(ridge) and not _is_positive(reader.covariance + ridge / 2 * identity):
            # Of inputs that hardly vary, rounding errors are what is left.
            ridge *= 10
        inverse = np.linalg.inv(reader.covariance + ridge * identity)
        weights = _alike(reader.weights, reader.sensitivity)
        power = float((weights * (reader.covariance @ weights)).sum())
        order = np.argsort(reader.channel, kind="stable")
        rows = order[reader.channel[order] >= 0]
        channel, weights = reader.channel[rows], weights[rows]
        penalty = np.bincount(channel, ridge * (weights**2).sum(1), channels)
        return cls(channel, inverse[np.ix_(rows, rows)], weights, penalty, power)

    def costs(self) -> np.ndarray:
        """By channel what it costs to remove it now, float64 of shape (channels,)."""
        total = -self.penalty
        names, first, counts = np.unique(self.channel, return_index=True, return_counts=True)
        for count in np.unique(counts).tolist():
            rows = first[counts == count, None] + np.arange(count)
            block = self.inverse[rows[:, :, None], rows[:, None, :]]
            weights = self.weights[rows]
            fitted = np.linalg.solve(block, weights)
            total[names[counts == count]] += (weights * fitted).sum((1, 2))
        return total

    def rows(self, channels: np.ndarray) -> np.ndarray:
        """Which rows are of some channels; bool of shape (n,)."""
        wanted = np.zeros(len(self.penalty), bool)
        wanted[channels] = True
        mask: np.ndarray = wanted[self.channel]
        return mask

    def part(self, rows: np.ndarray) -> _Layer:
        """Some of the rows, which are enough to see how their channels depend on each other."""
        return self._replace(
            channel=self.channel[rows],
            inverse=self.inverse[np.ix_(rows, rows)],
            weights=self.weights[rows],
        )

    def fitted(self, left: np.ndarray) -> _Layer:
        """The layer with no other channels than these, and their weights fitted anew."""
        kept = self.rows(left)
        gone = self.part(~kept)
        cross = self.inverse[np.ix_(~kept, kept)]
        share = np.linalg.solve(gone.inverse, cross)
        part = self.part(kept)
        return part._replace(
            inverse=part.inverse - share.T @ cross, weights=part.weights - share.T @ gone.weights
        )


def _is_positive(square: np.ndarray) -> bool:
    try:
        np.linalg.cholesky(square)
    except np.linalg.LinAlgError:
        return False
    return True


def _alike(weights: np.ndarray, sensitivity: np.ndarray) -> np.ndarray:
    """Weights of other outputs, whose errors count alike and cost in all what those given do.

    Costs depend on weights @ sensitivity @ weights.T alone, of which any root will do: one of as
    few columns as there are rows, where the layer has more outputs than that.
    """
    if len(weights) >= weights.shape[1]:
        return weights @ _root(sensitivity)
    return _root(weights @ sensitivity @ weights.T)


def _root(square: np.ndarray) -> np.ndarray:
    """A matrix whose product with its own transpose is a given one, but for rounding."""
    values, vectors = np.linalg.eigh(square)
    root: np.ndarray = vectors * np.sqrt(np.maximum(values, 0))
    return root
