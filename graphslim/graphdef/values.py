"""Attribute values, tensors and single nodes between protobuf messages and the IR."""

from __future__ import annotations

import sys
from collections import deque
from functools import lru_cache
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphslim.errors import EmitError, LoadError
from graphslim.graphdef import fields, wire
from graphslim.graphdef.protos import (
    AttrValue,
    DecodeError,
    NameAttrList,
    NodeDef,
    TensorProto,
    TensorShapeProto,
    undecoded_node_class,
)
from graphslim.ir import Attrs, DType, Func, Node, Opaque, Shape, Tensor

_VALUE_FIELDS: Dict[DType, str] = {
    DType.float32: "float_val",
    DType.float64: "double_val",
    DType.string: "string_val",
    DType.complex64: "scomplex_val",
    DType.complex128: "dcomplex_val",
    DType.int64: "int64_val",
    DType.bool: "bool_val",
    DType.float16: "half_val",
    DType.bfloat16: "half_val",
    DType.uint32: "uint32_val",
    DType.uint64: "uint64_val",
    **{
        small: "int_val"
        for small in (
            DType.int32,
            DType.int16,
            DType.int8,
            DType.uint8,
            DType.uint16,
            DType.qint8,
            DType.quint8,
            DType.qint32,
            DType.qint16,
            DType.quint16,
        )
    },
}
_ADDRESSABLE, _MOST_AXES = 1 << 62, 32
"""How many bytes and how many axes an array may have."""
_REFERENCE = 100
"""A reference type's number is its element type's plus this."""


def decode_dtype(number: int) -> DType:
    """The element type of that number; types newer than this table count as `invalid`."""
    try:
        return DType(number % _REFERENCE)
    except ValueError:
        return DType.invalid


def decode_shape(proto: TensorShapeProto) -> Shape:
    """A shape message; sizes below zero are unknown."""
    if proto.unknown_rank:
        return Shape(None)
    return Shape(tuple([dim.size if dim.size >= 0 else None for dim in proto.dim]))


def decode_tensor(proto: TensorProto) -> Tensor:
    """A tensor over a message.

    Raises:
        LoadError: the elements do not fit the shape, or no array can have that shape.
    """
    shape, dtype, size = layout = _layout(proto)
    if proto.tensor_content:
        return _elements(proto.tensor_content, 0, len(proto.tensor_content), layout)
    field = _VALUE_FIELDS.get(dtype)
    values = getattr(proto, field) if field else []
    count = len(values) // (2 if dtype in (DType.complex64, DType.complex128) else 1)
    if count > size:
        raise LoadError(
            f"{count} values do not fit the shape {list(shape)} of {dtype.name}, which takes {size}"
        )
    return Tensor(shape, dtype, lambda: _expand(values, dtype, shape, size))


_Place = Tuple[bytes, int, int]
"""Some bytes in others: those from the first number up to the second."""
_TENSOR = fields.AttrValue.tensor << 3 | wire.LENGTH
_CONTENT = fields.TensorProto.tensor_content << 3 | wire.LENGTH
Layout = Tuple[Tuple[int, ...], DType, int]
"""The shape of a tensor, its element type, and how many elements it has."""
_Alike = Tuple[bytes, bytes, Layout, Attrs]
"""What stands before and behind the elements of a constant, their layout, and its attributes."""


def _layout(proto: TensorProto) -> Layout:
    """The layout of a tensor; refuses shapes that no array can have, those without elements too."""
    dtype = decode_dtype(proto.dtype)
    shape = tuple([dim.size for dim in proto.tensor_shape.dim])
    if proto.tensor_shape.unknown_rank or any(dim < 0 for dim in shape):
        raise LoadError(f"a constant of unknown shape {list(shape)}")
    room, size = dtype.storage.itemsize, 1
    for dim in shape:
        room *= max(dim, 1)
        size *= dim
    if room > _ADDRESSABLE or len(shape) > _MOST_AXES:
        raise LoadError(f"a constant of impossible shape {list(shape)}")
    return shape, dtype, size


def _elements(data: wire.Data, at: int, end: int, layout: Layout) -> Tensor:
    """A tensor over its `tensor_content`, `data[at:end]`."""
    shape, dtype, size = layout
    if dtype.storage.hasobject:
        return Tensor(shape, dtype, lambda: _strings(memoryview(data)[at:end], dtype, shape, size))
    if end - at != size * dtype.storage.itemsize:
        raise LoadError(
            f"{end - at} bytes of values do not fit the shape {list(shape)} of {dtype.name}, "
            f"which takes {size * dtype.storage.itemsize}"
        )
    # A view takes more memory than a few numbers.
    return Tensor(shape, dtype, (data if end - at <= _LARGE else memoryview(data))[at:end])


def _strings(data: memoryview, dtype: DType, shape: Tuple[int, ...], size: int) -> np.ndarray:
    """Strings from their `tensor_content`: all lengths as varints, then all bytes.

    Raises:
        LoadError: the strings do not fit the shape, or the element type is not known.
    """
    if dtype is not DType.string:
        raise LoadError(f"elements of type {dtype.name} cannot be read")
    array = np.empty(size, object)
    try:
        lengths = []
        at = 0
        for _ in range(size):
            length, at = wire.varint(data, at, len(data))
            lengths.append(length)
    except (wire.Truncated, wire.Malformed):
        lengths = [-1]
    if lengths == [-1] or at + sum(lengths) != len(data):
        raise LoadError(f"the bytes of strings do not fit the shape {list(shape)}")
    for place, length in enumerate(lengths):
        array[place] = bytes(data[at : at + length])
        at += length
    return array.reshape(shape)


def _expand(values: Any, dtype: DType, shape: Tuple[int, ...], size: int) -> np.ndarray:
    """Values as TensorFlow reads them: the last one is repeated until the shape is full."""
    array: np.ndarray
    if dtype.storage.hasobject:
        array = np.empty(len(values), object)
        array[:] = list(values)
    elif dtype is DType.float16:
        array = np.array(values, np.int64).astype(np.uint16).view(dtype.storage)
    elif dtype in (DType.complex64, DType.complex128):
        parts = np.array(values, np.float64).reshape(-1, 2)
        array = (parts[:, 0] + 1j * parts[:, 1]).astype(dtype.storage)
    elif _VALUE_FIELDS.get(dtype) in ("int_val", "half_val"):
        array = np.array(values, np.int64).astype(dtype.storage)
    else:
        array = np.array(values, dtype.storage)
    if len(array) == 0:
        filler: Any = b"" if dtype.storage.hasobject else 0
        return np.broadcast_to(np.array(filler, dtype.storage), shape)
    if len(array) == 1:
        return np.broadcast_to(array.reshape(()), shape)
    if len(array) < size:
        array = np.concatenate([array, np.repeat(array[-1:], size - len(array))])
    return array.reshape(shape)


@lru_cache(maxsize=1024)
def encode_layout(dtype: DType, shape: Tuple[int, ...]) -> bytes:
    """The bytes of a tensor's message but for its elements."""
    proto = TensorProto(dtype=int(dtype))
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    layout: bytes = proto.SerializeToString(deterministic=True)
    return layout


def encode_tensor(tensor: Tensor) -> TensorProto:
    """A tensor as a message, its elements as `tensor_content` (strings as values)."""
    proto = TensorProto.FromString(encode_layout(tensor.dtype, tensor.shape))
    if tensor.dtype.storage.hasobject:
        proto.string_val.extend(tensor.array.ravel().tolist())
    else:
        proto.tensor_content = np.ascontiguousarray(tensor.array).tobytes()
    return proto


def decode_attr(proto: AttrValue) -> Any:
    """An attribute value as the IR holds it (see `ir.Attrs`)."""
    kind = proto.WhichOneof("value")
    return _DECODERS.get(kind, Opaque)(proto if kind not in _DECODERS else getattr(proto, kind))


def _decode_list(proto: AttrValue.ListValue) -> Any:
    for field, values in proto.ListFields():
        decode = _DECODERS[field.name]
        return [decode(value) for value in values]
    return []


def _decode_func(proto: NameAttrList) -> Func:
    return Func(
        proto.name, tuple([(key, decode_attr(proto.attr[key])) for key in sorted(proto.attr)])
    )


_DECODERS: Dict[Optional[str], Callable[[Any], Any]] = {
    "s": bytes,
    "i": int,
    "f": float,
    "b": bool,
    "type": decode_dtype,
    "shape": decode_shape,
    "tensor": decode_tensor,
    "list": _decode_list,
    "func": _decode_func,
}


def colocations(node: Node) -> List[Tuple[bytes, str]]:
    """The entries of a node's `_class` (`loc:@name`), each with the node that it names.

    TensorFlow places a node with those that it is colocated with. The name is empty where an entry
    has another form.
    """
    entries = node.attrs.get("_class")
    return [
        (entry, entry.decode("utf-8", "replace").partition("loc:@")[2])
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, bytes)
    ]


def encode_attr(value: Any) -> AttrValue:
    """The message of an attribute value.

    Raises:
        EmitError: a value of a type that no attribute has.
    """
    proto = AttrValue()
    if isinstance(value, Opaque):
        proto.CopyFrom(value.value)
    elif isinstance(value, list):
        proto.list.SetInParent()
        for item in value:
            field, encoded = _encode_one(item)
            getattr(proto.list, field).extend([encoded])
    else:
        field, encoded = _encode_one(value)
        proto = AttrValue(**{field: encoded})
    return proto


def _encode_one(value: Any) -> Tuple[str, Any]:
    """The field of an attribute's message that holds a value, and what it holds there."""
    if isinstance(value, bool):
        return "b", value
    if isinstance(value, DType):
        return "type", int(value)
    if isinstance(value, (int, np.integer)):
        return "i", int(value)
    if isinstance(value, (float, np.floating)):
        return "f", float(value)
    if isinstance(value, bytes):
        return "s", value
    if isinstance(value, str):
        return "s", value.encode()
    if isinstance(value, Shape):
        return "shape", _encode_shape(value)
    if isinstance(value, Tensor):
        return "tensor", encode_tensor(value)
    if isinstance(value, Func):
        func = NameAttrList(name=value.name)
        for key, item in value.attrs:
            func.attr[key].CopyFrom(encode_attr(item))
        return "func", func
    raise EmitError(f"an attribute cannot hold a {type(value).__name__}")


def _encode_shape(shape: Shape) -> TensorShapeProto:
    proto = TensorShapeProto()
    if shape.dims is None:
        proto.unknown_rank = True
    else:
        for size in shape.dims:
            proto.dim.add().size = -1 if size is None else size
    return proto


_SMALL = 128
"""Bytes of the longest attributes of a constant that are looked for among those read already."""
_LARGE = 4096
"""The same of any other node; and bytes of the longest tensor that is copied from the file."""
_VALUE = b"\x0a\x05value\x12"
"""How the entry of an attribute `value` begins: with its key, and the tag of what it holds."""
_NAME, _OP, _INPUT, _DEVICE, _ATTR = (number << 3 | wire.LENGTH for number in range(1, 6))
"""The tags of the fields of a node."""
_UndecodedNode = undecoded_node_class()


class DamagedNode(Exception):
    """The bytes are no node."""


class _Unusual(Exception):
    """The fields of a node stand in another order than TensorFlow's, or are not known."""


@lru_cache(maxsize=1024)
def _decoded(entry: bytes) -> Mapping[str, Any]:
    """An attribute by its key; nothing where protobuf takes the entry for unknown."""
    node = NodeDef.FromString(wire.header(fields.NodeDef.attr, len(entry)) + entry)
    return {key: _decoded_or_opaque(node.attr[key]) for key in node.attr}


def _decoded_or_opaque(proto: AttrValue) -> Any:
    """An attribute; a damaged tensor that is no constant's value is only carried along."""
    try:
        return decode_attr(proto)
    except LoadError:
        return Opaque(proto)


@lru_cache(maxsize=1024)
def _layout_of(message: bytes) -> Layout:
    """The layout of a tensor, from all of its message but the elements."""
    return _layout(TensorProto.FromString(message))


class NodeReader:
    """Reads nodes; attributes that are the same bytes in many nodes are decoded once for all.

    Their fields are told apart here, which takes half the time of asking a message for them.
    """

    def __init__(self) -> None:
        self._attrs: Dict[Any, Attrs] = {}
        self._alike: Dict[Tuple[int, bytes], Deque[_Alike]] = {}

    def read(self, span: wire.Span) -> Tuple[Node, List[str]]:
        """A node, and its inputs as they are spelled.

        Raises:
            DamagedNode: the bytes are no node.
            LoadError: one of its attributes is damaged.
        """
        data, at, stop = span
        name = op = device = ""
        inputs: List[str] = []
        try:
            try:
                while at < stop:
                    tag = data[at]
                    if tag == _ATTR:
                        break
                    length, start = data[at + 1], at + 2
                    if length > 0x7F:
                        length, start = wire.varint(data, at + 1, stop)
                    at = start + length
                    text = data[start:at].decode()
                    if tag == _NAME:
                        name = text
                    elif tag == _OP:
                        op = sys.intern(text)
                    elif tag == _INPUT:
                        inputs.append(text)
                    elif tag == _DEVICE:
                        device = text
                    else:
                        raise _Unusual
                if at > stop:
                    raise wire.Truncated
                attrs = (
                    self._attrs.get(data[at:stop])
                    if stop - at <= (_SMALL if op == "Const" else _LARGE)
                    else None
                )
                if attrs is None:
                    attrs = self._like_another(data, at, stop) if op == "Const" else None
                    if attrs is None:
                        attrs = self._read_attrs(data, at, stop, op)
            except _Unusual:
                message = _UndecodedNode.FromString(data[span.start : stop])
                name, op, device = message.name, message.op, message.device
                inputs = list(message.input)
                places = [(entry, 0, len(entry)) for entry in message.attr]
                attrs = self._with(places, op)
            if not name or not op:
                raise DamagedNode
            if op == "Const":
                if "value" not in attrs:
                    raise LoadError("a constant without a value")
                if not isinstance(attrs["value"], Tensor):
                    raise LoadError("a constant whose value is no tensor")
        except LoadError as error:
            raise LoadError(error.what, f"node {name}", "the file is damaged") from None
        # Protobuf in pure Python raises either of the first two.
        except (DecodeError, ValueError, IndexError, wire.Truncated, wire.Malformed):
            raise DamagedNode from None
        return Node(name, op, attrs, device, span), inputs

    def _read_attrs(self, data: bytes, start: int, stop: int, op: str) -> Attrs:
        """The attributes that stand at `data[start:stop]`, and nothing else."""
        places, at = [], start  # type: List[_Place], int
        while at < stop:
            if data[at] != _ATTR:
                raise _Unusual
            length, begin = wire.varint(data, at + 1, stop)
            at = begin + length
            places.append((data, begin, at))
        if at > stop:
            raise wire.Truncated
        attrs = self._with(places, op)
        if stop - start <= (_SMALL if op == "Const" else _LARGE):
            self._attrs[data[start:stop]] = attrs
        values = [place for place in places if data.startswith(_VALUE, place[1])]
        plain = self._plain(*values[0]) if op == "Const" and len(values) == 1 else None
        if plain is not None:
            layout, begin, end = plain
            key = stop - start, data[start : start + 8]
            same = data[start:begin], data[end:stop]
            self._alike.setdefault(key, deque(maxlen=8)).appendleft((*same, layout, attrs))
        return attrs

    def _like_another(self, data: bytes, at: int, stop: int) -> Optional[Attrs]:
        """The attributes of a constant that differs from one before in its elements alone."""
        for before, behind, layout, attrs in self._alike.get((stop - at, data[at : at + 8]), ()):
            if data.startswith(before, at) and data.endswith(behind, at, stop):
                tensor = _elements(data, at + len(before), stop - len(behind), layout)
                return attrs.with_read("value", tensor)
        return None

    def _with(self, places: Sequence[_Place], op: str) -> Attrs:
        """The attributes of some entries; those that are large or values are decoded each time."""
        entries: List[bytes] = []
        large: Dict[str, Any] = {}
        for data, at, end in places:
            if end - at > _LARGE or (op == "Const" and data.startswith(_VALUE, at)):
                large.update([self._large(data, at, end)])
            else:
                entries.append(data[at:end])
        # They come in any order, since they are a map.
        key = tuple(sorted(entries))
        attrs = self._attrs.get(key)
        if attrs is None:
            values: Dict[str, Any] = {}
            for entry in entries:
                values.update(_decoded(entry))
            attrs = self._attrs[key] = Attrs(values)
        return Attrs({**large, **attrs}) if large else attrs

    def _large(self, data: bytes, at: int, end: int) -> Tuple[str, Any]:
        """A large attribute; a tensor's elements stay where they are."""
        try:
            plain = self._plain(data, at, end)
            if plain is not None:
                layout, start, stop = plain
                return "value", _elements(data, start, stop, layout)
            entry = memoryview(data)[at:end]
            key = wire.find(entry, fields.MapEntry.key)
            value = wire.find(entry, fields.MapEntry.value) or memoryview(b"")
            text = "" if key is None else bytes(key).decode()
            tensor = wire.find(value, fields.AttrValue.tensor)
            if tensor is None:
                return text, decode_attr(AttrValue.FromString(value.tobytes()))
            return text, self._tensor(tensor)
        except (DecodeError, ValueError, IndexError, wire.Truncated, wire.Malformed):
            if end - at <= _LARGE:
                raise DamagedNode from None
            raise LoadError("a damaged attribute") from None

    def _plain(self, data: bytes, at: int, end: int) -> Optional[Tuple[Layout, int, int]]:
        """The layout of the tensor of an attribute `value` and where its elements stand.

        None where TensorFlow would have written it otherwise: the element type, the shape, the
        elements, and nothing else.
        """
        if not data.startswith(_VALUE, at):
            return None
        length, place = wire.varint(data, at + len(_VALUE), end)
        if place + length != end or data[place] != _TENSOR:
            return None
        length, place = wire.varint(data, place + 1, end)
        if place + length != end or length < 5:
            return None
        start = place + 4 + data[place + 3]
        if start >= end or data[start] != _CONTENT:
            return None
        message = data[place:start]
        length, start = wire.varint(data, start + 1, end)
        return (_layout_of(message), start, end) if length and start + length == end else None

    def _tensor(self, message: memoryview) -> Tensor:
        """A tensor; its elements stay where they are if they are its `tensor_content`."""
        content, rest = None, []
        for number, wire_type, tag, start, end in wire.fields(message):
            if number != fields.TensorProto.tensor_content:
                rest.append(message[tag:end])
            elif wire_type == wire.LENGTH:
                content = message[start:end]
        small = b"".join(rest)
        if not content:
            return decode_tensor(TensorProto.FromString(small))
        return _elements(content, 0, len(content), _layout_of(small))
