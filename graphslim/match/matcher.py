"""The search for patterns in a graph, and the account of how near a failed match came."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Callable, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from graphslim.channels.facts import integers
from graphslim.channels.groups import Channels, analyse
from graphslim.ir import IDENTITIES, Graph, Node, Port, is_float_cast
from graphslim.ir.families import FAKE_QUANTIZERS, MERGES, SWITCHES
from graphslim.ir.query import constant_nodes
from graphslim.match.branches import inference_branch
from graphslim.match.pattern import BlockPattern, Chain, Ending, OneOf, Op, Param, Pattern, Var
from graphslim.ops.fused import operands

_SAME_OPS = IDENTITIES | FAKE_QUANTIZERS | {"IdentityN"}
"""Ops that a pattern looks through, beside casts between floating types."""

_NEAR = 64
"""How many nodes downstream `Matcher.layers_on` looks at, and how many steps a chain may have: far
more than an activation or a batch norm takes."""


class _State(NamedTuple):
    """What has been matched so far; never changed in place."""

    names: Dict[str, str]
    variables: Dict[str, Port]
    ports: Dict[int, Port]
    inside: Tuple[str, ...]


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


class Matcher:
    """Searches one graph. Conditions of patterns get it as their first argument.

    Attributes:
        graph: the graph.
        channels: its channel analysis, for shapes.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.channels: Channels = analyse(graph)
        self._misses: Optional[List[NearMiss]] = None
        self._root = ("", "")
        self._layers: Dict[Callable[[Pattern], Pattern], Tuple[Var, Pattern]] = {}

    # ------------------------------------------------------- what conditions may ask

    def resolve(self, port: Port) -> Port:
        """The port that a value comes from, behind identities and conditionals.

        What a conditional gives is what its branch for inference does.
        """
        if not _passes(self.graph[port.node]):
            return port
        behind: Dict[Port, Port] = self.graph.memo("behind identities", lambda graph: {})
        passed: List[Port] = []
        end = port
        for end in self._same_values(port):
            passed.append(end)
            if end in behind:
                end = behind[end]
                break
        behind.update(dict.fromkeys(passed, end))
        return end

    def _same_values(self, port: Port) -> Iterator[Port]:
        """A port, and those behind the identities and conditionals that stand before it."""
        before: Optional[Port] = port
        while before is not None:
            yield before
            before = self._before(before)

    def _before(self, port: Port) -> Optional[Port]:
        """The port that a node only passes on, or None where it does more than that."""
        node = self.graph[port.node]
        if not _passes(node):
            return None
        inputs = self.graph.data_inputs(node)
        if node.op in MERGES:
            index = inference_branch(self.graph, node) if port.port == 0 else None
            return None if index is None else inputs[index]
        return inputs[port.port if node.op == "IdentityN" else 0]

    def is_constant(self, port: Port) -> bool:
        """Whether a value is computed from constants alone."""
        return port.node in constant_nodes(self.graph)

    def number(self, port: Port) -> Optional[float]:
        """The single number that a port holds, behind identities and casts, or None."""
        node = self.graph[self.resolve(port).node]
        while node.op == "Cast":
            node = self.graph[self.resolve(self.graph.data_inputs(node)[0]).node]
        if node.op != "Const":
            return None
        tensor = node.attrs["value"]
        if not tensor.size or tensor.dtype.storage.kind not in "fiu":
            return None
        numbers = tensor.numbers().ravel()
        return float(numbers[0]) if tensor.size == 1 or (numbers == numbers[0]).all() else None

    def integers(self, port: Port) -> Optional[List[int]]:
        """The numbers of a small integer tensor, flat, or None if they are not all known."""
        return integers(self.channels.fact(port))

    def shape(self, port: Port) -> Optional[Tuple[Optional[int], ...]]:
        """The shape at a port, as far as it is known."""
        return self.channels.fact(port).shape

    def input_shape(self, node: Node, index: int) -> Optional[Tuple[Optional[int], ...]]:
        """The shape of a node's input; sizes and padding of a convolution are not counted."""
        inputs = operands(node, self.graph.data_inputs(node))
        return self.shape(inputs[index]) if index < len(inputs) else None

    def width(self, port: Port) -> Optional[int]:
        """How many channels a tensor has, or None where they are not followed."""
        labels = self.channels.channels_at(port)
        return None if labels is None else len(labels)

    def readers(self, port: Port) -> List[Node]:
        """The nodes that read a value, behind identities and conditionals."""
        readers: List[Node] = []
        waiting = [port]
        seen: Set[Port] = set()
        while waiting:
            at = waiting.pop()
            for use in self.graph.uses_of(at) if at not in seen else ():
                node = self.graph[use.node]
                if not _passes(node):
                    readers.append(node)
                elif node.op in SWITCHES and use.index == 0:
                    waiting.extend([Port(node.name), Port(node.name, 1)])
                elif node.op in MERGES:
                    waiting.append(Port(node.name))
                elif use.index == 0 or node.op == "IdentityN":
                    waiting.append(Port(node.name, use.index))
            seen.add(at)
        return readers

    def fits(self, pattern: Pattern, port: Port) -> bool:
        """Whether a tensor fits a pattern."""
        return next(self._match(pattern, port, _EMPTY), None) is not None

    def layers_on(self, port: Port, layer: Callable[[Pattern], Pattern]) -> List[Match]:
        """The layers of one kind that take a tensor; with `act`, the activations that follow it.

        A `Match` for each, in which `end` is the layer's output and `x` is the tensor.
        """
        if layer not in self._layers:
            x = Var("x")
            self._layers[layer] = x, layer(x)
        (x, pattern), behind = self._layers[layer], self.resolve(port)
        start = _EMPTY._replace(ports={id(x): behind})
        ends = [
            Port(name)
            for name in self._computed_from(behind, pattern.ops())
            if pattern.heads is None
            or self.graph[self.resolve(Port(name)).node].op in pattern.heads
        ]
        states = [(end, next(self._match(pattern, end, start), None)) for end in ends]
        return [
            Match("layer", state.names, behind, state.inside, end)
            for end, state in states
            if state is not None
        ]

    def _computed_from(self, port: Port, ops: Optional[FrozenSet[str]]) -> List[str]:
        """The nearest nodes that compute on one tensor and constants alone, by these ops."""
        computed = [port.node]
        waiting = deque(computed)
        while waiting and len(computed) <= _NEAR:
            for use in self.graph.uses_of(waiting.popleft()):
                node, inputs = self.graph[use.node], self.graph.data_inputs(use.node)
                if ops is not None and node.op not in ops and not _passes(node):
                    continue
                if node.op in SWITCHES:
                    inputs = inputs[:1]
                known = [
                    source.node in computed or self.is_constant(self.resolve(source))
                    for source in inputs
                ]
                if use.node not in computed and known and all(known):
                    computed.append(use.node)
                    waiting.append(use.node)
        return computed[1:]

    # ------------------------------------------------------- the search

    def find(self, pattern: BlockPattern) -> List[Match]:
        """All places where a pattern fits, in topological order of their last op."""
        matches = []
        for node in self.graph.order():
            if node.op in pattern.root.types:
                match = self.match_at(pattern, node)
                if match is not None:
                    matches.append(match)
        return matches

    def match_at(self, pattern: BlockPattern, node: Node) -> Optional[Match]:
        """The first way in which a pattern fits with its last op at a node."""
        self._root = (pattern.kind, node.name)
        end = Port(node.name)
        for state in self._match(pattern.root, end, _EMPTY):
            match = Match(pattern.kind, state.names, state.variables["x"], state.inside, end)
            for condition in pattern.where:
                reason = condition(self, match)
                if reason is not None:
                    self._miss(state, reason, node.name)
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

    def _match(self, pattern: Pattern, port: Port, state: _State) -> Iterator[_State]:
        behind = self.resolve(port)
        seen = state.ports.get(id(pattern))
        if seen is not None:
            if seen == behind:
                yield state
            else:
                self._miss(state, f"{pattern.text} is not the same tensor as before", behind.node)
            return
        if isinstance(pattern, Op) and not self._is_op(pattern, behind):
            self._miss(state, f"{pattern.text} wanted, it is {self._say(behind)}", behind.node)
            return
        state = self._past_identities(port, behind, state)
        state = state._replace(ports={**state.ports, id(pattern): behind})
        if isinstance(pattern, Var):
            yield state._replace(variables={**state.variables, pattern.name: behind})
        elif isinstance(pattern, Param):
            if self._fits_param(pattern, behind):
                yield state
            else:
                self._miss(state, f"{pattern.text} wanted, it is {self._say(behind)}", behind.node)
        elif isinstance(pattern, OneOf):
            yield from self._match_one_of(pattern, behind, state)
        elif isinstance(pattern, Ending):
            if pattern.condition(self, self.graph[behind.node]) is None:
                yield from self._match(pattern.inner, behind, state)
        elif isinstance(pattern, Chain):
            yield from self._match_chain(pattern, behind, state)
        elif isinstance(pattern, Op):
            yield from self._match_op(pattern, self.graph[behind.node], state)

    def _is_op(self, pattern: Op, port: Port) -> bool:
        return port.port == 0 and self.graph[port.node].op in pattern.types

    def _match_one_of(self, pattern: OneOf, port: Port, state: _State) -> Iterator[_State]:
        misses = self._misses
        first, fits = len(misses or ()), False
        op = self.graph[port.node].op
        for alternative in pattern.alternatives:
            if misses is None and alternative.heads is not None and op not in alternative.heads:
                continue
            for after in self._match(alternative, port, state):
                fits = True
                yield after
        if fits or not misses or not pattern.text:
            return
        if all(miss.depth <= len(state.inside) for miss in misses[first:]):
            # No alternative came further than this node: one reason stands for those of all.
            del misses[first:]
            self._miss(state, f"{pattern.text} wanted, it is {self._say(port)}", port.node)

    def _fits_param(self, pattern: Param, port: Port) -> bool:
        if pattern.near is None:
            return self.is_constant(port)
        number = self.number(port)
        return number is not None and bool(np.isclose(number, pattern.near, rtol=1e-3))

    def _match_chain(self, pattern: Chain, port: Port, state: _State) -> Iterator[_State]:
        for _ in range(_NEAR):
            yield from self._match(pattern.inner, port, state)
            node = self.graph[port.node]
            step = pattern.step(self, node)
            if step is None or port.port != 0:
                return
            state = state._replace(inside=(*state.inside, node.name))
            before = self.graph.data_inputs(node)[step]
            port = self.resolve(before)
            state = self._past_identities(before, port, state)

    def _match_op(self, pattern: Op, node: Node, state: _State) -> Iterator[_State]:
        for condition in pattern.where:
            reason = condition(self, node)
            if reason is not None:
                at = state._replace(inside=(*state.inside, node.name))
                self._miss(at, f"{pattern.text}: {reason}", node.name)
                return
        inputs = operands(node, self.graph.data_inputs(node))
        if len(inputs) < len(pattern.inputs):
            self._miss(state, f"{pattern.text} has too few inputs", node.name)
            return
        names = {**state.names, pattern.name: node.name} if pattern.name else state.names
        state = state._replace(names=names, inside=(*state.inside, node.name))
        yield from self._match_all(pattern.inputs, inputs, state)
        if pattern.any_order and len(inputs) > 1:
            yield from self._match_all(pattern.inputs, (inputs[1], inputs[0], *inputs[2:]), state)

    def _match_all(
        self, patterns: Tuple[Pattern, ...], ports: Tuple[Port, ...], state: _State
    ) -> Iterator[_State]:
        if not patterns:
            yield state
            return
        for after in self._match(patterns[0], ports[0], state):
            yield from self._match_all(patterns[1:], ports[1:], after)

    def _past_identities(self, port: Port, behind: Port, state: _State) -> _State:
        if port == behind:
            return state
        passed = [same.node for same in islice(self._same_values(port), _NEAR) if same != behind]
        return state._replace(inside=(*state.inside, *passed))

    def _say(self, port: Port) -> str:
        return f"a {self.graph[port.node].op}"

    def _miss(self, state: _State, reason: str, node: str) -> None:
        if self._misses is not None:
            depth = len(state.inside)
            self._misses.append(
                NearMiss(*self._root, state.names, reason, node, depth, state.inside)
            )


_EMPTY = _State({}, {}, {}, ())


def _passes(node: Node) -> bool:
    """Whether a pattern looks through a node."""
    return node.op in _SAME_OPS | SWITCHES | MERGES or is_float_cast(node)
