"""fold-identity: lets readers of an Identity read what stands behind it."""

from __future__ import annotations

import graphslim as gs


@gs.register
class FoldIdentity(gs.Pass):
    """Removes Identity nodes that only pass a tensor on.

    Those that are inputs or outputs of the graph, or that carry control edges, stay.

    Before:
        x = Placeholder() dtype=float32
        y = Identity(x) T=float32
        z = Relu(y) T=float32

    After:
        x = Placeholder() dtype=float32
        z = Relu(x) T=float32
    """

    name = "fold-identity"

    def run(self, graph: gs.Graph) -> gs.Outcome:
        """Rewires the readers of each, then removes it."""
        signature = {*graph.inputs, *[port.node for port in graph.outputs]}
        folded = 0
        for node in graph.order():
            if node.op != "Identity" or node.name in signature:
                continue
            inputs = graph.inputs_of(node)
            controlled = len(inputs) != 1 or graph.uses_of(gs.Port(node.name, gs.CONTROL))
            if not controlled:
                graph.replace_uses(gs.Port(node.name), inputs[0])
                graph.remove(node)
                folded += 1
        return gs.Outcome(folded > 0, (f"identities removed: {folded}",))
