"""Changes of the element type: casts, quantisation and back, fake quantisation."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

import numpy as np

from graphslim.channels.facts import Fact, fit_together, known
from graphslim.channels.reasons import AcrossChannels, Quantised
from graphslim.channels.rules import ValueVisit, channel_rule, value_rule
from graphslim.channels.visit import OpVisit
from graphslim.ir import DType, Tensor
from graphslim.ir.families import FAKE_QUANTIZERS
from graphslim.ops.numeric import noise, on_axis, settled, stepwise

Array = np.ndarray
_BY_DATA = frozenset(name for name in FAKE_QUANTIZERS if name.startswith("QuantizeAnd"))
"""Those fake quantisations whose range may be taken from the data."""


# ------------------------------------------------------------------ casts


@channel_rule("Cast", "FakeQuantWithMinMaxArgs")
def cast(op: OpVisit) -> Fact:
    """Keeps shape and channels."""
    return op[0].without_value()


@value_rule("Cast", structural=True)
def cast_value(op: ValueVisit) -> Any:
    """Wide floats keep a number, narrow ones round it, integers cut its fraction off."""
    x, target = op[0], op.node.attrs.get("DstT")
    if x is None or target in (DType.float32, DType.float64):
        return x
    x = np.asarray(x, np.float64)
    if isinstance(target, DType) and target.is_integral:
        if op.facts[0].value is not None:
            return np.trunc(x)
        return settled(op, stepwise(np.trunc, x, noise(op, "SrcT")), "DstT")
    if op.facts[0].value is not None:
        return None
    if target in (DType.float16, DType.bfloat16):
        return _narrowed(x, target)
    return np.where(np.isnan(x), np.nan, x != 0) if target is DType.bool else None


def _narrowed(x: Array, target: DType) -> Array:
    """Rounded to 16 bits; NaN where the number is not exact and might be rounded otherwise."""

    def rounded(numbers: Array) -> Array:
        with np.errstate(over="ignore"):
            return Tensor.from_numbers(numbers, target).numbers().astype(np.float64)

    exact = x == x.astype(np.float32)
    return np.where(exact, rounded(x), stepwise(rounded, x, 1e-5))


# ------------------------------------------------------------------ ranges


def _tie_ranges(op: OpVisit, axis: Optional[int]) -> Tuple[Fact, Fact]:
    """Ties the ranges, inputs 1 and 2, with an axis of the data; without one they are scalars."""
    for index in (1, 2):
        bounds = op[index]
        if axis is not None and bounds.rank == 1:
            op.tie(op[0].channels(axis), bounds.channels(0))
        else:
            op.pin_others(index, (), AcrossChannels("it is the range of a whole tensor"))
    return op[1], op[2]


def _axis(op: Any) -> Optional[int]:
    """The axis that has a range for each position, or None."""
    axis = int(op.node.attrs.get("axis", -1))
    return None if axis < 0 else axis


def _range(op: ValueVisit, axis: Optional[int]) -> Optional[Tuple[Array, Array]]:
    """The ranges, laid along the axis that they belong to; None unless known and sound."""
    low, high, rank = known(op[1]), known(op[2]), op.facts[0].rank
    if low is None or high is None or rank is None or not (low < high).all():
        return None
    if axis is not None and low.ndim == 1:
        return on_axis(low, axis, rank), on_axis(high, axis, rank)
    if low.size != 1 or high.size != 1:
        return None
    return on_axis(low.ravel(), 0, max(rank, 1)), on_axis(high.ravel(), 0, max(rank, 1))


# ------------------------------------------------------------------ from and to integers


@channel_rule("Dequantize")
def dequantize(op: OpVisit) -> Fact:
    """Keeps shape and channels; ranges may be per channel."""
    _tie_ranges(op, _axis(op))
    return op[0]


@value_rule("Dequantize")
def dequantize_value(op: ValueVisit) -> Any:
    """What the integers stand for, in the three modes."""
    axis = _axis(op)
    bounds, kind = _range(op, axis), op.node.attrs.get("T")
    if op[0] is None or bounds is None or not isinstance(kind, DType):
        return None
    if not fit_together(op[0], bounds[0]):
        return None
    low, high = [bound.astype(np.float32) for bound in bounds]
    limits, x = np.iinfo(kind.storage), np.asarray(op[0], np.float32)
    steps, mode = np.float32(limits.max) - np.float32(limits.min), op.node.text("mode")
    if mode == "SCALED":
        # TensorFlow's versions differ where the lower bound is the larger one.
        scale = np.where(high >= np.abs(low), high / np.float32(limits.max), np.nan)
        return np.where(x == 0, 0, x * scale).astype(np.float64)
    scale = (high - low) / steps
    if mode == "MIN_FIRST":
        return ((x - np.float32(limits.min)) * scale + np.round(low / scale) * scale).astype(float)
    return ((x - np.float32(limits.min)) * scale + low).astype(np.float64)


@channel_rule("QuantizeV2")
def quantize(op: OpVisit) -> List[Fact]:
    """Keeps shape and channels; gives the ranges as well."""
    low, high = _tie_ranges(op, _axis(op))
    return [op[0].without_value(), low, high]


@channel_rule(
    *("QuantizedConv2D", "QuantizedDepthwiseConv2D", "QuantizedMatMul", "QuantizedBiasAdd"),
    *("QuantizedRelu", "QuantizedRelu6", "QuantizedReluX", "QuantizedMaxPool", "QuantizedAvgPool"),
    *("QuantizedConcat", "QuantizedReshape", "QuantizedAdd", "QuantizedMul"),
    *("QuantizedBatchNormWithGlobalNormalization", "QuantizedInstanceNorm"),
    *("QuantizedResizeBilinear", "QuantizeDownAndShrinkRange", "Requantize"),
    *("RequantizePerChannel", "RequantizationRange", "RequantizationRangePerChannel"),
)
def quantized(op: OpVisit) -> List[Fact]:
    """Pins: arithmetic on quantised integers shares ranges among all channels."""
    op.pin_all(Quantised("it is computed in quantised integers"))
    return []


# ------------------------------------------------------------------ fake quantisation


@channel_rule("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")
def fake_quant(op: OpVisit) -> Fact:
    """Keeps shape and channels; one range for all, or one for each position of the last axis."""
    _tie_ranges(op, -1 if op.node.op.endswith("PerChannel") else None)
    return op[0].without_value()


@value_rule(*(FAKE_QUANTIZERS - _BY_DATA))
def fake_quant_value(op: ValueVisit) -> Any:
    """Rounded to a step of the range, which is moved so that zero is a step: zero stays zero."""
    attrs = op.node.attrs
    bounds: Optional[Tuple[Array, Array]]
    if op.node.op == "FakeQuantWithMinMaxArgs":
        bounds = np.array(attrs.get("min", -6.0)), np.array(attrs.get("max", 6.0))
    else:
        bounds = _range(op, -1 if op.node.op.endswith("PerChannel") else None)
    if op[0] is None or bounds is None or not (bounds[0] < bounds[1]).all():
        return None
    if not fit_together(op[0], bounds[0]):
        return None
    first, last = int(bool(attrs.get("narrow_range"))), 2 ** int(attrs.get("num_bits", 8)) - 1
    zero, scale = _nudged(bounds[0], bounds[1], first, last)
    bottom = (first - zero) * scale
    x = np.asarray(op[0], np.float64)
    shifted = (np.clip(x, bottom, bottom + (last - first) * scale) - bottom) / scale
    # The share is of all steps, since the difference may be small where both terms are large.
    below, above = [np.floor(shifted + 0.5 + sign * 1e-5 * last) for sign in (-1, 1)]
    level = np.where(below == above, below, np.nan)
    return np.where(x == 0, 0.0, level * scale + bottom)


def _nudged(low: Array, high: Array, first: int, last: int) -> Tuple[Array, Array]:
    """The step that stands for zero, NaN where rounding decides which, and the size of steps.

    A range around zero has zero half-way between two steps, so that it takes TensorFlow's own
    arithmetic in float32 to tell.
    """
    exact = (low == low.astype(np.float32)) & (high == high.astype(np.float32))
    small, large = low.astype(np.float32), high.astype(np.float32)
    scale = (large - small) / np.float32(last - first)
    point = np.clip(np.float32(first) - small / scale, first, last)
    zero = np.where(exact, np.floor(point + np.float32(0.5)), stepwise(np.round, point, 1e-5))
    return zero, scale.astype(np.float64)


@channel_rule(*_BY_DATA)
def quantize_and_dequantize(op: OpVisit) -> Fact:
    """Keeps the channels; a range that is taken from the data needs all that it is taken over."""
    axis = _axis(op)
    if len(op) > 2:
        _tie_ranges(op, axis)
    if not op.node.attrs.get("range_given"):
        for place, ids in enumerate(op[0].ids):
            if place != axis:
                op.pin(ids, AcrossChannels("its range is taken over every channel"))
    return op[0].without_value()


@value_rule(*_BY_DATA)
def quantize_and_dequantize_value(op: ValueVisit) -> Any:
    """Steps are symmetric around zero, which stays zero where the range is given."""
    if op[0] is None or not op.node.attrs.get("range_given"):
        return None
    if len(op) > 2 and _range(op, _axis(op)) is None:
        return None
    return np.where(np.asarray(op[0]) == 0, 0.0, np.nan)
