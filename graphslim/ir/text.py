"""Graphs as short text, for tests and for people: a deterministic printer and its parser.

A line is a node, `name = Op(input, input:1, ^control) key=value`, or `input NAME`, or
`output PORT`; `#` and a space begin a comment. Values are numbers, true, false, "text", element
types (`float32`), shapes (`<1,?,3>`), lists and tensors: `float32[2]{1 2}`, one value for all as
in `float32[8]{0}`, or seeded normal random numbers, `float32[3,3,4,8]{random 7}`. Tensors of more
than 16 elements are printed as a digest, `{#1a2b3c4d}`, which cannot be read back.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Dict, Iterable, List, Tuple

import numpy as np

from graphslim.errors import IRError
from graphslim.ir.graph import Graph
from graphslim.ir.node import Attrs, Func, Node, Port, Shape
from graphslim.ir.tensor import DType, Tensor

_SHOWN = 16
_LINE = re.compile(r"^(?P<name>\S+)\s*=\s*(?P<op>[\w>]+)\((?P<inputs>[^)]*)\)\s*(?P<attrs>.*)$")
_TOKEN = re.compile(
    r"""(?P<tensor>\w+\[[\d,\s]*\]\{[^}]*\}) | (?P<shape><[^>]*>) | (?P<text>"(?:[^"\\]|\\.)*")
      | (?P<number>-?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan)(?![\w.])) | (?P<func>@\w+) | (?P<word>\w+)
      | (?P<mark>[\[\],=])""",
    re.VERBOSE,
)


def to_text(graph: Graph, skip: Iterable[str] = ("_output_shapes",)) -> str:
    """A graph as text, in the order of its nodes, without the attributes in `skip`.

    `from_text` says what it looks like. Of a constant of more than 16 elements only a digest is
    printed, `float32[8,3]{#1a2b3c4d}`, so that the text of such a graph can be compared with
    another, but not be read back.
    """
    hidden = set(skip)
    lines = []
    for node in graph:
        inputs = ", ".join([str(port) for port in graph.inputs_of(node)])
        attrs = "".join(
            [f" {key}={_show(node.attrs[key])}" for key in node.attrs if key not in hidden]
        )
        lines.append(f"{node.name} = {node.op}({inputs}){attrs}")
    if graph.inputs != _placeholders(graph):
        lines.extend([f"input {name}" for name in graph.inputs])
    lines.extend([f"output {port}" for port in graph.outputs])
    return "\n".join(lines) + "\n"


def from_text(text: str, name: str = "text") -> Graph:
    """A graph from text.

    A line is a node, `name = Op(inputs) key=value key=value`, or names an input or output of the
    graph; `#` and a space begin a comment:

        x = Placeholder() dtype=float32 shape=<1,8,8,4>
        w = Const() dtype=float32 value=float32[3,3,4,16]{random 7}
        c = Conv2D(x, w) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
        y = Relu(c, ^c) T=float32
        output y

    An input is `node`, `node:1` for a further output of it, or `^node` for a control edge. Without
    such lines, each Placeholder is an input, and what nobody reads is an output. No attribute is
    filled in: what TensorFlow needs, such as `T`, has to be there for a graph that is to run.

    A value is one of these:

    - a number, `true`, `false`, `"text"`, or a list of values, `[1,2,2,1]`;
    - an element type, `float32`;
    - a shape in angle brackets: `<1,?,3>` with `?` for an open size, `<>` for a scalar, `<*>` for
      an open rank;
    - a tensor, its element type and shape before its numbers, row by row: `int32[2]{1 2}`,
      `float32[8]{0}` with one number for all, `float32[3,3,4,8]{random 7}` with numbers drawn from
      a normal distribution (standard deviation 0.5) by that seed;
    - a function of the graph's library, `@name`.

    Args:
        text: the lines.
        name: of the graph, for messages.

    Raises:
        IRError: a line that cannot be read, an edge to nowhere, or the digest by which `to_text`
            abbreviates a constant of more than 16 elements.
    """
    graph = Graph(name)
    nodes: List[Tuple[Node, List[Port]]] = []
    named: Dict[str, List[Port]] = {"input": [], "output": []}
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#(\s.*)?$", "", line).strip()
        names = re.match(r"^(input|output)\s+(\S+)$", line)
        if names is not None:
            named[names[1]].append(Port.parse(names[2]))
        elif line:
            nodes.append(_read_line(line, f"{name}, line {number}"))
    graph.load(nodes)
    for kind, ports in named.items():
        for port in ports:
            if port.node not in graph:
                raise IRError(f"is an {kind} and not in the graph", port.node)
    graph.inputs = [port.node for port in named["input"]] or _placeholders(graph)
    graph.outputs = named["output"] or [
        Port(node.name)
        for node in graph
        if node.op != "Const" and not graph.uses_of(node) and node.name not in graph.inputs
    ]
    return graph


def _placeholders(graph: Graph) -> List[str]:
    return [node.name for node in graph if node.op == "Placeholder"]


def _read_line(line: str, where: str) -> Tuple[Node, List[Port]]:
    match = _LINE.match(line)
    if match is None:
        raise IRError(f"cannot be read: {line!r}", where, "write name = Op(inputs) key=value")
    ports = [Port.parse(port.strip()) for port in match["inputs"].split(",") if port.strip()]
    return Node(match["name"], match["op"], _read_attrs(match["attrs"], where)), ports


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, DType):
        return value.name
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, float):
        text = _number(value)
        return f"{text}.0" if re.fullmatch(r"-?\d+", text) else text
    if isinstance(value, bytes):
        return _quoted(value)
    if isinstance(value, Shape):
        sizes = ["?" if size is None else str(size) for size in value.dims or ()]
        return "<*>" if value.dims is None else f"<{','.join(sizes)}>"
    if isinstance(value, list):
        return f"[{','.join([_show(item) for item in value])}]"
    if isinstance(value, Tensor):
        return f"{value.dtype.name}[{','.join(map(str, value.shape))}]{{{_elements(value)}}}"
    if isinstance(value, Func):
        return f"@{value.name}"
    return f'"{type(value).__name__}"'


def _number(value: float) -> str:
    single = float(np.float32(value))
    return f"{single:.6g}" if np.isfinite(single) else str(single)


def _elements(tensor: Tensor) -> str:
    if tensor.size > _SHOWN:
        raw = np.ascontiguousarray(tensor.array)
        content = raw.tobytes() if not raw.dtype.hasobject else repr(raw.tolist()).encode()
        return "#" + hashlib.sha256(content).hexdigest()[:8]
    if tensor.dtype is DType.string:
        return " ".join([_quoted(item) for item in tensor.array.ravel()])
    numbers = tensor.numbers().ravel()
    if numbers.dtype.kind == "c":
        return " ".join([str(complex(n)) for n in numbers])
    return " ".join([_number(n) if numbers.dtype.kind == "f" else str(int(n)) for n in numbers])


def _quoted(value: bytes) -> str:
    """Bytes as text in quotes; what would end a line, a tensor or a comment is escaped."""
    text = value.decode("latin-1").replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[^ -~]|[#}]", lambda match: f"\\x{ord(match[0]):02x}", text) + '"'


def _unquoted(text: str) -> bytes:
    plain = re.sub(
        r"\\(?:x([0-9a-f]{2})|(.))",
        lambda match: chr(int(match[1], 16)) if match[1] else match[2],
        text[1:-1],
    )
    return plain.encode("latin-1", "replace")


def _read_attrs(text: str, where: str) -> Attrs:
    tokens = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            raise IRError(
                f"cannot be read from {text[at:]!r} on",
                where,
                'a value is 1, true, "text", float32, <1,?,3> (a shape), [1,2] or int32[2]{1 2}',
            )
        tokens.append((match.lastgroup or "", match.group()))
        at = match.end()
    values = {}
    while tokens:
        if len(tokens) < 3 or tokens[1][1] != "=":
            raise IRError(f"expects key=value at {tokens[0][1]!r}", where)
        key = tokens[0][1]
        del tokens[:2]
        values[key] = _read(tokens, where)
        if key == "shape" and not isinstance(values[key], Shape):
            raise IRError("the attribute shape is no shape", where, "write shape=<1,?,3>")
    return Attrs(values)


def _read(tokens: List[Tuple[str, str]], where: str) -> Any:
    kind, text = tokens.pop(0)
    if kind == "tensor":
        return _read_tensor(text, where)
    if kind == "shape":
        if text == "<*>":
            return Shape(None)
        sizes = [part.strip() for part in text[1:-1].split(",") if part.strip()]
        if not all(re.fullmatch(r"\?|\d+", size) for size in sizes):
            raise IRError(f"{text!r} is no shape", where, "write <1,?,3>, <> or <*>")
        return Shape(tuple([None if size == "?" else int(size) for size in sizes]))
    if kind == "text":
        return _unquoted(text)
    if kind == "number":
        return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
    if kind == "func":
        return Func(text[1:])
    if kind == "word":
        if text in ("true", "false"):
            return text == "true"
        if text in DType.__members__:
            return DType[text]
        raise IRError(f"{text!r} is no element type; quote text", where)
    if text != "[":
        raise IRError(f"expects a value at {text!r}", where)
    items = []
    while tokens and tokens[0][1] != "]":
        if tokens[0][1] == ",":
            tokens.pop(0)
            continue
        items.append(_read(tokens, where))
    if not tokens:
        raise IRError("a list is not closed", where)
    tokens.pop(0)
    return items


def _read_tensor(text: str, where: str) -> Tensor:
    match = re.match(r"^(\w+)\[([\d,\s]*)\]\{(.*)\}$", text)
    if match is None or match[1] not in DType.__members__:
        raise IRError(f"{text!r} is no tensor", where)
    dtype = DType[match[1]]
    shape = tuple([int(part) for part in match[2].split(",") if part.strip()])
    words = match[3].split()
    if words and words[0].startswith("#"):
        raise IRError(
            f"{text} abbreviates a constant of more than {_SHOWN} elements by a digest, which "
            "cannot be read back",
            where,
            "write its numbers, {0} for all of them, or {random 7}; or load the graph from a file",
        )
    if (
        words
        and words[0] == "random"
        and words[1:2] == [word for word in words[1:] if word.isdecimal()]
    ):
        seed = int(words[1]) if len(words) > 1 else 0
        return Tensor.from_numbers(np.random.RandomState(seed).randn(*shape) * 0.5, dtype)
    size = int(np.prod(shape, dtype=np.int64))
    values = _read_elements(match[3], dtype, where)
    if len(values) == 1:
        values = np.repeat(values, size)
    if len(values) != size:
        raise IRError(f"{len(values)} values for the shape {list(shape)}", where)
    if dtype is DType.string:
        return Tensor.of(values.reshape(shape), dtype)
    return Tensor.from_numbers(values.reshape(shape), dtype)


def _read_elements(text: str, dtype: DType, where: str) -> np.ndarray:
    if dtype is DType.string:
        words = [_unquoted(word) for word in re.findall(r'"(?:[^"\\]|\\.)*"', text)]
        strings = np.empty(len(words), object)
        strings[:] = words
        return strings
    kind: Any = {"c": complex, "i": int, "u": int}.get(dtype.storage.kind, float)
    kind = float if dtype is DType.bfloat16 else kind
    try:
        return np.array([kind(word) for word in text.split()], None if text.split() else float)
    except ValueError:
        raise IRError(f"{text!r} are no {dtype.name} values", where) from None
