"""Layers of random networks that flatten or split axes of channels, state shapes, or turn in loops.

As in `random_layers`, which says how they work.
"""

from __future__ import annotations

from random_builder import WIDEST, Pick, RandomNet, Result, disguise, layer
from random_layers import WIDTHS, is_map, settle


def rows_of(net: RandomNet, x: str) -> str:
    """The pixels of a map in rows: batch, pixels, channels."""
    height, width, channels = net.shape[x]
    return net.put(net.reshape(x, -1, height * width, channels), height * width, channels)


def flattened(net: RandomNet, x: str) -> str:
    """Two axes as one, which a product reads."""
    first, second = net.shape[x]
    return net.put(net.reshape(x, -1, first * second), first * second)


@layer
def clusters(net: RandomNet, x: str, pick: Pick) -> Result:
    """NetVLAD: pixels are shared out over clusters, which a softmax pins; both axes are flattened.

    The clusters stand before the channels, or behind them.
    """
    count, behind = pick(3, 2, 4), pick(False, True)
    if not is_map(net, x) or net.shape[x][-1] * count > 2 * WIDEST:
        return None
    height, width, channels = net.shape[x]
    shares = net.f("Softmax", rows_of(net, net.conv(x, count)))
    pair = (rows_of(net, x), shares) if behind else (shares, rows_of(net, x))
    sizes = (channels, count) if behind else (count, channels)
    y = net.f("BatchMatMulV2", *pair, adj_x=True, adj_y=False)
    y = net.put(net.times(y, 1 / (height * width)), *sizes)
    if not behind and pick(True, False):
        mass = net.f("Sum", shares, net.ints(1), Tidx="int32", keep_dims=False)
        mass = net.f("ExpandDims", mass, net.ints(2, shape=()), Tdim="int32")
        centres = net.weights((1, count, channels), height * width, (2,))
        y = net.put(net.f("Sub", y, net.f("Mul", mass, centres)), *sizes)
    return settle(net, net.matmul(flattened(net, y), pick(*WIDTHS), disguise=disguise(pick)), pick)


@layer
def two_streams(net: RandomNet, x: str, pick: Pick) -> Result:
    """Bilinear pooling: every channel times every channel of another stream, or of its own."""
    if not is_map(net, x):
        return None
    height, width, _ = net.shape[x]
    first = net.f("Relu", net.conv(x, pick(4, 3, 6)))
    other = pick(
        lambda: net.f("Relu", net.conv(x, pick(3, 4, 5))),
        lambda: first,
        lambda: net.f("Tanh", first),
    )()
    sizes = net.shape[first][-1], net.shape[other][-1]
    y = net.f("BatchMatMulV2", rows_of(net, first), rows_of(net, other), adj_x=True, adj_y=False)
    y = flattened(net, net.put(net.times(y, 1 / (height * width)), *sizes))
    y = net.two("Mul", y, net.const(net.shape[y], "1.25")) if pick(False, True) else y
    return settle(net, net.matmul(y, pick(*WIDTHS), flip=pick(False, True)), pick)


@layer
def heads(net: RandomNet, x: str, pick: Pick) -> Result:
    """Attention by several heads, more or fewer of them than each has channels."""
    if not is_map(net, x) or net.shape[x][0] * net.shape[x][1] > 36:
        return None
    (height, width, _), (count, inner) = net.shape[x], pick((2, 3), (4, 2), (3, 3))
    parts = []
    for _ in range(3):
        y = net.reshape(net.conv(x, count * inner), -1, height * width, count, inner)
        parts.append(net.f("Transpose", y, net.ints(0, 2, 1, 3), Tperm="int32"))
    scores = net.f("BatchMatMulV2", parts[0], parts[1], adj_x=False, adj_y=True)
    scores = net.f("Softmax", scores) if pick(True, False) else net.times(scores, 0.1)
    y = net.f("BatchMatMulV2", scores, parts[2], adj_x=False, adj_y=False)
    y = net.f("Transpose", y, net.ints(0, 2, 1, 3), Tperm="int32")
    y = net.put(net.reshape(y, -1, height, width, count * inner), height, width, count * inner)
    return settle(net, net.conv(y, pick(*WIDTHS)), pick)


@layer
def head_weights(net: RandomNet, x: str, pick: Pick) -> Result:
    """Attention as Keras spells it: projections with a weight for each channel of each head.

    They are multiplied by Einsum, or made matrices before. Added to it is a convolution, since what
    attention makes of random numbers is nearly the same at all pixels.
    """
    if not is_map(net, x) or net.shape[x][0] * net.shape[x][1] > 36:
        return None
    (height, width, channels), (count, inner) = net.shape[x], pick((2, 3), (4, 2), (3, 3))
    time, wide, rows = height * width, pick(*WIDTHS), rows_of(net, x)
    by_einsum, scored = net.modern and pick(True, False), pick(True, False)
    parts = []
    for _ in range(3):
        w = net.weights((channels, count, inner), channels, (1, 2))
        if by_einsum:
            y = net.einsum("abc,cde->abde", rows, w)
        else:
            y = net.product(rows, net.reshape(w, channels, count * inner))
            y = net.reshape(y, -1, time, count, inner)
        y = net.f("AddV2", y, net.weights((count, inner), 1, (0, 1)))
        parts.append(y if by_einsum else net.f("Transpose", y, net.ints(0, 2, 1, 3), Tperm="int32"))
    q, k, v = parts
    scores = net.einsum("aecd,abcd->acbe", k, q) if by_einsum else net.product(q, k, adj_y=True)
    scores = net.f("Softmax", scores) if scored else net.times(scores, 0.1)
    w = net.weights((count, inner, wide), count * inner, (0, 1, 2))
    if by_einsum:
        y = net.einsum("abcd,cde->abe", net.einsum("acbe,aecd->abcd", scores, v), w)
    else:
        y = net.f("Transpose", net.product(scores, v), net.ints(0, 2, 1, 3), Tperm="int32")
        y = net.reshape(y, -1, time, count * inner)
        y = net.product(y, net.reshape(w, count * inner, wide))
    y = net.f("AddV2", net.reshape(y, -1, height, width, wide), net.conv(x, wide))
    return settle(net, net.put(y, height, width, wide), pick)


@layer
def many_groups(net: RandomNet, x: str, pick: Pick) -> Result:
    """A convolution with more groups than each has channels, maybe shuffled afterwards."""
    groups, inside = pick((4, 2), (6, 2), (5, 1), (2, 4))
    if not is_map(net, x) or not net.modern:
        return None
    height, width, _ = net.shape[x]
    made = net.f("Relu", net.conv(x, groups * inside))
    out = pick(1, 2, 3)
    y = settle(net, net.conv(made, groups * out, pick(1, 3), groups=groups), pick)
    if pick(False, True):
        y = net.reshape(y, -1, height, width, groups, out)
        y = net.f("Transpose", y, net.ints(0, 1, 2, 4, 3), Tperm="int32")
        y = net.put(net.reshape(y, -1, height, width, groups * out), height, width, groups * out)
    return net.conv(y, pick(*WIDTHS))


@layer
def scaled_groups(net: RandomNet, x: str, pick: Pick) -> Result:
    """An axis is split; one part of it is scaled, summed or weighed, and merged again."""
    *space, channels = net.shape[x]
    size = pick(2, 3, channels // 2)
    if not is_map(net, x) or size < 2 or channels % size or channels == size:
        return None
    sizes = (channels // size, size)
    y = net.reshape(x, -1, *space, *sizes)
    work = pick("per group", "per channel", "sum of groups", "sum of channels", "largest")
    if work == "per group":
        y = net.f("Mul", y, net.weights((sizes[0], 1), 1, (0,)))
    elif work == "per channel":
        y = net.f("Mul", y, net.weights((size,), 1, (0,)))
    else:
        op = "Max" if work == "largest" else "Sum"
        axis = 4 if work == "sum of channels" else 3
        width = sizes[0] if axis == 4 else size
        y = net.f(op, y, net.ints(axis), Tidx="int32", keep_dims=False)
        return net.conv(net.put(y, *space, width), pick(*WIDTHS))
    return net.like(net.reshape(y, -1, *space, channels), x)


@layer
def stated_shape(net: RandomNet, x: str, pick: Pick) -> Result:
    """An input of which nothing is known takes the shape that a Reshape states for it."""
    height, width, channels = pick((4, 4, 3), (3, 5, 2))
    net.scope, scope = "", net.scope
    given = net.op("Placeholder", name=f"in{len(net.lines)}", dtype="float32", shape="<*>")
    net.scope = scope
    batch = -1 if net.batch == "?" else int(str(net.batch))
    y = net.put(net.reshape(given, batch, height, width, channels), height, width, channels)
    y = settle(net, net.conv(y, pick(4, 6)), pick)
    if pick(True, False):
        return y
    size = height * width * net.shape[y][-1]
    return net.matmul(net.put(net.reshape(y, -1, size), size), pick(*WIDTHS))


@layer
def loop(net: RandomNet, x: str, pick: Pick) -> Result:
    """A recurrent layer as TensorFlow 1 spells it, of a few turns, and a wide layer behind it."""
    if is_map(net, x):
        x = net.put(net.mean(x, keep=False), net.shape[x][-1])
    channels, scope = net.shape[x][-1], net.scope
    frame = {"frame_name": f'"{scope}turns"', "parallel_iterations": 1}

    def enter(port: str, dtype: str = "float32", constant: bool = True) -> str:
        return net.op("Enter", port, T=dtype, is_constant=constant, **frame)

    w, begin = net.weights((channels, channels), channels, ()), net.f("ZerosLike", x)
    fed, weights = enter(x), enter(w)
    one, last = enter(net.ints(1, shape=()), "int32"), enter(net.ints(3, shape=()), "int32")
    count, first = enter(net.ints(0, shape=()), "int32", False), enter(begin, constant=False)
    turn = net.op("Merge", count, f"{scope}next_turn", T="int32", N=2)
    state = net.f("Merge", first, f"{scope}next_state", N=2)
    goes_on = net.op("LoopCond", net.op("Less", turn, last, T="int32"))
    turn, both = net.op("Switch", turn, goes_on, T="int32"), net.f("Switch", state, goes_on)
    net.op(
        "NextIteration", net.op("AddV2", f"{turn}:1", one, T="int32"), T="int32", name="next_turn"
    )
    product = net.f("MatMul", f"{both}:1", weights, transpose_a=False, transpose_b=False)
    net.f("NextIteration", net.f("Tanh", net.f("AddV2", product, fed)), name="next_state")
    y = net.matmul(net.put(net.f("Exit", both), channels), pick(8, 12))
    return settle(net, y, pick)
