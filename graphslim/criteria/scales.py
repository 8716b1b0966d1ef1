"""The vectors by which batch norms scale channels, in every spelling of frozen graphs."""

from __future__ import annotations

from typing import FrozenSet, Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.facts import channel_axis
from graphslim.channels.groups import Channels
from graphslim.ir import IDENTITIES, Graph, Node, Port, is_float_cast
from graphslim.ir.query import constant_nodes
from graphslim.ops.fused import steps_of

_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "_FusedBatchNormEx")
_MOVES = (*IDENTITIES, "Reshape", "ExpandDims", "Squeeze", "Cast")
_OFFSETS = ("Add", "AddV2", "Sub", "BiasAdd", "BiasAddV1")


class Scale(NamedTuple):
    """A vector that scales channels.

    Attributes:
        param: its constant's node.
        labels: the channel that each of its numbers scales; shape (n,).
    """

    param: str
    labels: np.ndarray


def scales(graph: Graph, channels: Channels) -> Iterator[Scale]:
    """The scale of every batch norm, in the graph's order.

    Of a batch norm in pieces it is the vector that is multiplied with the reciprocal of the
    deviation; where both were folded into one constant, that one. A vector of ones is left out:
    such a batch norm was built without a scale.
    """
    constants = constant_nodes(graph)
    for node in graph.order():
        found = _own_scale(node, graph.data_inputs(node))
        if found is None and node.op == "Mul" and node.name not in constants:
            found = _scale_in_pieces(graph, channels, node, constants)
        if found is None:
            continue
        port, axis = found
        ids = channels.fact(Port(node.name)).channels(axis)
        param = _behind(graph, port)
        if ids is None or param.op != "Const" or param.attrs["value"].size != len(ids):
            continue
        if not (param.attrs["value"].numbers() == 1).all():
            yield Scale(param.name, channels.label[ids])


def _own_scale(node: Node, inputs: Sequence[Port]) -> Optional[Tuple[Port, int]]:
    """The scale of an op that is a batch norm or ends in one, and the axis that it scales."""
    if node.op in _FUSED:
        return inputs[1], channel_axis(node)
    if node.op == "BatchNormWithGlobalNormalization":
        return (inputs[4], -1) if node.attrs.get("scale_after_normalization") else None
    if node.op.startswith("_Fused"):
        for name, taken in steps_of(node, len(inputs)) or ():
            if name == "FusedBatchNorm":
                return inputs[taken[0]], channel_axis(node)
    return None


def _scale_in_pieces(
    graph: Graph, channels: Channels, node: Node, constants: FrozenSet[str]
) -> Optional[Tuple[Port, int]]:
    """The scale that a product applies to a tensor, and the axis that it scales."""
    for port in graph.data_inputs(node):
        shape = channels.fact(port).shape
        if port.node not in constants or not shape or None in shape:
            continue
        long = [axis for axis, size in enumerate(shape) if size != 1]
        source = _multiplied(graph, port)
        if len(long) == 1 and source is not None:
            bare = _behind(graph, port).op == "Const"
            if not bare or _is_shifted(graph, node, constants):
                return source, long[0] - len(shape)
    return None


def _multiplied(graph: Graph, port: Port) -> Optional[Port]:
    """The scale within what a tensor is multiplied by: all of it, or what divides by a deviation.

    None where a batch norm divides by its deviation and has no scale.
    """
    node = _behind(graph, port)
    if node.op == "Const":
        return port
    inputs = graph.data_inputs(node)
    if node.op == "Mul":
        for scale, other in (inputs, inputs[::-1]):
            if _behind(graph, other).op == "Rsqrt":
                return scale
    if node.op in ("RealDiv", "Div", "DivNoNan") and _behind(graph, inputs[1]).op == "Sqrt":
        return inputs[0]
    return None


def _is_shifted(graph: Graph, node: Node, constants: FrozenSet[str]) -> bool:
    """Whether constants are added next, as in a batch norm and unlike in a PReLU."""
    for use in graph.uses_of(node):
        reader = graph[use.node]
        passes = reader.op in IDENTITIES or is_float_cast(reader)
        if passes and _is_shifted(graph, reader, constants):
            return True
        if reader.op in _OFFSETS:
            others = [port.node for port in graph.data_inputs(reader) if port.node != node.name]
            if others and constants.issuperset(others):
                return True
    return False


def _behind(graph: Graph, port: Port) -> Node:
    """The node at a port, behind identities and changes of shape."""
    node = graph[port.node]
    while node.op in _MOVES:
        node = graph[graph.data_inputs(node)[0].node]
    return node
