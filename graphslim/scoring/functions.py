"""The built-in criteria, of weights and of what channels answer to sample inputs.

A criterion of weights gets what one layer holds for its channels, an array of shape (channels, k),
float64, and gives one score for each. These look at the filters that make a channel, as their
papers do, not at depthwise filters or the weights that read it: every channel has filters, so that
groups compare.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Sequence

import numpy as np

from graphslim.scoring.elimination import Moments, elimination_costs
from graphslim.scoring.registry import criterion
from graphslim.scoring.scores import without_noise

_CHUNK, _PART = 1024, 1 << 16


@criterion("redundancy", redundant=True, aggregate="first")
def redundancy(weights: np.ndarray) -> np.ndarray:
    """The share of a filter's weights below the layer's mean (Liu et al. 2017, arXiv 1705.10748).

    Magnitudes are compared, with the mean over all filters of the layer, of any kernel size. The
    published method removes the filters above a threshold, which it steps down from 0.8 to 0.5.

    A block is scored by its first layer, as the method has it: the expand convolution, though the
    gate of an SE block inside makes the same channels too.
    """
    sizes = np.abs(weights)
    # A weight that equals the mean but for rounding is not below it.
    share: np.ndarray = (sizes < sizes.mean() * (1 - 1e-12)).mean(axis=1)
    return share


@criterion("l1", as_stored=True)
def l1(weights: np.ndarray) -> np.ndarray:
    """The sum of a filter's absolute weights (Li et al. 2017, arXiv 1608.08710)."""
    return _total(np.abs, weights)


@criterion("l2", as_stored=True)
def l2(weights: np.ndarray) -> np.ndarray:
    """The Euclidean norm of a filter's weights (He et al. 2018, arXiv 1808.06866)."""
    norm: np.ndarray = np.sqrt(_total(functools.partial(np.square, dtype=np.float64), weights))
    return norm


def _total(function: Callable[[np.ndarray], np.ndarray], weights: np.ndarray) -> np.ndarray:
    """For each channel the sum of a function of its weights, taken in parts that a cache holds."""
    step = max(1, _PART // max(1, len(weights)))
    total = np.zeros(len(weights))
    for start in range(0, weights.shape[1], step):
        total += function(weights[:, start : start + step]).sum(axis=1, dtype=np.float64)
    return total


@criterion("bn-scale", roles=("scale",), comparable=True)
def bn_scale(weights: np.ndarray) -> np.ndarray:
    """The magnitude of the batch norm's scale (Liu et al. 2017, arXiv 1708.06519).

    Scales compare over the network as they are, since a normalised channel has variance 1; the
    paper, network slimming, cuts them with one threshold. Groups without a batch norm that scales
    are not scored.
    """
    size: np.ndarray = np.abs(weights).mean(axis=1)
    return size


@criterion("fpgm")
def fpgm(weights: np.ndarray) -> np.ndarray:
    """The sum of a filter's distances to the layer's others (He et al. 2019, arXiv 1811.00250).

    The filters nearest to the geometric median, which the others can stand in for, go first.
    """
    # Distances do not depend on the origin, and are more exact close to it.
    near = weights - weights.mean(axis=0)
    squares = np.square(near).sum(axis=1)
    total = np.zeros(len(near))
    for start in range(0, len(near), _CHUNK):
        part = slice(start, start + _CHUNK)
        between = squares[part, None] + squares - 2.0 * (near[part] @ near.T)
        between[np.arange(len(between)), start + np.arange(len(between))] = 0.0
        total[part] = np.sqrt(np.maximum(between, 0.0)).sum(axis=1)
    return total


@criterion("lamp", comparable=True)
def lamp(weights: np.ndarray) -> np.ndarray:
    """Squared norm over the sum of those not smaller (Lee et al. 2021, arXiv 2010.07611).

    The paper's score of single weights, taken for filters. The largest of a layer has about 1, so
    that scores compare over the network and no layer is emptied.
    """
    squares = without_noise(np.square(weights).sum(axis=1))
    ordered = np.sort(squares)
    from_here = np.cumsum(ordered[::-1])[::-1]
    not_smaller = from_here[np.searchsorted(ordered, squares)]
    score: np.ndarray = squares / np.where(not_smaller > 0, not_smaller, 1.0)
    return score


@criterion("random")
def random(weights: np.ndarray, random: Any) -> np.ndarray:
    """Lots drawn from a seed, as a baseline (Mittal et al. 2018, arXiv 1801.10447)."""
    drawn: np.ndarray = random.uniform(size=len(weights))
    return drawn


# --- Criteria from what channels answer to sample inputs: activation, apoz and taylor.


@criterion("activation", kind="responses")
def activation(responses: np.ndarray) -> np.ndarray:
    """How strongly a channel answers on average: the mean of |response|.

    The baseline "activation" of Molchanov et al. 2017 (arXiv 1611.06440), with magnitudes, so that
    it holds for activations that are not ReLU too.

    Args:
        responses: float64 of shape (examples, positions, channels).

    Returns:
        float64 of shape (channels,), 0 and more; a channel that answers little may go.
    """
    score: np.ndarray = np.abs(responses).mean(axis=(0, 1))
    return score


@criterion("apoz", kind="responses", redundant=True)
def apoz(responses: np.ndarray) -> np.ndarray:
    """Average percentage of zeros: the share of positions where a channel answers with zero.

    Hu et al. 2016, Network Trimming (arXiv 1607.03250). It tells channels apart only behind an
    activation that gives exact zeros, such as ReLU or ReLU6.

    Args:
        responses: float64 of shape (examples, positions, channels).

    Returns:
        float64 of shape (channels,), from 0 to 1; larger is more redundant.
    """
    score: np.ndarray = (responses == 0).mean(axis=(0, 1))
    return score


@criterion("taylor", kind="gradients")
def taylor(responses: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """How much the loss would change without a channel, to first order.

    Molchanov et al. 2017 (arXiv 1611.06440), equation 8: |mean over positions of response times
    gradient|, averaged over examples.

    Args:
        responses: float64 of shape (examples, positions, channels).
        gradients: those of the loss with regard to them, in the same shape.

    Returns:
        float64 of shape (channels,), 0 and more.
    """
    score: np.ndarray = np.abs((responses * gradients).mean(axis=1)).mean(axis=0)
    return score


# --- A criterion from second moments of what layers read.


@criterion("obs", kind="moments", comparable=True, additive=True)
def obs(channels: int, readers: Sequence[Moments]) -> np.ndarray:
    """The error that is left when a channel goes and all other weights are fitted anew.

    The optimal brain surgeon (Hassibi and Stork 1993) for channels, eliminated one after the other
    as in ExactOBS (Frantar et al. 2022, arXiv 2208.11580) and ZipLM (Kurtic et al. 2023, arXiv
    2302.04089). An error of a layer counts by what becomes of it at the outputs of the network: a
    score is the rise of their squared error, as a share of their mean square. It chooses what a
    repair can make up for.

    Args:
        channels: the number of channels.
        readers: the layers that read them.

    Returns:
        float64 of shape (channels,), 0 and more, in the order in which they go.
    """
    return elimination_costs(channels, readers)
