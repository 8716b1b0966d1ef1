"""merge-duplicates: constants that are equal become one."""

from __future__ import annotations

import hashlib
from typing import Dict, Tuple

import numpy as np

import graphslim as gs


@gs.register
class MergeDuplicates(gs.Pass):
    """Lets the readers of equal constants read the first of them, and removes the others.

    Equal are those of one element type and shape with the same bytes. It makes files smaller, and
    costs the next pruning: weights that two layers share are one parameter, so that the channels of
    both layers are coupled and only go together (vectors that are shared couple nothing). So it
    runs last.

    Before:
        x = Placeholder() dtype=float32
        a = Const() dtype=float32 value=float32[2]{1 2}
        b = Const() dtype=float32 value=float32[2]{1 2}
        y = Mul(x, a) T=float32
        z = AddV2(y, b) T=float32

    After:
        x = Placeholder() dtype=float32
        a = Const() dtype=float32 value=float32[2]{1 2}
        y = Mul(x, a) T=float32
        z = AddV2(y, a) T=float32
    """

    name = "merge-duplicates"
    after = {
        "remove-dead-channels": "weights that layers share couple their channels",
        "fold-batch-norm": "it leaves weights alone that others read",
        "fold-constants": "it makes constants that may be equal",
    }

    def run(self, graph: gs.Graph) -> gs.Outcome:
        """Compares by a digest of the bytes."""
        first: Dict[Tuple[object, ...], str] = {}
        signature = {*graph.inputs, *[port.node for port in graph.outputs]}
        merged = 0
        for node in list(graph):
            # A constant that waits for something belongs to a loop or to a branch.
            if node.op != "Const" or node.name in graph.inputs or graph.inputs_of(node):
                continue
            earlier = first.setdefault(identity(node), node.name)
            if earlier != node.name and node.name not in signature:
                gs.bypass(graph, node.name, gs.Port(earlier))
                graph.remove(node)
                merged += 1
        return gs.Outcome(merged > 0, (f"constants merged: {merged}",))


def identity(node: gs.Node) -> Tuple[object, ...]:
    """What two constants have in common that are the same, device included."""
    tensor = node.attrs["value"]
    raw = np.ascontiguousarray(tensor.array)
    content = repr(raw.tolist()).encode() if raw.dtype.hasobject else raw.tobytes()
    digest = hashlib.sha256(content).digest()
    return (tensor.dtype, tensor.shape, digest, node.device)
