"""What rounding does to known values: they are computed in double precision, TensorFlow rounds."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from graphslim.ir import DType
from graphslim.ops.table import ValueVisit

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
