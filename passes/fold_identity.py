"""fold-identity: lets readers of an Identity, or of an op like it, read what stands behind it."""

from __future__ import annotations

from typing import Optional

import graphslim as gs


@gs.register
class FoldIdentity(gs.Pass):
    """Removes ops that only pass tensors on: Identity, IdentityN, StopGradient, CheckNumerics ...

    Those that are inputs or outputs of the graph, that wait for something, or that something waits
    for, stay. Without a CheckNumerics the graph computes the same, and complains of NaN no more.

    Before:
        x = Placeholder() dtype=float32
        y = Identity(x) T=float32
        z = StopGradient(y) T=float32
        both = IdentityN(z, x) T=[float32,float32]
        sum = AddV2(both, both:1) T=float32

    After:
        x = Placeholder() dtype=float32
        sum = AddV2(x, x) T=float32
    """

    name = "fold-identity"

    def run(self, graph: gs.Graph) -> gs.Outcome:
        """Rewires the readers of each, then removes it."""
        signature = {*graph.inputs, *[port.node for port in graph.outputs]}
        folded = 0
        for node in graph.order():
            passed = None if node.name in signature else passed_on(graph, node)
            if passed:
                for port, source in enumerate(passed):
                    graph.replace_uses(gs.Port(node.name, port), source)
                graph.remove(node)
                folded += 1
        return gs.Outcome(folded > 0, (f"identities removed: {folded}",))


def passed_on(graph: gs.Graph, node: gs.Node) -> Optional[list]:
    """What stands behind each output of a node; None for one that does more than pass it on."""
    if node.op not in (*gs.IDENTITIES, "IdentityN"):
        return None
    inputs = list(graph.inputs_of(node))
    waits = any(port.port == gs.CONTROL for port in inputs)
    if waits or graph.uses_of(gs.Port(node.name, gs.CONTROL)):
        return None
    return inputs
