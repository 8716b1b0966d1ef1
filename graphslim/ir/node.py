"""One operation of a graph: its name, its type and its attributes; and blocks of operations."""

from __future__ import annotations

from typing import (
    AbstractSet,
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
)

from graphslim.errors import IRError
from graphslim.ir.fixed import FixedFields, FixedList, put
from graphslim.ir.tensor import DType

CONTROL = -1
"""The port number of a control edge, which carries order but no data."""


class Port(NamedTuple):
    """An output of a node, or the node as a control dependency (`port == CONTROL`)."""

    node: str
    port: int = 0

    def __str__(self) -> str:
        if self.port == CONTROL:
            return f"^{self.node}"
        return self.node if self.port == 0 else f"{self.node}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Port:
        """Reads TensorFlow's spelling: `name`, `name:2` or `^name`."""
        if text.startswith("^"):
            return cls(text[1:], CONTROL)
        name, _, port = text.rpartition(":")
        return cls(name, int(port)) if name and port.isdecimal() else cls(text, 0)


class Shape(NamedTuple):
    """A partly known shape; `dims` is None where even the rank is unknown, a size None likewise."""

    dims: Optional[Tuple[Optional[int], ...]]


class Func(NamedTuple):
    """A reference to a function of the library, with the attributes that it is called with."""

    name: str
    attrs: Tuple[Tuple[str, Any], ...] = ()


class Opaque(NamedTuple):
    """An attribute value that graphslim carries without understanding it."""

    value: Any


class Attrs(Mapping[str, Any]):
    """A node's attributes, decoded when first read; read-only but for the graph (`graph.set_attr`).

    `changed` names those that differ from what was read. Values are bool, int, float, bytes,
    `DType`, `Shape`, `Tensor`, `Func`, `Opaque` or lists of these, which are read-only too.

    Copies share their mappings, of which only decoding changes one, for all copies alike: what
    changes an attribute puts another mapping in its place (`_set` and `_drop`).
    """

    __slots__ = ("_values", "_raw", "_decode", "changed")

    def __init__(
        self,
        values: Mapping[str, Any],
        raw: Optional[Mapping[str, Any]] = None,
        decode: Callable[[Any], Any] = lambda raw: raw,
    ) -> None:
        self._values: Dict[str, Any] = {key: _fixed(value) for key, value in values.items()}
        self._raw: Mapping[str, Any] = raw or {}
        self._decode = decode
        self.changed: AbstractSet[str] = frozenset()

    def __getitem__(self, key: str) -> Any:
        values = self._values
        if key not in values:
            values[key] = _fixed(self._decode(self._raw[key]))
        return values[key]

    def get(self, key: str, default: Any = None) -> Any:
        """An attribute, or `default` where it is absent."""
        return self[key] if key in self._values or key in self._raw else default

    def __setitem__(self, key: str, value: Any) -> None:
        raise IRError(f"attribute {key} is read-only", hint="use graph.set_attr(node, key, value)")

    def __delitem__(self, key: str) -> None:
        raise IRError(f"attribute {key} is read-only", hint="use graph.drop_attr(node, key)")

    def __contains__(self, key: object) -> bool:
        return key in self._values or key in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._raw, *self._values}))

    def __len__(self) -> int:
        return len({*self._raw, *self._values})

    def copy(self) -> Attrs:
        """Attributes that can change on their own; the values are shared."""
        twin = Attrs.__new__(Attrs)
        twin._values, twin._raw, twin._decode = self._values, self._raw, self._decode
        twin.changed = self.changed
        return twin

    def with_read(self, values: Mapping[str, Any]) -> Attrs:
        """A copy with further attributes as they were read, but for those that it has already."""
        twin = self.copy()
        read = {key: _fixed(value) for key, value in values.items() if key not in self}
        twin._values = {**self._values, **read}
        return twin

    def _set(self, key: str, value: Any) -> None:
        self._values = {**self._values, key: _fixed(value)}
        self.changed = self.changed | {key}

    def _drop(self, key: str) -> None:
        self._values = {name: value for name, value in self._values.items() if name != key}
        self._raw = {name: value for name, value in self._raw.items() if name != key}
        self.changed = self.changed | {key}


def _fixed(value: Any) -> Any:
    """A value of an attribute; lists become read-only."""
    return FixedList(value) if type(value) is list else value


_REPLACE = "put another node in its place: graph.replace(Node(name, op, attrs), inputs)"


class Node(FixedFields):
    """One operation. Its edges belong to the graph; ask `graph.inputs_of(node)`.

    Name, op, device and attributes are fixed: what is to be another operation takes the place of
    this one with `graph.replace`, and attributes are set with `graph.set_attr`.
    `origin` is what the node was read from, for the emitter alone; None for a node made by a pass.
    """

    __slots__ = ("name", "op", "device", "attrs", "origin", "rewired", "made_by")
    FIXED = {
        **dict.fromkeys(("name", "op", "device", "origin"), _REPLACE),
        "attrs": "use graph.set_attr(node, key, value)",
    }

    def __init__(
        self,
        name: str,
        op: str,
        attrs: Optional[Attrs] = None,
        device: str = "",
        origin: Any = None,
    ) -> None:
        self.name: str
        self.op: str
        self.device: str
        self.attrs: Attrs
        self.origin: Any
        self.rewired: bool
        self.made_by: Optional[str]
        put(self, "name", name)
        put(self, "op", op)
        put(self, "device", device)
        put(self, "attrs", attrs if attrs is not None else Attrs({}))
        put(self, "origin", origin)
        put(self, "rewired", origin is None)
        put(self, "made_by", None)

    @property
    def touched(self) -> bool:
        """Whether anything about it differs from what was read."""
        return self.origin is None or self.rewired or bool(self.attrs.changed)

    def copy(self) -> Node:
        """The same node for another graph; attributes can change on their own."""
        twin = Node(self.name, self.op, self.attrs.copy(), self.device, self.origin)
        put(twin, "rewired", self.rewired)
        put(twin, "made_by", self.made_by)
        return twin

    def text(self, key: str, default: str = "") -> str:
        """A bytes attribute as text."""
        value = self.attrs.get(key)
        return default if value is None else value.decode("utf-8", "replace")

    def ints(self, key: str) -> List[int]:
        """A list-of-int attribute; empty where it is absent."""
        value = self.attrs.get(key, [])
        if not isinstance(value, list):
            raise IRError(f"attribute {key} is not a list", self.name)
        return value

    def __repr__(self) -> str:
        return f"Node({self.name!r}, {self.op!r})"


def is_float_cast(node: Node) -> bool:
    """Whether a node is a Cast from one floating type to another, as mixed precision puts them.

    It passes its input on, but for rounding.
    """
    types = [node.attrs.get(key) for key in ("SrcT", "DstT")]
    return node.op == "Cast" and all(isinstance(t, DType) and t.is_floating for t in types)


class Block(NamedTuple):
    """A recognised piece of architecture.

    Attributes:
        kind: the pattern's name, such as `inverted_residual`.
        name: the name scope that its nodes share, made unique.
        nodes: the nodes inside, in topological order.
        channels_of: the port whose channels are the block's own (its scoring layer's output).
        roles: what the pattern called its nodes (`expand`, `depthwise`, ...).
    """

    kind: str
    name: str
    nodes: Tuple[str, ...]
    channels_of: Port
    roles: Tuple[Tuple[str, str], ...]

    def role(self, name: str) -> str:
        """The node that the pattern called `name`.

        Raises:
            KeyError: the pattern has no such name.
        """
        return dict(self.roles)[name]
