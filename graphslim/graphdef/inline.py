"""Replaces calls of functions by what they do, so that the analyses see one flat graph."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from graphslim.graphdef.body import Body, Call, Constants, Entry, passing
from graphslim.graphdef.functions import Library, Unmapped, referred, without_functions
from graphslim.ir import CONTROL, IDENTITIES, DType, Func, Graph, Node, Port
from graphslim.ir.families import CALLS, CONDITIONALS, ENTERS, EXITS, PLACEHOLDERS, SWITCHES

_MOST_NODES, _BYTES_PER_NODE = 30_000, 8
"""How many nodes functions may add: so many, and one for so many bytes of the function library.
Functions that call others twice double them at every level; a call that comes to more than may
be added stays a call."""
_DEEPEST = 100
"""A call stays a call where more levels of calls than this are inside it."""

Table = Mapping[str, Entry]


def inline_calls(
    nodes: List[Entry], extras: Tuple[bytes, ...], fed: Sequence[str], wanted: Sequence[str]
) -> Tuple[List[Entry], Tuple[bytes, ...], Set[str]]:
    """Inlines calls, nested ones too, and `If` and `Case` whose choice is constant.

    A body's node is named `call/node`. A constant of a body stands there once, whoever calls it,
    so that weights that calls share go on to be one parameter. What cannot be followed, recurses,
    is called in a loop, or comes to more nodes than may be added stays a call.

    Args:
        nodes: the nodes of a graph with their inputs.
        extras: its other fields, the function library among them.
        fed: names of nodes that the graph is fed at; they stay as they are.
        wanted: names (`node` or `node:port`) that have to stay in the graph.

    Returns:
        the nodes, the fields without functions that nothing refers to any more, and the names
        that are gone.

    Raises:
        LoadError: the library is damaged.
    """
    library = Library(extras)
    if not len(library):
        return nodes, extras, set()
    work = _Inliner(library, nodes, fed, wanted)
    flat = work.run(nodes)
    if not work.called:
        return nodes, extras, set()
    flat = _swept(flat, nodes, work.fixed_names)
    left = [node for node, _ in flat]
    gone = {node.name for node, _ in nodes} - {node.name for node in left}
    return flat, library.without(extras, work.called, left), gone


def most_nodes(library: Library) -> int:
    """How many nodes the functions of a library may add to a graph."""
    return _MOST_NODES + library.size // _BYTES_PER_NODE


class _Inliner:
    """Inlines calls level by level.

    Attributes:
        fixed_names: nodes that have to keep their name.
        called: the functions that calls named which are inlined now.
    """

    def __init__(
        self, library: Library, nodes: Sequence[Entry], fed: Sequence[str], wanted: Sequence[str]
    ) -> None:
        self._library = library
        self._fed = {Port.parse(name).node for name in fed}
        self.fixed_names = self._fed | {Port.parse(name).node for name in wanted}
        self.called: Set[str] = set()
        self._taken = {node.name for node, _ in nodes}
        self._constants: Constants = {}
        self._most = most_nodes(library)
        self._numbers: Dict[str, int] = {}
        self._refused: Set[str] = set()
        self._added = 0

    def run(self, nodes: List[Entry]) -> List[Entry]:
        """The nodes without calls, but for those that stay."""
        while self._added <= self._most:
            table = {node.name: (node, inputs) for node, inputs in nodes}
            calls = {name: self._call(*entry, table) for name, entry in table.items()}
            if not any(calls.values()):
                break
            nodes = self._replace(nodes, {name: call for name, call in calls.items() if call})
        return nodes

    def _replace(self, nodes: List[Entry], calls: Mapping[str, Call]) -> List[Entry]:
        """The nodes with each of some calls replaced by its body, where that is possible."""
        regions = Regions(nodes)
        read = {port.node for _, inputs in nodes for port in inputs if port.port != CONTROL}
        moves = _Moves()
        flat: List[Entry] = []
        for node, inputs in nodes:
            call = calls.get(node.name)
            if call is None:
                flat.append((node, inputs))
                continue
            try:
                if node.name in regions.looped or self._added > self._most:
                    raise Unmapped(node.name)
                chosen = node.name in regions.chosen
                behind = self._behind_choice(call) if chosen else []
                body = Body(call, self._library, self._fresh, self._constants)
            except Unmapped:
                self._refused.add(node.name)
                flat.append((node, inputs))
                continue
            self._added += len(body.nodes) + 1
            self.called |= referred([node], self._library)
            flat.extend([*behind, *body.nodes])
            if chosen or node.name in self.fixed_names or node.name not in read:
                waits = [Port(name, CONTROL) for name in body.ends]
                waits += [Port(entry.name, CONTROL) for entry, _ in behind] + list(call.controls)
                flat.append(passing(node.name, body.results, body.dtypes, waits, node.device))
            else:
                moves.add(node.name, body, call)
        after = [(node, moves.followed(inputs)) for node, inputs in flat]
        for (node, inputs), (_, before) in zip(after, flat):
            node.rewired = node.rewired or inputs != before
        return after

    def _behind_choice(self, call: Call) -> List[Entry]:
        """An Identity for each argument of a call that a Switch may leave out.

        The call runs if they all do, and its results have to wait for them: a result that reads
        none of them would else be there in the branch that is not taken.
        """
        dtypes = [kind for arg in call.function.args for kind in arg.dtypes(call.attrs)]
        if len(dtypes) != len(call.data) or DType.invalid in dtypes:
            raise Unmapped(call.node.name)
        return [
            passing(self._fresh(f"{call.node.name}/input_{index}"), [port], [kind], (), "")
            for index, (port, kind) in enumerate(zip(call.data, dtypes))
        ]

    def _call(self, node: Node, inputs: List[Port], table: Table) -> Optional[Call]:
        """What a node calls, if it calls anything and may be inlined."""
        if node.name in self._fed or node.name in self._refused:
            return None
        skip = 0
        if node.op in self._library:
            func: Any = Func(node.op, tuple(node.attrs.items()))
        elif node.op in CALLS:
            func = node.attrs.get("f")
        elif node.op in CONDITIONALS:
            func, skip = self._chosen(node, inputs, table), 1
        else:
            return None
        if not isinstance(func, Func) or func.name not in self._library:
            return None
        extent = self._library.extent(func.name)
        if extent.recursive or extent.depth > _DEEPEST or extent.nodes > self._most - self._added:
            return None
        function = self._library[func.name]
        data = [port for port in inputs if port.port != CONTROL]
        controls = [port for port in inputs if port.port == CONTROL]
        attrs = {**function.defaults, **dict(func.attrs)}
        return Call(node, tuple(data[skip:]), tuple(controls), function, attrs)

    def _chosen(self, node: Node, inputs: List[Port], table: Table) -> Any:
        """The branch that a constant chooses, or None."""
        number = self._number(inputs[0], table) if inputs else None
        if number is None:
            return None
        if node.op.endswith("If"):
            return node.attrs.get("then_branch" if number else "else_branch")
        branches = node.attrs.get("branches") or [None]
        return branches[number if 0 <= number < len(branches) else -1]

    def _number(self, port: Port, table: Table) -> Optional[int]:
        """The number that a constant scalar holds, behind identities and negations."""
        negated = False
        seen: Set[str] = set()
        while port.node in table and port.node not in seen and port.node not in self._fed:
            seen.add(port.node)
            node, inputs = table[port.node]
            if node.op == "Const":
                tensor = node.attrs["value"]
                if tensor.shape != () or not (
                    tensor.dtype is DType.bool or tensor.dtype.is_integral
                ):
                    return None
                number = int(tensor.numbers())
                return int(not number) if negated else number
            if not inputs or node.op not in (*IDENTITIES, "LogicalNot"):
                return None
            negated = negated != (node.op == "LogicalNot")
            port = inputs[0]
        return None

    def _fresh(self, base: str) -> str:
        """A name like `base` that no node has."""
        name = base
        while name in self._taken:
            self._numbers[base] = self._numbers.get(base, 0) + 1
            name = f"{base}_{self._numbers[base]}"
        self._taken.add(name)
        return name


class _Moves:
    """Where the results of calls that are gone are now, and what to wait for in their stead."""

    def __init__(self) -> None:
        self._results: Dict[Port, Port] = {}
        self._ends: Dict[str, List[Port]] = {}

    def add(self, name: str, body: Body, call: Call) -> None:
        """Notes what has taken the place of a call."""
        for index, port in enumerate(body.results):
            self._results[Port(name, index)] = port
        ends = [port.node for port in body.results] + body.ends
        self._ends[name] = [*[Port(end, CONTROL) for end in ends], *call.controls]

    def followed(self, inputs: Sequence[Port]) -> List[Port]:
        """Inputs that read what is there now."""
        data = [self._result(port) for port in inputs if port.port != CONTROL]
        controls: Dict[Port, None] = {}
        waiting = [port for port in reversed(inputs) if port.port == CONTROL]
        seen: Set[str] = set()
        while waiting:
            port = waiting.pop()
            if port.node not in self._ends:
                controls[port] = None
            elif port.node not in seen:
                seen.add(port.node)
                waiting.extend(reversed(self._ends[port.node]))
        return [*data, *controls]

    def _result(self, port: Port) -> Port:
        passed: Set[Port] = set()  # a damaged graph may lead round in a circle
        while port in self._results and port not in passed:
            passed.add(port)
            port = self._results[port]
        self._results.update(dict.fromkeys(passed, port))
        return port


def _swept(flat: List[Entry], before: Sequence[Entry], needed: Set[str]) -> List[Entry]:
    """The nodes without those that were read before inlining, or are new, and nobody reads now.

    Left there they would be taken for results of the graph.
    """
    read = {port.node for _, inputs in before for port in inputs}
    ends = needed | {node.name for node, _ in before if node.name not in read}
    table = {node.name: (node, inputs) for node, inputs in flat}
    uses = Counter(port.node for _, inputs in flat for port in inputs)
    unread = [name for name in table if not uses[name]]
    gone: Set[str] = set()
    while unread:
        name = unread.pop()
        node, inputs = table[name]
        if name in ends or node.op in PLACEHOLDERS:
            continue
        gone.add(name)
        for port in inputs:
            uses[port.node] -= 1
            if not uses[port.node] and port.node in table:
                unread.append(port.node)
    return [entry for entry in flat if entry[0].name not in gone]


class Regions:
    """The nodes of a graph that run otherwise than once.

    Args:
        nodes: the graph's nodes with their inputs.

    Attributes:
        looped: nodes in a loop; where loops are nested, all that follows a loop counts.
        chosen: nodes that depend on a Switch, which may keep them from running.
    """

    def __init__(self, nodes: Sequence[Tuple[Node, Sequence[Port]]]) -> None:
        enters = [node.name for node, _ in nodes if node.op in ENTERS]
        switches = [node.name for node, _ in nodes if node.op in SWITCHES]
        self.looped: Set[str] = set()
        self.chosen: Set[str] = set()
        if not enters and not switches:
            return
        readers: Dict[str, List[str]] = {}
        for node, inputs in nodes:
            for port in inputs:
                readers.setdefault(port.node, []).append(node.name)
        self.chosen = _behind(switches, readers, set())
        exits = {node.name for node, _ in nodes if node.op in EXITS}
        self.looped = _behind(enters, readers, exits)
        if any(name in self.looped for name in enters):
            self.looped = _behind(enters, readers, set())


def _behind(names: Iterable[str], readers: Dict[str, List[str]], stops: Set[str]) -> Set[str]:
    """What depends on nodes, no further than `stops`."""
    reached: Set[str] = set()
    waiting = list(names)
    while waiting:
        for name in readers.get(waiting.pop(), ()):
            if name not in reached and name not in stops:
                reached.add(name)
                waiting.append(name)
    return reached


def drop_functions(graph: Graph) -> List[str]:
    """Drops the library functions that no node refers to, itself or through others.

    Returns:
        the names of those that went.

    Raises:
        LoadError: the library is damaged.
    """
    if graph.origin is None:
        return []
    unused = Library(graph.origin.extras).unused(graph)
    if unused:
        extras = without_functions(graph.origin.extras, unused)
        graph.set_origin(graph.origin._replace(extras=extras))
    return sorted(unused)


def endless_call(graph: Graph) -> Optional[str]:
    """A node whose call comes to more nodes than would be inlined: TensorFlow may never end it."""
    if graph.origin is None:
        return None
    library = Library(graph.origin.extras)
    most = most_nodes(library)
    for node in graph:
        if any(library.extent(name).nodes > most for name in referred([node], library)):
            return node.name
    return None
