"""The layers of random networks that join, cut and move tensors.

As in `random_layers`, which says how they work.
"""

from __future__ import annotations

from typing import List

from random_builder import LARGEST, WIDEST, Pick, RandomNet, Result, layer
from random_layers import WIDTHS, is_map, settle


def _fitting(net: RandomNet, x: str, channels: bool) -> List[str]:
    """The tensors that have the sizes of x, in `channels` too or not; x itself among them."""
    size = net.shape[x]
    if channels:
        return [one for one in net.live if net.shape[one] == size]
    return [one for one in net.live if is_map(net, one) == is_map(net, x) and
            net.shape[one][:-1] == size[:-1]]  # fmt: skip


def _concat(net: RandomNet, *parts: str) -> str:
    axis = net.ints(pick_axis(net, parts[0]), shape=())
    y = net.op("ConcatV2", *parts, axis, T="float32", Tidx="int32", N=len(parts))
    return net.put(y, *net.shape[parts[0]][:-1], sum([net.shape[one][-1] for one in parts]))


def pick_axis(net: RandomNet, x: str) -> int:
    """The channel axis of a tensor."""
    return len(net.shape[x])


@layer
def concat(net: RandomNet, x: str, pick: Pick) -> Result:
    parts = [x, *[pick(*_fitting(net, x, False)) for _ in range(pick(1, 2))]]
    if sum([net.shape[one][-1] for one in parts]) > WIDEST:
        return None
    return _concat(net, *parts)


@layer
def dense_connection(net: RandomNet, x: str, pick: Pick) -> Result:
    if not is_map(net, x) or net.shape[x][-1] > WIDEST // 2:
        return None
    return _concat(net, x, settle(net, net.conv(x, pick(*WIDTHS), pick(1, 3)), pick))


@layer
def residual(net: RandomNet, x: str, pick: Pick) -> Result:
    if not is_map(net, x):
        return None
    y = settle(net, net.conv(x, net.shape[x][-1], pick(1, 3)), pick)
    op = pick("AddV2", "Add", "Sub", "Maximum", "Minimum", "Mul", "SquaredDifference", "AddN")
    if op == "AddN":
        return net.like(net.f("AddN", x, y, x, N=3), x)
    return net.two(op, x, y, pick(False, True))


@layer
def meet(net: RandomNet, x: str, pick: Pick) -> Result:
    """Two tensors of one size, elementwise; the second maybe one channel or one pixel."""
    other = pick(*_fitting(net, x, True))
    if is_map(net, x):
        other = pick(
            lambda: other,
            lambda: net.mean(other),
            lambda: net.conv(other, 1),
            lambda: net.f("Sigmoid", net.mean(other)),
        )()
    return net.two(pick("AddV2", "Mul", "Maximum", "Sub"), x, other, pick(False, True))


@layer
def choose(net: RandomNet, x: str, pick: Pick) -> Result:
    """Select by the sign of a tensor, between another and zeros."""
    chosen = net.f("Greater", x, net.const(value=0))
    other = pick(*_fitting(net, x, True))
    return net.like(net.f("Select", chosen, other, net.f("Tanh", x)), x)


# ---------------------------------------------------------------------- cutting and joining again


def _branches(net: RandomNet, parts: List[str], pick: Pick) -> List[str]:
    """Each part as it is, or through a convolution of its own."""
    made = []
    for part in parts:
        if is_map(net, part) and pick(False, True):
            part = settle(net, net.conv(part, pick(*WIDTHS), pick(1, 3)), pick)
        made.append(part)
    return made


@layer
def split(net: RandomNet, x: str, pick: Pick) -> Result:
    channels, count = net.shape[x][-1], pick(2, 3)
    if channels % count or channels // count < 2:
        return None
    axis = net.ints(pick(pick_axis(net, x), -1), shape=())
    y = net.op("Split", axis, x, like=x, T="float32", num_split=count)
    parts = []
    for place in range(count):
        at = f"{y}:{place}" if place else y
        parts.append(net.put(at, *net.shape[x][:-1], channels // count))
    net.put(y, *net.shape[x][:-1], channels // count)
    made = _branches(net, parts, pick)
    return _concat(net, *made[::-1]) if pick(True, False) else made


@layer
def split_unequal(net: RandomNet, x: str, pick: Pick) -> Result:
    channels = net.shape[x][-1]
    if channels < 3:
        return None
    first = pick(1, channels // 2, channels - 1)
    sizes = net.ints(first, pick(channels - first, -1))
    y = net.op(
        "SplitV", x, sizes, net.ints(pick_axis(net, x), shape=()), T="float32", Tlen="int32",
        num_split=2,
    )  # fmt: skip
    net.put(y, *net.shape[x][:-1], first)
    net.put(f"{y}:1", *net.shape[x][:-1], channels - first)
    made = _branches(net, [y, f"{y}:1"], pick)
    return _concat(net, *made) if pick(False, True) else made


@layer
def slice_channels(net: RandomNet, x: str, pick: Pick) -> Result:
    *space, channels = net.shape[x]
    if channels < 3:
        return None
    begin = pick(0, 1, channels // 2)
    size = pick(channels - begin, channels - begin - 1)
    zeros = [0] * (len(space) + 1)
    y = net.f(
        "Slice", x, net.ints(*zeros, begin), net.ints(*[-1 for _ in zeros], size), Index="int32"
    )
    return net.put(y, *space, size)


@layer
def strided_slice(net: RandomNet, x: str, pick: Pick) -> Result:
    """Of channels or of space, with bounds that are given, negative or open."""
    *space, channels = net.shape[x]
    if channels < 3:
        return None
    low, high, step = pick(
        (0, channels // 2, 1), (1, channels, 1), (-2, channels, 1), (0, -1, 1), (0, channels, 2)
    )
    rank = len(space) + 2
    open_ends = (1 << (rank - 1)) - 1
    row = pick(0, 1) if space and space[0] > 1 else 0
    begins, ends = [0] * (rank - 1), [0] * (rank - 1)
    open_begins = open_ends
    if space and row:
        begins[1], open_begins = row, open_ends & ~2
    to_the_end = high == channels and pick(False, True)
    y = net.f(
        "StridedSlice", x, net.ints(*begins, low), net.ints(*ends, high),
        net.ints(*[1] * (rank - 1), step), Index="int32", begin_mask=open_begins,
        end_mask=open_ends | (1 << (rank - 1) if to_the_end else 0),
    )  # fmt: skip
    if space:
        space[0] -= row
    return net.put(y, *space, len(range(channels)[low:high:step]))


@layer
def gather(net: RandomNet, x: str, pick: Pick) -> Result:
    """Picks channels by constant places: reversed, some of them, or some twice."""
    *space, channels = net.shape[x]
    places = pick(
        list(range(channels))[::-1],
        list(range(0, channels, 2)),
        [place // 2 for place in range(channels)],
        [(place * 5 + 1) % channels for place in range(channels)],
    )
    axis = net.ints(pick_axis(net, x), shape=())
    y = net.op(
        "GatherV2", x, net.ints(*places), axis, Tparams="float32", Tindices="int32",
        Taxis="int32",
    )  # fmt: skip
    return net.put(y, *space, len(places))


@layer
def tile(net: RandomNet, x: str, pick: Pick) -> Result:
    *space, channels = net.shape[x]
    times = pick(2, 1)
    if channels * times > WIDEST:
        return None
    rows = pick(1, 2) if space and space[0] <= LARGEST // 2 else 1
    y = net.f("Tile", x, net.ints(1, *([rows, 1] if space else []), times), Tmultiples="int32")
    if space:
        space[0] *= rows
    return net.put(y, *space, channels * times)


@layer
def reverse(net: RandomNet, x: str, pick: Pick) -> Result:
    return net.like(net.f("ReverseV2", x, net.ints(pick(pick_axis(net, x), 1)), Tidx="int32"), x)


@layer
def pad(net: RandomNet, x: str, pick: Pick) -> Result:
    if not is_map(net, x, 2) or max(net.shape[x]) >= LARGEST:
        return None
    height, width, channels = net.shape[x]
    top, side, before, after = pick((1, 1, 0, 0), (0, 1, 0, 2), (0, 0, 1, 3), (1, 0, 0, 0))
    amounts = net.ints(0, 0, top, top, side, 0, before, after, shape=(4, 2))
    op = pick("Pad", "PadV2", "MirrorPad")
    if op == "MirrorPad" and max(before, after) >= channels:
        op = "Pad"
    more = [net.const(value=0.5)] if op == "PadV2" else []
    attrs = {"mode": '"REFLECT"'} if op == "MirrorPad" else {}
    y = net.f(op, x, amounts, *more, Tpaddings="int32", **attrs)
    return net.put(y, height + 2 * top, width + side, channels + before + after)


@layer
def pack(net: RandomNet, x: str, pick: Pick) -> Result:
    """Stacks tensors on a new axis, and takes them apart or sums over it."""
    other, count = pick(*_fitting(net, x, True)), 2
    axis = pick(1, 2) if is_map(net, x) else 1
    y = net.op("Pack", x, other, T="float32", N=count, axis=axis)
    if pick(False, True):
        return net.like(net.mean(y, keep=False, axes=(axis,), op=pick("Sum", "Mean", "Max")), x)
    parts = net.op("Unpack", y, T="float32", num=count, axis=axis)
    net.like(parts, x)
    return [parts, net.like(f"{parts}:1", x)]


# ---------------------------------------------------------------------- moving


@layer
def transpose(net: RandomNet, x: str, pick: Pick) -> Result:
    """Channels go first, something happens, and they come back."""
    if not is_map(net, x):
        return None
    channels = net.shape[x][-1]
    y = net.f("Transpose", x, net.ints(0, 3, 1, 2), Tperm="int32")
    y = pick(
        lambda: net.f("Relu", y),
        lambda: net.two("AddV2", y, net.const((channels, 1, 1))),
        lambda: net.two("Mul", y, net.mean(y, axes=(2, 3))),
    )()
    return net.like(net.f("Transpose", y, net.ints(0, 2, 3, 1), Tperm="int32"), x)


@layer
def shuffle(net: RandomNet, x: str, pick: Pick) -> Result:
    *space, channels = net.shape[x]
    groups = pick(2, 3)
    if not is_map(net, x) or channels % groups or channels == groups:
        return None
    y = net.reshape(x, -1, *space, groups, channels // groups)
    y = net.f("Transpose", y, net.ints(0, 1, 2, 4, 3), Tperm="int32")
    last = net.reshape_by_batch(y, *space, channels) if pick(False, True) else ""
    return net.like(last or net.reshape(y, -1, *space, channels), x)


@layer
def depth_to_space(net: RandomNet, x: str, pick: Pick) -> Result:
    if not is_map(net, x) or max(net.shape[x][:2]) > LARGEST // 2:
        return None
    height, width, channels = net.shape[x]
    if channels % 4:
        x, channels = net.conv(x, 8), 8
    y = net.f("DepthToSpace", x, block_size=2, data_format="NHWC")
    return net.put(y, height * 2, width * 2, channels // 4)


@layer
def space_to_depth(net: RandomNet, x: str, pick: Pick) -> Result:
    if not is_map(net, x, 2) or net.shape[x][-1] * 4 > WIDEST:
        return None
    height, width, channels = net.shape[x]
    if height % 2 or width % 2:
        return None
    y = net.f("SpaceToDepth", x, block_size=2, data_format="NHWC")
    return net.put(y, height // 2, width // 2, channels * 4)


@layer
def to_rows_and_back(net: RandomNet, x: str, pick: Pick) -> Result:
    """Pixels become rows of a matrix; the way back is constant or computed from Shape."""
    if not is_map(net, x):
        return None
    (height, width, channels), filters = net.shape[x], pick(*WIDTHS)
    rows = net.put(net.reshape(x, -1, channels), channels)
    y = net.f("Relu", net.matmul(rows, filters))
    if pick(False, True):
        shape = net.op("Shape", x, T="float32", out_type="int32")
        head = net.op(
            "StridedSlice", shape, net.ints(0), net.ints(3), net.ints(1), T="int32",
            Index="int32",
        )  # fmt: skip
        axis = net.ints(0, shape=())
        target = net.op("ConcatV2", head, net.ints(filters), axis, T="int32", Tidx="int32", N=2)
        back = net.f("Reshape", y, target, Tshape="int32")
    else:
        back = net.reshape(y, -1, height, width, filters)
    return net.put(back, height, width, filters)


@layer
def vector_to_map(net: RandomNet, x: str, pick: Pick) -> Result:
    """A vector becomes a map, as in generators."""
    if is_map(net, x):
        return None
    channels = net.shape[x][-1]
    y = net.matmul(x, 4 * pick(*WIDTHS)) if channels % 4 or pick(False, True) else x
    width = net.shape[y][-1] // 4
    return net.put(net.reshape(y, -1, 2, 2, width), 2, 2, width)


@layer
def filled(net: RandomNet, x: str, pick: Pick) -> Result:
    """A tensor as large as another, made by Fill or BroadcastTo, is added."""
    shape = net.op("Shape", x, T="float32", out_type="int32")
    value = net.const(value=0.25)
    if net.modern and pick(False, True):
        y = net.f("BroadcastTo", value, shape, Tidx="int32")
    else:
        y = net.f("Fill", shape, value, index_type="int32")
    return net.two("AddV2", x, net.like(y, x))
