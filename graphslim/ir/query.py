"""Questions about graphs that several rooms ask: what has to run for what, and what follows it."""

from __future__ import annotations

from typing import Iterable, Set

from graphslim.ir.graph import Graph


def upstream(graph: Graph, names: Iterable[str]) -> Set[str]:
    """What has to run for some nodes to run: all that they read or wait for, and themselves."""
    reached = set(names)
    waiting = list(reached)
    while waiting:
        for port in graph.inputs_of(waiting.pop()):
            if port.node not in reached:
                reached.add(port.node)
                waiting.append(port.node)
    return reached


def downstream(graph: Graph, names: Iterable[str]) -> Set[str]:
    """Some nodes, and all that reads or waits for them, over the back edges of loops too."""
    reached = set(names)
    waiting = list(reached)
    while waiting:
        for use in graph.uses_of(waiting.pop()):
            if use.node not in reached:
                reached.add(use.node)
                waiting.append(use.node)
    return reached
