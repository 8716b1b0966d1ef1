"""The graph: it owns the nodes and edges, and every change to them is made here."""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    NoReturn,
    Optional,
    Sequence,
    Set,
    Tuple,
    TypeVar,
    Union,
)

from graphslim.errors import IRError
from graphslim.ir.families import NEXT_ITERATIONS
from graphslim.ir.fixed import FixedDict, FixedList, put
from graphslim.ir.node import CONTROL, Attrs, Block, Node, Port
from graphslim.ir.tensor import Tensor

if TYPE_CHECKING:
    import networkx

T = TypeVar("T")
NodeLike = Union[Node, str]
_rules_version = 0


def rules_changed() -> None:
    """Makes stale what `Graph.memo` keeps, of any graph: a rule of an op was registered."""
    global _rules_version
    _rules_version += 1


class Use(NamedTuple):
    """A place where a port is read: input `index` of node `node`."""

    node: str
    index: int  # type: ignore[assignment]  # hides tuple.index


ASKED = ("through_norms", "whole_heads")
"""What may be asked of the analyses of a graph."""
_use: Any = tuple.__new__
"""Makes a `Use`, in half the time that calling the class takes."""


class Graph:
    """A dataflow graph, and as `graph.nx` a `networkx.MultiDiGraph`.

    It keeps, by name, each node, the tuple of what it reads and the tuple of where it is read, and
    until these change the order of the nodes. `graph.nx` is a read-only view of them: a node's key
    is its name and its `node` attribute the `Node`; an edge's key is the index of the input that it
    feeds and its `port` the output that it comes from (`CONTROL` for a control edge).

    Attributes:
        inputs: names of the nodes that are fed; like the next two, set as a whole.
        outputs: the ports whose values the graph is run for.
        signature: under `inputs` and `outputs`, those by the names that a SavedModel's signature
            has for them; empty for any other model.
        input_shapes: sizes of inputs that the file leaves open, by name.
        asked: what is asked of analyses, of `ASKED`; the file does not hold it. `through_norms`:
            channels that a norm weighs against each other may go, and the norm runs over those that
            stay. `whole_heads`: of attention heads whole ones go, and no channels within them.
        blocks: what the `find-...` passes recognised, by the names of then.
        origin: what the graph was read from, for the emitter alone.
        variables: names of constants that stand for variables of a checkpoint.
        gone: names of nodes that were removed, which others may still name as their colocation.
        version: grows with every change, so that an analysis knows whether it still holds.
    """

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self._view: Optional[networkx.MultiDiGraph] = None
        self._inputs: List[str] = FixedList()
        self._outputs: List[Port] = FixedList()
        self._input_shapes: Dict[str, Tuple[Optional[int], ...]] = FixedDict()
        self._asked: FrozenSet[str] = frozenset()
        self.signature: Dict[str, Dict[str, str]] = {}
        self.blocks: List[Block] = []
        self.origin: Any = None
        self.variables: FrozenSet[str] = frozenset()
        self.gone: Set[str] = set()
        self.version = 0
        self._nodes: Dict[str, Node] = {}
        self._inputs_of: Dict[str, Tuple[Port, ...]] = {}
        self._uses_of: Dict[str, Tuple[Use, ...]] = {}
        self._order: Optional[List[Node]] = None
        self._memo: Dict[str, Tuple[int, int, Any]] = {}

    # ---------------------------------------------------------------- reading

    @property
    def nx(self) -> networkx.MultiDiGraph:
        """A view for networkx's algorithms: it follows the graph, and refuses to be changed.

        A copy, `graph.nx.copy()`, may be changed.
        """
        if self._view is None:
            import networkx  # takes longer than reading most graphs

            self._view = networkx.MultiDiGraph()
            self._view._node = _Seen(self._nodes, lambda name: FixedDict(node=self._nodes[name]))
            self._view._adj = self._view._succ = _Seen(self._nodes, self._edges_from)
            self._view._pred = _Seen(self._nodes, self._edges_to)
            for method in _EDITS:
                setattr(self._view, method, _refuse_edit)
        return self._view

    @property
    def inputs(self) -> List[str]:
        """Names of the nodes that are fed."""
        return self._inputs

    @inputs.setter
    def inputs(self, names: Iterable[str]) -> None:
        self._inputs = FixedList([self[name].name for name in names])
        self._changed()

    @property
    def outputs(self) -> List[Port]:
        """The ports whose values the graph is run for."""
        return self._outputs

    @outputs.setter
    def outputs(self, ports: Iterable[Port]) -> None:
        self._outputs = FixedList([port for port in ports if self[port.node]])
        self._changed()

    @property
    def input_shapes(self) -> Dict[str, Tuple[Optional[int], ...]]:
        """Sizes of inputs that the file leaves open, by name."""
        return self._input_shapes

    @input_shapes.setter
    def input_shapes(self, shapes: Mapping[str, Tuple[Optional[int], ...]]) -> None:
        self._input_shapes = FixedDict(shapes)
        self._changed()

    @property
    def asked(self) -> FrozenSet[str]:
        """What is asked of analyses, of `ASKED`."""
        return self._asked

    @asked.setter
    def asked(self, names: Iterable[str]) -> None:
        wanted = frozenset(names)
        if wanted != self._asked:
            self._asked = wanted
            self._changed()

    @property
    def through_norms(self) -> bool:
        """Whether channels that a norm weighs against each other may go."""
        return "through_norms" in self._asked

    @through_norms.setter
    def through_norms(self, allowed: bool) -> None:
        self.asked = self._asked - {"through_norms"} | ({"through_norms"} if allowed else set())

    def __getitem__(self, name: str) -> Node:
        try:
            return self._nodes[name]
        except KeyError:
            raise IRError("no node of that name", name) from None

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        """The nodes, in the order in which they came."""
        return iter(self._nodes.values())

    def inputs_of(self, node: NodeLike) -> Tuple[Port, ...]:
        """What a node reads, in order, control inputs last."""
        name = node.name if isinstance(node, Node) else node
        try:
            return self._inputs_of[name]
        except KeyError:
            raise IRError("no node of that name", name) from None

    def data_inputs(self, node: NodeLike) -> Tuple[Port, ...]:
        """What a node reads, without control inputs."""
        inputs = self.inputs_of(node)
        for port in inputs:
            if port.port == CONTROL:
                return tuple([port for port in inputs if port.port != CONTROL])
        return inputs

    def uses_of(self, source: Union[NodeLike, Port]) -> List[Use]:
        """Where a port is read; for a node, where any of its ports or itself (control) is."""
        wanted = source.port if isinstance(source, Port) else None
        name = source.node if isinstance(source, Port) else _name(source)
        self[name]  # refuses a name that is not there
        uses, inputs_of = self._uses_of.get(name, ()), self._inputs_of
        if wanted is None:
            return list(uses)
        return [use for use in uses if inputs_of[use.node][use.index].port == wanted]

    def order(self) -> List[Node]:
        """The nodes so that each comes after what it reads (back edges of loops left out).

        Raises:
            IRError: the graph has a cycle that is not a loop of TensorFlow's.
        """
        if self._order is None:
            self._order = _topological(self)
        return self._order

    def memo(self, key: str, compute: Callable[[Graph], T]) -> T:
        """The result of an analysis, kept until the graph or a rule of an op changes."""
        entry = self._memo.get(key)
        if entry is None or entry[:2] != (self.version, _rules_version):
            entry = self._memo[key] = (self.version, _rules_version, compute(self))
        result: T = entry[2]
        return result

    # ---------------------------------------------------------------- changing

    def add(self, node: Node, inputs: Iterable[Port] = ()) -> Node:
        """Adds a node that reads `inputs`.

        Raises:
            IRError: the name is taken, or an input is no node of this graph.
        """
        if node.name in self._nodes:
            raise IRError("a node of that name is there already", node.name, "use graph.fresh_name")
        ports = self._sources(node.name, inputs)
        self._nodes[node.name] = node
        self._link(node.name, ports)
        return node

    def add_constant(self, wish: str, tensor: Tensor) -> Node:
        """Adds a constant, named like `wish`."""
        attrs = Attrs({"dtype": tensor.dtype, "value": tensor})
        return self.add(Node(self.fresh_name(wish), "Const", attrs))

    def replace(self, node: Node, inputs: Iterable[Port]) -> Node:
        """Puts a node in the place of the one of its name, whose readers then read the new one.

        Raises:
            IRError: there is no node of that name, or an input is no node of this graph.
        """
        self[node.name]  # refuses a name that is not there
        ports = self._sources(node.name, inputs)
        self._nodes[node.name] = node
        self.set_inputs(node, ports)
        return node

    def load(self, nodes: Sequence[Tuple[Node, Sequence[Port]]]) -> None:
        """Adds many nodes at once, in any order.

        Raises:
            IRError: two nodes share a name, or one reads a node that is not there.
        """
        known, inputs_of = self._nodes, self._inputs_of
        for node, inputs in nodes:
            name = node.name
            if name in known:
                raise IRError(
                    "two nodes have this name", name, "the file is damaged; export it again"
                )
            known[name] = node
            inputs_of[name] = tuple(inputs)
        uses = {name: list(readers) for name, readers in self._uses_of.items()}
        for node, inputs in nodes:
            name = node.name
            for index, port in enumerate(inputs):
                source = port.node
                if source in uses:
                    uses[source].append(_use(Use, (name, index)))
                elif source in known:
                    uses[source] = [_use(Use, (name, index))]
                else:
                    raise IRError(
                        f"reads {str(port)!r}, which is not in the graph",
                        name,
                        "the file is damaged or only a part of a graph; export it again",
                    )
        self._uses_of = {name: tuple(readers) for name, readers in uses.items()}
        self._rewired()

    def remove(self, node: NodeLike) -> None:
        """Removes a node that nobody reads.

        Raises:
            IRError: the node is still read, or is an input or output of the graph.
        """
        name = _name(node)
        readers = self.uses_of(self[name])
        if readers:
            raise IRError(f"is still read by {readers[0].node}", name, "rewire its readers first")
        if any(port.node == name for port in self.outputs):
            raise IRError("is an output of the graph and stays", name)
        if name in self.inputs:
            raise IRError("is an input of the graph and stays", name)
        self._unlink(name)
        self.gone.add(name)
        del self._nodes[name], self._inputs_of[name]
        self._uses_of.pop(name, None)

    def rewire(self, node: NodeLike, index: int, source: Port) -> None:
        """Lets input `index` of a node read `source` instead.

        Raises:
            IRError: no such input or source.
        """
        name = _name(node)
        inputs = list(self.inputs_of(name))
        if not 0 <= index < len(inputs):
            raise IRError(f"has no input {index}", name)
        inputs[index] = source
        self.set_inputs(name, inputs)

    def replace_uses(self, old: Port, new: Port) -> int:
        """Lets every reader of `old` read `new`; gives how many there were. Outputs stay."""
        uses = self.uses_of(old)
        for use in uses:
            self.rewire(use.node, use.index, new)
        return len(uses)

    def set_inputs(self, node: NodeLike, inputs: Iterable[Port]) -> None:
        """Replaces all that a node reads.

        Raises:
            IRError: an input is no node of this graph.
        """
        name = _name(node)
        ports = self._sources(name, inputs)
        self[name].rewired = True
        self._unlink(name)
        self._link(name, ports)

    def set_attr(self, node: NodeLike, key: str, value: Any) -> None:
        """Sets an attribute of a node."""
        self._set_attrs(node, self[_name(node)].attrs.having(key, value))

    def drop_attr(self, node: NodeLike, key: str) -> None:
        """Removes an attribute of a node, if it is there."""
        if key in self[_name(node)].attrs:
            self._set_attrs(node, self[_name(node)].attrs.without(key))

    def _set_attrs(self, node: NodeLike, attrs: Attrs) -> None:
        put(self[_name(node)], "attrs", attrs)
        self._changed()

    def set_origin(self, origin: Any) -> None:
        """Replaces what the graph was read from; for those who know the file format alone."""
        self.origin = origin
        self._changed()

    def fresh_name(self, wish: str) -> str:
        """A name like `wish` that no node has."""
        name, number = wish, 1
        while name in self._nodes:
            name, number = f"{wish}_{number}", number + 1
        return name

    def copy(self) -> Graph:
        """A graph that can be changed without changing this one; tensors are shared."""
        twin = Graph(self.name)
        twin._inputs, twin._outputs = self._inputs, self._outputs
        twin._input_shapes, twin.signature = self._input_shapes, dict(self.signature)
        twin._asked = self._asked
        twin.blocks, twin.origin, twin.gone = list(self.blocks), self.origin, set(self.gone)
        twin.variables = self.variables
        twin._nodes = {name: node.copy() for name, node in self._nodes.items()}
        twin._inputs_of, twin._uses_of = self._inputs_of.copy(), self._uses_of.copy()
        if self._order is not None:
            twin._order = [twin._nodes[node.name] for node in self._order]
        return twin

    def _sources(self, name: str, inputs: Iterable[Port]) -> List[Port]:
        """The inputs, checked before anything is changed."""
        ports = list(inputs)
        for port in ports:
            if port.node not in self._nodes:
                raise IRError(f"reads {str(port)!r}, which is not in the graph", name)
        return ports

    def _link(self, name: str, inputs: Sequence[Port]) -> None:
        """Adds the edges of all that a node reads; it has none yet."""
        self._inputs_of[name] = tuple(inputs)
        for index, port in enumerate(inputs):
            self._uses_of[port.node] = (*self._uses_of.get(port.node, ()), Use(name, index))
        self._rewired()

    def _unlink(self, name: str) -> None:
        """Removes the edges of all that a node reads."""
        for index, port in enumerate(self._inputs_of.get(name, ())):
            uses = self._uses_of[port.node]
            place = uses.index(Use(name, index))
            self._uses_of[port.node] = uses[:place] + uses[place + 1 :]
        self._inputs_of[name] = ()
        self._rewired()

    def _edges_to(self, name: str) -> Mapping[str, Mapping[int, FixedDict]]:
        """The edges that lead to a node, by where they come from and the input that they feed."""
        edges: Dict[str, Dict[int, FixedDict]] = {}
        for index, port in enumerate(self._inputs_of[name]):
            edges.setdefault(port.node, FixedDict())
            dict.__setitem__(edges[port.node], index, FixedDict(port=port.port))
        return FixedDict(edges)

    def _edges_from(self, name: str) -> Mapping[str, Mapping[int, FixedDict]]:
        """The edges that leave a node, by where they lead and the input that they feed."""
        self._nodes[name]  # networkx wants to be told of a name that is not there by a KeyError
        readers = dict.fromkeys([use.node for use in self._uses_of.get(name, ())])
        return FixedDict({reader: self._edges_to(reader)[name] for reader in readers})

    def _rewired(self) -> None:
        self._order = None
        self._changed()

    def _changed(self) -> None:
        self.version += 1

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, {len(self)} nodes)"


_EDITS = (
    *("add_node", "add_nodes_from", "remove_node", "remove_nodes_from", "add_edge", "remove_edge"),
    *("add_edges_from", "remove_edges_from", "add_weighted_edges_from", "clear", "clear_edges"),
    "update",
)
"""Methods of a networkx graph that change it."""


def _refuse_edit(*_: Any, **__: Any) -> NoReturn:
    raise IRError(
        "this view of the graph is read-only",
        hint="use the graph's own add, replace, rewire, set_inputs and remove; "
        "graph.nx.copy() may be changed",
    )


def _name(node: NodeLike) -> str:
    return node.name if isinstance(node, Node) else node


class _Seen(Mapping[str, Any]):
    """What networkx sees of nodes: by name, what is looked up of each when it is asked for."""

    def __init__(self, nodes: Mapping[str, Node], look_up: Callable[[str], Any]) -> None:
        self._nodes, self._look_up = nodes, look_up

    def __getitem__(self, name: str) -> Any:
        return self._look_up(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)


def _topological(graph: Graph) -> List[Node]:
    """Kahn's algorithm, stable in the order of the file; back edges of loops are left out.

    Raises:
        IRError: there is a cycle that is not a loop of TensorFlow's.
    """
    nodes, uses = graph._nodes, graph._uses_of
    waiting = {name: len(inputs) for name, inputs in graph._inputs_of.items()}
    for name, node in nodes.items():
        if node.op in NEXT_ITERATIONS:
            for reader, _ in uses.get(name, ()):
                waiting[reader] -= 1
    # Grows while it is walked.
    done = [name for name in nodes if waiting[name] == 0]
    for name in done:
        if nodes[name].op not in NEXT_ITERATIONS:
            for reader, _ in uses.get(name, ()):
                waiting[reader] -= 1
                if waiting[reader] == 0:
                    done.append(reader)
    if len(done) != len(nodes):
        import networkx  # as in `Graph.nx`

        stuck = [name for name in nodes if waiting[name] > 0]
        cycle = networkx.find_cycle(graph.nx.subgraph(stuck))
        path = " -> ".join([edge[0] for edge in cycle[:6]])
        raise IRError(
            f"the graph has a cycle: {path}{' -> ...' if len(cycle) > 6 else f' -> {cycle[0][0]}'}",
            cycle[0][0],
            "a frozen graph has none; the file is damaged",
        )
    return [nodes[name] for name in done]
