"""GraphDef -> Graph: reads a file once and keeps every node's bytes for the emitter."""

from __future__ import annotations

import contextlib
import os
import re
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np

from graphslim.errors import GraphslimError, IRError, LoadError, RuntimeUnavailable
from graphslim.graphdef import fields, saved_model, tfjs, wire
from graphslim.graphdef.emit import serialize
from graphslim.graphdef.freeze import freeze
from graphslim.graphdef.inline import inline_calls
from graphslim.graphdef.kinds import foreign, is_named_keras, is_text
from graphslim.graphdef.protos import DecodeError, GraphDef, binary_of
from graphslim.graphdef.signature import ShapesLike, settle
from graphslim.graphdef.values import DamagedNode, NodeReader
from graphslim.ir import Graph, Node, Port
from graphslim.ir.families import VARIABLES
from graphslim.support.garbage import pause_gc
from graphslim.support.reading import read_bytes
from graphslim.support.text import plural

_STATED, _TIMES = 1 << 28, 16
"""How many bytes the constants of a file may state: so many, and so many times its size. A constant
that repeats a value states its size in a few bytes."""

_SIDES = ("inputs", "outputs")
_NODE = fields.GraphDef.node << 3 | wire.LENGTH
_tuple: Any = tuple.__new__
"""Makes a named tuple, in half the time that calling its class takes."""
_BEGINNING = re.compile(rb"\x0a[\x80-\xff]{0,4}[\x00-\x7f]\x0a.[A-Za-z0-9.][\w./>-]*", re.DOTALL)
"""The first node's tag and length, and the tag, length and text of its name."""

PathLike = Union[str, "os.PathLike[str]"]
Variables = Callable[[str, Sequence[str], Sequence[str]], Mapping[str, np.ndarray]]
"""Reads variables of a SavedModel: its folder, the tags of its graph, the names of their nodes."""


class Source(NamedTuple):
    """What a graph was read from: the bytes of the file, and the fields beside the nodes."""

    data: bytes
    extras: Tuple[bytes, ...]


@pause_gc()
def load(
    model: Any,
    *,
    inputs: Optional[Sequence[str]] = None,
    outputs: Optional[Sequence[str]] = None,
    input_shapes: Optional[ShapesLike] = None,
    inline: bool = True,
    signature: Optional[str] = None,
    tags: Sequence[str] = (),
    variables: Optional[Variables] = None,
) -> Graph:
    """Reads a frozen graph, or a SavedModel, which is frozen on the way.

    Args:
        model: path of a binary `.pb` or text `.pbtxt` GraphDef, of a SavedModel's folder, or of a
            TensorFlow.js graph model (`model.json` or its folder), or a GraphDef message.
        inputs: names of the nodes that are fed; by default the placeholders, or those of the
            signature.
        outputs: names (`node` or `node:port`) to compute; by default what nobody reads, or those
            of the signature.
        input_shapes: sizes for inputs that the file leaves open, by name.
        inline: whether calls of functions are replaced by what the functions do; a call that is
            left as it is pins every channel that reaches it.
        signature: which of a SavedModel's; by default `serving_default`, or else the only one.
        tags: of one of a SavedModel's graphs; by default `serve`, or else the only graph.
        variables: reads the variables of a SavedModel.

    Raises:
        LoadError: the file is no such model, is damaged, or a given name is not in it.
        RuntimeUnavailable: a SavedModel has variables, and nothing reads them.
    """
    path = None if hasattr(model, "SerializeToString") else os.fspath(model)
    folder = None if path is None else saved_model.folder_of(path)
    if folder is not None:
        file = saved_model.file_in(folder)
        data = _read(file)
        _refuse_impostors(data, file)
        chosen = saved_model.choose(data, file, signature, tags, not outputs)
        return frozen_from(folder, chosen, inputs, outputs, input_shapes, variables)
    if signature is not None or tags:
        option = "--tag" if signature is None else "--signature"
        raise LoadError(f"{model} is no SavedModel", option, "leave it out")
    web_file = None if path is None else tfjs.file_of(path)
    if web_file is not None:
        return _from_web(web_file, inputs, outputs, input_shapes, inline)
    if path is None:
        data, name = model.SerializeToString(deterministic=True), "graph"
    else:
        data, name = _read(path), path
    graph = parse(data, name, inline, inputs or (), outputs or ())
    settle(graph, inputs, outputs, input_shapes)
    return graph


def _from_web(
    file: str,
    inputs: Optional[Sequence[str]],
    outputs: Optional[Sequence[str]],
    input_shapes: Optional[ShapesLike],
    inline: bool,
) -> Graph:
    """The graph of a TensorFlow.js model; the arguments are those of `load`."""
    model = tfjs.read(file)
    fed, computed = [tuple(dict.fromkeys(model.names[side].values())) for side in _SIDES]
    fed, computed = tuple(inputs or fed), tuple(outputs or computed)
    graph = parse(model.graph, file, inline, fed, computed, binary=True)
    settle(graph, fed, computed, input_shapes)
    graph.signature = _known(model.names, graph)
    return graph


def _known(names: Mapping[str, Mapping[str, str]], graph: Graph) -> Dict[str, Dict[str, str]]:
    """Of the names of a signature those of a graph's inputs and outputs."""
    known = {*graph.inputs, *[str(port) for port in graph.outputs]}
    return {
        side: {key: name for key, name in tensors.items() if name in known}
        for side, tensors in names.items()
    }


def frozen_from(
    folder: str,
    chosen: saved_model.Chosen,
    inputs: Optional[Sequence[str]],
    outputs: Optional[Sequence[str]],
    input_shapes: Optional[ShapesLike],
    variables: Optional[Variables],
) -> Graph:
    """A graph with variables as it would be read from a `.pb` that it had been frozen to.

    Args:
        folder: what it came from, which names the graph and is told in errors.
        chosen: the graph, with what it is fed and what it computes.
        inputs, outputs, input_shapes, variables: as for `load`.

    Raises:
        LoadError, RuntimeUnavailable: as for `load`.
    """

    def values(names: Sequence[str]) -> Mapping[str, np.ndarray]:
        if variables is None:
            raise RuntimeUnavailable(
                "its variables are read with TensorFlow", folder, "load it with graphslim.load"
            )
        return variables(folder, chosen.tags, names)

    fed, wanted = inputs or chosen.inputs, outputs or chosen.outputs
    graph = parse(chosen.graph, folder, True, fed, wanted, has_variables=True)
    settle(graph, fed, wanted, input_shapes)
    with refusing_misfits(folder):
        frozen = freeze(graph, values)
    used = [Port(name) in frozen.outputs or frozen.uses_of(name) for name in frozen.inputs]
    if used and not any(used) and not outputs:
        raise LoadError(
            f"the outputs of the signature {chosen.signature} do not depend on its inputs",
            folder,
            "choose another with --signature, or name --inputs and --outputs",
        )
    # Read again: its bytes then say which model it is, as those of the .pb written from it do.
    result = parse(serialize(frozen), folder)
    result.inputs, result.outputs = frozen.inputs, frozen.outputs
    result.input_shapes = frozen.input_shapes
    result.signature = _known(chosen.names, result)
    return result


@contextlib.contextmanager
def refusing_misfits(file: str) -> Iterator[None]:
    """Refuses a graph in which a node lacks inputs or attributes that its op has to have.

    What reads nodes as their ops are defined may raise anything there.

    Raises:
        LoadError: a node does not fit its op; the exception that this led to is the cause.
    """
    try:
        yield
    except (GraphslimError, MemoryError):
        raise
    except Exception as error:
        raise LoadError(
            "the inputs or attributes of a node do not fit its op "
            f"({type(error).__name__}: {error})",
            file,
            "export it again; if TensorFlow runs it, report what --debug prints",
        ) from error


def _read(path: str) -> bytes:
    if os.path.isdir(path):
        raise saved_model.no_model_in(path)
    return read_bytes(path)


def parse(
    data: bytes,
    name: str,
    inline: bool = False,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    has_variables: bool = False,
    binary: bool = False,
) -> Graph:
    """A graph from the bytes of a `.pb`, or of a `.pbtxt` if `name` ends so.

    Args:
        data: the bytes.
        name: what the file is called.
        inline: whether to replace calls of functions by what the functions do.
        inputs, outputs: names that inlining has to leave in the graph.
        has_variables: whether the graph may have variables, which a frozen graph has not.
        binary: whether the bytes are those of a `.pb` whatever `name` ends with.

    Raises:
        LoadError: the bytes are no GraphDef, or a damaged one.
    """
    _refuse_impostors(data, name)
    if is_text(name) and not binary:
        try:
            data = binary_of(data, GraphDef(), "GraphDef", name)
        except UnicodeDecodeError:
            raise LoadError("not a text file", name, "rename a binary graph to .pb") from None
    spans, extras = _spans(data, name)
    _check_extras(extras, name)
    graph = Graph(os.path.basename(name))
    nodes = _nodes(spans, name)
    if inline:
        try:
            nodes, extras, graph.gone = inline_calls(nodes, extras, inputs, outputs)
        except LoadError as error:
            raise LoadError(error.what, f"{name}: {error.where}", error.hint) from None
    _refuse_bombs(nodes, len(data), name)
    graph.origin = Source(data, extras)
    try:
        graph.load(nodes)
        graph.order()
    except IRError as error:
        raise LoadError(error.what, f"{name}: node {error.where}", error.hint) from None
    if not has_variables:
        _refuse_variables(graph, name)
    return graph


def _refuse_impostors(data: bytes, name: str) -> None:
    """Files that people pass off as models by mistake."""
    head = data[:512].lstrip().lower()
    if not head and not data.strip():
        raise LoadError("the file is empty", name, "download or export it again")
    if head.startswith(b"version https://git-lfs"):
        raise LoadError("a Git LFS pointer, not the model itself", name, "run `git lfs pull`")
    if head.startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise LoadError("a web page, not a model", name, "download the raw file")
    other = foreign(data)
    if other is not None:
        raise LoadError(f"{other[0]}, not a GraphDef", name, other[1])


def _spans(data: bytes, name: str) -> Tuple[List[wire.Span], Tuple[bytes, ...]]:
    """The bytes of each node, and whole the fields that are none."""
    nodes: List[wire.Span] = []
    extras: List[bytes] = []
    at, stop = 0, len(data)
    try:
        while at < stop:
            if data[at] == _NODE:
                length, start = wire.varint(data, at + 1, stop)
                at = start + length
                if at > stop:
                    raise wire.Truncated(fields.GraphDef.node)
                nodes.append(_tuple(wire.Span, (data, start, at)))
            else:
                field = next(wire.fields(data, at))
                if field.number == fields.GraphDef.node and field.wire_type == wire.LENGTH:
                    nodes.append(wire.Span(data, field.start, field.end))
                else:
                    extras.append(data[at : field.end])
                at = field.end
    except wire.Truncated as error:
        if not nodes and not _BEGINNING.match(data):
            raise LoadError(*_not_a_graph(data, name)) from None
        inside = error.number in (fields.GraphDef.node, 0)
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


def _check_extras(extras: Sequence[bytes], name: str) -> None:
    """Refuses a file that protobuf would refuse for what stands beside the nodes.

    Each node is parsed as it is read; these fields are only carried along, and would come to light
    when TensorFlow refuses the file that was written.
    """
    try:
        GraphDef.FromString(b"".join(extras))
    except (DecodeError, ValueError):  # protobuf in pure Python raises either
        raise LoadError(
            "its function library is damaged", name, "download or copy it again"
        ) from None


def _not_a_graph(data: bytes, name: str) -> Tuple[str, str, str]:
    if re.match(rb"\s*(#[^\n]*\s+)*(node|library|versions)\s*:?\s*\{", data):
        return "a text GraphDef under a binary name", name, "rename it to .pbtxt"
    if data.startswith(b"\x08\x01\x12"):
        return "a SavedModel's saved_model.pb by another name", name, "give the folder it came in"
    if is_named_keras(name):
        return "not a Keras model, whatever its name", name, "save it again with model.save(...)"
    if name.endswith(".meta"):
        return "a MetaGraph, not a frozen graph", name, "give the checkpoint that it belongs to"
    return "not a GraphDef", name, "give a frozen TensorFlow graph (.pb or .pbtxt)"


def _nodes(spans: Sequence[wire.Span], file: str) -> List[Tuple[Node, List[Port]]]:
    """The nodes, each with what it reads."""
    reader, nodes = NodeReader(), []
    try:
        for span in spans:
            nodes.append(reader.read(span))
    except DamagedNode:
        if not nodes:
            raise LoadError(*_not_a_graph(b"", file)) from None
        raise LoadError(
            f"node {len(nodes) + 1} is damaged", file, "download or copy it again"
        ) from None
    except LoadError as error:
        raise LoadError(error.what, f"{file}: {error.where}", error.hint) from None
    ports: Dict[str, Port] = {node.name: _tuple(Port, (node.name, 0)) for node, _ in nodes}
    for name in re.findall(r"^\^.*|^.*:.*", "\n".join(ports), re.MULTILINE):
        del ports[name]  # names that an input could not be spelled by
    for _, inputs in nodes:
        for text in inputs:
            if text not in ports:
                port = Port.parse(text)
                ports[text] = port._replace(node=ports.get(port.node, port).node)
    return [(node, [ports[text] for text in inputs]) for node, inputs in nodes]


def _refuse_bombs(nodes: Sequence[Tuple[Node, List[Port]]], file_bytes: int, name: str) -> None:
    """Files whose constants state far more than they hold: one value for billions of elements."""
    sizes = {node.name: node.attrs["value"].nbytes for node, _ in nodes if node.op == "Const"}
    total, most = sum(sizes.values()), _STATED + _TIMES * file_bytes
    if total > most:
        largest = max(sizes, key=lambda key: sizes[key])
        raise LoadError(
            f"its constants state {total:,} bytes, {largest} most of all, where a file of "
            f"{plural(file_bytes, 'byte')} may state {most:,}",
            name,
            "its sizes look damaged",
        )


def _refuse_variables(graph: Graph, name: str) -> None:
    ops = VARIABLES | {"ReadVariableOp"}
    names = [node.name for node in graph if node.op in ops]
    if names:
        raise LoadError(
            f"the graph is not frozen: {plural(len(names), 'variable')}, such as {names[0]}",
            name,
            "give its SavedModel, or its checkpoint with the .meta beside it",
        )
