"""How exactly a graph computes: the rounding of the narrowest floating type that it works in."""

from __future__ import annotations

from graphslim.analysis.cautions import training_norms
from graphslim.ir import IDENTITIES, DType, Graph

TOLERANCE = 1e-4
"""Largest difference between two graphs that compute the same in float32, as a share of an
output's range."""
TRAINING = 1e-2
"""The same where batch norms go by the statistics of the batch: on maps of a few pixels they
magnify rounding. A published pose network moves by 3e-4 of its range if its input moves by one
rounding."""
_ROUNDINGS = 4
"""So many roundings may a sum of another length, or with a constant folded into it, be off."""
_EPSILON = {DType.float16: 2.0**-10, DType.bfloat16: 2.0**-7}


def tolerance_of(graph: Graph) -> float:
    """How far two graphs that compute the same may be apart, as a share of an output's range.

    That is 0.0001; four roundings where a graph computes in 16 bits, 0.004 in float16 and 0.03 in
    bfloat16 (weights that are stored in 16 bits and cast are no such computation); and 0.01 where
    batch norms were frozen in the training phase.
    """
    # Ops of many inputs, such as Assert, have a list of types, and compute nothing.
    stated = [node.attrs.get("T") for node in graph if node.op not in IDENTITIES]
    rounding = [_ROUNDINGS * size for dtype, size in _EPSILON.items() if dtype in stated]
    return max([TOLERANCE, *rounding, *([TRAINING] if training_norms(graph) else [])])
