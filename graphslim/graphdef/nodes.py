"""NodeDef -> Node: one node from its bytes, its tensors left as views of them."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

from graphslim.errors import LoadError
from graphslim.graphdef import wire
from graphslim.graphdef.protos import AttrValue, DecodeError, NodeDef, TensorProto
from graphslim.graphdef.values import decode_attr, decode_tensor
from graphslim.ir import Attrs, Node, Tensor

_ATTR = 5
"""Number of `NodeDef.attr`."""
_KEY, _VALUE = 1, 2
"""Numbers in an entry of `NodeDef.attr`."""
_TENSOR = 8
"""Number of `AttrValue.tensor`."""
_CONTENT = 4
"""Number of `TensorProto.tensor_content`."""
_LARGE = 4096
"""Fields with more bytes than this are not parsed as they are: their tensors are views of the
file."""


class DamagedNode(Exception):
    """The bytes are no node."""


def decode_node(span: memoryview) -> Tuple[Node, Tuple[str, ...]]:
    """A node, and its inputs as they are spelled.

    Raises:
        DamagedNode: the bytes are no node.
        LoadError: one of its attributes is damaged.
    """
    large: List[memoryview] = []
    try:
        message = NodeDef.FromString(span.tobytes() if len(span) <= _LARGE else _rest(span, large))
        whole = bool(message.name and message.op)
    except (DecodeError, ValueError, wire.Truncated, wire.Malformed):
        whole = False  # protobuf in pure Python raises either of the first two
    if not whole:
        raise DamagedNode
    try:
        attrs = _attrs(message, large)
    except LoadError as error:
        raise LoadError(error.what, f"node {message.name}", "the file is damaged") from None
    node = Node(message.name, message.op, attrs, message.device, origin=span)
    node.rewired = False
    return node, tuple(message.input)


def _rest(span: memoryview, large: List[memoryview]) -> bytes:
    """The bytes of a node but for large attributes, whose bytes are put into `large`."""
    kept = []
    for field in wire.fields(span):
        if field.number == _ATTR and field.end - field.start > _LARGE:
            large.append(span[field.start : field.end])
        else:
            kept.append(span[field.tag : field.end])
    return b"".join(kept)


def _attrs(message: NodeDef, large: Sequence[memoryview]) -> Attrs:
    attrs = Attrs(dict([_large(entry) for entry in large]), dict(message.attr), decode_attr)
    if message.op == "Const":
        if "value" not in attrs:
            raise LoadError("a constant without a value")
        # Decoded now, so that damage shows at once.
        if not isinstance(attrs["value"], Tensor):
            raise LoadError("a constant whose value is no tensor")
    return attrs


def _large(entry: memoryview) -> Tuple[str, Any]:
    """A large attribute; a tensor's elements stay where they are."""
    try:
        key, value = wire.find(entry, _KEY), wire.find(entry, _VALUE) or memoryview(b"")
        text = "" if key is None else bytes(key).decode()
        tensor = wire.find(value, _TENSOR)
        if tensor is None:
            return text, decode_attr(AttrValue.FromString(value.tobytes()))
        fields = list(wire.fields(tensor))
        small = b"".join([tensor[one.tag : one.end] for one in fields if one.number != _CONTENT])
        content = wire.find(tensor, _CONTENT)
        return text, decode_tensor(TensorProto.FromString(small), content)
    except (DecodeError, ValueError, wire.Truncated, wire.Malformed):
        raise LoadError("a damaged attribute") from None
