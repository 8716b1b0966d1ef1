"""The only import of the message classes: tensorboard's copies, which need no TensorFlow."""

from __future__ import annotations

from typing import Any, Sequence

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    json_format,
    message_factory,
    text_format,
)
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.attr_value_pb2 import AttrValue, NameAttrList
from tensorboard.compat.proto.function_pb2 import FunctionDef
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef, SignatureDef, TensorInfo
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

from graphslim.errors import LoadError

__all__ = [
    "AttrValue",
    "DecodeError",
    "FunctionDef",
    "GraphDef",
    "MetaGraphDef",
    "NameAttrList",
    "NodeDef",
    "SignatureDef",
    "TensorInfo",
    "TensorProto",
    "TensorShapeProto",
    "binary_of",
    "json_format",
    "saved_model_class",
    "text_format",
    "undecoded_node_class",
]


def binary_of(data: bytes, message: Any, kind: str, path: str) -> bytes:
    """The binary form of a message that stands in a file as text.

    Args:
        data: the text, in UTF-8.
        message: an empty message of that kind, which is filled.
        kind: what the file should hold, for errors.
        path: the file, for errors.

    Raises:
        UnicodeDecodeError: it is no text.
        LoadError: it is the text of something else.
    """
    try:
        text_format.Parse(data.decode("utf-8"), message)
    except text_format.ParseError as error:
        raise LoadError(f"no text {kind}: {error}", path, "copy or export it again") from None
    binary: bytes = message.SerializeToString(deterministic=True)
    return binary


def saved_model_class() -> Any:
    """The class of SavedModel messages, which tensorboard has no copy of: two fields."""
    message = descriptor_pb2.DescriptorProto(name="SavedModel")
    message.field.add(name="saved_model_schema_version", number=1, type=3, label=1)
    graphs = message.field.add(name="meta_graphs", number=2, type=11, label=3)
    graphs.type_name = "." + MetaGraphDef.DESCRIPTOR.full_name
    return _class_of(message, [MetaGraphDef.DESCRIPTOR.file])


def undecoded_node_class() -> Any:
    """The class of NodeDef messages whose attributes are the bytes of the entries of the map."""
    message, file = descriptor_pb2.DescriptorProto(), NodeDef.DESCRIPTOR.file
    NodeDef.DESCRIPTOR.CopyToProto(message)
    message.name = "UndecodedNode"
    del message.nested_type[:]
    (attr,) = [field for field in message.field if field.name == "attr"]
    attr.ClearField("type_name")
    attr.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
    return _class_of(message, [file, *file.dependencies])


def _class_of(message: Any, files: Sequence[Any]) -> Any:
    """The class of a message that no package defines; `files` define what it refers to."""
    pool = descriptor_pool.Default()
    name = f"graphslim.{message.name}"
    try:
        descriptor = pool.FindMessageTypeByName(name)
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto(
            name=f"{name}.proto",
            package="graphslim",
            syntax="proto3",
            dependency=[file.name for file in files],
            message_type=[message],
        )
        pool.AddSerializedFile(file.SerializeToString())
        descriptor = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)  # protobuf 3
