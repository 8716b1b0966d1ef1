"""Ops on images and sound: crops, patches, warps and colours, and what is read from files."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence

import numpy as np

from graphslim.channels.facts import LONGEST, UNKNOWN, Fact, fact, fits, product
from graphslim.channels.reasons import ComputedSize, OpenSize, OtherAxis
from graphslim.channels.rules import ValueVisit, channel_rule, value_rule
from graphslim.channels.visit import OpVisit
from graphslim.ops.conv import slid, window
from graphslim.ops.pool import even_map, stated_sizes


@channel_rule("CropAndResize")
def crop_and_resize(op: OpVisit) -> Fact:
    """As many crops as there are boxes, each with the channels of the image."""
    op.pin_inputs(1, "it says what is cropped")
    op.pin_others(0, (3,), "it is cropped")
    shape = (op[1].size(0), *stated_sizes(op, 3), op[0].size(3))
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
    taps = product(sizes[1:-1]) or 0
    shape = slid(data.shape or (), sizes[1:-1], how)
    shape[-1] = product([shape[-1], taps])
    ids = data.channels(rank - 1)
    if ids is not None and not fits(LONGEST, len(ids), taps):
        op.pin(ids, "it is repeated more often than is followed")
        ids = None
    return fact(
        tuple(shape),
        {0: data.channels(0), rank - 1: None if ids is None else np.tile(ids, taps)},
    )


@value_rule("ExtractImagePatches", "ExtractVolumePatches")
def patches_value(op: ValueVisit) -> Any:
    """A map that is the same everywhere, once for each tap; under padding zeros are seen too."""
    given, taps = op[0], product(op.node.ints("ksizes")[1:-1]) or 0
    if given is None or any(size != 1 for size in given.shape[:-1]):
        return None
    if not fits(LONGEST, given.size, taps):
        return None
    inside = op.node.text("padding") == "VALID"
    value: np.ndarray = given if inside else np.where(given == 0, 0.0, np.nan)
    return np.tile(value, taps) if value.size > 1 else value


@channel_rule("ScaleAndTranslate", "ImageProjectiveTransformV2", "ImageProjectiveTransformV3")
def warped(op: OpVisit) -> Fact:
    """Every channel of an image is moved alike."""
    size = 1 if op.node.op == "ScaleAndTranslate" else 2
    op.pin_inputs(1, "it says how an image is warped")
    if op[0].shape is None:
        return UNKNOWN
    op.pin_others(0, (0, 3), "it is warped")
    shape = (op[0].size(0), *stated_sizes(op, size), op[0].size(3))
    return fact(shape, {0: op[0].channels(0), 3: op[0].channels(3)})


@value_rule("ScaleAndTranslate", "ImageProjectiveTransformV2")
def warped_value(op: ValueVisit) -> Any:
    """Beside the image there are zeros."""
    value = even_map(op[0])
    return None if value is None else np.where(value == 0, 0.0, np.nan)


@channel_rule("AdjustContrastv2")
def contrast(op: OpVisit) -> Fact:
    """Stretches each channel about its own mean over space."""
    op.pin_inputs(1, "a contrast is adjusted by it")
    for ids in op[0].ids[-3:-1]:
        op.pin(ids, OtherAxis("its mean over space is taken"))
    return op[0].without_value()


@value_rule("AdjustContrastv2")
def contrast_value(op: ValueVisit) -> Any:
    """A map that is the same everywhere is its own mean."""
    value = op[0]
    return value if value is not None and value.shape[-3:-1] == (1, 1) else None


@channel_rule(
    *("AdjustHue", "AdjustSaturation", "RGBToHSV", "HSVToRGB"),
    *("DrawBoundingBoxes", "DrawBoundingBoxesV2"),
)
def colours(op: OpVisit) -> Fact:
    """Mixes the channels, which are colours."""
    for ids in op[0].ids[-1:]:
        op.pin(ids, ComputedSize("its channels are colours that are computed with"))
    op.pin_inputs(1, ComputedSize("colours are computed with it"))
    return op[0].without_value()


@channel_rule("ReverseSequence")
def reverse_sequence(op: OpVisit) -> Fact:
    """Reverses a part of one axis, as long as another tensor says for each example."""
    why = "a part of it is reversed, as long as another tensor says"
    op.pin_inputs(1, why)
    for key in ("seq_dim", "batch_dim"):
        op.pin(op[0].channels(int(op.node.attrs.get(key, 0))), why)
    return op[0].without_value()


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


def _stated(op: OpVisit, key: str, absent: int) -> Optional[int]:
    """A size that an attribute states; None where it has the number that leaves it open."""
    number = int(op.node.attrs.get(key, absent))
    return None if number == absent else number


@channel_rule("DecodeWav")
def decode_wav(op: OpVisit) -> List[Fact]:
    """Samples by channels, and the sample rate."""
    sizes = (_stated(op, "desired_samples", -1), _stated(op, "desired_channels", -1))
    return [fact(sizes), fact(())]


@channel_rule("AudioSpectrogram")
def spectrogram(op: OpVisit) -> Fact:
    """Of (samples, channels): channels, windows, and frequencies up to half the next power of 2."""
    op.pin_all("a spectrogram is made of it")
    window, stride = int(op.node.attrs["window_size"]), int(op.node.attrs["stride"])
    length, frequencies = op[0].size(0), 1 + (1 << max(window - 1, 0).bit_length()) // 2
    windows = None if length is None else max(0, 1 + (length - window) // stride)
    return fact((op[0].size(1), windows, frequencies))


@channel_rule("Mfcc")
def mel_coefficients(op: OpVisit) -> Fact:
    """As many coefficients as an attribute says, for each channel and window."""
    op.pin_all("mel-frequency coefficients are made of it")
    count = int(op.node.attrs.get("dct_coefficient_count", 13))
    return fact((op[0].size(0), op[0].size(1), count))


@channel_rule("DecodeJpeg", "DecodePng", "DecodeBmp", "DecodeAndCropJpeg", "DecodeWebP")
def decode_image(op: OpVisit) -> Fact:
    """Height, width and colours."""
    return fact((None, None, _stated(op, "channels", 0)))


@channel_rule("DecodeGif")
def decode_frames(op: OpVisit) -> Fact:
    """Frames of height, width and three colours."""
    return fact((None, None, None, 3))


@channel_rule("DecodeImage")
def decode_any_image(op: OpVisit) -> Fact:
    """An image or, unless that is ruled out, the frames of an animation."""
    if op.node.attrs.get("expand_animations", True):
        return UNKNOWN
    return fact((None, None, _stated(op, "channels", 0)))
