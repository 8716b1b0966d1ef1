"""drop-unused: removes nodes and functions that no output depends on."""

from __future__ import annotations

import networkx as nx

import graphslim as gs


@gs.register
class DropUnused(gs.Pass):
    """Removes nodes that no output depends on, then functions that nothing calls.

    Inputs stay, and what they read.

    Before:
        x = Placeholder() dtype=float32
        w = Const() dtype=float32 value=float32[2]{1 2}
        y = Relu(x) T=float32
        output y

    After:
        x = Placeholder() dtype=float32
        y = Relu(x) T=float32
        output y
    """

    name = "drop-unused"

    def run(self, graph: gs.Graph) -> gs.Outcome:
        """Removes them, the last first."""
        needed = gs.needed_nodes(graph)
        for name in graph.inputs:
            needed |= {name, *nx.ancestors(graph.nx, name)}
        unused = [node for node in graph.order() if node.name not in needed]
        for node in reversed(unused):
            graph.set_inputs(node, [])
        for node in unused:
            graph.remove(node)
        functions = gs.drop_functions(graph)
        notes = [f"nodes removed: {len(unused)}"]
        if functions:
            notes.append(f"functions removed: {len(functions)}")
        return gs.Outcome(bool(unused or functions), tuple(notes))
