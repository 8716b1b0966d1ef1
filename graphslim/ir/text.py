"""Graphs as short text, for tests and for people: a deterministic printer and its parser.

A line is a node, `name = Op(input, input:1, ^control) key=value`, or `input NAME`, or
`output PORT`; `#` begins a comment. Values are numbers, true, false, "text", element types
(`float32`), shapes (`<1,?,3>`), lists and tensors: `float32[2]{1 2}`, one value for all as in
`float32[8]{0}`, or seeded normal random numbers, `float32[3,3,4,8]{random 7}`. Tensors of more
than 16 elements are printed as a digest, `{#1a2b3c4d}`, which cannot be read back.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Iterable, List, Tuple

import numpy as np

from graphslim.errors import IRError
from graphslim.ir.dtype import DType
from graphslim.ir.graph import Graph
from graphslim.ir.node import Attrs, Func, Node, Port, Shape
from graphslim.ir.tensor import Tensor

_SHOWN = 16
_LINE = re.compile(r"^(?P<name>\S+)\s*=\s*(?P<op>\w+)\((?P<inputs>[^)]*)\)\s*(?P<attrs>.*)$")
_TOKEN = re.compile(
    r"""(?P<tensor>\w+\[[\d,\s]*\]\{[^}]*\}) | (?P<shape><[^>]*>) | (?P<text>"(?:[^"\\]|\\.)*")
      | (?P<number>-?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan)(?![\w.])) | (?P<func>@\w+) | (?P<word>\w+)
      | (?P<mark>[\[\],=])""",
    re.VERBOSE,
)


def to_text(graph: Graph, skip: Iterable[str] = ("_output_shapes",)) -> str:
    """A graph as text, in the order of its nodes, without the attributes in `skip`."""
    hidden = set(skip)
    lines = []
    for node in graph:
        inputs = ", ".join([str(port) for port in graph.inputs_of(node)])
        attrs = "".join([f" {key}={_show(node.attrs[key])}" for key in node.attrs if key not in hidden])
        lines.append(f"{node.name} = {node.op}({inputs}){attrs}")
    lines.extend([f"output {port}" for port in graph.outputs])
    return "\n".join(lines) + "\n"


def from_text(text: str, name: str = "text") -> Graph:
    """A graph from text; inputs and outputs that are not named are inferred.

    Raises:
        IRError: a line that cannot be read, or an edge to nowhere.
    """
    graph = Graph(name)
    nodes: List[Tuple[Node, List[Port]]] = []
    inputs: List[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#\s.*$", "", line).strip()
        if not line:
            continue
        if re.match(r"^(input|output)\s+\S+$", line):
            kind, what = line.split()
            if kind == "output":
                graph.outputs.append(Port.parse(what))
            else:
                inputs.append(what)
            continue
        match = _LINE.match(line)
        if match is None:
            raise IRError(f"cannot be read: {line!r}", f"{name}, line {number}", "write name = Op(inputs) key=value")
        ports = [Port.parse(port.strip()) for port in match["inputs"].split(",") if port.strip()]
        nodes.append((Node(match["name"], match["op"], _read_attrs(match["attrs"], name, number)), ports))
    graph.load(nodes)
    graph.inputs = inputs or [node.name for node in graph if node.op == "Placeholder"]
    if not graph.outputs:
        graph.outputs = [
            Port(node.name) for node in graph if node.op != "Const" and not graph.uses_of(node) and node.name not in graph.inputs
        ]
    return graph


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, DType):
        return value.name
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, bytes):
        return '"' + value.decode("latin-1").replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Shape):
        return "<*>" if value.dims is None else f"<{','.join(['?' if n is None else str(n) for n in value.dims])}>"
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
    if tensor.dtype is DType.string:
        return " ".join([repr(item) for item in tensor.array.ravel()[:_SHOWN]])
    numbers = tensor.numbers().ravel()
    if len(numbers) > _SHOWN:
        return "#" + hashlib.sha256(np.ascontiguousarray(tensor.array).tobytes()).hexdigest()[:8]
    return " ".join([_number(float(n)) if numbers.dtype.kind == "f" else str(int(n)) for n in numbers])


def _read_attrs(text: str, name: str, number: int) -> Attrs:
    tokens = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            raise IRError(f"cannot be read from {text[at:]!r} on", f"{name}, line {number}")
        tokens.append((match.lastgroup or "", match.group()))
        at = match.end()
    values = {}
    while tokens:
        if len(tokens) < 3 or tokens[1][1] != "=":
            raise IRError(f"expects key=value at {tokens[0][1]!r}", f"{name}, line {number}")
        key = tokens[0][1]
        del tokens[:2]
        values[key] = _read(tokens, f"{name}, line {number}")
    return Attrs(values)


def _read(tokens: List[Tuple[str, str]], where: str) -> Any:
    kind, text = tokens.pop(0)
    if kind == "tensor":
        return _read_tensor(text, where)
    if kind == "shape":
        if text == "<*>":
            return Shape(None)
        sizes = [part.strip() for part in text[1:-1].split(",") if part.strip()]
        return Shape(tuple([None if size == "?" else int(size) for size in sizes]))
    if kind == "text":
        return re.sub(r"\\(.)", r"\1", text[1:-1]).encode("latin-1")
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
    dtype, shape = DType[match[1]], tuple([int(part) for part in match[2].split(",") if part.strip()])
    words = match[3].split()
    size = int(np.prod(shape, dtype=np.int64))
    if words and words[0].startswith("#"):
        raise IRError("a digest cannot be read back", where)
    if words and words[0] == "random":
        seed = int(words[1]) if len(words) > 1 else 0
        return Tensor.from_numbers(np.random.RandomState(seed).randn(*shape) * 0.5, dtype)
    numbers = np.array([float(word) for word in words])
    if len(numbers) == 1:
        numbers = np.full(size, numbers[0])
    if len(numbers) != size:
        raise IRError(f"{len(numbers)} values for the shape {list(shape)}", where)
    return Tensor.from_numbers(numbers.reshape(shape), dtype)
