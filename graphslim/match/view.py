"""What conditions of patterns may ask of a graph: what stands behind a tensor, and who reads it.

A value is the same behind an identity, a cast between floating types or a conditional of
TensorFlow 1, so these are looked through.
"""

from __future__ import annotations

from collections import deque
from typing import Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from graphslim.channels.facts import integers
from graphslim.channels.groups import Channels, analyse
from graphslim.ir import IDENTITIES, Graph, Node, Port, is_float_cast
from graphslim.ir.families import ENTERS, FAKE_QUANTIZERS, MERGES, NEXT_ITERATIONS, SWITCHES
from graphslim.ir.query import constant_nodes
from graphslim.ops.fused import operands

NEAR = 64
"""How many nodes downstream or steps back a search goes: far more than an activation, a batch norm
or what depends on training takes."""
_PASSED_OPS = IDENTITIES | FAKE_QUANTIZERS | SWITCHES | MERGES | {"IdentityN"}
"""Ops that a pattern looks through, beside casts between floating types."""


class GraphView:
    """A graph as conditions see it.

    Attributes:
        graph: the graph.
        channels: its channel analysis, for shapes.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.channels: Channels = analyse(graph)
        self._constants = constant_nodes(graph)
        self._behind: Dict[Port, Port] = graph.memo("behind identities", lambda graph: {})

    def resolve(self, port: Port) -> Port:
        """The port that a value comes from, behind identities and conditionals.

        What a conditional gives is what its branch for inference does.
        """
        if port not in self._behind:
            passed: List[Port] = []
            end = port
            for end in self.same_values(port):
                passed.append(end)
                if end in self._behind:
                    end = self._behind[end]
                    break
            self._behind.update(dict.fromkeys(passed, end))
        return self._behind[port]

    def same_values(self, port: Port) -> Iterator[Port]:
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
            index = _inference_branch(self.graph, node) if port.port == 0 else None
            return None if index is None else inputs[index]
        return inputs[port.port if node.op == "IdentityN" else 0]

    def is_constant(self, port: Port) -> bool:
        """Whether a value is computed from constants alone."""
        return port.node in self._constants

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

    def computed_from(self, port: Port, ops: Optional[FrozenSet[str]]) -> List[str]:
        """The nearest nodes that compute on one tensor and constants alone, by these ops."""
        computed = [port.node]
        waiting = deque(computed)
        while waiting and len(computed) <= NEAR:
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


def _passes(node: Node) -> bool:
    """Whether a pattern looks through a node."""
    return node.op in _PASSED_OPS or (node.op == "Cast" and is_float_cast(node))


# --- Conditionals of TensorFlow 1: which branch of a Merge is the one for inference.


class _Branch(NamedTuple):
    """What is known of a branch: whether it trains, and the outputs of Switches it begins at."""

    trains: bool
    begins: Set[int]


def _inference_branch(graph: Graph, merge: Node) -> Optional[int]:
    """The input of a Merge whose branch runs in inference; None where the Merge belongs to a loop.

    That branch has no dropout and no batch norm in training. Where both have none, it is the
    branch that begins where the condition is false.
    """
    known: Dict[str, Optional[int]] = graph.memo("inference branches", lambda graph: {})
    if merge.name not in known:
        known[merge.name] = _choose(graph, graph.data_inputs(merge))
    return known[merge.name]


def _choose(graph: Graph, inputs: Sequence[Port]) -> Optional[int]:
    if not inputs or any(graph[port.node].op in ENTERS | NEXT_ITERATIONS for port in inputs):
        return None
    branches = [_look(graph, port) for port in inputs]
    chosen = [index for index, branch in enumerate(branches) if not branch.trains]
    first = [index for index in chosen if branches[index].begins == {0}]
    return (first or chosen or [0])[0]


def _look(graph: Graph, port: Port) -> _Branch:
    """Walks back from the end of a branch to the Switches where it begins."""
    begins: Set[int] = set()
    trains = False
    waiting, seen = [port], {port}
    while waiting and len(seen) < NEAR:
        at = waiting.pop()
        node = graph[at.node]
        if node.op in SWITCHES:
            begins.add(at.port)
            continue
        trains = trains or node.op.startswith(("Random", "StatelessRandom"))
        if node.op.startswith("FusedBatchNorm"):
            trains = trains or bool(node.attrs.get("is_training", True))
        for before in graph.data_inputs(node):
            if before not in seen:
                seen.add(before)
                waiting.append(before)
    return _Branch(trains, begins)
