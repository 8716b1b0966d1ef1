"""Conditionals of TensorFlow 1: which branch of a Merge is the one for inference."""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Sequence, Set

from graphslim.ir import Graph, Node, Port
from graphslim.ir.families import ENTERS, NEXT_ITERATIONS, SWITCHES

_NEAR = 64
"""How many nodes of a branch are looked at: what depends on training is a few nodes long."""


class _Branch(NamedTuple):
    """What is known of a branch: whether it trains, and the outputs of Switches it begins at."""

    trains: bool
    begins: Set[int]


def inference_branch(graph: Graph, merge: Node) -> Optional[int]:
    """The input of a Merge whose branch runs in inference; None where the Merge belongs to a loop.

    That branch has no dropout and no batch norm in training. Where both have none, it is the
    branch that begins where the condition is false.
    """
    known: Dict[str, Optional[int]] = graph.memo("inference branches", _nothing)
    if merge.name not in known:
        known[merge.name] = _choose(graph, graph.data_inputs(merge))
    return known[merge.name]


def _nothing(graph: Graph) -> Dict[str, Optional[int]]:
    return {}


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
    while waiting and len(seen) < _NEAR:
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
