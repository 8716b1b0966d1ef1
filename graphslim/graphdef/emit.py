"""Graph -> GraphDef: a node that nobody touched is written as the bytes it came in."""

from __future__ import annotations

import os
from typing import Any, Dict, Iterator, List, Optional, Set

import numpy as np

from graphslim.graphdef import fields, wire
from graphslim.graphdef.kinds import check_graph_ending, is_text
from graphslim.graphdef.protos import GraphDef, NodeDef, text_format
from graphslim.graphdef.values import encode_attr, encode_layout
from graphslim.ir import Graph, Node, Tensor
from graphslim.support.writing import replacing

_NAME, _OP, _DEVICE, _ATTR = (
    number << 3 | wire.LENGTH
    for number in (
        fields.NodeDef.name,
        fields.NodeDef.op,
        fields.NodeDef.device,
        fields.NodeDef.attr,
    )
)


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
    check_graph_ending(target, graph.inputs, [str(port) for port in graph.outputs])
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
        homeless = graph.gone and _colocated_with(node, graph.gone)
        if node.touched or homeless:
            spliced = None if homeless or node.rewired else _spliced(node)
            payload = [_message(graph, node)] if spliced is None else spliced
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
        yield from _field(fields.GraphDef.node, payload)
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
    return any(_home(entry) in gone for entry in node.attrs.get("_class", []))


def _home(entry: bytes) -> str:
    """The node that an entry of `_class` names: `loc:@name`."""
    return entry.decode("utf-8", "replace").partition("loc:@")[2]


def _spliced(node: Node) -> Optional[List[Any]]:
    """The bytes that a node was read from, with its changed attributes instead of the old ones.

    What is large is not copied. None for a node that differs in more than its attributes.
    """
    data, behind, end = node.origin
    view, at, parts = memoryview(data), behind, []  # type: memoryview, int, List[Any]
    changed = {key: _key(key) for key in sorted(node.attrs.changed)}
    old_keys = tuple(changed.values())
    stated = {_NAME: node.name, _OP: node.op, _DEVICE: node.device}
    while at < end:
        tag = data[at]
        if tag & 7 != wire.LENGTH or tag > 0x7F:
            at = next(wire.fields(data, at, end)).end
            continue
        length, start = wire.varint(data, at + 1, end)
        stop = start + length
        if tag == _ATTR:
            plain = data.startswith(b"\x0a", start, stop)
            key = None if plain else wire.find(view[start:stop], fields.MapEntry.key) or b""
            if data.startswith(old_keys, start) if key is None else bytes(key).decode() in changed:
                parts.append(view[behind:at])
                behind = stop
        elif tag in stated and data[start:stop] != stated.pop(tag).encode():
            return None
        at = stop
    if any(stated.values()):
        return None
    parts.append(view[behind:end])
    for key, new_key in changed.items():
        if key in node.attrs:
            value = _field(fields.MapEntry.value, _value(node.attrs[key]))
            parts += _field(fields.NodeDef.attr, [new_key + value[0], *value[1:]])
    return parts


def _key(name: str) -> bytes:
    """How the entry of an attribute begins."""
    key = name.encode()
    return wire.header(fields.MapEntry.key, len(key)) + key


def _field(number: int, content: List[Any]) -> List[Any]:
    """A field with a length, in parts, whose first one is bytes; the others are not copied."""
    return [b"".join((wire.header(number, sum(map(len, content))), content[0])), *content[1:]]


def _value(value: Any) -> List[Any]:
    """The bytes of an attribute's value, in parts; the elements of a tensor are not copied."""
    if not isinstance(value, Tensor) or value.dtype.storage.hasobject or not value.size:
        return [encode_attr(value).SerializeToString(deterministic=True)]
    elements = np.ascontiguousarray(value.array).reshape(-1).view(np.uint8).data
    content = wire.header(fields.TensorProto.tensor_content, len(elements))
    return _field(
        fields.AttrValue.tensor, [encode_layout(value.dtype, value.shape) + content, elements]
    )


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
        entries = [
            entry for entry in message.attr["_class"].list.s if _home(entry) not in graph.gone
        ]
        del message.attr["_class"].list.s[:]
        message.attr["_class"].list.s.extend(entries)
        if not entries:
            del message.attr["_class"]
    payload: bytes = message.SerializeToString(deterministic=True)
    return payload
