"""The search for patterns in a graph, and the account of how near a failed match came."""

from __future__ import annotations

from itertools import islice
from typing import (
    Callable,
    Dict,
    Iterator,
    List,
    MutableMapping,
    NamedTuple,
    Optional,
    Set,
    Tuple,
    TypeVar,
)
from weakref import WeakKeyDictionary

from graphslim.ir import Graph, Node, Port
from graphslim.match.pattern import (
    BlockPattern,
    Chain,
    Ending,
    Narrowing,
    OneOf,
    Op,
    Param,
    Pattern,
    Var,
    told,
)
from graphslim.match.view import NEAR, GraphView
from graphslim.ops.fused import operands

T = TypeVar("T")
_LAYERS: MutableMapping[Callable[[Pattern], Pattern], Tuple[Var, Pattern]] = WeakKeyDictionary()
"""The patterns of layers that `Matcher.layers_on` was asked for, made once for all graphs."""


class _State:
    """What has been matched so far; each step back takes out again what its step put in."""

    def __init__(self, ports: Optional[Dict[int, Port]] = None) -> None:
        self.names: Dict[str, str] = {}
        self.variables: Dict[str, Port] = {}
        self.ports: Dict[int, Port] = ports or {}
        self.inside: List[str] = []


class Match(NamedTuple):
    """A pattern found.

    Attributes:
        kind: the pattern's name.
        names: the pattern's names and the nodes that took them.
        x: the block's input.
        inside: the nodes matched, from the last to the first.
        end: the block's last output.
    """

    kind: str
    names: Dict[str, str]
    x: Port
    inside: Tuple[str, ...]
    end: Port


class NearMiss(NamedTuple):
    """How far a failed match came.

    Attributes:
        kind: the pattern's name.
        root: the node where the match began, at the block's end.
        matched: names of the pattern that had found their node.
        reason: why it went no further.
        node: where.
        depth: how many nodes had been matched.
        touched: the nodes that had been matched.
    """

    kind: str
    root: str
    matched: Dict[str, str]
    reason: str
    node: str
    depth: int
    touched: Tuple[str, ...]


class Matcher(GraphView):
    """Searches one graph. Conditions of patterns get it as their first argument."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._misses: Optional[List[NearMiss]] = None
        self._root = ("", "")
        self._state = _State()
        self._narrowed = graph.memo("narrowed patterns", lambda graph: _narrowing(self))
        self._hopeless: Set[Tuple[int, Port]] = set()
        self._clashes = 0

    def fits(self, pattern: Pattern, port: Port) -> bool:
        """Whether a tensor fits a pattern."""
        return any(True for _ in self._ways(pattern, port, _State()))

    def layers_on(self, port: Port, layer: Callable[[Pattern], Pattern]) -> List[Match]:
        """The layers of one kind that take a tensor; with `act`, the activations that follow it.

        A `Match` for each, in which `end` is the layer's output and `x` is the tensor.
        """
        if layer not in _LAYERS:
            x = Var("x")
            _LAYERS[layer] = x, layer(x)
        (x, pattern), behind = _LAYERS[layer], self.resolve(port)
        layers: List[Match] = []
        for name in self.computed_from(behind, pattern.ops()):
            end = Port(name)
            for state in self._ways(pattern, end, _State({id(x): behind})):
                layers.append(Match("layer", state.names, behind, tuple(state.inside), end))
                break
        return layers

    # ------------------------------------------------------- the search

    def find(self, pattern: BlockPattern) -> List[Match]:
        """All places where a pattern fits, in topological order of their last op."""
        if self._narrowed(pattern.root) is None:
            return []
        ends = [node for node in self.graph.order() if node.op in pattern.root.types]
        matches = [self.match_at(pattern, node) for node in ends]
        return [match for match in matches if match is not None]

    def match_at(self, pattern: BlockPattern, node: Node) -> Optional[Match]:
        """The first way in which a pattern fits with its last op at a node."""
        self._root = (pattern.kind, node.name)
        end = Port(node.name)
        for state in self._ways(pattern.root, end, _State()):
            match = Match(
                pattern.kind, dict(state.names), state.variables["x"], tuple(state.inside), end
            )
            for condition in pattern.where:
                reason = told(condition, pattern.kind, self, match)
                if reason is not None:
                    self._miss(reason, node.name, state)
                    break
            else:
                return match
        return None

    def explain(self, pattern: BlockPattern, name: str) -> Optional[NearMiss]:
        """The nearest miss of a pattern that touched a node, or None if it was never near."""
        best: Optional[NearMiss] = None
        for node in self.graph.order():
            if node.op not in pattern.root.types:
                continue
            self._misses = []
            self.match_at(pattern, node)
            for miss in self._misses:
                near = name == miss.node or name in miss.touched
                if near and (best is None or miss.depth >= best.depth):
                    best = miss
        self._misses = None
        return best

    def _ways(self, pattern: Pattern, port: Port, state: _State) -> Iterator[_State]:
        """The ways in which a tensor fits a pattern: the state given, as each leaves it."""
        # Who wants to know why it does not fit is told of what the graph has nothing of, too.
        wanted = self._narrowed(pattern) if self._misses is None else pattern
        if wanted is None:
            return
        outer, self._state = self._state, state
        for _ in self._match(wanted, port):
            self._state = outer
            yield state
            self._state = state
        self._state = outer

    def _match(self, pattern: Pattern, port: Port) -> Iterator[None]:
        state, behind = self._state, self.resolve(port)
        node = self.graph[behind.node]
        seen = state.ports.get(id(pattern))
        if seen is not None:
            if seen == behind:
                yield
            else:
                self._clashes += 1
                self._miss(f"{pattern.text} is not the same tensor as before", behind.node)
            return
        if isinstance(pattern, Op) and (behind.port != 0 or node.op not in pattern.types):
            self._miss_op(pattern, node)
            return
        matched = len(state.inside)
        if port != behind:
            self._past_identities(port, behind)
        state.ports[id(pattern)] = behind
        if isinstance(pattern, Op):
            yield from self._match_op(pattern, node)
        elif isinstance(pattern, OneOf):
            yield from self._match_one_of(pattern, behind, node)
        elif isinstance(pattern, Chain):
            yield from self._match_chain(pattern, behind)
        elif isinstance(pattern, Ending):
            if pattern.condition(self, node) is None:
                yield from self._match(pattern.inner, behind)
        elif isinstance(pattern, Param):
            if self._fits_param(pattern, behind):
                yield
            else:
                self._miss_op(pattern, node)
        elif isinstance(pattern, Var):
            before = state.variables.get(pattern.name)
            state.variables[pattern.name] = behind
            yield
            _put_back(state.variables, pattern.name, before)
        del state.ports[id(pattern)], state.inside[matched:]

    def _match_one_of(self, pattern: OneOf, port: Port, node: Node) -> Iterator[None]:
        misses, depth, clashes = self._misses, len(self._state.inside), self._clashes
        first, fits, search = len(misses or ()), False, (id(pattern), port)
        if misses is None and search in self._hopeless:
            return
        for alternative in pattern.alternatives:
            if misses is None and alternative.heads and node.op not in alternative.heads:
                continue
            for _ in self._match(alternative, port):
                fits = True
                yield
        if misses is None and not fits and self._clashes == clashes:
            # What was matched before had no part in it: it fails wherever the search gets here.
            self._hopeless.add(search)
        if fits or not misses or not pattern.text:
            return
        if all(miss.depth <= depth for miss in misses[first:]):
            # No alternative came further than this node: one reason stands for those of all.
            del misses[first:]
            self._miss_op(pattern, node)

    def _may_fit(self, pattern: Pattern, port: Port) -> bool:
        """Whether a search is worth while; where misses are told, it always is."""
        if self._misses is not None:
            return True
        behind = self.resolve(port)
        if isinstance(pattern, Param):
            return self._fits_param(pattern, behind)
        return pattern.heads is None or self.graph[behind.node].op in pattern.heads

    def _fits_param(self, pattern: Param, port: Port) -> bool:
        if pattern.near is None:
            return self.is_constant(port)
        number = self.number(port)
        return number is not None and _is_near(number, pattern.near)

    def _match_chain(self, pattern: Chain, port: Port) -> Iterator[None]:
        for _ in range(NEAR):
            if self._may_fit(pattern.inner, port):
                yield from self._match(pattern.inner, port)
            node = self.graph[port.node]
            step = pattern.step(self, node)
            if step is None or port.port != 0:
                return
            self._state.inside.append(node.name)
            before = self.graph.data_inputs(node)[step]
            port = self.resolve(before)
            if port != before:
                self._past_identities(before, port)

    def _match_op(self, pattern: Op, node: Node) -> Iterator[None]:
        state = self._state
        for condition in pattern.where:
            reason = told(condition, node.name, self, node)
            if reason is not None:
                state.inside.append(node.name)
                self._miss(f"{pattern.text}: {reason}", node.name)
                return
        inputs = operands(node, self.graph.data_inputs(node))
        if len(inputs) < len(pattern.inputs):
            self._miss(f"{pattern.text} has too few inputs", node.name)
            return
        before = state.names.get(pattern.name or "")
        if pattern.name:
            state.names[pattern.name] = node.name
        state.inside.append(node.name)
        orders = [inputs]
        if pattern.any_order and len(inputs) > 1:
            orders.append((inputs[1], inputs[0], *inputs[2:]))
        for order in orders:
            if all(map(self._may_fit, pattern.inputs, order)):
                yield from self._match_all(pattern.inputs, order)
        if pattern.name:
            _put_back(state.names, pattern.name, before)

    def _match_all(self, patterns: Tuple[Pattern, ...], ports: Tuple[Port, ...]) -> Iterator[None]:
        if not patterns:
            yield
            return
        for _ in self._match(patterns[0], ports[0]):
            yield from self._match_all(patterns[1:], ports[1:])

    def _past_identities(self, port: Port, behind: Port) -> None:
        passed = islice(self.same_values(port), NEAR)
        self._state.inside.extend([same.node for same in passed if same != behind])

    def _miss_op(self, pattern: Pattern, node: Node) -> None:
        if self._misses is not None:
            self._miss(f"{pattern.text} wanted, it is a {node.op}", node.name)

    def _miss(self, reason: str, node: str, state: Optional[_State] = None) -> None:
        if self._misses is not None:
            state = state or self._state
            names, inside = dict(state.names), tuple(state.inside)
            self._misses.append(NearMiss(*self._root, names, reason, node, len(inside), inside))


def _narrowing(matcher: Matcher) -> Narrowing:
    """Patterns without what the graph of a matcher has no ops or numbers for."""
    graph, known = matcher.graph, {}  # type: Graph, Dict[str, Set[Optional[float]]]
    nodes: Dict[str, List[Node]] = {}
    for node in graph:
        nodes.setdefault(node.op, []).append(node)

    def reads(op: str, wanted: float) -> bool:
        """Whether some node of an op reads a constant that holds a number near one alone."""
        if op not in known:
            ports = {port for node in nodes[op] for port in graph.data_inputs(node)}
            known[op] = set(map(matcher.number, ports))
        return any(number is not None and _is_near(number, wanted) for number in known[op])

    return Narrowing(frozenset(nodes), reads)


def _put_back(given: Dict[str, T], key: str, before: Optional[T]) -> None:
    if before is None:
        del given[key]
    else:
        given[key] = before


def _is_near(number: float, wanted: float) -> bool:
    return abs(number - wanted) <= 1e-8 + 1e-3 * abs(wanted)
