"""The nodes of a graph, each after what it reads."""

from __future__ import annotations

from collections import deque
from typing import Dict, List

import networkx as nx

from graphslim.errors import IRError
from graphslim.ir.node import Node


def topological(view: nx.MultiDiGraph) -> List[Node]:
    """Kahn's algorithm, stable in the order of the file; back edges of loops are left out.

    Args:
        view: a graph's nodes and edges, as `Graph.nx` has them.

    Raises:
        IRError: there is a cycle that is not a loop of TensorFlow's.
    """
    nodes = view._node
    waiting: Dict[str, int] = {}
    ready = deque()  # type: deque[str]
    for name in nodes:
        count = sum(
            len(edges)
            for source, edges in view._pred[name].items()
            if nodes[source]["node"].op not in ("NextIteration", "RefNextIteration")
        )
        waiting[name] = count
        if count == 0:
            ready.append(name)
    done: List[Node] = []
    while ready:
        name = ready.popleft()
        node = nodes[name]["node"]
        done.append(node)
        if node.op in ("NextIteration", "RefNextIteration"):
            continue
        for target, edges in view._succ[name].items():
            waiting[target] -= len(edges)
            if waiting[target] == 0:
                ready.append(target)
    if len(done) != len(nodes):
        stuck = [name for name, count in waiting.items() if count > 0]
        cycle = nx.find_cycle(view.subgraph(stuck))
        path = " -> ".join([edge[0] for edge in cycle[:6]])
        raise IRError(
            f"the graph has a cycle: {path}{' -> ...' if len(cycle) > 6 else f' -> {cycle[0][0]}'}",
            cycle[0][0],
            "a frozen graph has none; the file is damaged",
        )
    return done
