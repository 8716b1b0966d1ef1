"""Layers of random networks that look at images: crops, patches, warps, sums over channels.

As in `random_layers`, which says how they work.
"""

from __future__ import annotations

from random_builder import LARGEST, WIDEST, Pick, RandomNet, Result, disguise, layer
from random_layers import WIDTHS, is_map, settle


@layer
def crops(net: RandomNet, x: str, pick: Pick) -> Result:
    """A box that reaches beyond the image for each example, and a convolution of what is in it."""
    if not is_map(net, x) or net.batch == "?":
        return None
    count = int(str(net.batch))
    numbers = " ".join(["0.25 0.25 1.25 0.75"] * count)
    boxes = net.op("Const", dtype="float32", value=f"float32[{count},4]{{{numbers}}}")
    y = net.f(
        "CropAndResize", x, boxes, net.ints(*range(count)), net.ints(3, 4), method='"bilinear"',
        extrapolation_value=pick(0.0, 0.5),
    )  # fmt: skip
    return settle(net, net.conv(net.put(y, 3, 4, net.shape[x][-1]), pick(*WIDTHS), 3), pick)


@layer
def patches(net: RandomNet, x: str, pick: Pick) -> Result:
    """The pixels of a window side by side, as darkflow's reorg."""
    padding = pick("VALID", "SAME")
    if not is_map(net, x, 2) or net.shape[x][-1] * 4 > 2 * WIDEST:
        return None
    height, width, channels = net.shape[x]
    y = net.f(
        "ExtractImagePatches", x, ksizes="[1,2,2,1]", strides="[1,2,2,1]", rates="[1,1,1,1]",
        padding=f'"{padding}"',
    )  # fmt: skip
    up = 0 if padding == "VALID" else 1
    net.put(y, (height + up) // 2, (width + up) // 2, channels * 4)
    return settle(net, net.conv(y, pick(*WIDTHS), disguise=disguise(pick)), pick)


@layer
def padded_conv(net: RandomNet, x: str, pick: Pick) -> Result:
    """What optimize_for_inference makes of a resize, a mirror padding and a convolution."""
    kind, padding = pick("FusedPadConv2D", "FusedResizeAndPadConv2D"), pick("SAME", "VALID")
    if not is_map(net, x, 2) or max(net.shape[x][:2]) > LARGEST // 2:
        return None
    height, width, channels = net.shape[x]
    inputs, filters = [x], pick(*WIDTHS)
    attrs = {"mode": '"REFLECT"', "padding": f'"{padding}"', "strides": "[1,1,1,1]"}
    if kind == "FusedResizeAndPadConv2D":
        height, width = height * 2, width + 1
        inputs.append(net.ints(height, width))
        attrs["resize_align_corners"] = "false"
    inputs.append(net.ints(0, 0, 1, 1, 0, 1, 0, 0, shape=(4, 2)))
    inputs.append(net.weights((2, 2, channels, filters), 4 * channels, (2, 3), disguise(pick)))
    lost = 0 if padding == "SAME" else 1
    y = net.f(kind, *inputs, **attrs)
    return settle(net, net.put(y, height + 2 - lost, width + 1 - lost, filters), pick)


@layer
def warp(net: RandomNet, x: str, pick: Pick) -> Result:
    """Moved and scaled; beside the image there are zeros."""
    if not is_map(net, x):
        return None
    height, width, channels = net.shape[x]
    pair = [net.op("Const", dtype="float32", value=f"float32[2]{{{text}}}")
            for text in ("0.75 1.25", "0 1")]  # fmt: skip
    y = net.f(
        "ScaleAndTranslate", x, net.ints(height, width), *pair, kernel_type='"triangle"',
        antialias="true",
    )  # fmt: skip
    return net.put(y, height, width, channels)


@layer
def sum_of_channels(net: RandomNet, x: str, pick: Pick) -> Result:
    """A sum over channels, a contraction with ones, weighs every pixel."""
    if not is_map(net, x):
        return None
    height, width, _ = net.shape[x]
    total = net.mean(x, axes=(3,), op="Sum")
    gate = net.f("Sigmoid", net.put(net.times(total, 0.25), height, width, 1))
    return net.two("Mul", x, gate)
