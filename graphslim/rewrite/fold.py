"""Folding a constant shift of an op's output into the offset that follows it."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from graphslim.analysis.values import Values
from graphslim.ir import IDENTITY_OPS, Attrs, Graph, Node, Port, Tensor
from graphslim.match.vocabulary import NORMS
from graphslim.ops.table import channel_axis


def fold_shift(graph: Graph, values: Values, name: str, shift: np.ndarray) -> str:
    """Adds `shift` to the output channels of a node: into a bias or batch norm, else by a BiasAdd.

    Args:
        graph: the graph, changed in place.
        values: known values, for the constants of batch norm.
        name: the convolution or matrix product.
        shift: what each output channel gains; shape (c_out,).

    Returns:
        the node that took it.
    """
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
        elif user.op in NORMS and index == 0 and not user.attrs.get("is_training", True):
            scale, variance = values.constant(inputs[1]), values.constant(inputs[4])
            if scale is None or variance is None:
                return None
            return user, 2, shift * scale / np.sqrt(variance + user.attrs.get("epsilon", 1e-4))
        elif user.op in ("Add", "AddV2", "Mul") and len(inputs) == 2:
            other = values.constant(inputs[1 - index])
            if other is None or not _lies_along(other, axis, len(shift)):
                return None
            if user.op != "Mul":
                return user, 1 - index, shift
            shift, at = shift * other.ravel(), Port(user.name)
        else:
            return None


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


def _insert_bias(graph: Graph, name: str, shift: np.ndarray) -> str:
    node = graph[name]
    dtype = node.attrs["T"]
    offset = graph.add(
        Node(
            graph.fresh_name(f"{name}/folded_bias"),
            "Const",
            Attrs({"dtype": dtype, "value": Tensor.from_numbers(shift, dtype)}),
        )
    )
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
