"""Ops on images: crops, patches, warps and colours."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence

import numpy as np

from graphslim.channels.reasons import ComputedSize, OpenSize, OtherAxis
from graphslim.ops.pool import even_map
from graphslim.ops.table import (
    UNKNOWN,
    Fact,
    OpVisit,
    ValueVisit,
    channel_rule,
    fact,
    product,
    value_rule,
)
from graphslim.ops.window import slid, window

_COLOURS = ("AdjustHue", "AdjustSaturation", "RGBToHSV", "HSVToRGB")
_DRAWN = ("DrawBoundingBoxes", "DrawBoundingBoxesV2")
_WARPS = ("ImageProjectiveTransformV2", "ImageProjectiveTransformV3")


def _sizes(op: OpVisit, index: int) -> List[Optional[int]]:
    """The height and width that an input states; None where they are open."""
    numbers = op[index].value
    if numbers is None or numbers.shape != (2,):
        return [None, None]
    return [None if np.isnan(number) else int(number) for number in numbers]


def _placed(op: OpVisit, first: int, why: str) -> None:
    """Pins what the inputs from `first` on hold: where something is taken from."""
    for known in op.facts[first:]:
        for ids in known.ids:
            op.pin(ids, why)


@channel_rule("CropAndResize")
def crop_and_resize(op: OpVisit) -> Fact:
    """As many crops as there are boxes, each with the channels of the image."""
    _placed(op, 1, "it says what is cropped")
    op.pin_others(0, (3,), "it is cropped")
    shape = (op[1].size(0), *_sizes(op, 3), op[0].size(3))
    return fact(shape, {3: op[0].channels(3)})


@value_rule("CropAndResize")
def crop_and_resize_value(op: ValueVisit) -> Any:
    """Beside the image there is one number, so that only a map of that number stays even."""
    outside, value = op.node.attrs.get("extrapolation_value", 0.0), even_map(op[0])
    return None if value is None else np.where(value == outside, outside, np.nan)


@channel_rule("ExtractImagePatches", "ExtractVolumePatches")
def patches(op: OpVisit) -> Fact:
    """The taps of a window side by side, each with all channels."""
    data, sizes = op[0], op.node.ints("ksizes")
    rank = 4 if op.node.op == "ExtractImagePatches" else 5
    if data.rank != rank or len(sizes) != rank:
        op.pin_all(OpenSize("patches are taken from it at an unknown rank"))
        return UNKNOWN
    op.pin_others(0, (0, rank - 1), "patches are taken from it")
    how = window(op.node, rank)
    rates = op.node.ints("rates")
    if rates:
        how = how._replace(dilations=rates[1:-1])
    taps = int(np.prod(sizes[1:-1]))
    shape = slid(data.shape or (), sizes[1:-1], how)
    shape[-1] = product([shape[-1], taps])
    ids = data.channels(rank - 1)
    return fact(
        tuple(shape),
        {0: data.channels(0), rank - 1: None if ids is None else np.tile(ids, taps)},
    )


@value_rule("ExtractImagePatches", "ExtractVolumePatches")
def patches_value(op: ValueVisit) -> Any:
    """A map that is the same everywhere, once for each tap; under padding zeros are seen too."""
    given, taps = op[0], int(np.prod(op.node.ints("ksizes")[1:-1]))
    if given is None or any(size != 1 for size in given.shape[:-1]):
        return None
    inside = op.node.text("padding") == "VALID"
    value: np.ndarray = given if inside else np.where(given == 0, 0.0, np.nan)
    return np.tile(value, taps) if value.size > 1 else value


@channel_rule("ScaleAndTranslate", *_WARPS)
def warped(op: OpVisit) -> Fact:
    """Every channel of an image is moved alike."""
    size = 1 if op.node.op == "ScaleAndTranslate" else 2
    _placed(op, 1, "it says how an image is warped")
    if op[0].shape is None:
        return UNKNOWN
    op.pin_others(0, (0, 3), "it is warped")
    shape = (op[0].size(0), *_sizes(op, size), op[0].size(3))
    return fact(shape, {0: op[0].channels(0), 3: op[0].channels(3)})


@value_rule("ScaleAndTranslate", "ImageProjectiveTransformV2")
def warped_value(op: ValueVisit) -> Any:
    """Beside the image there are zeros."""
    value = even_map(op[0])
    return None if value is None else np.where(value == 0, 0.0, np.nan)


@channel_rule("AdjustContrastv2")
def contrast(op: OpVisit) -> Fact:
    """Stretches each channel about its own mean over space."""
    _placed(op, 1, "a contrast is adjusted by it")
    return op[0]._replace(value=None, atoms=None)


@value_rule("AdjustContrastv2")
def contrast_value(op: ValueVisit) -> Any:
    """A map that is the same everywhere is its own mean."""
    value = op[0]
    even = value is not None and value.ndim > 2 and value.shape[-3:-1] == (1, 1)
    return value if even else None


@channel_rule(*_COLOURS, *_DRAWN)
def colours(op: OpVisit) -> Fact:
    """Mixes the channels, which are colours."""
    for ids in op[0].ids[-1:]:
        op.pin(ids, ComputedSize("its channels are colours that are computed with"))
    _placed(op, 1, ComputedSize("colours are computed with it"))
    return op[0]._replace(value=None, atoms=None)


@channel_rule("ReverseSequence")
def reverse_sequence(op: OpVisit) -> Fact:
    """Reverses a part of one axis, as long as another tensor says for each example."""
    why = "a part of it is reversed, as long as another tensor says"
    _placed(op, 1, why)
    for key in ("seq_dim", "batch_dim"):
        op.pin(op[0].channels(int(op.node.attrs.get(key, 0))), why)
    return op[0]._replace(value=None, atoms=None)


@value_rule("ReverseSequence")
def reverse_sequence_value(op: ValueVisit) -> Any:
    """What does not vary over the axis stays what it is."""
    if op[0] is None or op[0].shape[int(op.node.attrs["seq_dim"])] != 1:
        return None
    return op[0]


@channel_rule("FractionalMaxPool", "FractionalAvgPool")
def pool_by_fractions(op: OpVisit) -> Sequence[Fact]:
    """Windows of different sizes, the same for every channel; where each begins comes beside it."""
    data, ratios = op[0], op.node.attrs.get("pooling_ratio", ())
    if data.rank != 4 or len(ratios) != 4 or ratios[3] != 1:
        op.pin_all(OpenSize("it is pooled at an unknown rank, or over channels"))
        return [UNKNOWN] * 3
    op.pin_others(0, (0, 3), OtherAxis("it is pooled over"))
    sizes = [
        None if size is None else int(size / ratio)
        for size, ratio in zip((data.shape or ())[1:3], ratios[1:3])
    ]
    pooled = fact((data.size(0), *sizes, data.size(3)), {0: data.channels(0), 3: data.channels(3)})
    starts = [fact((None if size is None else size + 1,)) for size in sizes]
    return [pooled, *starts]


@value_rule("FractionalMaxPool", "FractionalAvgPool")
def pool_by_fractions_value(op: ValueVisit) -> Any:
    """A constant map stays what it is."""
    return even_map(op[0]), None, None
