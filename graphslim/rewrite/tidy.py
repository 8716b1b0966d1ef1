"""Small steps that passes share: reading past a node, and removing what nobody reads any more."""

from __future__ import annotations

from typing import Iterable

from graphslim.ir import CONTROL, Graph, Port


def bypass(graph: Graph, name: str, source: Port) -> None:
    """Lets the readers of a node's first output read `source`, and what waits for it wait for that.

    The node itself stays, unread unless it is an output of the graph or has others.
    """
    graph.replace_uses(Port(name), source)
    graph.replace_uses(Port(name, CONTROL), Port(source.node, CONTROL))


def remove_unread(graph: Graph, names: Iterable[str]) -> int:
    """Removes those of some nodes that nobody reads, and then what only they read, and so on.

    Inputs and outputs of the graph stay.

    Returns:
        how many nodes went.
    """
    kept = {*graph.inputs, *[port.node for port in graph.outputs]}
    waiting, removed = list(names), 0
    while waiting:
        name = waiting.pop()
        if name in graph and name not in kept and not graph.uses_of(name):
            waiting.extend([port.node for port in graph.inputs_of(name)])
            graph.remove(name)
            removed += 1
    return removed
