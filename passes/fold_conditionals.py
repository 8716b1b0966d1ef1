"""fold-conditionals: a conditional on a constant becomes the branch that it takes."""

from __future__ import annotations

import graphslim as gs


@gs.register
class FoldConditionals(gs.Pass):
    """Removes Switch and Merge where the condition is a constant, and the branch not taken.

    A condition that is an input of the graph, even one with a default, stays.

    Before:
        x = Placeholder() dtype=float32
        training = Const() dtype=bool value=bool[]{0}
        s = Switch(x, training) T=float32
        y = Neg(s) T=float32
        noisy = Exp(s:1) T=float32
        m = Merge(y, noisy) N=2 T=float32
        z = Relu(m) T=float32

    After:
        x = Placeholder() dtype=float32
        y = Neg(x) T=float32
        z = Relu(y) T=float32
    """

    name = "fold-conditionals"

    def run(self, graph: gs.Graph) -> gs.Outcome:
        """Finds what never runs, lets readers of the rest read past it, then removes it."""
        count = gs.fold_conditionals(graph)
        return gs.Outcome(bool(count), (f"conditionals folded: {count}",))
