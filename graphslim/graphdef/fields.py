"""The numbers of the protobuf fields that are read or written without their message classes.

A class is named like its message, and its attributes like the message's fields.
"""

from __future__ import annotations


class GraphDef:
    """A graph."""

    node, library = 1, 2


class FunctionDefLibrary:
    """The functions of a graph."""

    function, gradient, registered_gradients = 1, 2, 3


class FunctionDef:
    """A function, with its nodes."""

    signature, node_def = 1, 3


class OpDef:
    """The signature of an op or function."""

    name = 1


class GradientDef:
    """A function and its gradient; a `RegisteredGradient` has the same numbers."""

    function_name, gradient_func = 1, 2


class NodeDef:
    """A node."""

    name, op, device, attr = 1, 2, 4, 5


class MapEntry:
    """An entry of any map, such as `NodeDef.attr`."""

    key, value = 1, 2


class AttrValue:
    """A value of a node's attribute."""

    tensor = 8


class TensorProto:
    """A constant."""

    tensor_content = 4


class SavedModel:
    """The file of a SavedModel."""

    meta_graphs = 2


class MetaGraphDef:
    """A graph with what is known of it beside it."""

    meta_info_def, graph_def, saver_def, collection_def, signature_def = 1, 2, 3, 4, 5


class MetaInfoDef:
    """What a MetaGraph says of itself."""

    tags = 4


class SaverDef:
    """How variables are saved and restored."""

    restore_op_name = 3


class CollectionDef:
    """A collection of a graph."""

    bytes_list = 2


class BytesList:
    """A collection of serialized messages."""

    value = 1


class VariableDef:
    """A variable, as collections hold it."""

    variable_name = 1
