"""Arithmetic on known numbers: how TensorFlow rounds them, and sums of them over channels."""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence

import numpy as np

from graphslim.channels.facts import Ids, fit_together, laid_out
from graphslim.channels.reasons import WeightsMade
from graphslim.channels.rules import ValueVisit
from graphslim.channels.visit import OpVisit
from graphslim.ir import DType

_NOISE = {DType.float64: 1e-12, DType.float16: 1e-2, DType.bfloat16: 5e-2}
_LARGEST = {DType.float16: 65504.0, DType.bfloat16: 3.38e38, DType.float32: 3.4028235e38}


def settled(op: ValueVisit, result: np.ndarray, attribute: str = "T") -> np.ndarray:
    """A result as its element type has it: floats overflow to infinity, integers to unknown."""
    kind = op.node.attrs.get(attribute)
    if kind in _LARGEST:
        return np.where(np.abs(result) > _LARGEST[kind], np.copysign(np.inf, result), result)
    if isinstance(kind, DType) and kind.is_integral:
        bounds = np.iinfo(kind.storage)
        return np.where((result < bounds.min) | (result > bounds.max), np.nan, result)
    return result


def noise(op: ValueVisit, attribute: str = "T") -> float:
    """The share by which TensorFlow's numbers may differ from those that an op is given here.

    Integers and shape arithmetic are exact.
    """
    kind = op.node.attrs.get(attribute)
    if not isinstance(kind, DType) or not kind.is_floating:
        return 0.0
    if all(fact.value is not None for fact in op.facts):
        return 0.0
    return _NOISE.get(kind, 1e-5)


def stepwise(function: Callable[[Any], Any], x: np.ndarray, share: float) -> np.ndarray:
    """A function with steps, NaN where rounding decides on which side of a step a number is."""
    if share == 0:
        return np.asarray(function(x))
    below, above = function(x * (1 - share)), function(x * (1 + share))
    return np.where(below == above, below, np.nan)


def apart(x: np.ndarray, y: np.ndarray, share: float) -> np.ndarray:
    """Whether two numbers are so far apart, or so surely equal, that rounding does not matter."""
    largest = np.maximum(np.abs(x), np.abs(y))
    return (np.abs(x - y) > share * largest) | (largest == 0) | (share == 0)


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
    full = laid_out(op[index], op.facts[index].shape)
    return None if full is None else op.snap(full)


def agreed(values: Sequence[np.ndarray]) -> Optional[np.ndarray]:
    """The numbers that all of some values have, NaN where they differ; None if they are too many.

    Args:
        values: at least one, of shapes that are broadcast together.
    """
    if not fit_together(*values):
        return None
    common = values[0]
    for value in values[1:]:
        common = np.where(common == value, common, np.nan)
    return common


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
