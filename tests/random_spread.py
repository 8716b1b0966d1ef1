"""Layers of random networks that spread, join, resample or pick from channels that are uniform.

As in `random_layers`, which says how they work.
"""

from __future__ import annotations

from typing import Callable, Dict

import numpy as np
from random_builder import Pick, RandomNet, Result, layer
from random_layers import WIDTHS

OFFSET = 0.5
"""What the dead channels of a layer hold."""
SPREADS: Dict[str, Callable[[RandomNet, str], str]] = {}
"""Ways for a map on which a channel is the same everywhere; each keeps it so."""


def spread(maker: Callable[[RandomNet, str], str]) -> Callable[[RandomNet, str], str]:
    """Adds a way by the name of its function."""
    SPREADS[maker.__name__] = maker
    return maker


@layer
def uniform_constant(net: RandomNet, x: str, pick: Pick) -> Result:
    """A layer of which every second channel is its offset alone, spread before it is read."""
    if len(net.shape[x]) != 3 or max(net.shape[x][:2]) > 8 or min(net.shape[x][:2]) < 2:
        return None
    way, filters, channels = pick(*sorted(SPREADS)), pick(4, 6), net.shape[x][-1]
    w = net.weights((1, 1, channels, filters), channels, (2, 3))
    net.store(w, every_second_dead)
    y = net.conv(x, filters, weights=w)
    y = net.like(net.f("BiasAdd", y, net.const((filters,), OFFSET), data_format="NHWC"), y)
    y = pick(lambda: y, lambda: net.f("Relu", y))()
    return net.conv(SPREADS[way](net, y), pick(*WIDTHS))


def every_second_dead(weights: np.ndarray) -> np.ndarray:
    """Weights whose filters 1, 3, 5, ... are zero."""
    weights[..., 1::2] = 0
    return weights


def _sized(
    net: RandomNet, made: str, x: str, rows: int = 0, columns: int = 0, times: int = 1
) -> str:
    height, width, channels = net.shape[x]
    return net.put(made, rows or height, columns or width, channels * times)


# ---------------------------------------------------------------------- spread and joined


@spread
def tiled_rows(net: RandomNet, x: str) -> str:
    made = net.f("Tile", x, net.ints(1, 2, 1, 1), Tmultiples="int32")
    return _sized(net, made, x, 2 * net.shape[x][0])


@spread
def tiled_channels(net: RandomNet, x: str) -> str:
    return _sized(net, net.f("Tile", x, net.ints(1, 1, 1, 2), Tmultiples="int32"), x, times=2)


@spread
def broadcast(net: RandomNet, x: str) -> str:
    shape = net.op("Shape", x, T="float32", out_type="int32")
    return net.like(net.f("BroadcastTo", net.mean(x), shape, Tidx="int32"), x)


@spread
def joined_rows(net: RandomNet, x: str) -> str:
    axis = net.ints(1, shape=())
    made = net.op("ConcatV2", x, x, axis, T="float32", Tidx="int32", N=2)
    return _sized(net, made, x, 2 * net.shape[x][0])


@spread
def joined_channels(net: RandomNet, x: str) -> str:
    axis = net.ints(3, shape=())
    made = net.op("ConcatV2", x, x, axis, T="float32", Tidx="int32", N=2)
    return _sized(net, made, x, times=2)


@spread
def packed(net: RandomNet, x: str) -> str:
    made = net.op("Pack", x, x, T="float32", N=2, axis=1)
    height, width, channels = net.shape[x]
    return net.put(net.reshape(made, -1, 2 * height, width, channels), 2 * height, width, channels)


@spread
def packed_and_averaged(net: RandomNet, x: str) -> str:
    made = net.op("Pack", x, net.f("Identity", x), T="float32", N=2, axis=2)
    return net.like(net.mean(made, keep=False, axes=(2,)), x)


@spread
def padded_alike(net: RandomNet, x: str) -> str:
    amounts = net.ints(0, 0, 1, 0, 1, 1, 0, 0, shape=(4, 2))
    made = net.f("PadV2", x, amounts, net.const(value=OFFSET), Tpaddings="int32")
    height, width, _ = net.shape[x]
    return _sized(net, made, x, height + 1, width + 2)


@spread
def mirrored(net: RandomNet, x: str) -> str:
    amounts = net.ints(0, 0, 1, 0, 1, 1, 0, 0, shape=(4, 2))
    made = net.f("MirrorPad", x, amounts, Tpaddings="int32", mode='"SYMMETRIC"')
    height, width, _ = net.shape[x]
    return _sized(net, made, x, height + 1, width + 2)


# ---------------------------------------------------------------------- resampled


def _resized(op: str) -> Callable[[RandomNet, str], str]:
    def resize(net: RandomNet, x: str) -> str:
        return _sized(net, net.f(op, x, net.ints(5, 7), align_corners=True), x, 5, 7)

    return resize


def _pooled(op: str, padding: str) -> Callable[[RandomNet, str], str]:
    def pool(net: RandomNet, x: str) -> str:
        made = net.f(
            op, x, data_format="NHWC", ksize="[1,2,2,1]", padding=padding, strides="[1,1,1,1]"
        )
        height, width, _ = net.shape[x]
        lost = 0 if padding == "SAME" else 1
        return _sized(net, made, x, height - lost, width - lost)

    return pool


for _op in ("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea"):
    SPREADS[_op] = _resized(_op)
for _op in ("AvgPool", "MaxPool"):
    SPREADS.update({f"{_op} {_padding}": _pooled(_op, _padding) for _padding in ("SAME", "VALID")})


@spread
def to_batch_and_back(net: RandomNet, x: str) -> str:
    block, edges = net.ints(1, 2), net.ints(0, 0, 0, net.shape[x][1] % 2, shape=(2, 2))
    if net.shape[x][1] % 2:
        return x  # zeros would come in
    apart = net.f("SpaceToBatchND", x, block, edges, Tblock_shape="int32", Tpaddings="int32")
    made = net.f("BatchToSpaceND", apart, block, edges, Tblock_shape="int32", Tcrops="int32")
    return net.like(made, x)


@spread
def to_depth(net: RandomNet, x: str) -> str:
    height, width, _ = net.shape[x]
    if height % 2 or width % 2:
        return x
    made = net.f("SpaceToDepth", x, block_size=2, data_format="NHWC")
    return _sized(net, made, x, height // 2, width // 2, 4)


# ---------------------------------------------------------------------- gathered and chosen


@spread
def picked_rows(net: RandomNet, x: str) -> str:
    made = net.op(
        "GatherV2", x, net.ints(1, 0, 1), net.ints(1, shape=()), Tparams="float32",
        Tindices="int32", Taxis="int32",
    )  # fmt: skip
    return _sized(net, made, x, 3)


@spread
def picked_rows_of_each(net: RandomNet, x: str) -> str:
    if net.batch == "?":
        return x
    batch = int(str(net.batch))
    made = net.op(
        "GatherV2", x, net.ints(*[1, 0, 1] * batch, shape=(batch, 3)), net.ints(1, shape=()),
        Tparams="float32", Tindices="int32", Taxis="int32", batch_dims=1,
    )  # fmt: skip
    return _sized(net, made, x, 3)


@spread
def cut_and_turned(net: RandomNet, x: str) -> str:
    made = net.f("ReverseV2", x, net.ints(1), Tidx="int32")
    made = net.f("Roll", made, net.ints(1), net.ints(2), Tshift="int32", Taxis="int32")
    made = net.f("Slice", made, net.ints(0, 1, 0, 0), net.ints(-1, -1, 1, -1), Index="int32")
    return _sized(net, made, x, net.shape[x][0] - 1, 1)


@spread
def chosen(net: RandomNet, x: str) -> str:
    shape = net.op("Shape", x, T="float32", out_type="int32")
    flags = net.f("BroadcastTo", net.conv(x, 1), shape, Tidx="int32")
    flags = net.f("Greater", flags, net.const(value=0))
    return net.like(net.f("Select", flags, x, net.f("Identity", x)), x)


@spread
def parts_that_meet(net: RandomNet, x: str) -> str:
    if net.shape[x][1] % 2:
        return x
    y = net.op("Split", net.ints(2, shape=()), x, like=x, T="float32", num_split=2)
    return _sized(net, net.f("Maximum", y, f"{y}:1"), x, columns=net.shape[x][1] // 2)
