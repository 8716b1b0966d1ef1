"""Graph -> GraphDef: a node that nobody touched is written as the bytes it came in."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any, Dict, Iterator, List, Set, Tuple

import numpy as np

from graphslim.graphdef import fields, wire
from graphslim.graphdef.kinds import check_graph_ending, is_text
from graphslim.graphdef.protos import GraphDef, NodeDef, text_format
from graphslim.graphdef.values import colocations, encode_attr, encode_layout
from graphslim.ir import DType, Graph, Node, Tensor
from graphslim.support.writing import replacing

_ATTR = fields.NodeDef.attr << 3 | wire.LENGTH
_KEY = bytes((fields.MapEntry.key << 3 | wire.LENGTH,))
_SMALL = 4096
"""Bytes of the largest tensor that is copied on its way into the file."""


def serialize(graph: Graph) -> bytes:
    """The graph as the bytes of a binary GraphDef."""
    return b"".join(_chunks(graph))


def to_graph_def(graph: Graph) -> Any:
    """The graph as a GraphDef message of tensorboard's class, which has TensorFlow's fields."""
    return GraphDef.FromString(serialize(graph))


def save(graph: Graph, path: Any) -> None:
    """Writes a `.pb`, or a `.pbtxt` if the path ends so; the file appears whole or not at all.

    Raises:
        EmitError: the target cannot be written, or is named like another kind of file.
    """
    target = os.fspath(path)
    check_graph_ending(target)
    with replacing(target) as file:
        file.writelines(encoded(graph, target))


def encoded(graph: Graph, path: str) -> Iterator[Any]:
    """The bytes of the graph's file, in parts; text if the path ends so."""
    if is_text(path):
        yield text_format.MessageToString(to_graph_def(graph)).encode("utf-8")
    else:
        yield from _chunks(graph)


def _chunks(graph: Graph) -> Iterator[Any]:
    """The file in parts; nodes that stand side by side in the old one are one part of it."""
    old = b"" if graph.origin is None else graph.origin.data
    view, begin, end = memoryview(old), 0, 0
    for node in _file_order(graph):
        span: Any = node.origin
        orphaned = graph.gone and _colocated_with(node, graph.gone)
        if node.touched or orphaned:
            whole = orphaned or node.rewired
            payload = [_message(graph, node)] if whole else _spliced(node)
        else:
            header = wire.header(fields.GraphDef.node, span.end - span.start)
            tag = span.start - len(header)
            if span.data is old and tag >= 0 and old.startswith(header, tag):
                if tag != end:
                    yield view[begin:end]
                    begin = tag
                end = span.end
                continue
            payload = [bytes(span)]
        yield view[begin:end]
        begin = end
        yield wire.header(fields.GraphDef.node, sum(map(len, payload)))
        yield from payload
    yield view[begin:end]
    if graph.origin is not None:
        yield from graph.origin.extras


def _file_order(graph: Graph) -> List[Node]:
    """The order of the file, with each new node right before its first reader."""
    if all(node.origin is not None for node in graph):
        return list(graph)
    done: Dict[str, Node] = {}
    opened: Set[str] = set()
    for node in [*(node for node in graph if node.origin is not None), *graph]:
        waiting = [node]
        while waiting:
            current = waiting[-1]
            made = [] if current.name in opened else _made(graph, current, opened)
            opened.add(current.name)
            if made:
                waiting.extend(reversed(made))
            else:
                done.setdefault(current.name, waiting.pop())
    return list(done.values())


def _made(graph: Graph, node: Node, known: Set[str]) -> List[Node]:
    """The new nodes that a node reads, but for those that are known."""
    sources = [graph[port.node] for port in graph.inputs_of(node)]
    return [source for source in sources if source.origin is None and source.name not in known]


def _colocated_with(node: Node, gone: Set[str]) -> bool:
    """Whether a node asks to be placed with a node that was removed; TensorFlow refuses that."""
    return any(target in gone for _, target in colocations(node))


def _spliced(node: Node) -> List[Any]:
    """The bytes that a node was read from, with its changed attributes instead of the old ones.

    What is large is not copied. The rest of a node cannot change.
    """
    data, behind, end = node.origin
    view, at, parts = memoryview(data), behind, []  # type: memoryview, int, List[Any]
    changed = sorted(node.attrs.changed)
    keys = tuple([_key(name) for name in changed])
    while at < end:
        tag = data[at]
        if tag & 7 != wire.LENGTH or tag > 0x7F:
            at = next(wire.fields(data, at, end)).end
            continue
        length, start = wire.varint(data, at + 1, end)
        stop = start + length
        if tag == _ATTR and (
            data.startswith(keys, start)
            or not data.startswith(_KEY, start, stop)
            and _key_in(view[start:stop]) in node.attrs.changed
        ):
            parts.append(view[behind:at])
            behind = stop
        at = stop
    parts.append(view[behind:end])
    for name in changed:
        if name in node.attrs:
            parts += _entry(name, node.attrs[name])
    return parts


@lru_cache(maxsize=1024)
def _key(name: str) -> bytes:
    """How the entry of an attribute begins."""
    key = name.encode()
    return wire.header(fields.MapEntry.key, len(key)) + key


def _key_in(entry: memoryview) -> str:
    """The name of an attribute whose entry does not begin with it."""
    return bytes(wire.find(entry, fields.MapEntry.key) or b"").decode()


def _entry(name: str, value: Any) -> List[Any]:
    """An attribute in parts; the elements of a tensor are not copied."""
    if not isinstance(value, Tensor) or value.dtype.storage.hasobject or not value.size:
        content = encode_attr(value).SerializeToString(deterministic=True)
        return [_headed(name, content, 0)]
    elements = np.ascontiguousarray(value.array)
    head = _tensor_head(name, value.dtype, value.shape)
    if elements.nbytes <= _SMALL:
        return [head + elements.tobytes()]
    return [head, elements.reshape(-1).view(np.uint8).data]


@lru_cache(maxsize=1024)
def _tensor_head(name: str, dtype: DType, shape: Tuple[int, ...]) -> bytes:
    """What stands before the elements of a tensor in the attribute that holds it."""
    size = dtype.storage.itemsize
    for length in shape:
        size *= length
    head = encode_layout(dtype, shape) + wire.header(fields.TensorProto.tensor_content, size)
    return _headed(name, wire.header(fields.AttrValue.tensor, len(head) + size) + head, size)


def _headed(name: str, value: bytes, behind: int) -> bytes:
    """An attribute from the beginning of its value, which so many bytes more belong to."""
    entry = _key(name) + wire.header(fields.MapEntry.value, len(value) + behind) + value
    return wire.header(fields.NodeDef.attr, len(entry) + behind) + entry


def _message(graph: Graph, node: Node) -> bytes:
    message = NodeDef.FromString(bytes(node.origin)) if node.origin is not None else NodeDef()
    message.name, message.op, message.device = node.name, node.op, node.device
    if node.rewired:
        del message.input[:]
        message.input.extend([str(port) for port in graph.inputs_of(node)])
    for key in sorted(node.attrs.changed if node.origin is not None else node.attrs):
        if key in node.attrs:
            message.attr[key].CopyFrom(encode_attr(node.attrs[key]))
        elif key in message.attr:
            del message.attr[key]
    if graph.gone and _colocated_with(node, graph.gone):
        entries = [entry for entry, target in colocations(node) if target not in graph.gone]
        del message.attr["_class"].list.s[:]
        message.attr["_class"].list.s.extend(entries)
        if not entries:
            del message.attr["_class"]
    payload: bytes = message.SerializeToString(deterministic=True)
    return payload
