"""Sums over channels: what is known of their results."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from graphslim.channels.reasons import WeightsMade
from graphslim.ops.guard import laid_out
from graphslim.ops.table import Ids, OpVisit, ValueVisit

UNKNOWN_WEIGHTS = WeightsMade("weights that read it are computed in a way that is not followed")
"""Why channels are pinned before a sum whose weights have no ids."""


def tie_weights(op: OpVisit, entering: Ids, inside: Ids) -> None:
    """Ties the channels that enter a sum with the axis of the weights that reads them."""
    if inside is None:
        op.pin(entering, UNKNOWN_WEIGHTS)
    else:
        op.tie(entering, inside)


def whole(op: ValueVisit, index: int) -> Optional[np.ndarray]:
    """Input `index` at its full size, weights that count as zero set to zero, NaN where unknown.

    None where nothing is known of it, or its size is open.
    """
    value = op[index]
    shape: Any = op.facts[index].shape
    if value is None or shape is None or None in shape:
        return None
    full = laid_out(value, shape)
    return None if full is None else op.snap(full)


def summed(inside: np.ndarray, matrix: np.ndarray, steady: bool) -> np.ndarray:
    """Sums (c_in,) with (taps, c_in, c_out), where a zero on either side beats an unknown.

    Args:
        inside: what is known of the channels; NaN where unknown.
        matrix: the weights; NaN where unknown.
        steady: whether every sum takes all taps, so that other constants than zero may count.
    """
    usable = inside if steady else np.where(inside == 0, 0.0, np.nan)
    unknown = np.isnan(usable)
    total = np.zeros(matrix.shape[2])
    if (usable[~unknown] != 0).any():
        rows = ~unknown & (usable != 0)
        total = np.einsum("c,tco->o", usable[rows], matrix[:, rows, :].astype(np.float64))
    total[matrix[:, unknown, :].any(axis=(0, 1))] = np.nan
    return total


def stacked(weights: np.ndarray, *sizes: int) -> np.ndarray:
    """Weights as (taps, *sizes); where a size is 0, of one tap, which numpy could not work out."""
    taps = -1 if all(sizes) else 1
    return weights.reshape(taps, *sizes)


def on_axis(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """A vector laid along one axis of a tensor of that rank."""
    shape = [1] * rank
    shape[axis] = len(values)
    return values.reshape(shape)
