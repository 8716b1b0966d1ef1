"""Folding a constant shift of an op's output into the offset that follows it."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from graphslim.analysis.values import Values
from graphslim.channels.facts import channel_axis
from graphslim.ir import IDENTITIES, Attrs, DType, Graph, Node, Port, Tensor, is_float_cast
from graphslim.ir.families import BIASES, NORM_INPUTS
from graphslim.match.activations import ADD, MUL
from graphslim.match.affine import affine
from graphslim.ops.fused import own_offset

_OFFSETS = {
    **dict.fromkeys(sorted(BIASES), 1),
    **{op: places.offset for op, places in NORM_INPUTS.items()},
}
"""Which input of an op is an offset."""


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
    place = _offset_of(graph, values, name, shift)
    if place is not None:
        reader, index, amount = place
        if _add_to_constant(graph, reader, index, amount):
            return reader
        if reader == name:
            _insert_sum(graph, name, index, amount)
            return name
    return _insert_bias(graph, name, shift)


def absorb_shift(graph: Graph, values: Values, name: str, shift: np.ndarray) -> bool:
    """Adds `shift` to the output channels of a node if a constant behind it can take it.

    Like `fold_shift`, but that no node is added: where the offset belongs to other layers too, or
    there is none, nothing is done.

    Returns:
        whether it was added.
    """
    place = _offset_of(graph, values, name, shift)
    return place is not None and _add_to_constant(graph, *place, copies=False)


def _offset_of(
    graph: Graph, values: Values, name: str, shift: np.ndarray
) -> Optional[Tuple[str, int, np.ndarray]]:
    """Who reads the offset of a node's output and with which input, and what it has to gain."""
    own = own_offset(graph[name])
    if own is not None:
        index, sign = own
        return name, index, shift * sign
    return _offset_after(graph, values, Port(name), shift)


def _offset_after(
    graph: Graph, values: Values, at: Port, shift: np.ndarray
) -> Optional[Tuple[str, int, np.ndarray]]:
    """The input of a later op that is an offset, and what it has to gain."""
    rank = values.channels.fact(at).rank
    axis = None if rank is None else channel_axis(graph[at.node]) % rank
    while axis is not None:
        uses = graph.uses_of(at)
        if len(uses) != 1 or at in graph.outputs:
            return None
        user = graph[uses[0].node]
        passes = user.op in IDENTITIES or is_float_cast(user)
        step = None if passes else affine(values, uses[0], axis)
        if step is not None and user.op in _OFFSETS:
            return user.name, _OFFSETS[user.op], shift * step.slope
        if step is not None and user.op in ADD:
            return user.name, 1 - uses[0].index, shift
        if not passes and (step is None or user.op not in MUL):
            return None
        shift, at = shift if step is None else shift * step.slope, Port(user.name)
    return None


def _add_to_constant(
    graph: Graph, reader: str, index: int, amount: np.ndarray, copies: bool = True
) -> bool:
    """Adds to the constant that a node reads, for this reader alone; False if it is computed.

    A constant that others read too, or that is an output, is left to them, and copied; without
    `copies`, False. `Sub(constant, anything)` takes it in its first operand.
    """
    source, path = graph[graph.inputs_of(reader)[index].node], []
    while source.op in IDENTITIES or source.op == "Sub" or is_float_cast(source):
        path.append(source)
        source = graph[graph.inputs_of(source)[0].node]
    if source.op != "Const" or source.attrs["value"].size != len(amount):
        return False
    if any(node.name in graph.inputs for node in (*path, source)):
        return False
    tensor = source.attrs["value"]
    changed = tensor.with_numbers(
        tensor.numbers().astype(np.float64) + amount.reshape(tensor.shape)
    )
    outputs = {port.node for port in graph.outputs}
    if any(len(graph.uses_of(node)) != 1 or node.name in outputs for node in (*path, source)):
        if not copies or any(node.op in ("Sub", "Cast") for node in path):
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
