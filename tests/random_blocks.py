"""Layers of random networks that published networks are made of, and that mix axes.

As in `random_layers`, which says how they work. Each names the publication that it is after.
"""

from __future__ import annotations

from typing import List

from random_axes import rows_of
from random_builder import WIDEST, Pick, RandomNet, Result, layer
from random_layers import WIDTHS, is_map, settle
from random_shapes import pick_axis


def joined(net: RandomNet, axis: int, *parts: str) -> str:
    """Concatenation along an axis; its size is the caller's to note."""
    return net.op(
        "ConcatV2", *parts, net.ints(axis, shape=()), T="float32", Tidx="int32", N=len(parts)
    )


def parted(net: RandomNet, x: str, axis: int, *sizes: int) -> List[str]:
    """The parts of a tensor along an axis; their sizes are the caller's to note."""
    y = net.op(
        "SplitV", x, net.ints(*sizes), net.ints(axis, shape=()), T="float32", Tlen="int32",
        num_split=len(sizes),
    )  # fmt: skip
    return [f"{y}:{place}" if place else y for place in range(len(sizes))]


def moved(net: RandomNet, x: str, *order: int) -> str:
    """The axes in another order."""
    return net.f("Transpose", x, net.ints(*order), Tperm="int32")


@layer
def maxout(net: RandomNet, x: str, pick: Pick) -> Result:
    """The larger of two channels, neighbours or half of all apart (Goodfellow et al. 2013)."""
    *space, channels = net.shape[x]
    if channels % 2 or channels < 4:
        return None
    half, apart = channels // 2, pick(False, True)
    y = net.reshape(x, -1, *space, *((2, half) if apart else (half, 2)))
    axis = len(space) + (1 if apart else 2)
    y = net.mean(y, keep=False, axes=(axis,), op=pick("Max", "Sum", "Mean", "Min"))
    return net.put(y, *space, half)


@layer
def channel_neighbours(net: RandomNet, x: str, pick: Pick) -> Result:
    """Each channel is weighed by a convolution over its neighbours (ECA-Net, Wang et al. 2020)."""
    if not is_map(net, x):
        return None
    channels = net.shape[x][-1]
    y = net.put(net.reshape(net.mean(x, keep=False), -1, channels, 1, 1), channels, 1, 1)
    y = net.f("Sigmoid", net.conv(y, 1, pick(3, 1)))
    return net.two("Mul", x, net.reshape(y, -1, 1, 1, channels))


@layer
def mixer(net: RandomNet, x: str, pick: Pick) -> Result:
    """Pixels are mixed by dense layers of their own (MLP-Mixer, Tolstikhin et al. 2021)."""
    if not is_map(net, x) or net.shape[x][0] * net.shape[x][1] > 36:
        return None
    height, width, channels = net.shape[x]
    time, hidden = height * width, pick(5, 8, 3)
    y = moved(net, rows_of(net, x), 0, 2, 1)
    if pick(True, False):
        y = net.product(y, net.weights((time, hidden), time, (0, 1)))
        y = net.f("Relu", net.f("AddV2", y, net.const((hidden,))))
        y = net.product(y, net.weights((hidden, time), hidden, (0, 1)))
        y = moved(net, y, 0, 2, 1)
    else:  # the weights on the left, without a transpose
        y = net.product(net.weights((hidden, time), time, (0, 1)), rows_of(net, x))
        y = net.product(net.weights((time, hidden), hidden, (0, 1)), net.f("Relu", y))
    y = net.like(net.reshape(y, -1, height, width, channels), x)
    return net.two("AddV2", x, y) if pick(True, False) else y


@layer
def blended_kernels(net: RandomNet, x: str, pick: Pick) -> Result:
    """A kernel that is a blend of several, by what comes in (CondConv, Yang et al. 2019)."""
    if not is_map(net, x) or net.batch != 1:
        return None
    (height, width, channels), filters, experts = net.shape[x], pick(*WIDTHS), pick(2, 3)
    rates = net.f("Sigmoid", net.matmul(net.put(net.mean(x, keep=False), channels), experts))
    bank = net.weights((experts, channels * filters), experts * channels, (0,))
    kernel = net.f("MatMul", rates, bank, transpose_a=False, transpose_b=False)
    kernel = net.reshape(kernel, 1, 1, channels, filters)
    return net.put(net.conv(x, filters, weights=kernel), height, width, filters)


@layer
def selective_kernels(net: RandomNet, x: str, pick: Pick) -> Result:
    """Two branches, channel by channel in shares that sum to one (SKNet, Li et al. 2019)."""
    if not is_map(net, x):
        return None
    (height, width, _), filters = net.shape[x], pick(*WIDTHS)
    pair = [net.f("Relu", net.conv(x, filters, kernel)) for kernel in (1, 3)]
    total = net.two("AddV2", *pair)
    vector = net.put(net.mean(total, keep=False), filters)
    hidden = net.f("Relu", net.matmul(vector, pick(4, 3)))
    scores = [net.matmul(hidden, filters) for _ in pair]
    y = net.op("Pack", *scores, T="float32", N=2, axis=2)
    shares = net.op("Unpack", net.f("Softmax", y), T="float32", num=2, axis=2)
    made = []
    for branch, share in zip(pair, (shares, f"{shares}:1")):
        made.append(net.two("Mul", branch, net.reshape(share, -1, 1, 1, filters)))
    return net.put(net.two("AddV2", *made), height, width, filters)


@layer
def coordinates(net: RandomNet, x: str, pick: Pick) -> Result:
    """Rows and columns weigh a map, by one convolution for both (Hou et al. 2021)."""
    if not is_map(net, x):
        return None
    height, width, channels = net.shape[x]
    rows, columns = net.mean(x, axes=(2,)), moved(net, net.mean(x, axes=(1,)), 0, 2, 1, 3)
    y = net.put(joined(net, 1, rows, columns), height + width, 1, channels)
    y = settle(net, net.conv(y, pick(4, 3, 6)), pick)
    inner = net.shape[y][-1]
    rows, columns = parted(net, y, 1, height, width)
    rows = net.conv(net.put(rows, height, 1, inner), channels)
    columns = net.put(moved(net, columns, 0, 2, 1, 3), 1, width, inner)
    columns = net.conv(columns, channels)
    for gate in (rows, columns):
        x = net.two("Mul", x, net.f("Sigmoid", gate))
    return x


@layer
def pixel_kernels(net: RandomNet, x: str, pick: Pick) -> Result:
    """Each pixel's own kernel, one for a group of channels (Involution, Li et al. 2021)."""
    if not is_map(net, x):
        return None
    (height, width, channels), groups = net.shape[x], pick(2, 1, 3)
    if channels % groups:
        return None
    kernel = net.reshape(net.conv(x, 2 * groups), -1, height, width, 2, groups, 1)
    beside = net.f("ReverseV2", x, net.ints(2), Tidx="int32")
    y = net.op("Pack", x, beside, T="float32", N=2, axis=3)
    y = net.reshape(y, -1, height, width, 2, groups, channels // groups)
    y = net.mean(net.f("Mul", y, kernel), keep=False, axes=(3,), op="Sum")
    return net.like(net.reshape(y, -1, height, width, channels), x)


@layer
def windows(net: RandomNet, x: str, pick: Pick) -> Result:
    """What happens inside of windows of two by two pixels (Swin, Liu et al. 2021)."""
    if not is_map(net, x, 2):
        return None
    (height, width, channels), filters = net.shape[x], pick(*WIDTHS)
    if height % 2 or width % 2:
        return None
    y = net.reshape(x, -1, height // 2, 2, width // 2, 2, channels)
    y = net.reshape(moved(net, y, 0, 1, 3, 2, 4, 5), -1, 4, channels)
    made = [net.product(y, net.weights((channels, filters), channels, (0, 1))) for _ in range(2)]
    shares = net.f("Softmax", net.times(net.product(*made, adj_y=True), 0.3))
    y = net.product(shares, made[1])
    y = net.reshape(y, -1, height // 2, width // 2, 2, 2, filters)
    y = net.reshape(moved(net, y, 0, 1, 3, 2, 4, 5), -1, height, width, filters)
    return net.put(y, height, width, filters)


@layer
def class_token(net: RandomNet, x: str, pick: Pick) -> Result:
    """A learned row is put before the pixels, and read alone (ViT, Dosovitskiy et al. 2021)."""
    if not is_map(net, x) or net.batch != 1:
        return None
    (height, width, channels), row = net.shape[x], pick(0, 1)
    token = net.weights((1, 1, channels), 1, (2,))
    y = joined(net, 1, token, rows_of(net, x))
    y = net.f("AddV2", y, net.weights((1, height * width + 1, channels), 1, (2,)))
    scores = net.f("Softmax", net.product(y, y, adj_y=True))
    y = net.product(scores, y)
    first = net.f(
        "StridedSlice", y, net.ints(0, row), net.ints(0, row + 1), net.ints(1, 1), Index="int32",
        begin_mask=1, end_mask=1, shrink_axis_mask=2,
    )  # fmt: skip
    return net.matmul(net.put(first, channels), pick(*WIDTHS))


@layer
def ordered(net: RandomNet, x: str, pick: Pick) -> Result:
    """Channels by the order of their values, or summed up one after the other."""
    if pick(True, False):
        return net.like(net.f("TopKV2", x, net.ints(net.shape[x][-1], shape=()), sorted=True), x)
    axis = net.ints(pick(pick_axis(net, x), -1, 1), shape=())
    y = net.f("Cumsum", x, axis, Tidx="int32", exclusive=pick(False, True), reverse=False)
    return net.like(net.times(y, 0.3), x)


@layer
def memory_cell(net: RandomNet, x: str, pick: Pick) -> Result:
    """Two steps of a convolutional LSTM, their weights shared (Shi et al. 2015)."""
    if not is_map(net, x):
        return None
    (height, width, channels), size = net.shape[x], pick(3, 4, 5)
    kernels = [net.weights((1, 1, n, 4 * size), n, (2, 3)) for n in (channels, size)]
    bias, state, hidden = net.const((4 * size,)), "", ""
    for _ in range(2):
        y = net.conv(x, 4 * size, weights=kernels[0])
        if hidden:
            y = net.two("AddV2", y, net.conv(hidden, 4 * size, weights=kernels[1]))
        gates = parted(net, net.f("BiasAdd", y, bias), 3, size, size, size, size)
        into, keep, out = [net.f("Sigmoid", gate) for gate in gates[:3]]
        fresh = net.f("Mul", into, net.f("Tanh", gates[3]))
        state = net.f("AddV2", fresh, net.f("Mul", keep, state)) if state else fresh
        hidden = net.put(net.f("Mul", out, net.f("Tanh", state)), height, width, size)
    return hidden


@layer
def unit_length(net: RandomNet, x: str, pick: Pick) -> Result:
    """Each pixel's channels divided by their length, or by that of all pixels together."""
    axes = (pick_axis(net, x),) if pick(True, False) else tuple(range(1, pick_axis(net, x) + 1))
    total = net.mean(net.f("Square", x), axes=axes, op="Sum")
    return net.two("Mul", x, net.f("Rsqrt", net.plus(total, 0.1)))


@layer
def every_other_pixel(net: RandomNet, x: str, pick: Pick) -> Result:
    """Four maps of half the size, one behind the other (the focus layer of YOLOv5)."""
    if not is_map(net, x, 2) or net.shape[x][-1] * 4 > 2 * WIDEST:
        return None
    height, width, channels = net.shape[x]
    if height % 2 or width % 2:
        return None
    parts = []
    for row, column in ((0, 0), (1, 0), (0, 1), (1, 1)):
        parts.append(
            net.f(
                "StridedSlice",
                x,
                net.ints(0, row, column),
                net.ints(0, 0, 0),
                net.ints(1, 2, 2),
                Index="int32",
                begin_mask=1,
                end_mask=7,
            )  # fmt: skip
        )
    y = net.put(joined(net, 3, *parts), height // 2, width // 2, 4 * channels)
    return settle(net, net.conv(y, pick(*WIDTHS)), pick)


@layer
def steps_of_scales(net: RandomNet, x: str, pick: Pick) -> Result:
    """Parts of the channels, each added to the next before its convolution (Res2Net, 2019)."""
    if not is_map(net, x) or net.shape[x][-1] % 3 or net.shape[x][-1] < 6:
        return None
    height, width, channels = net.shape[x]
    size = channels // 3
    first, *others = [net.put(y, height, width, size) for y in parted(net, x, 3, *[size] * 3)]
    made = [first]
    for place, part in enumerate(others):
        y = net.two("AddV2", part, made[-1]) if place else part
        made.append(settle(net, net.conv(y, size, pick(1, 3)), pick))
    return net.like(joined(net, 3, *made), x)


@layer
def modulated(net: RandomNet, x: str, pick: Pick) -> Result:
    """Scaled and shifted by what a dense layer says (FiLM, Perez et al. 2018)."""
    if not is_map(net, x):
        return None
    channels = net.shape[x][-1]
    vector = net.put(net.mean(x, keep=False), channels)
    both = net.reshape(net.matmul(vector, 2 * channels), -1, 1, 1, 2 * channels)
    scale, shift = parted(net, both, 3, channels, channels)
    return net.two("AddV2", net.two("Mul", x, scale), shift)


@layer
def over_time(net: RandomNet, x: str, pick: Pick) -> Result:
    """A convolution over one axis, as TensorFlow spells it, or over three."""
    if not is_map(net, x):
        return None
    (height, width, channels), filters = net.shape[x], pick(*WIDTHS)
    if pick(True, False):
        time = height * width
        y = net.f("ExpandDims", rows_of(net, x), net.ints(1, shape=()), Tdim="int32")
        y = net.put(y, 1, time, channels)
        y = net.conv(y, filters, 3) if time > 2 else net.conv(y, filters)
        y = net.f("Squeeze", settle(net, y, pick), squeeze_dims="[1]")
        return net.put(net.reshape(y, -1, height, width, filters), height, width, filters)
    y = net.f("ExpandDims", x, net.ints(pick(1, 3), shape=()), Tdim="int32")
    w = net.weights((1, 1, 1, channels, filters), channels, (3, 4))
    y = net.f(
        "Conv3D", y, w, data_format='"NDHWC"', padding="SAME", strides="[1,1,1,1,1]",
        dilations="[1,1,1,1,1]",
    )  # fmt: skip
    return net.put(net.reshape(y, -1, height, width, filters), height, width, filters)


@layer
def cost_volume(net: RandomNet, x: str, pick: Pick) -> Result:
    """How alike each pixel is to its neighbours (FlowNet, Dosovitskiy et al. 2015)."""
    if not is_map(net, x):
        return None
    height, width, _ = net.shape[x]
    pair = [net.conv(x, filters) for filters in [pick(*WIDTHS)] * 2]
    parts = []
    for axes in ((1,), (2,), (1, 2)):
        beside = net.f("ReverseV2", pair[1], net.ints(*axes), Tidx="int32")
        product = net.two("Mul", pair[0], beside)
        parts.append(net.mean(product, axes=(3,), op=pick("Mean", "Sum")))
    return net.put(joined(net, 3, *parts), height, width, 3)


@layer
def turned(net: RandomNet, x: str, pick: Pick) -> Result:
    """Height and width change places, and maybe channels and one of them (triplet attention)."""
    if not is_map(net, x):
        return None
    height, width, channels = net.shape[x]
    if pick(True, False):
        return net.put(moved(net, x, 0, 2, 1, 3), width, height, channels)
    # Misra et al. 2021: a convolution whose space is the channels and one side.
    y = net.put(moved(net, x, 0, 3, 2, 1), channels, width, height)
    pooled = [net.mean(y, axes=(3,), op=op) for op in ("Max", "Mean")]
    gate = net.put(joined(net, 3, *pooled), channels, width, 2)
    gate = net.f("Sigmoid", net.conv(gate, 1, pick(1, 3)))
    return net.like(moved(net, net.two("Mul", y, gate), 0, 3, 2, 1), x)


@layer
def scales_of_context(net: RandomNet, x: str, pick: Pick) -> Result:
    """What the whole map holds, spread over it again (PSPNet, Zhao et al. 2017)."""
    if not is_map(net, x) or net.shape[x][-1] > WIDEST // 2:
        return None
    (height, width, channels), filters = net.shape[x], pick(*WIDTHS)
    y = net.conv(net.put(net.mean(x), 1, 1, channels), filters)
    y = pick(
        lambda: net.f("ResizeBilinear", y, net.ints(height, width), align_corners=True),
        lambda: net.f("Tile", y, net.ints(1, height, width, 1), Tmultiples="int32"),
        lambda: net.f("ResizeNearestNeighbor", y, net.ints(height, width), align_corners=False),
    )()
    return net.put(joined(net, 3, x, y), height, width, channels + filters)
