"""The only import of the message classes: tensorboard's copies, which need no TensorFlow."""

from __future__ import annotations

from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.attr_value_pb2 import AttrValue, NameAttrList
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

__all__ = [
    "AttrValue",
    "DecodeError",
    "GraphDef",
    "NameAttrList",
    "NodeDef",
    "TensorProto",
    "TensorShapeProto",
    "text_format",
]
