"""MetaGraphs, the `.meta` beside a checkpoint: the graph, and how its saver names variables."""

from __future__ import annotations

import re
from typing import Dict, FrozenSet, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from graphslim.errors import LoadError
from graphslim.graphdef import fields, wire
from graphslim.graphdef.protos import DecodeError, MetaGraphDef, SignatureDef, binary_of
from graphslim.ir import IDENTITIES, Graph, Port, Tensor
from graphslim.ir.families import PLAIN_ASSIGNMENTS, VARIABLES
from graphslim.ir.query import behind, upstream
from graphslim.support.reading import read_bytes

_TEXT = re.compile(
    rb"\s*(#[^\n]*\s+)*(meta_info_def|graph_def|saver_def|collection_def|signature_def)\s*:?\s*\{"
)
_AGAIN = "copy or export it again"


class MetaGraph(NamedTuple):
    """What stands in a MetaGraph's file.

    Attributes:
        path: of the file.
        data: the file, in binary form.
        graph: its GraphDef, as bytes.
        signatures: by name, the tensors that are fed and those to compute, as `node` or
            `node:port`.
        trainable: the nodes of the variables that are trained; None where the file does not say.
        restore_op: the node that restores the variables; empty where there is no saver.
    """

    path: str
    data: bytes
    graph: bytes
    signatures: Mapping[str, Tuple[Tuple[str, ...], Tuple[str, ...]]]
    trainable: Optional[FrozenSet[str]]
    restore_op: str


class Kept(NamedTuple):
    """Where a checkpoint holds a variable.

    Attributes:
        key: the tensor's key.
        part: which part of it, as a saver says it (`8 4 0,4:0,4`); empty for all of it.
    """

    key: str
    part: str


def read_meta(path: str) -> MetaGraph:
    """Reads a MetaGraph, binary or text.

    Raises:
        LoadError: the file cannot be read, is none, or is damaged.
    """
    data = read_bytes(path)
    if not data.strip():
        raise LoadError("the file is empty", path, _AGAIN)
    try:
        if _TEXT.match(data):
            data = binary_of(data, MetaGraphDef(), "MetaGraph", path)
        return _decoded(data, path)
    except wire.Truncated:
        raise LoadError("the MetaGraph is cut off", path, _AGAIN) from None
    except (wire.Malformed, DecodeError, UnicodeDecodeError):
        raise LoadError("not a MetaGraph, or a damaged one", path, _AGAIN) from None


def _decoded(data: bytes, path: str) -> MetaGraph:
    view = memoryview(data)
    graphs = [
        payload for payload in wire.payloads(view, fields.MetaGraphDef.graph_def) if len(payload)
    ]
    infos = wire.payloads(view, fields.MetaGraphDef.meta_info_def)
    if len(infos) > 1:  # these are nodes
        raise LoadError("a GraphDef, not a MetaGraph", path, "give the .meta of a checkpoint")
    if not graphs:
        raise LoadError(
            "not a MetaGraph, or one without a graph", path, "give the .meta of a checkpoint"
        )
    return MetaGraph(
        path,
        data,
        bytes(graphs[-1]),
        dict(_signatures(view)),
        _trainable(view),
        bytes(
            wire.find(view, fields.MetaGraphDef.saver_def, fields.SaverDef.restore_op_name) or b""
        ).decode(),
    )


def _signatures(
    view: memoryview,
) -> Iterator[Tuple[str, Tuple[Tuple[str, ...], Tuple[str, ...]]]]:
    for name, message in wire.entries(view, fields.MetaGraphDef.signature_def):
        signature = SignatureDef.FromString(bytes(message))
        inputs, outputs = [
            tuple(dict.fromkeys([str(Port.parse(infos[key].name)) for key in sorted(infos)]))
            for infos in (signature.inputs, signature.outputs)
        ]
        yield name, (inputs, outputs)


def _trainable(view: memoryview) -> Optional[FrozenSet[str]]:
    for name, collection in wire.entries(view, fields.MetaGraphDef.collection_def):
        if name == "trainable_variables":
            texts = wire.find(collection, fields.CollectionDef.bytes_list) or memoryview(b"")
            variables = [
                wire.find(text, fields.VariableDef.variable_name) or b""
                for text in wire.payloads(texts, fields.BytesList.value)
            ]
            return frozenset([Port.parse(bytes(name).decode()).node for name in variables])
    return None


def with_graph(meta: MetaGraph, graph: bytes) -> bytes:
    """The bytes of a MetaGraph with another GraphDef, everything else as it was.

    Args:
        meta: the MetaGraph.
        graph: the bytes of the GraphDef that takes the place of its own.
    """
    view = memoryview(meta.data)
    new = wire.header(fields.MetaGraphDef.graph_def, len(graph)) + graph
    made: List[bytes] = []
    for field in wire.fields(view):
        if field.number != fields.MetaGraphDef.graph_def:
            made.append(bytes(view[field.tag : field.end]))
        else:
            made.append(new)
            new = b""  # a second one would be merged into the first
    return b"".join(made)


def keys_of(graph: Graph, meta: MetaGraph) -> Dict[str, str]:
    """By variable's node the key of its value in a checkpoint, for every variable of a graph.

    Args:
        graph: the graph of `meta`.
        meta: says which op restores the variables; what that op assigns has the key that it
            reads, any other variable its own name.
    """
    return {node: place.key for node, place in places_of(graph, meta).items()}


def places_of(graph: Graph, meta: MetaGraph) -> Dict[str, Kept]:
    """Where a checkpoint holds each variable: its key, and the part of the tensor with that key."""
    places = {node.name: Kept(node.name, "") for node in graph if node.op in VARIABLES}
    restore = Port.parse(meta.restore_op).node
    for name in upstream(graph, [restore] if restore in graph else []):
        if graph[name].op in PLAIN_ASSIGNMENTS:
            # A saver may restore a value in another shape than the variable's.
            variable, value = [
                behind(graph, port, IDENTITIES | {"Reshape"})
                for port in graph.data_inputs(name)[:2]
            ]
            place = _restored(graph, value)
            if variable.node in places and place is not None:
                places[variable.node] = place
    return places


def _restored(graph: Graph, value: Port) -> Optional[Kept]:
    """What a restoring op reads for one of its outputs; None if it is no such op."""
    node, index = value
    op = graph[node].op
    if op not in ("RestoreV2", "Restore", "RestoreSlice"):
        return None
    texts = [_texts(graph, port) for port in graph.data_inputs(node)[1:3]]
    if index >= len(texts[0]):
        return None
    parts = texts[1] if len(texts) > 1 and op != "Restore" else []
    return Kept(texts[0][index], parts[index] if index < len(parts) else "")


def _texts(graph: Graph, port: Port) -> List[str]:
    value = graph[port.node].attrs.get("value")
    if graph[port.node].op != "Const" or not isinstance(value, Tensor):
        return []
    return [bytes(text).decode("utf-8", "replace") for text in value.array.ravel().tolist()]
