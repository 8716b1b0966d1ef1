"""The layers of random networks that compute: convolutions, products, norms, activations, pools.

A layer takes a tensor of height, width and channels, or a vector of channels (and the batch), and
gives the tensors that it makes, or None if it does not fit. Its choices come from a `Pick`.
"""

from __future__ import annotations

from random_builder import LARGEST, WIDEST, Pick, RandomNet, Result, disguise, layer
from spellings import ACTIVATIONS, GATES, NORMS, POOLS

WIDTHS = (4, 2, 3, 5, 6, 8, 12)


def is_map(net: RandomNet, x: str, least: int = 1) -> bool:
    """Whether a tensor has height and width, of some size at least."""
    return len(net.shape[x]) == 3 and min(net.shape[x][:2]) >= least


def flat(net: RandomNet, x: str, pick: Pick) -> str:
    """A vector of a map: flattened or averaged."""
    if not is_map(net, x):
        return x
    height, width, channels = net.shape[x]
    if height * width * channels <= 200 and pick(False, True):
        return net.put(net.reshape(x, -1, height * width * channels), height * width * channels)
    return net.put(net.mean(x, keep=False), channels)


def activated(net: RandomNet, x: str, act: str) -> str:
    """An activation; those with slopes per channel are spelled for maps, and give way to swish."""
    on_vectors = ("relu", "relu6", "swish", "hard swish", "leaky")
    fits = is_map(net, x) or act in on_vectors
    return net.like(ACTIVATIONS[act if fits else "swish"](net, x), x)


def settle(net: RandomNet, x: str, pick: Pick) -> str:
    """Maybe a batch norm or bias, maybe an activation."""
    y = NORMS[pick("nothing", *NORMS)](net, x) if is_map(net, x) else x
    act = pick("", "relu", *ACTIVATIONS)
    net.like(y, x)
    return activated(net, y, act) if act else y


@layer
def conv(net: RandomNet, x: str, pick: Pick) -> Result:
    kernel, padding = pick(1, 3, 2), pick("SAME", "VALID", "EXPLICIT")
    if not is_map(net, x, kernel):
        return None
    stride, dilation = pick((1, 1), (2, 1), (1, 2))
    if padding != "SAME" and not is_map(net, x, (kernel - 1) * dilation + 1):
        return None
    y = net.conv(
        x, pick(*WIDTHS), kernel, stride, padding=padding, dilation=dilation,
        disguise=disguise(pick),
    )  # fmt: skip
    return settle(net, y, pick)


@layer
def grouped_conv(net: RandomNet, x: str, pick: Pick) -> Result:
    channels = net.shape[x][-1]
    groups = pick(2, 3, 4, channels)
    if not is_map(net, x) or channels % groups or not net.modern:
        return None
    y = net.conv(x, groups * pick(1, 2, 3), pick(3, 1), groups=groups, disguise=disguise(pick))
    return settle(net, y, pick)


@layer
def depthwise(net: RandomNet, x: str, pick: Pick) -> Result:
    multiplier, padding = pick(1, 2, 3), pick("SAME", "VALID")
    if not is_map(net, x, 3) or net.shape[x][-1] * multiplier > WIDEST:
        return None
    y = net.depthwise(x, pick(1, 2), multiplier, padding=padding, disguise=disguise(pick))
    y = settle(net, y, pick)
    return settle(net, net.conv(y, pick(*WIDTHS)), pick) if pick(False, True) else y


@layer
def dilated_by_batch(net: RandomNet, x: str, pick: Pick) -> Result:
    """A convolution between SpaceToBatchND and BatchToSpaceND."""
    height, width, channels = net.shape[x] if is_map(net, x, 2) else (0, 0, 0)
    if not height or height % 2 or width % 2:
        return None
    block = net.ints(2, 2)
    apart = net.f(
        "SpaceToBatchND", x, block, net.ints(2, 2, 2, 2, shape=(2, 2)), Tblock_shape="int32",
        Tpaddings="int32",
    )  # fmt: skip
    net.put(apart, height // 2 + 2, width // 2 + 2, channels)
    y = pick(
        lambda: net.conv(apart, pick(*WIDTHS), 3, padding="VALID"),
        lambda: net.depthwise(apart, padding="VALID"),
        lambda: net.depthwise(NORMS["bias"](net, net.like(apart, apart)), padding="VALID"),
    )()
    y = net.put(
        net.f(
            "BatchToSpaceND", y, block, net.ints(0, 0, 0, 0, shape=(2, 2)), Tblock_shape="int32",
            Tcrops="int32",
        ),
        height, width, net.shape[y][-1],
    )  # fmt: skip
    return settle(net, y, pick)


@layer
def transposed_conv(net: RandomNet, x: str, pick: Pick) -> Result:
    """The sizes are a constant, or computed from the input's as Keras does."""
    if not is_map(net, x) or max(net.shape[x]) > LARGEST // 2:
        return None
    (height, width, channels), filters = net.shape[x], pick(*WIDTHS)
    w = net.weights((3, 3, filters, channels), 3 * channels, (2, 3), disguise(pick))
    if net.batch == "?" or pick(False, True):
        sizes = [scalar(net, x, 0), doubled(net, x, 1), doubled(net, x, 2)]
        target = net.op("Pack", *sizes, net.ints(filters, shape=()), T="int32", N=4, axis=0)
    else:
        target = net.ints(int(str(net.batch)), height * 2, width * 2, filters)
    y = net.f(
        "Conv2DBackpropInput", target, w, x, padding="SAME", strides="[1,2,2,1]",
        data_format="NHWC",
    )  # fmt: skip
    return settle(net, net.put(y, height * 2, width * 2, filters), pick)


def scalar(net: RandomNet, x: str, axis: int) -> str:
    """One size of a tensor, as a scalar in the graph."""
    shape = net.op("Shape", x, T="float32", out_type="int32")
    return net.op(
        "StridedSlice", shape, net.ints(axis), net.ints(axis + 1), net.ints(1), T="int32",
        Index="int32", shrink_axis_mask=1,
    )  # fmt: skip


def doubled(net: RandomNet, x: str, axis: int) -> str:
    return net.op("Mul", scalar(net, x, axis), net.ints(2, shape=()), T="int32")


@layer
def siamese(net: RandomNet, x: str, pick: Pick) -> Result:
    """One filter, and maybe one bias, for two tensors."""
    if not is_map(net, x):
        return None
    channels, filters = net.shape[x][-1], pick(*WIDTHS)
    others = [one for one in net.live if is_map(net, one) and net.shape[one][-1] == channels]
    w, bias = net.weights((1, 1, channels, filters), channels, (2, 3)), net.const((filters,))
    made = []
    for one in (x, pick(*others)):
        y = net.conv(one, filters, weights=w)
        y = net.f("BiasAdd", y, bias, data_format="NHWC") if pick(True, False) else y
        made.append(ACTIVATIONS[pick(*ACTIVATIONS)](net, y))
        net.like(made[-1], y)
    return made


@layer
def fused_conv(net: RandomNet, x: str, pick: Pick) -> Result:
    """As grappler leaves it."""
    act = pick("", "Relu", "Relu6", "Elu")
    if not is_map(net, x):
        return None
    kernel, (height, width, channels), filters = pick(1, 3), net.shape[x], pick(*WIDTHS)
    w = net.weights((kernel, kernel, channels, filters), kernel**2 * channels, (2, 3))
    vectors, ops = [net.const((filters,))], ["BiasAdd"]
    if pick(False, True):
        vectors = [net.const((filters,), value) for value in ("1.25", "random", "0.5", "2")]
        ops = ["FusedBatchNorm"]
    names = ",".join([f'"{op}"' for op in [*ops, act] if op])
    y = net.f(
        "_FusedConv2D", x, w, *vectors, num_args=len(vectors), strides="[1,1,1,1]",
        padding="SAME", data_format="NHWC", fused_ops=f"[{names}]", epsilon=0.001,
        **({"TArgs": f"[{','.join(['float32'] * len(vectors))}]"} if net.modern else {}),
    )  # fmt: skip
    return net.put(y, height, width, filters)


@layer
def dense(net: RandomNet, x: str, pick: Pick) -> Result:
    x = flat(net, x, pick)
    y = net.matmul(x, pick(*WIDTHS), flip=pick(False, True), disguise=disguise(pick))
    y = NORMS["bias"](net, y) if pick(False, True) else y
    return settle(net, y, pick)


@layer
def dense_map(net: RandomNet, x: str, pick: Pick) -> Result:
    """A product over the channels of a map: BatchMatMul of rank 3, or Einsum."""
    if not is_map(net, x):
        return None
    (height, width, channels), filters = net.shape[x], pick(*WIDTHS)
    if net.modern and pick(False, True):
        w = net.weights((channels, filters), channels, (0, 1), disguise(pick))
        y = net.f("Einsum", x, w, N=2, equation=pick('"nhwc,cd->nhwd"', '"...c,cd->...d"'))
        return net.put(y, height, width, filters)
    rows = net.reshape(x, -1, height * width, channels)
    flip = pick(False, True)
    w = net.weights((1, filters, channels) if flip else (1, channels, filters), channels, (1, 2))
    y = net.f("BatchMatMulV2", rows, w, adj_x=False, adj_y=flip)
    return net.put(net.reshape(y, -1, height, width, filters), height, width, filters)


@layer
def attention(net: RandomNet, x: str, pick: Pick) -> Result:
    """Two embeddings of a map weigh a third; nothing but data is multiplied."""
    if not is_map(net, x) or net.shape[x][0] * net.shape[x][1] > 36:
        return None
    height, width, _ = net.shape[x]
    inner, filters = pick(*WIDTHS), pick(*WIDTHS)
    rows = []
    for size in (inner, inner, filters):
        y = net.conv(x, size)
        rows.append(net.reshape(y, -1, height * width, size))
    scores = net.f("BatchMatMulV2", rows[0], rows[1], adj_x=False, adj_y=True)
    scores = net.f("Softmax", scores) if pick(True, False) else net.times(scores, 0.1)
    y = net.f("BatchMatMulV2", scores, rows[2], adj_x=False, adj_y=False)
    return net.put(net.reshape(y, -1, height, width, filters), height, width, filters)


@layer
def norm(net: RandomNet, x: str, pick: Pick) -> Result:
    return net.like(NORMS[pick(*NORMS)](net, x), x) if is_map(net, x) else None


@layer
def act(net: RandomNet, x: str, pick: Pick) -> Result:
    return activated(net, x, pick(*ACTIVATIONS))


@layer
def unary(net: RandomNet, x: str, pick: Pick) -> Result:
    op = pick(
        "Tanh", "Elu", "Selu", "Softplus", "Sigmoid", "Erf", "Abs", "Square", "Neg", "Softsign"
    )
    return net.f(op, x)


@layer
def pool(net: RandomNet, x: str, pick: Pick) -> Result:
    if not is_map(net, x, 2):
        return None
    size, padding, stride = pick(2, 3), pick("SAME", "VALID"), pick(2, 1)
    if not is_map(net, x, size):
        return None
    y = net.f(
        pick("MaxPool", "AvgPool"), x, data_format="NHWC", ksize=f"[1,{size},{size},1]",
        padding=padding, strides=f"[1,{stride},{stride},1]",
    )  # fmt: skip
    height, width, channels = net.shape[x]
    over = 0 if padding == "SAME" else size - 1
    return net.put(y, -(-(height - over) // stride), -(-(width - over) // stride), channels)


@layer
def resize(net: RandomNet, x: str, pick: Pick) -> Result:
    if not is_map(net, x) or max(net.shape[x][:2]) > LARGEST // 2:
        return None
    height, width, channels = net.shape[x]
    height, width = pick((height * 2, width * 2), (5, 7), (height, width))
    op = pick("ResizeBilinear", "ResizeNearestNeighbor")
    y = net.f(op, x, net.ints(height, width), align_corners=pick(False, True))
    return net.put(y, height, width, channels)


@layer
def squeeze_excite(net: RandomNet, x: str, pick: Pick) -> Result:
    if not is_map(net, x):
        return None
    height, width, _ = net.shape[x]
    pool = pick(*[name for name in POOLS if name not in ("average", "sum")])
    kind = pick("conv", "free") if net.batch != 1 else pick("conv", "matmul", "packed", "tensordot")
    if kind == "free":
        return _free_excite(net, x, pick)
    if kind in ("conv", "tensordot") and pool == "mean, axes dropped":
        pool = "mean"
    y = net.squeeze_excite(
        x, pool, kind, pick(*ACTIVATIONS), pick(*GATES), pick(False, True), pick(4, 3), size=height
    )
    return net.like(y, x)


def _free_excite(net: RandomNet, x: str, pick: Pick) -> str:
    """With dense layers, at any batch size."""
    channels = net.shape[x][-1]
    y = net.matmul(net.put(net.mean(x, keep=False), channels), pick(4, 3))
    y = net.f("Sigmoid", net.matmul(net.f("Relu", y), channels))
    y = pick(
        lambda: net.reshape(y, -1, 1, 1, channels),
        lambda: net.reshape_by_batch(y, 1, 1, channels),
    )()
    return net.two("Mul", x, y)


@layer
def inverted_residual(net: RandomNet, x: str, pick: Pick) -> Result:
    if not is_map(net, x, 3):
        return None
    hidden, norms, acts = pick(8, 12, 6), pick(*NORMS), pick(*ACTIVATIONS)
    out, stride = pick(None, 6), pick({}, {"stride": 2})
    add = pick("AddV2", "Add")
    return net.inverted_residual(x, hidden, out, norm=norms, act=acts, add=add, **stride)


@layer
def fake_quantised(net: RandomNet, x: str, pick: Pick) -> Result:
    """Its steps are coarser than any tolerance: rounding may differ, so its range is wide."""
    return net.op("FakeQuantWithMinMaxArgs", x, min=-6.0, max=6.0, num_bits=16)


@layer
def instance_norm(net: RandomNet, x: str, pick: Pick) -> Result:
    """Over height and width, channel by channel."""
    if not is_map(net, x, 3):
        return None
    mean = net.mean(x)
    apart = net.f("SquaredDifference", x, net.f("StopGradient", mean))
    root = net.f("Rsqrt", net.plus(net.mean(apart), 0.1))
    return net.two("Mul", net.two("Sub", x, mean), root)


@layer
def layer_norm(net: RandomNet, x: str, pick: Pick) -> Result:
    """Over channels, which pins them."""
    axis = len(net.shape[x])
    mean = net.mean(x, axes=(axis,))
    apart = net.f("SquaredDifference", x, mean)
    root = net.f("Rsqrt", net.plus(net.mean(apart, axes=(axis,)), 0.1))
    return net.two("Mul", net.two("Sub", x, mean), root)


@layer
def weighed_across(net: RandomNet, x: str, pick: Pick) -> Result:
    if pick("Softmax", "LRN") == "LRN" and is_map(net, x):
        return net.f("LRN", x)
    return net.f("Softmax", x)
