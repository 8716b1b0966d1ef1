"""Folding a constant shift of an op's output into the offset that follows it."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from graphslim.analysis.values import Values
from graphslim.ir import IDENTITY_OPS, Attrs, DType, Graph, Node, Port, Tensor
from graphslim.match.vocabulary import NORMS
from graphslim.ops.fused import own_offset
from graphslim.ops.table import channel_axis

_NORMS = (*NORMS, "_FusedBatchNormEx")


def fold_shift(graph: Graph, values: Values, name: str, shift: np.ndarray) -> str:
    """Adds `shift` to the output channels of a node: into a bias or batch norm, else by a BiasAdd.

    A fused op takes it in an offset of its own, before its activation.

    Args:
        graph: the graph, changed in place.
        values: known values, for the constants of batch norm.
        name: the convolution or matrix product.
        shift: what each output channel gains; shape (c_out,).

    Returns:
        the node that took it.
    """
    own = own_offset(graph[name])
    if own is not None:
        index, sign = own
        if not _add_to_constant(graph, name, index, shift * sign):
            _insert_sum(graph, name, index, shift * sign)
        return name
    place = _offset_after(graph, values, Port(name), shift)
    if place is not None:
        node, index, amount = place
        if _add_to_constant(graph, node.name, index, amount):
            return node.name
    return _insert_bias(graph, name, shift)


def _offset_after(
    graph: Graph, values: Values, at: Port, shift: np.ndarray
) -> Optional[Tuple[Node, int, np.ndarray]]:
    """The input of a later op that is an offset, and what it has to gain."""
    axis = -1 if _layout(graph[at.node]) == b"NHWC" else -3
    while True:
        uses = graph.uses_of(at)
        if len(uses) != 1 or at in graph.outputs:
            return None
        user, index = graph[uses[0].node], uses[0].index
        inputs = graph.data_inputs(user)
        if user.op in IDENTITY_OPS:
            at = Port(user.name)
        elif user.op in ("BiasAdd", "BiasAddV1") and index == 0:
            return user, 1, shift
        elif (
            user.op in (*NORMS, "_FusedBatchNormEx")
            and index == 0
            and not user.attrs.get("is_training", True)
        ):
            factor = _slope(user, values, inputs[1], inputs[4], "epsilon")
            return None if factor is None else (user, 2, shift * factor)
        elif user.op == "BatchNormWithGlobalNormalization" and index == 0:
            factor = _slope(user, values, inputs[4], inputs[2], "variance_epsilon")
            return None if factor is None else (user, 3, shift * factor)
        elif user.op in ("Add", "AddV2", "Mul") and len(inputs) == 2:
            other = values.constant(inputs[1 - index])
            if other is None or not _lies_along(other, axis, len(shift)):
                return None
            if user.op != "Mul":
                return user, 1 - index, shift
            shift, at = shift * other.ravel(), Port(user.name)
        else:
            return None


def _slope(
    node: Node, values: Values, scale: Port, variance: Port, epsilon: str
) -> Optional[np.ndarray]:
    """What batch norm multiplies each channel by; None where that is not constant."""
    factor, spread = values.constant(scale), values.constant(variance)
    if not node.attrs.get("scale_after_normalization", True):
        factor = np.ones(1)
    if factor is None or spread is None:
        return None
    slope: np.ndarray = factor / np.sqrt(spread + node.attrs.get(epsilon, 1e-4))
    return slope


def _lies_along(vector: np.ndarray, axis: int, width: int) -> bool:
    """Whether it is one number, or one for each position along an axis counted from the end."""
    if vector.size == 1:
        return True
    return vector.size == width and vector.ndim >= -axis and vector.shape[axis] == width


def _add_to_constant(graph: Graph, reader: str, index: int, amount: np.ndarray) -> bool:
    """Adds to the constant that a node reads, for this reader alone; False if it is computed.

    `Sub(constant, anything)` takes it in its first operand.
    """
    path = [(reader, index)]
    source = graph[graph.inputs_of(reader)[index].node]
    while source.op in IDENTITY_OPS or source.op == "Sub":
        path.append((source.name, 0))
        source = graph[graph.inputs_of(source)[0].node]
    if source.op != "Const" or source.attrs["value"].size != len(amount):
        return False
    tensor = source.attrs["value"]
    changed = tensor.with_numbers(
        tensor.numbers().astype(np.float64) + amount.reshape(tensor.shape)
    )
    if (
        any(len(graph.uses_of(graph[name])) != 1 for name, _ in path[1:])
        or len(graph.uses_of(source)) != 1
    ):
        if any(graph[name].op == "Sub" for name, _ in path[1:]):
            return False
        private = Node(graph.fresh_name(f"{source.name}/folded"), "Const", source.attrs.copy())
        graph.add(private)
        graph.rewire(reader, index, Port(private.name))
        source = private
    graph.set_attr(source, "value", changed)
    return True


def _insert_sum(graph: Graph, name: str, index: int, shift: np.ndarray) -> None:
    """Adds to a vector that a node reads and that is computed."""
    offset, dtype = _add_vector(graph, name, shift)
    total = Node(graph.fresh_name(f"{name}/folded"), "AddV2", Attrs({"T": dtype}))
    graph.add(total, [graph.inputs_of(name)[index], Port(offset.name)])
    graph.rewire(name, index, Port(total.name))


def _add_vector(graph: Graph, name: str, shift: np.ndarray) -> Tuple[Node, DType]:
    attrs = graph[name].attrs
    dtype = attrs.get("T", attrs.get("Tout"))
    vector = Node(
        graph.fresh_name(f"{name}/folded_bias"),
        "Const",
        Attrs({"dtype": dtype, "value": Tensor.from_numbers(shift, dtype)}),
    )
    return graph.add(vector), dtype


def _insert_bias(graph: Graph, name: str, shift: np.ndarray) -> str:
    node = graph[name]
    offset, dtype = _add_vector(graph, name, shift)
    bias = Node(
        graph.fresh_name(f"{name}/folded"),
        "BiasAdd",
        Attrs({"T": dtype, "data_format": _layout(node)}),
    )
    uses = graph.uses_of(Port(name))
    graph.add(bias, [Port(name), Port(offset.name)])
    for use in uses:
        graph.rewire(use.node, use.index, Port(bias.name))
    return bias.name


def _layout(node: Node) -> bytes:
    return b"NCHW" if channel_axis(node) == 1 else b"NHWC"
