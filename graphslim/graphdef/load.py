"""GraphDef -> Graph: reads a file once and keeps every node's bytes for the emitter."""

from __future__ import annotations

import os
import re
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

from graphslim.errors import IRError, LoadError
from graphslim.graphdef import signature, wire
from graphslim.graphdef.protos import DecodeError, GraphDef, NodeDef, text_format
from graphslim.graphdef.values import decode_attr, decode_tensor
from graphslim.ir import Attrs, Graph, Node, Port
from graphslim.words import plural

_NODE = 1
"""Number of `GraphDef.node`."""
_TENSOR_CONTENT = (2, 8, 4)
"""Path from an entry of `NodeDef.attr` to its tensor's `tensor_content`."""
_LARGE = 4096
"""Nodes with more bytes than this are not kept as messages; their tensors are views of the file."""
_VARIABLE_OPS = frozenset(
    ("VariableV2", "Variable", "VarHandleOp", "AutoReloadVariable", "ReadVariableOp")
)

_OTHERS = (
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"\x89HDF", "a Keras or HDF5 file"),
    (0, b"PK\x03\x04", "a zip file or Keras model"),
    (0, b"\x1f\x8b", "a gzip file"),
)
"""Where other kinds of file have which bytes."""
_BEGINNING = re.compile(rb"\x0a[\x80-\xff]{0,4}[\x00-\x7f]\x0a.[A-Za-z0-9.][\w./>-]*", re.DOTALL)
"""The first node's tag and length, and the tag, length and text of its name."""

PathLike = Union[str, "os.PathLike[str]"]


class Source(NamedTuple):
    """What a graph was read from: the bytes of the file, and the fields beside the nodes."""

    data: bytes
    extras: Tuple[bytes, ...]


def load(
    model: Any,
    *,
    inputs: Optional[Sequence[str]] = None,
    outputs: Optional[Sequence[str]] = None,
    input_shapes: Optional[signature.ShapesLike] = None,
) -> Graph:
    """Reads a frozen graph.

    Args:
        model: path of a binary `.pb` or text `.pbtxt` GraphDef, or a GraphDef message.
        inputs: names of the nodes that are fed; by default the placeholders.
        outputs: names (`node` or `node:port`) to compute; by default what nobody reads.
        input_shapes: sizes for inputs that the file leaves open, by name.

    Raises:
        LoadError: the file is not a frozen GraphDef, is damaged, or a given name is not in it.
    """
    if hasattr(model, "SerializeToString"):
        graph = parse(model.SerializeToString(deterministic=True), "graph")
    else:
        graph = parse(_read(os.fspath(model)), os.fspath(model))
    signature.settle(graph, inputs, outputs, input_shapes)
    return graph


def _read(path: str) -> bytes:
    if os.path.isdir(path):
        if os.path.exists(os.path.join(path, "saved_model.pb")):
            raise LoadError(
                "a SavedModel folder, not a frozen graph", path, "freeze it to a .pb first"
            )
        raise LoadError("a folder, not a model file", path, "give the path of a .pb or .pbtxt")
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        hint = "check the path"
        if os.path.exists(path + ".index") or os.path.exists(path + ".meta"):
            hint = "a checkpoint; freeze it to a .pb first"
        raise LoadError("no such file", path, hint) from None
    except OSError as error:
        raise LoadError(
            f"cannot be read: {error.strerror}", path, "check its permissions"
        ) from None


def parse(data: bytes, name: str) -> Graph:
    """A graph from the bytes of a `.pb`, or of a `.pbtxt` if `name` ends so.

    Raises:
        LoadError: the bytes are no GraphDef, or a damaged one.
    """
    _refuse_impostors(data, name)
    if name.endswith((".pbtxt", ".pbtext", ".prototxt")):
        data = _binary(data, name)
    spans, extras = _spans(data, name)
    graph = Graph(os.path.basename(name))
    graph.origin = Source(data, extras)
    try:
        graph.load([_node(*one, name) for one in enumerate(spans, 1)])
        graph.order()
    except IRError as error:
        raise LoadError(error.what, f"{name}: node {error.where}", error.hint) from None
    _refuse_variables(graph, name)
    return graph


def _refuse_impostors(data: bytes, name: str) -> None:
    """Files that people pass off as models by mistake."""
    head = data[:512].lstrip().lower()
    if not data.strip():
        raise LoadError("the file is empty", name, "download or export it again")
    if head.startswith(b"version https://git-lfs"):
        raise LoadError("a Git LFS pointer, not the model itself", name, "run `git lfs pull`")
    if head.startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise LoadError("a web page, not a model", name, "download the raw file")
    for start, magic, what in _OTHERS:
        if data[start : start + len(magic)] == magic:
            raise LoadError(f"{what}, not a GraphDef", name, "give the frozen .pb of that network")


def _binary(data: bytes, name: str) -> bytes:
    """The binary form of a text GraphDef."""
    message = GraphDef()
    try:
        text_format.Parse(data.decode("utf-8"), message)
    except UnicodeDecodeError:
        raise LoadError("not a text file", name, "rename a binary graph to .pb") from None
    except text_format.ParseError as error:
        raise LoadError(f"no text GraphDef: {error}", name, "export it again") from None
    serialized: bytes = message.SerializeToString(deterministic=True)
    return serialized


def _spans(data: bytes, name: str) -> Tuple[List[memoryview], Tuple[bytes, ...]]:
    """The bytes of each node, and whole the fields that are none."""
    view = memoryview(data)
    nodes: List[memoryview] = []
    extras: List[bytes] = []
    try:
        for field in wire.fields(view):
            if field.number == _NODE and field.wire_type == wire.LENGTH:
                nodes.append(view[field.start : field.end])
            else:
                extras.append(bytes(view[field.tag : field.end]))
    except wire.Truncated as error:
        if not nodes and not _BEGINNING.match(data):
            raise LoadError(*_not_a_graph(data, name)) from None
        inside = error.number in (_NODE, 0)
        place = f"in the middle of node {len(nodes) + 1}" if inside else "behind its nodes"
        raise LoadError(f"the file is cut off {place}", name, "download or copy it again") from None
    except wire.Malformed:
        if nodes:
            raise LoadError(
                f"the file is damaged behind node {len(nodes)}", name, "download or copy it again"
            ) from None
        raise LoadError(*_not_a_graph(data, name)) from None
    if not nodes:
        raise LoadError(*_not_a_graph(data, name))
    return nodes, tuple(extras)


def _not_a_graph(data: bytes, name: str) -> Tuple[str, str, str]:
    if re.match(rb"\s*(#[^\n]*\s+)*(node|library|versions)\s*:?\s*\{", data):
        return "a text GraphDef under a binary name", name, "rename it to .pbtxt"
    if data.startswith(b"\x08\x01\x12"):
        return "a SavedModel, not a frozen graph", name, "freeze it to a .pb first"
    if name.endswith(".meta"):
        return "a MetaGraph, not a frozen graph", name, "freeze it to a .pb first"
    return "not a GraphDef", name, "give a frozen TensorFlow graph (.pb or .pbtxt)"


def _node(number: int, span: memoryview, file: str) -> Tuple[Node, List[Port]]:
    try:
        message = NodeDef.FromString(span.tobytes())
        whole = bool(message.name and message.op)
    except (DecodeError, ValueError):  # protobuf in pure Python raises either
        whole = False
    if not whole:
        if number == 1:
            raise LoadError(*_not_a_graph(b"", file))
        raise LoadError(f"node {number} is damaged", file, "download or copy it again")
    try:
        attrs = _attrs(message, span)
    except LoadError as error:
        raise LoadError(error.what, f"{file}: node {message.name}", "the file is damaged") from None
    node = Node(message.name, message.op, attrs, message.device, origin=span)
    node.rewired = False
    return node, [Port.parse(text) for text in message.input]


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


def _refuse_variables(graph: Graph, name: str) -> None:
    found = [node.name for node in graph if node.op in _VARIABLE_OPS]
    if found:
        raise LoadError(
            f"the graph is not frozen: {plural(len(found), 'variable')}, such as {found[0]}",
            name,
            "freeze it first (TF1: tf.compat.v1.graph_util.convert_variables_to_constants)",
        )
