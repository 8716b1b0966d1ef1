"""How exactly a graph computes: the rounding of the narrowest floating type that it works in."""

from __future__ import annotations

from graphslim.ir import IDENTITY_OPS, DType, Graph

TOLERANCE = 1e-4
"""Largest difference between two graphs that compute the same in float32, as a share of an
output's range."""
_ROUNDINGS = 4
"""So many roundings may a sum of another length, or with a constant folded into it, be off."""
_EPSILON = {DType.float16: 2.0**-10, DType.bfloat16: 2.0**-7}


def tolerance_of(graph: Graph) -> float:
    """How far two graphs that compute the same may be apart, as a share of an output's range.

    That is 0.0001, and four roundings where a graph computes in 16 bits: 0.004 in float16 and 0.03
    in bfloat16. Weights that are stored in 16 bits and cast are no such computation.
    """
    types = {node.attrs.get("T") for node in graph if node.op not in IDENTITY_OPS}
    return max([TOLERANCE, *[_ROUNDINGS * size for one, size in _EPSILON.items() if one in types]])
