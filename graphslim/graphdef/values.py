"""Attribute values, tensors and single nodes between protobuf messages and the IR."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

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


def decode_tensor(proto: TensorProto, content: Optional[memoryview] = None) -> Tensor:
    """A tensor over a message; `content` is its `tensor_content` where that stands in the file.

    Raises:
        LoadError: the elements do not fit the shape.
    """
    data = content if content is not None else memoryview(proto.tensor_content)
    shape, dtype, size = _layout(proto)
    if len(data):
        return _elements(data, shape, dtype, size)
    field = _VALUE_FIELDS.get(dtype)
    values = getattr(proto, field) if field else []
    count = len(values) // (2 if dtype in (DType.complex64, DType.complex128) else 1)
    if count > size:
        raise LoadError(
            f"{count} values do not fit the shape {list(shape)} of {dtype.name}, which takes {size}"
        )
    return Tensor(shape, dtype, lambda: _expand(values, dtype, shape, size))


Layout = Tuple[Tuple[int, ...], DType, int]
"""The shape of a tensor, its element type, and how many elements it has."""


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


def _elements(data: memoryview, shape: Tuple[int, ...], dtype: DType, size: int) -> Tensor:
    """A tensor over its `tensor_content`."""
    storage = dtype.storage
    if storage.hasobject:
        return Tensor(shape, dtype, lambda: _strings(data, dtype, shape, size))
    if len(data) != size * storage.itemsize:
        raise LoadError(
            f"{len(data)} bytes of values do not fit the shape {list(shape)} of {dtype.name}, "
            f"which takes {size * storage.itemsize}"
        )
    return Tensor(shape, dtype, lambda: np.frombuffer(data, storage).reshape(shape))


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
    for field, decode in _LIST_FIELDS.items():
        values = getattr(proto, field)
        if values:
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
_LIST_FIELDS: Dict[str, Callable[[Any], Any]] = {
    field: _DECODERS[field] for field in ("s", "i", "f", "b", "type", "shape", "tensor", "func")
}


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
            field, message = _encode_one(item)
            if isinstance(message, (TensorProto, TensorShapeProto, NameAttrList)):
                getattr(proto.list, field).add().CopyFrom(message)
            else:
                getattr(proto.list, field).append(message)
    else:
        field, message = _encode_one(value)
        if isinstance(message, (TensorProto, TensorShapeProto, NameAttrList)):
            getattr(proto, field).CopyFrom(message)
        else:
            setattr(proto, field, message)
    return proto


def _encode_one(value: Any) -> Tuple[str, Any]:
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


_LARGE = 4096
"""Fields with more bytes than this are not parsed as they are: their tensors are views of the
file."""


_VALUE = b"\x0a\x05value\x12"
"""How the entry of an attribute `value` begins: with its key, and the tag of what it holds."""
_UndecodedNode = undecoded_node_class()


class DamagedNode(Exception):
    """The bytes are no node."""


class NodeReader:
    """Reads nodes; attributes that are the same bytes in many nodes are decoded once for all."""

    def __init__(self) -> None:
        self._entries: Dict[bytes, Mapping[str, AttrValue]] = {}
        self._attrs: Dict[Tuple[bytes, ...], Attrs] = {}
        self._layouts: Dict[bytes, Layout] = {}

    def read(self, span: memoryview) -> Tuple[Node, Tuple[str, ...]]:
        """A node, and its inputs as they are spelled.

        Raises:
            DamagedNode: the bytes are no node.
            LoadError: one of its attributes is damaged.
        """
        large: List[memoryview] = []
        try:
            message = _UndecodedNode.FromString(
                span.tobytes() if len(span) <= _LARGE else _rest(span, large)
            )
            name, op, entries, value = message.name, message.op, tuple(message.attr), None
            if op == "Const":
                entries, value = _without_value(entries)
            attrs = self._attrs_of(entries)
            if not name or not op:
                raise DamagedNode
            if value is not None:
                attrs = attrs.with_read({"value": self._tensor(value)})
            if large:
                attrs = attrs.with_read(dict([self._large(entry) for entry in large]))
            if op == "Const":
                if "value" not in attrs:
                    raise LoadError("a constant without a value")
                # Decoded now, so that damage shows at once.
                if not isinstance(attrs["value"], Tensor):
                    raise LoadError("a constant whose value is no tensor")
        except LoadError as error:
            raise LoadError(error.what, f"node {name}", "the file is damaged") from None
        except (DecodeError, ValueError, wire.Truncated, wire.Malformed):
            raise DamagedNode from None  # protobuf in pure Python raises either of the first two
        node = Node(name, op, attrs, message.device, span)
        return node, tuple(message.input)

    def _attrs_of(self, entries: Tuple[bytes, ...]) -> Attrs:
        """The attributes of a node; they can change on their own."""
        attrs = self._attrs.get(entries)
        if attrs is None:
            raw: Dict[str, AttrValue] = {}
            for entry in entries:
                raw.update(self._parsed(entry))
            attrs = self._attrs[entries] = Attrs({}, raw, decode_attr)
        return attrs.copy()

    def _parsed(self, entry: bytes) -> Mapping[str, AttrValue]:
        """An attribute's message by its key; nothing where protobuf takes the entry for unknown."""
        parsed = self._entries.get(entry)
        if parsed is None:
            node = NodeDef.FromString(wire.header(fields.NodeDef.attr, len(entry)) + entry)
            parsed = self._entries[entry] = node.attr
        return parsed

    def _large(self, entry: memoryview) -> Tuple[str, Any]:
        """A large attribute; a tensor's elements stay where they are."""
        try:
            plain = _plain_value(entry)
            if plain is not None:
                return "value", self._tensor(plain)
            key = wire.find(entry, fields.MapEntry.key)
            value = wire.find(entry, fields.MapEntry.value) or memoryview(b"")
            text = "" if key is None else bytes(key).decode()
            tensor = wire.find(value, fields.AttrValue.tensor)
            if tensor is None:
                return text, decode_attr(AttrValue.FromString(value.tobytes()))
            return text, self._tensor(tensor)
        except (DecodeError, ValueError, wire.Truncated, wire.Malformed):
            raise LoadError("a damaged attribute") from None

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
            return decode_tensor(TensorProto.FromString(small), content)
        layout = self._layouts.get(small)
        if layout is None:
            layout = self._layouts[small] = _layout(TensorProto.FromString(small))
        return _elements(content, *layout)


def _without_value(entries: Tuple[bytes, ...]) -> Tuple[Tuple[bytes, ...], Optional[memoryview]]:
    """The attributes of a constant, and apart from them its tensor; None where it stands oddly."""
    values = [entry for entry in entries if entry.startswith(_VALUE)]
    plain = _plain_value(memoryview(values[0])) if len(values) == 1 else None
    if plain is None:
        return entries, None
    return tuple([entry for entry in entries if entry is not values[0]]), plain


def _plain_value(entry: memoryview) -> Optional[memoryview]:
    """The message of the tensor of an attribute `value` that holds nothing else."""
    at, end = len(_VALUE), len(entry)
    if entry[:at] != _VALUE:
        return None
    length, at = wire.varint(entry, at, end)
    if at == end or at + length != end or entry[at] != fields.AttrValue.tensor << 3 | wire.LENGTH:
        return None
    length, at = wire.varint(entry, at + 1, end)
    return entry[at:] if at + length == end else None


def _rest(span: memoryview, large: List[memoryview]) -> bytes:
    """The bytes of a node but for large attributes, whose bytes are put into `large`."""
    pieces = []
    for number, _, tag, start, end in wire.fields(span):
        if number == fields.NodeDef.attr and end - start > _LARGE:
            large.append(span[start:end])
        else:
            pieces.append(span[tag:end])
    return b"".join(pieces)
