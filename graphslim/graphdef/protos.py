"""The only import of the message classes: tensorboard's copies, which need no TensorFlow."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.attr_value_pb2 import AttrValue, NameAttrList
from tensorboard.compat.proto.function_pb2 import FunctionDef
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef, SignatureDef, TensorInfo
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

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
    "saved_model_class",
    "text_format",
]


def saved_model_class() -> Any:
    """The class of SavedModel messages, which tensorboard has no copy of: two fields."""
    pool = descriptor_pool.Default()
    name = "graphslim.SavedModel"
    try:
        descriptor = pool.FindMessageTypeByName(name)
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto(
            name="graphslim/saved_model.proto",
            package="graphslim",
            syntax="proto3",
            dependency=[MetaGraphDef.DESCRIPTOR.file.name],
        )
        message = file.message_type.add(name="SavedModel")
        message.field.add(name="saved_model_schema_version", number=1, type=3, label=1)
        graphs = message.field.add(name="meta_graphs", number=2, type=11, label=3)
        graphs.type_name = "." + MetaGraphDef.DESCRIPTOR.full_name
        pool.AddSerializedFile(file.SerializeToString())
        descriptor = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)  # protobuf 3
