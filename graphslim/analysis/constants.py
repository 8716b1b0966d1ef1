"""What depends on constants alone, and so holds the same numbers in every run."""

from __future__ import annotations

from typing import FrozenSet, Set

from graphslim.ir import Graph
from graphslim.ops.sized import DRAWN_ANEW

SWITCHES = frozenset(("Switch", "RefSwitch"))


def constant_nodes(graph: Graph) -> FrozenSet[str]:
    """The nodes that depend on constants alone, through any op: weights, however they are made.

    A Switch only decides who reads a constant, so that its condition may be anything. Random
    numbers that are drawn in each run are no constants.
    """
    return graph.memo("constant nodes", _constant_nodes)


def _constant_nodes(graph: Graph) -> FrozenSet[str]:
    found: Set[str] = set()
    for node in graph.order():
        if node.name in graph.inputs or node.op in DRAWN_ANEW:
            continue
        sources = [port.node for port in graph.data_inputs(node)]
        if node.op in SWITCHES:
            sources = sources[:1]
        if node.op == "Const" or (sources and found.issuperset(sources)):
            found.add(node.name)
    return frozenset(found)
