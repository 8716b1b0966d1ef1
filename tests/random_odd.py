"""The odd layers of random networks: what real graphs have in their corners.

As in `random_layers`, which says how they work.
"""

from __future__ import annotations

from random_builder import WIDEST, Pick, RandomNet, Result, disguise, layer
from random_layers import WIDTHS, doubled, is_map, settle
from random_shapes import pick_axis


@layer
def second_input(net: RandomNet, x: str, pick: Pick) -> Result:
    name = f"in{len(net.lines)}"
    dims = ",".join(map(str, [net.batch, *net.shape[x]]))
    net.scope = ""
    other = net.op("Placeholder", name=name, dtype="float32", shape=f"<{dims}>")
    return net.two("AddV2", x, other) if pick(True, False) else net.like(other, x)


@layer
def second_output(net: RandomNet, x: str, pick: Pick) -> Result:
    net.taps.append(x.split(":")[0] if x.endswith(":0") else x)
    return net.f("Identity", x)


@layer
def learning_phase(net: RandomNet, x: str, pick: Pick) -> Result:
    """What happens depends on whether the network is trained."""
    both = net.f("Switch", x, net.learning_phase())
    trained = net.two("Mul", net.put(f"{both}:1", *net.shape[x]), net.const(value=0.5))
    plain = pick(lambda: both, lambda: net.f("Relu", both), lambda: net.f("Identity", both))()
    return net.like(net.f("Merge", plain, trained, N=2), x)


@layer
def shared_vector(net: RandomNet, x: str, pick: Pick) -> Result:
    """One constant is the offset of x and the scale of another tensor as wide."""
    channels = net.shape[x][-1]
    others = [one for one in net.live if net.shape[one][-1] == channels]
    vector, other = net.const((channels,)), pick(*others)
    return [net.two("AddV2", x, vector), net.two("Mul", other, vector)]


@layer
def after_another(net: RandomNet, x: str, pick: Pick) -> Result:
    """A control edge, and an op in between that asks for nothing."""
    wait = net.op("NoOp", f"^{pick(*net.live).split(':')[0]}")
    return net.f("Identity", x, f"^{wait}")


@layer
def no_rule(net: RandomNet, x: str, pick: Pick) -> Result:
    """Ops that graphslim knows nothing of, or that pin."""
    op = pick("Lgamma", "Digamma", "Cumsum", "MatrixBandPart", "Roll")
    if op == "Cumsum":
        return net.f(op, x, net.ints(pick_axis(net, x), shape=()), Tidx="int32")
    if op == "MatrixBandPart":
        all_of_it = net.ints(-1, shape=())
        return net.f(op, x, all_of_it, all_of_it, Tindex="int32") if is_map(net, x) else None
    if op == "Roll":
        return net.f(op, x, net.ints(1), net.ints(pick_axis(net, x)), Tshift="int32", Taxis="int32")
    return net.f("Tanh", net.f(op, net.plus(net.f("Softplus", x), 1)))


@layer
def branch(net: RandomNet, x: str, pick: Pick) -> Result:
    """What follows goes on from an older tensor."""
    return pick(*net.live[-4:])


# ---------------------------------------------------------------------- weights used in odd ways


@layer
def tied_weights(net: RandomNet, x: str, pick: Pick) -> Result:
    """A matrix makes a code, and its transpose what the code stands for."""
    if is_map(net, x):
        x = net.put(net.mean(x, keep=False), net.shape[x][-1])
    channels, inner = net.shape[x][-1], pick(*WIDTHS)
    w = net.weights((channels, inner), channels, (0, 1), disguise(pick))
    code = net.put(net.f("MatMul", x, w, transpose_a=False, transpose_b=False), inner)
    code = net.f("Relu", code)
    back = net.f("MatMul", code, w, transpose_a=False, transpose_b=True)
    return net.put(back, channels)


@layer
def left_product(net: RandomNet, x: str, pick: Pick) -> Result:
    """A constant times the data: pixels are mixed, or channels if those stand first."""
    if not is_map(net, x):
        return None
    height, width, channels = net.shape[x]
    rows = net.reshape(x, -1, height * width, channels)
    if pick(False, True):
        w = net.weights((1, height * width, height * width), height * width, ())
        y = net.f("BatchMatMulV2", w, rows, adj_x=pick(False, True), adj_y=False)
        return net.put(net.reshape(y, -1, height, width, channels), height, width, channels)
    filters = pick(*WIDTHS)
    w = net.weights((1, filters, channels), channels, (1, 2))
    y = net.f("BatchMatMulV2", w, rows, adj_x=False, adj_y=True)
    y = net.f("Transpose", y, net.ints(0, 2, 1), Tperm="int32")
    return net.put(net.reshape(y, -1, height, width, filters), height, width, filters)


@layer
def joined_weights(net: RandomNet, x: str, pick: Pick) -> Result:
    """A filter of two constants beside each other, or a part of a larger one."""
    if not is_map(net, x):
        return None
    channels, first, second = net.shape[x][-1], pick(2, 3), pick(3, 2)
    axis = net.ints(3, shape=())
    if pick(True, False):
        parts = [net.weights((1, 1, channels, size), channels, (2, 3)) for size in (first, second)]
        w = net.op("ConcatV2", *parts, axis, T="float32", Tidx="int32", N=2)
        return settle(net, net.conv(x, first + second, weights=w), pick)
    whole = net.weights((1, 1, channels, first + second), channels, (2, 3))
    begins, sizes = net.ints(0, 0, 0, first), net.ints(1, 1, channels, second)
    other = net.f("Slice", whole, net.ints(0, 0, 0, 0), net.ints(1, 1, -1, first), Index="int32")
    w = net.f("Slice", whole, begins, sizes, Index="int32")
    return [net.conv(x, second, weights=w), net.conv(x, first, weights=other)]


@layer
def packed_vectors(net: RandomNet, x: str, pick: Pick) -> Result:
    """Scale and offset are rows of one constant, or halves of one vector."""
    channels = net.shape[x][-1]
    if pick(True, False):
        both = net.op("Unpack", net.weights((2, channels), 1, (1,)), T="float32", num=2, axis=0)
        scale, offset = both, f"{both}:1"
    else:
        halves = net.op(
            "Split", net.ints(0, shape=()), net.const((2 * channels,)), T="float32", num_split=2
        )
        scale, offset = halves, f"{halves}:1"
    return net.two("AddV2", net.two("Mul", x, scale), offset)


@layer
def dense_on_map(net: RandomNet, x: str, pick: Pick) -> Result:
    """A dense layer on a map as Keras freezes it: all of its shapes are computed."""
    if not is_map(net, x):
        return None
    (height, width, channels), filters = net.shape[x], pick(*WIDTHS)
    w = net.weights((channels, filters), channels, (0, 1), disguise(pick))
    shape, zero = net.op("Shape", x, T="float32", out_type="int32"), net.ints(0, shape=())
    kinds = {"Tparams": "int32", "Tindices": "int32", "Taxis": "int32"}
    free = net.op("GatherV2", shape, net.ints(0, 1, 2), zero, **kinds)
    summed = net.op("GatherV2", shape, net.ints(3), zero, **kinds)
    sizes = [
        net.op("Prod", one, net.ints(0), T="int32", Tidx="int32", keep_dims=False)
        for one in (free, summed)
    ]
    target = net.op("Pack", *sizes, T="int32", N=2, axis=0)
    order = net.op("ConcatV2", net.ints(0, 1, 2), net.ints(3), zero, T="int32", Tidx="int32", N=2)
    y = net.f("Reshape", net.f("Transpose", x, order, Tperm="int32"), target, Tshape="int32")
    y = net.f("MatMul", y, w, transpose_a=False, transpose_b=False)
    back = net.op("ConcatV2", free, net.ints(filters), zero, T="int32", Tidx="int32", N=2)
    y = net.f("Reshape", y, back, Tshape="int32")
    return settle(net, net.put(y, height, width, filters), pick)


# ---------------------------------------------------------------------- shapes in odd ways


@layer
def group_norm(net: RandomNet, x: str, pick: Pick) -> Result:
    """Over height, width and the channels of a group."""
    groups = pick(2, 3)
    if not is_map(net, x) or net.shape[x][-1] % groups:
        return None
    height, width, channels = net.shape[x]
    y = net.reshape(x, -1, height, width, groups, channels // groups)
    mean = net.mean(y, axes=(1, 2, 4))
    apart = net.mean(net.f("SquaredDifference", y, mean), axes=(1, 2, 4))
    y = net.f("Mul", net.f("Sub", y, mean), net.f("Rsqrt", net.plus(apart, 0.1)))
    y = net.put(net.reshape(y, -1, height, width, channels), height, width, channels)
    y = net.two("AddV2", net.two("Mul", y, net.const((channels,), "1.25")), net.const((channels,)))
    return net.like(y, x)


@layer
def stacked_rows(net: RandomNet, x: str, pick: Pick) -> Result:
    """Two maps under each other."""
    if not is_map(net, x) or net.shape[x][0] > 8:
        return None
    height, width, channels = net.shape[x]
    other = pick(lambda: x, lambda: net.conv(x, channels), lambda: net.f("Relu", x))()
    axis = net.ints(1, shape=())
    y = net.op("ConcatV2", x, other, axis, T="float32", Tidx="int32", N=2)
    return net.put(y, 2 * height, width, channels)


@layer
def interleaved(net: RandomNet, x: str, pick: Pick) -> Result:
    """Stacked on a last axis, two tensors alternate; on one before it, they follow each other."""
    *space, channels = net.shape[x]
    if channels * 2 > WIDEST:
        return None
    others = [one for one in net.live if net.shape[one] == net.shape[x]]
    axis = pick(len(space) + 2, len(space) + 1)
    y = net.op("Pack", x, pick(*others), T="float32", N=2, axis=axis)
    return net.put(net.reshape(y, -1, *space, channels * 2), *space, channels * 2)


@layer
def narrow_map(net: RandomNet, x: str, pick: Pick) -> Result:
    """A map of one pixel, or of one channel, loses its axes and gains them again."""
    if not is_map(net, x):
        return None
    height, width, channels = net.shape[x]
    if pick(True, False):
        y = net.f("Squeeze", net.mean(x), squeeze_dims="[1,2]")
        y = net.f("ExpandDims", net.f("Relu", y), net.ints(1, shape=()), Tdim="int32")
        y = net.f("ExpandDims", y, net.ints(pick(1, -2), shape=()), Tdim="int32")
        return net.put(y, 1, 1, channels)
    y = net.f("Squeeze", net.conv(x, 1), squeeze_dims="[3]")
    y = net.f("ExpandDims", net.f("Sigmoid", y), net.ints(-1, shape=()), Tdim="int32")
    return net.two("Mul", x, net.put(y, height, width, 1))


@layer
def resized_by_shape(net: RandomNet, x: str, pick: Pick) -> Result:
    """Twice as large, by sizes that are computed."""
    if not is_map(net, x) or max(net.shape[x][:2]) > 8:
        return None
    height, width, channels = net.shape[x]
    sizes = net.op("Pack", doubled(net, x, 1), doubled(net, x, 2), T="int32", N=2, axis=0)
    y = net.f(pick("ResizeNearestNeighbor", "ResizeBilinear"), x, sizes, align_corners=False)
    return net.put(y, 2 * height, 2 * width, channels)


@layer
def half_precision(net: RandomNet, x: str, pick: Pick) -> Result:
    """There and back again."""
    y = net.op("Cast", x, SrcT="float32", DstT=pick("float64", "float64"))
    return net.op("Cast", y, SrcT="float64", DstT="float32")


@layer
def channel_summary(net: RandomNet, x: str, pick: Pick) -> Result:
    """The largest and the mean over channels weigh every pixel."""
    if not is_map(net, x):
        return None
    height, width, _ = net.shape[x]
    parts = [net.mean(x, axes=(3,), op=op) for op in ("Max", "Mean")]
    y = net.op("ConcatV2", *parts, net.ints(3, shape=()), T="float32", Tidx="int32", N=2)
    y = net.conv(net.put(y, height, width, 2), 1, 3)
    return net.two("Mul", x, net.f("Sigmoid", y))


@layer
def gram_matrix(net: RandomNet, x: str, pick: Pick) -> Result:
    """Every channel times every other, summed over pixels; flattened."""
    if not is_map(net, x) or net.shape[x][-1] > 6:
        return None
    height, width, channels = net.shape[x]
    rows = net.reshape(x, -1, height * width, channels)
    y = net.f("BatchMatMulV2", rows, rows, adj_x=True, adj_y=False)
    y = net.times(y, 1 / (height * width))
    return net.put(net.reshape(y, -1, channels * channels), channels * channels)


@layer
def batch_statistics(net: RandomNet, x: str, pick: Pick) -> Result:
    """Batch norm that was frozen while it was trained."""
    channels = net.shape[x][-1]
    if not is_map(net, x):
        return None
    vectors = [net.const((channels,), value) for value in ("1.25", "random")]
    empty = [net.op("Const", dtype="float32", value="float32[0]{}") for _ in range(2)]
    return net.f(
        "FusedBatchNorm", x, *vectors, *empty, data_format="NHWC", epsilon=0.1, is_training=True
    )


@layer
def where_broadcast(net: RandomNet, x: str, pick: Pick) -> Result:
    """SelectV2 between a tensor and a vector, by another vector."""
    channels = net.shape[x][-1]
    if not net.modern:
        return None
    chosen = net.f("Greater", net.const((channels,)), net.const(value=0))
    return net.like(net.f("SelectV2", chosen, x, net.const((channels,)), like=x), x)
