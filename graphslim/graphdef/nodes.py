"""NodeDef -> Node: one node from its bytes, its tensors left as views of them."""

from __future__ import annotations

from typing import Tuple

from graphslim.errors import LoadError
from graphslim.graphdef import wire
from graphslim.graphdef.protos import DecodeError, NodeDef
from graphslim.graphdef.values import decode_attr, decode_tensor
from graphslim.ir import Attrs, Node

_TENSOR_CONTENT = (2, 8, 4)
"""Path from an entry of `NodeDef.attr` to its tensor's `tensor_content`."""
_LARGE = 4096
"""Nodes with more bytes than this are not kept as messages; their tensors are views of the file."""


class DamagedNode(Exception):
    """The bytes are no node."""


def decode_node(span: memoryview) -> Tuple[Node, Tuple[str, ...]]:
    """A node, and its inputs as they are spelled.

    Raises:
        DamagedNode: the bytes are no node.
        LoadError: one of its attributes is damaged.
    """
    try:
        message = NodeDef.FromString(span.tobytes())
        whole = bool(message.name and message.op)
    except (DecodeError, ValueError):  # protobuf in pure Python raises either
        whole = False
    if not whole:
        raise DamagedNode
    try:
        attrs = _attrs(message, span)
    except LoadError as error:
        raise LoadError(error.what, f"node {message.name}", "the file is damaged") from None
    node = Node(message.name, message.op, attrs, message.device, origin=span)
    node.rewired = False
    return node, tuple(message.input)


def _attrs(message: NodeDef, span: memoryview) -> Attrs:
    if len(span) > _LARGE:
        values = {}
        for entry in (field for field in wire.fields(span) if field.number == 5):
            key = wire.find(span[entry.start : entry.end], 1)
            text = bytes(key).decode() if key is not None else ""
            proto = message.attr[text]
            if proto.WhichOneof("value") == "tensor":
                content = wire.find(span[entry.start : entry.end], *_TENSOR_CONTENT)
                values[text] = decode_tensor(proto.tensor, content)
            else:
                values[text] = decode_attr(proto)
        return Attrs(values)
    attrs = Attrs({}, dict(message.attr), decode_attr)
    if message.op == "Const":
        if "value" not in attrs:
            raise LoadError("a constant without a value")
        attrs["value"]  # decoded now, so that damage shows at once
    return attrs
