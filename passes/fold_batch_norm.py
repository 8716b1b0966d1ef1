"""fold-batch-norm: scales and offsets behind a layer become part of its weights and a bias."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Tuple

import numpy as np

import graphslim as gs

DEPTHWISE = ("DepthwiseConv2dNative",)
PASSING = (*gs.IDENTITIES, "BatchToSpaceND", "Transpose")
"""Ops that move numbers about, and that scales and offsets may be taken past."""


class Layer(NamedTuple):
    """A convolution or product: its weights, and the channels that it makes.

    Attributes:
        weights: the constant that holds the weights.
        channels: the axes of the weights that are the channels made; two for a depthwise one.
        axis: the channel axis of what it makes.
        in_groups: whether it is a convolution in groups.
    """

    weights: str
    channels: Tuple[int, ...]
    axis: int
    in_groups: bool


class Tail(NamedTuple):
    """What stands behind a layer up to its activation: one scale and one offset per channel.

    Attributes:
        steps: what scales or shifts, in order: which input of which node reads the tensor.
        total: what they do together.
        axis, rank: the channel axis behind the last of them, and how many axes there are.
    """

    steps: List[gs.Use]
    total: gs.Affine
    axis: int
    rank: int


@gs.register
class FoldBatchNorm(gs.Pass):
    """Folds batch norm, scales and offsets into the layer before them; a bias is what remains.

    The layer is a convolution (plain, in groups, depthwise, transposed) or a product of matrices
    with constant weights. Behind it may stand batch norm in one op or in several, biases, and
    constants that are added or multiplied channel by channel, any number of them; a single number
    for all channels belongs to an activation and ends the search. So does what others read too.
    Weights that others read are left alone. It is computed in double precision and rounded once.

    Before:
        x = Placeholder() dtype=float32 shape=<1,2,2,1>
        w = Const() dtype=float32 value=float32[1,1,1,2]{1 2}
        y = Conv2D(x, w) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
        gamma = Const() dtype=float32 value=float32[2]{2 3}
        beta = Const() dtype=float32 value=float32[2]{0.5 1}
        mean = Const() dtype=float32 value=float32[2]{1 2}
        var = Const() dtype=float32 value=float32[2]{4 9}
        z = FusedBatchNorm(y, gamma, beta, mean, var) T=float32 epsilon=0.0 is_training=false
        output z

    After:
        x = Placeholder() dtype=float32 shape=<1,2,2,1>
        w = Const() dtype=float32 value=float32[1,1,1,2]{1 2}
        y = Conv2D(x, w) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
        z = BiasAdd(y, z/bias) T=float32 data_format="NHWC"
        z/bias = Const() dtype=float32 value=float32[2]{-0.5 -1}
        output z
    """

    name = "fold-batch-norm"
    after = {
        "fold-conditionals": "batch norm inside an open learning phase is read by both branches",
        "fold-identity": "an identity that others read would hide the layer",
    }

    def run(self, graph: gs.Graph) -> gs.Outcome:
        """Folds layer by layer; values are those before, which no fold changes but for weights."""
        values = gs.Values(graph)
        folded = shared = 0
        for node in graph.order():
            layer = as_layer(values, node) if node.name in graph else None
            tail = tail_of(values, node, layer) if layer is not None else None
            if layer is None or tail is None or is_folded(graph, layer, tail):
                continue
            if not is_private(graph, node, layer.weights):
                shared += 1
            elif fold(graph, node, layer, tail):
                folded += 1
        notes = (f"layers folded: {folded}", f"left for weights that others read: {shared}")
        return gs.Outcome(folded > 0, notes if shared else notes[:1])


# ------------------------------------------------------------------ layers and their tails


def as_layer(values: gs.Values, node: gs.Node) -> Optional[Layer]:
    """A node as a layer with constant weights, or None."""
    graph, inputs = values.graph, values.graph.data_inputs(node)
    kinds = (
        *gs.families.CONVOLUTIONS,
        *DEPTHWISE,
        *gs.families.TRANSPOSED_CONVOLUTIONS,
        *gs.families.MATRIX_PRODUCTS,
    )
    made = values.channels.fact(gs.Port(node.name))
    if node.op not in kinds or node.name in graph.inputs or made.rank is None:
        return None
    if node.attrs.get("T") not in (gs.DType.float32, gs.DType.float64) or len(inputs) < 2:
        return None
    weights = behind_identities(graph, inputs[1])
    axis, in_groups = gs.channel_axis(node) % made.rank, False
    rank = values.channels.fact(inputs[1]).rank
    if graph[weights].op != "Const" or weights in graph.inputs:
        return None
    if node.op in DEPTHWISE:
        channels: Tuple[int, ...] = (2, 3)
    elif node.op in gs.families.CONVOLUTIONS:
        channels = (made.rank - 1,)
        entering = values.channels.fact(inputs[0]).size(axis)
        in_groups = entering != values.channels.fact(inputs[1]).size(-2)
    elif node.op in gs.families.TRANSPOSED_CONVOLUTIONS:
        channels = (made.rank - 2,)
    else:
        turned = node.attrs.get("transpose_b" if node.op == "MatMul" else "adj_y")
        channels, axis = (0 if turned else 1,), made.rank - 1
        if rank != 2:
            return None
    return Layer(weights, channels, axis, in_groups)


def tail_of(values: gs.Values, node: gs.Node, layer: Layer) -> Optional[Tail]:
    """The scales and offsets behind a layer, each read by the next alone, or None."""
    graph, at, axis = values.graph, gs.Port(node.name), layer.axis
    tail: Optional[Tail] = None
    while at not in graph.outputs:
        uses = graph.uses_of(at)
        if len(uses) != 1 or uses[0].node in graph.inputs:
            break
        user, read = graph[uses[0].node], values.channels.fact(at)
        if user.op in PASSING and uses[0].index == 0:
            moved = axis_behind(values, user, axis)
            if moved is None:
                break
            at, axis = gs.Port(user.name), moved
            continue
        step = gs.affine(values, uses[0], axis)
        if step is None or read.rank is None or not is_step(values, user, uses[0], axis):
            break
        steps, total = ([], step) if tail is None else (tail.steps, tail.total.then(step))
        tail = Tail([*steps, uses[0]], total, axis, read.rank)
        at = gs.Port(user.name)
    return tail


def is_step(values: gs.Values, user: gs.Node, use: gs.Use, axis: int) -> bool:
    """Whether an op that scales or shifts may go: it does no more, and for each channel its own."""
    graph = values.graph
    if user.op.startswith("_") or len(graph.inputs_of(user)) != len(graph.data_inputs(user)):
        return False
    read = [graph.inputs_of(later.node)[later.index].port for later in graph.uses_of(user)]
    read += [port.port for port in graph.outputs if port.node == user.name]
    if any(port > 0 for port in read):
        return False
    if len(graph.data_inputs(user)) != 2:
        return True
    other = values.channels.fact(graph.data_inputs(user)[1 - use.index]).shape or ()
    width = values.channels.fact(graph.data_inputs(user)[use.index]).size(axis)
    return any(size == width for size in other)


def axis_behind(values: gs.Values, node: gs.Node, axis: int) -> Optional[int]:
    """The channel axis behind an op that moves axes; None where it is not known."""
    if node.op == "BatchToSpaceND":
        blocks = values.channels.fact(values.graph.data_inputs(node)[1]).size(0)
        return axis if blocks is not None and axis > blocks else None
    if node.op == "Transpose":
        order = values.constant(values.graph.data_inputs(node)[1])
        return None if order is None else order.ravel().tolist().index(axis)
    return axis


def is_folded(graph: gs.Graph, layer: Layer, tail: Tail) -> bool:
    """Whether all that stands behind a layer is the one offset that folding would leave."""
    last = gs.families.BIASES if not layer.in_groups else ("AddV2",)
    return len(tail.steps) == 1 and graph[tail.steps[0].node].op in last


def is_private(graph: gs.Graph, node: gs.Node, weights: str) -> bool:
    """Whether a layer alone reads its weights."""
    name = weights
    while gs.Port(name) not in graph.outputs:
        uses = graph.uses_of(gs.Port(name))
        if len(uses) != 1:
            return False
        name = uses[0].node
        if name == node.name:
            return True
    return False


def behind_identities(graph: gs.Graph, port: gs.Port) -> str:
    """The node that a value comes from."""
    while graph[port.node].op in gs.IDENTITIES:
        port = graph.data_inputs(port.node)[0]
    return port.node


# ------------------------------------------------------------------ what is changed


def fold(graph: gs.Graph, node: gs.Node, layer: Layer, tail: Tail) -> bool:
    """Scales the weights and leaves an offset, or nothing; False where a number would overflow."""
    old = graph[layer.weights].attrs["value"]
    with np.errstate(over="ignore"):
        scaled = old.with_numbers(times(old.numbers(), tail.total.slope, layer.channels))
        offset = gs.Tensor.from_numbers(tail.total.offset, old.dtype)
    if not (np.isfinite(scaled.numbers()).all() and np.isfinite(offset.numbers()).all()):
        return False
    if (tail.total.slope != 1).any():
        graph.set_attr(layer.weights, "value", scaled)
    vectors = [port.node for use in tail.steps for port in graph.inputs_of(use.node)]
    *steps, (last, index) = tail.steps
    for use in steps:
        gs.bypass(graph, use.node, graph.inputs_of(use.node)[use.index])
        gs.remove_unread(graph, [use.node])
    before = graph.inputs_of(last)[index]
    if offset.numbers().any():
        put_offset(graph, last, before, offset, layer, tail)
    elif gs.Port(last) in graph.outputs:
        graph.replace(gs.Node(last, "Identity", gs.Attrs({"T": old.dtype})), [before])
    else:
        gs.bypass(graph, last, before)
        gs.remove_unread(graph, [last])
    gs.remove_unread(graph, vectors)
    return True


def times(weights: np.ndarray, slope: np.ndarray, channels: Tuple[int, ...]) -> np.ndarray:
    """Weights times one number for each channel, in float64."""
    shape = [size if axis in channels else 1 for axis, size in enumerate(weights.shape)]
    return np.asarray(weights.astype(np.float64) * slope.reshape(shape))


def put_offset(
    graph: gs.Graph, last: str, before: gs.Port, offset: gs.Tensor, layer: Layer, tail: Tail
) -> None:
    """Turns the last step into an addition of the offset, under its own name.

    Behind a convolution in groups that is no BiasAdd: TensorFlow would fuse it with the
    convolution, and its fused kernels take no groups.
    """
    kind, vector = offset.dtype, offset
    if layer.in_groups:
        shape = [-1] + [1] * (tail.rank - 1 - tail.axis)
        vector = gs.Tensor.of(offset.array.reshape(shape), kind)
        op, attrs = "AddV2", gs.Attrs({"T": kind})
    else:
        form = b"NHWC" if tail.axis == tail.rank - 1 else b"NCHW"
        op, attrs = "BiasAdd", gs.Attrs({"T": kind, "data_format": form})
    bias = graph.add_constant(f"{last}/bias", vector)
    node = gs.Node(last, op, attrs, graph[last].device)
    graph.replace(node, [before, gs.Port(bias.name)])
