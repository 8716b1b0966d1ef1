"""The function library of a GraphDef: reads the functions that are asked for, and drops others."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Set, Tuple

from graphslim.errors import LoadError
from graphslim.graphdef import fields, wire
from graphslim.graphdef.protos import DecodeError, FunctionDef
from graphslim.graphdef.values import DamagedNode, NodeReader, decode_attr, decode_dtype
from graphslim.ir import DType, Func, Node, Opaque

_LIBRARY = fields.GraphDef.library
_FUNCTION = fields.FunctionDefLibrary.function
_GRADIENT = fields.FunctionDefLibrary.gradient
_REGISTERED_GRADIENT = fields.FunctionDefLibrary.registered_gradients
_NAMED_BY: Dict[int, Tuple[int, ...]] = {
    _FUNCTION: (fields.FunctionDef.signature, fields.OpDef.name),
    _GRADIENT: (fields.GradientDef.function_name,),
}
"""Where in an entry of the library the name of the function stands."""


class Unmapped(Exception):
    """Something in a call or in a function's body that cannot be followed."""


class Arg(NamedTuple):
    """An argument or result of a function: one tensor, or a list of them.

    Attributes:
        name: what the body calls it.
        dtype: the element type; `invalid` where an attribute says it.
        type_attr, number_attr, list_attr: the attributes that say the type, how many tensors of
            it there are, and the types of a list; empty where they do not.
    """

    name: str
    dtype: DType
    type_attr: str
    number_attr: str
    list_attr: str

    def dtypes(self, attrs: Mapping[str, Any]) -> List[DType]:
        """The element type of each tensor, under the attributes of a call.

        Raises:
            Unmapped: an attribute is missing.
        """
        try:
            if self.list_attr:
                return list(attrs[self.list_attr])
            dtype: DType = attrs[self.type_attr] if self.type_attr else self.dtype
            return [dtype] * (int(attrs[self.number_attr]) if self.number_attr else 1)
        except (KeyError, TypeError, ValueError):
            raise Unmapped(self.name) from None


class Inner(NamedTuple):
    """A node of a function's body, its inputs as spelled, and the attributes that calls fill in."""

    node: Node
    inputs: Tuple[str, ...]
    open: Tuple[str, ...]


class Function(NamedTuple):
    """One function.

    Attributes:
        name: its name.
        args, results: what it takes and gives.
        body: its nodes, without those that nothing needs.
        returns: for each result, the tensor of the body.
        ends: nodes of the body that have to have run when the function has.
        defaults: attributes that a call may leave out.
    """

    name: str
    args: Tuple[Arg, ...]
    results: Tuple[Arg, ...]
    body: Tuple[Inner, ...]
    returns: Tuple[str, ...]
    ends: Tuple[str, ...]
    defaults: Dict[str, Any]


class Extent(NamedTuple):
    """What inlining a call comes to, the calls inside it too.

    Attributes:
        nodes: how many nodes it adds.
        depth: how many levels of calls there are.
        recursive: whether the function may come to call itself; it is then not inlined.
    """

    nodes: int
    depth: int
    recursive: bool


class Library:
    """The functions of a GraphDef, by name; a function is decoded when it is first asked for.

    Args:
        extras: the fields of a GraphDef that are no nodes, as bytes.

    Attributes:
        size: how many bytes they are.

    Raises:
        LoadError: the library is damaged.
    """

    def __init__(self, extras: Sequence[bytes]) -> None:
        self.size = sum(map(len, extras))
        self._spans: Dict[str, memoryview] = {}
        self._gradients: Dict[str, str] = {}
        self._registered: Set[str] = set()
        self._functions: Dict[str, Function] = {}
        self._reads: Dict[str, Set[str]] = {}
        self._extents: Dict[str, Extent] = {}
        try:
            for library in libraries(extras):
                for field in wire.fields(library):
                    self._note(field.number, library[field.start : field.end])
        except (wire.Truncated, wire.Malformed):
            raise LoadError(
                "the file is damaged", "its function library", "download or copy it again"
            ) from None

    def _note(self, number: int, entry: memoryview) -> None:
        """Notes an entry of the library: a function, or that a function has a gradient."""
        if number == _FUNCTION:
            self._spans[_text(entry, *_NAMED_BY[number])] = entry
        elif number == _GRADIENT:
            gradient = _text(entry, fields.GradientDef.gradient_func)
            self._gradients[_text(entry, *_NAMED_BY[number])] = gradient
        elif number == _REGISTERED_GRADIENT:
            self._registered.add(_text(entry, fields.GradientDef.function_name))

    def __len__(self) -> int:
        return len(self._spans)

    def __contains__(self, name: object) -> bool:
        return name in self._spans

    def __getitem__(self, name: str) -> Function:
        """A function.

        Raises:
            LoadError: the bytes of the function are damaged.
        """
        if name not in self._functions:
            try:
                self._functions[name] = _decode(self._spans[name])
            except (wire.Truncated, wire.Malformed, DecodeError, ValueError, DamagedNode):
                raise LoadError(
                    "the function is damaged", name, "download or copy the file again"
                ) from None
        return self._functions[name]

    def reached(self, names: Iterable[str]) -> Set[str]:
        """The functions of those names, and all that they refer to."""
        reached: Set[str] = set()
        waiting = [name for name in names if name in self]
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting.extend(self._read_by(name))
        return reached

    def extent(self, name: str) -> Extent:
        """What inlining a call of a function comes to."""
        if name not in self._extents:
            self._measure(name)
        return self._extents[name]

    def _measure(self, name: str) -> None:
        """Finds the extents of a function and of all that it refers to, each once."""
        import networkx as nx  # takes longer than reading most graphs

        reads = nx.DiGraph()
        reads.add_node(name)
        for outer in self.reached([name]):
            reads.add_edges_from([(outer, inner) for inner in self._read_by(outer)])
        # Those that are called come before those that call them.
        for loop in nx.strongly_connected_components(reads):
            recursive = len(loop) > 1 or any(reads.has_edge(member, member) for member in loop)
            for member in loop:
                nodes, depth = len(self[member].body), 1
                for inner in self[member].body if not recursive else ():
                    for callee in referred([inner.node], self):
                        nodes += self._extents[callee].nodes
                        depth = max(depth, self._extents[callee].depth + 1)
                self._extents[member] = Extent(nodes, depth, recursive)

    def _read_by(self, name: str) -> Set[str]:
        if name not in self._reads:
            read = referred([inner.node for inner in self[name].body], self)
            if self._gradients.get(name) in self._spans:
                read.add(self._gradients[name])
            self._reads[name] = read
        return self._reads[name]

    def unused(self, nodes: Iterable[Node]) -> Set[str]:
        """The functions that nothing refers to: no node, and no function that is itself used."""
        return set(self._spans) - self.reached(self._registered | referred(nodes, self))

    def without(
        self, extras: Sequence[bytes], called: Iterable[str], nodes: Iterable[Node]
    ) -> Tuple[bytes, ...]:
        """The fields without functions that were called and that nothing refers to any more.

        Args:
            extras: the fields that the library was read from.
            called: names of the functions whose calls are gone.
            nodes: the nodes of the graph.
        """
        gone = self.reached(called)
        live = {name for name in self._spans if name not in gone} | self._registered
        gone -= self.reached(live | referred(nodes, self))
        return without_functions(extras, gone)


def without_functions(extras: Sequence[bytes], gone: Set[str]) -> Tuple[bytes, ...]:
    """The fields of a GraphDef that are no nodes, without the functions `gone`."""
    return tuple([_filtered(extra, gone) for extra in extras] if gone else extras)


def referred(nodes: Iterable[Node], library: Library) -> Set[str]:
    """The functions of a library that nodes call or name in an attribute."""
    named: Set[str] = set()
    for node in nodes:
        if node.op == "Const":
            continue
        if node.op in library:
            named.add(node.op)
        waiting = list(node.attrs.values())
        while waiting:
            value = waiting.pop()
            if isinstance(value, list):
                waiting.extend([item for item in value if isinstance(item, Func)])
            elif isinstance(value, Func):
                named.add(value.name)
                waiting.extend([item for _, item in value.attrs])
    return {name for name in named if name in library}


def filled(value: Any, attrs: Mapping[str, Any]) -> Any:
    """An attribute of a body with the attributes of a call put where it leaves room for them.

    Raises:
        Unmapped: the call has no such attribute.
    """
    if isinstance(value, Opaque) and _is_open(value):
        if value.value.placeholder not in attrs:
            raise Unmapped(value.value.placeholder)
        return attrs[value.value.placeholder]
    if isinstance(value, Func):
        return Func(value.name, tuple([(key, filled(item, attrs)) for key, item in value.attrs]))
    if isinstance(value, list):
        return [filled(item, attrs) for item in value]
    return value


def libraries(extras: Sequence[bytes]) -> List[memoryview]:
    """The function libraries among the fields of a GraphDef that are no nodes."""
    return [library for extra in extras for library in wire.payloads(memoryview(extra), _LIBRARY)]


def _text(message: memoryview, *path: int) -> str:
    payload = wire.find(message, *path)
    return "" if payload is None else bytes(payload).decode("utf-8", "replace")


def _filtered(extra: bytes, gone: Set[str]) -> bytes:
    """A field without the functions `gone` and their gradients; another field as it is."""
    view = memoryview(extra)
    (field,) = wire.fields(view)
    if field.number != _LIBRARY or field.wire_type != wire.LENGTH:
        return extra
    library = view[field.start : field.end]
    entries = []
    for definition in wire.fields(library):
        entry = library[definition.start : definition.end]
        path = _NAMED_BY.get(definition.number)
        if path is None or _text(entry, *path) not in gone:
            entries.append(bytes(library[definition.tag : definition.end]))
    body = b"".join(entries)
    if not body:
        return b""
    return wire.header(_LIBRARY, len(body)) + body


def _decode(span: memoryview) -> Function:
    data, spans, rest = bytes(span), [], []
    for field in wire.fields(data):
        if field.number == fields.FunctionDef.node_def:
            spans.append(wire.Span(data, field.start, field.end))
        else:
            rest.append(data[field.tag : field.end])
    reader = NodeReader()
    message = FunctionDef.FromString(b"".join(rest))
    signature = message.signature
    results = tuple([_arg(argument) for argument in signature.output_arg])
    returns = tuple([message.ret[argument.name] for argument in results])
    ends = tuple([message.control_ret[name] for name in sorted(message.control_ret)])
    return Function(
        signature.name,
        tuple([_arg(argument) for argument in signature.input_arg]),
        results,
        _needed([reader.read(span) for span in spans], (*returns, *ends)),
        returns,
        ends,
        {
            attr.name: decode_attr(attr.default_value)
            for attr in signature.attr
            if attr.HasField("default_value")
        },
    )


def _arg(message: Any) -> Arg:
    attrs = (message.type_attr, message.number_attr, message.type_list_attr)
    return Arg(message.name, decode_dtype(message.type), *attrs)


def _needed(body: List[Tuple[Node, List[str]]], wanted: Iterable[str]) -> Tuple[Inner, ...]:
    """The nodes of a body that what is wanted depends on, in their order."""
    reads = {node.name: inputs for node, inputs in body}
    live: Set[str] = set()
    waiting = list(wanted)
    while waiting:
        name = waiting.pop().lstrip("^").partition(":")[0]
        if name in reads and name not in live:
            live.add(name)
            waiting.extend(reads[name])
    return tuple(
        [Inner(node, tuple(inputs), _open(node)) for node, inputs in body if node.name in live]
    )


def _open(node: Node) -> Tuple[str, ...]:
    """The attributes that a call has to fill in."""
    return tuple([key for key, value in node.attrs.items() if _is_open(value)])


def _is_open(value: Any) -> bool:
    if isinstance(value, Opaque):
        return bool(value.value.WhichOneof("value") == "placeholder")
    if isinstance(value, Func):
        return any(_is_open(item) for _, item in value.attrs)
    return isinstance(value, list) and any(_is_open(item) for item in value)
