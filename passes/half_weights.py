"""half-weights: stores weights as half precision, each with a Cast behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import graphslim as gs

FOLDED = 10 * 2**20
"""TensorFlow computes constants up to so many bytes when it loads a graph, larger ones each run."""
ROUNDING = 2.0**-11
"""By what share a number may change when it is rounded to half precision."""


@gs.register
@dataclass(frozen=True)
class HalfWeights(gs.Pass):
    """Stores float32 constants as half precision, which halves the file; arithmetic stays float32.

    Those of two axes and more, and long vectors. TensorFlow computes each Cast once, when it loads
    the graph, and those beyond 10 MiB in each run, which is why they stay. A tensor stays too where
    half precision would move an element by more than 2^-11 of its largest one: with elements beyond
    65504, or all of them tiny.

    Attributes:
        vectors_from: how many elements make a vector long.
        others_from: how many elements make a constant of two axes and more worth a Cast.
        largest: how many bytes of float32 a constant may have.

    Before:
        x = Placeholder() dtype=float32 shape=<1,2>
        w = Const() dtype=float32 value=float32[2,33]{0.1}
        y = MatMul(x, w) T=float32

    After:
        x = Placeholder() dtype=float32 shape=<1,2>
        w = Cast(w/half) DstT=float32 SrcT=float16 Truncate=false
        y = MatMul(x, w) T=float32
        w/half = Const() dtype=float16 value=float16[2,33]{#869afb08}
    """

    name = "half-weights"
    after = {
        "remove-dead-channels": "what rounds to zero is not dead",
        "fold-batch-norm": "it folds into weights that are stored as they are",
        "merge-duplicates": "weights that differ may be equal when rounded",
    }

    vectors_from: int = 1024
    others_from: int = 64
    largest: int = FOLDED

    def run(self, graph: gs.Graph) -> gs.Outcome:
        """Each constant goes behind a Cast of its own name."""
        halved = left = 0
        for node in list(graph):
            if not self.is_large(graph, node):
                continue
            tensor = node.attrs["value"]
            with np.errstate(over="ignore"):
                half = gs.Tensor.from_numbers(tensor.array, gs.DType.float16)
            if 4 * tensor.size > self.largest or not is_close(tensor.array, half.array):
                left += 1
                continue
            stored = graph.add_constant(f"{node.name}/half", half)
            attrs = {"SrcT": gs.DType.float16, "DstT": gs.DType.float32, "Truncate": False}
            cast = gs.Node(node.name, "Cast", gs.Attrs(attrs), node.device)
            graph.replace(cast, [gs.Port(stored.name)])
            halved += 1
        notes = (f"constants stored as half: {halved}", f"left for their size or range: {left}")
        return gs.Outcome(halved > 0, notes if left else notes[:1])

    def is_large(self, graph: gs.Graph, node: gs.Node) -> bool:
        """Whether a node is a constant that is worth it and stands for itself."""
        if node.op != "Const" or node.name in graph.inputs or graph.inputs_of(node):
            return False
        tensor = node.attrs["value"]
        floats = tensor.dtype is gs.DType.float32
        least = self.others_from if len(tensor.shape) > 1 else self.vectors_from
        return floats and tensor.size >= least


def is_close(exact: np.ndarray, half: np.ndarray) -> bool:
    """Whether rounding moved no element by more than it may."""
    if not np.isfinite(half).all():
        return False
    moved = np.abs(exact - half.astype(np.float32))
    return bool(moved.max(initial=0) <= ROUNDING * np.abs(exact).max(initial=0))
