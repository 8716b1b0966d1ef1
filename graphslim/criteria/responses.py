"""Criteria from what channels answer to sample inputs: activation, apoz and taylor."""

from __future__ import annotations

import numpy as np

from graphslim.criteria.registry import criterion


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
