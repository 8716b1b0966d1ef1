"""One operation of a graph: its name, its type and its attributes; and blocks of operations."""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    AbstractSet,
    Any,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
)

from graphslim.errors import IRError
from graphslim.ir.fixed import FixedDict, FixedFields, FixedList
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


class Attrs(FixedDict):
    """A node's attributes, by name and in that order; read-only but for the graph
    (`graph.set_attr`).

    Values are bool, int, float, bytes, `DType`, `Shape`, `Tensor`, `Func`, `Opaque` or lists of
    these, which are read-only too. Nodes and copies of graphs share attributes that are the same: a
    change puts others in the place of those of one node.

    Args:
        values: the attributes by name.
        changed: the names of those that differ from what was read.
    """

    __slots__ = ("changed",)

    def __init__(self, values: Mapping[str, Any], changed: AbstractSet[str] = frozenset()) -> None:
        super().__init__([(key, _fixed(values[key])) for key in sorted(values)])
        self.changed = changed

    def __setitem__(self, key: str, value: Any) -> None:
        raise IRError(f"attribute {key} is read-only", hint="use graph.set_attr(node, key, value)")

    def __delitem__(self, key: str) -> None:
        raise IRError(f"attribute {key} is read-only", hint="use graph.drop_attr(node, key)")

    def __reduce__(self) -> Any:
        return Attrs, (dict(self), self.changed)

    if TYPE_CHECKING:

        def get(self, key: str, default: Any = None) -> Any:
            """An attribute, or `default` where it is absent."""

    def copy(self) -> Attrs:
        """The same attributes, since they never change."""
        return self

    def with_read(self, key: str, value: Any) -> Attrs:
        """These attributes as they would be read from another node, with another value for one."""
        twin = Attrs.__new__(Attrs)
        dict.update(twin, self)
        dict.__setitem__(twin, key, value)
        twin.changed = self.changed
        return twin

    def having(self, key: str, value: Any) -> Attrs:
        """These attributes with one set."""
        if key not in self:
            return Attrs({**self, key: value}, self.changed | {key})
        twin = self.with_read(key, _fixed(value))
        twin.changed = self.changed | {key}
        return twin

    def without(self, key: str) -> Attrs:
        """These attributes but for one."""
        left = {name: value for name, value in self.items() if name != key}
        return Attrs(left, self.changed | {key})


def _fixed(value: Any) -> Any:
    """A value of an attribute; lists become read-only."""
    return FixedList(value) if type(value) is list else value


_REPLACE = "put another node in its place: graph.replace(Node(name, op, attrs), inputs)"


class _Fields:
    """The fields of a node, as yet open: setting them one by one past `FIXED` takes four times as
    long, and a graph has very many nodes.
    """

    __slots__ = ("name", "op", "device", "attrs", "origin", "rewired", "made_by")
    name: str
    op: str
    device: str
    attrs: Attrs
    origin: Any
    rewired: bool
    made_by: Optional[str]


class Node(FixedFields, _Fields):
    """One operation. Its edges belong to the graph; ask `graph.inputs_of(node)`.

    Name, op, device and attributes are fixed: what is to be another operation takes the place of
    this one with `graph.replace`, and attributes are set with `graph.set_attr`.
    `origin` is what the node was read from, for the emitter alone; None for a node made by a pass.
    """

    __slots__ = ()
    FIXED = {
        **dict.fromkeys(("name", "op", "device", "origin"), _REPLACE),
        "attrs": "use graph.set_attr(node, key, value)",
    }

    def __new__(
        cls,
        name: str,
        op: str,
        attrs: Optional[Attrs] = None,
        device: str = "",
        origin: Any = None,
    ) -> Node:
        """A node; see the class."""
        node: Any = _Fields()
        node.name, node.op, node.device, node.origin = name, op, device, origin
        node.attrs = Attrs({}) if attrs is None else attrs
        node.rewired, node.made_by = origin is None, None
        node.__class__ = cls
        made: Node = node
        return made

    @property
    def touched(self) -> bool:
        """Whether anything about it differs from what was read."""
        return self.origin is None or self.rewired or bool(self.attrs.changed)

    def copy(self) -> Node:
        """The same node for another graph."""
        twin = Node(self.name, self.op, self.attrs, self.device, self.origin)
        if self.rewired is not twin.rewired:
            twin.rewired = self.rewired
        if self.made_by is not None:
            twin.made_by = self.made_by
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
