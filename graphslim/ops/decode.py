"""Ops that read files and sound: they have no channels, but the shapes that they state."""

from __future__ import annotations

from typing import List, Optional

from graphslim.ops.table import UNKNOWN, Fact, OpVisit, channel_rule, fact


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


@channel_rule("DecodeJpeg", "DecodePng", "DecodeBmp", "DecodeAndCropJpeg")
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
