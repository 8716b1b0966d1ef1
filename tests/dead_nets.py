"""The small networks of the tests of dead channels: a convolution, something, a consumer."""

from __future__ import annotations

from typing import Dict, List

from tiny import prune, tiny, zero_filters

import graphslim as gs

HEAD = """
x = input 1,6,6,2
a/w = f32[1,1,2,4]{random 1}
a = Conv2D(x, a/w)
a/b = f32[4]{0.5 -1 2 1}
"""
"""Convolution `a` of four channels and an offset for it; each test kills channel 1 or 2."""

TAIL = """
z/w = f32[1,1,4,3]{random 2}
z = Conv2D(y, z/w)
"""


def net(middle: str, tail: str = TAIL, kill: int = 2) -> gs.Graph:
    """HEAD, something that makes `y` of `a`, and a consumer; one filter of `a` is zero."""
    return zero_filters(tiny(HEAD + middle + tail), "a/w", 3, [kill])


def ops(graph: gs.Graph) -> List[str]:
    return [node.op for node in graph if node.op != "Const"]


BIASED = "y = BiasAdd(a, a/b)\n"
WIDE = "z/w = f32[3,3,4,3]{random 2}\nz = Conv2D(y, z/w)%s\no = Relu(z)\n"
"""A consumer that sees a border, where the padding is SAME; `%s` takes attributes."""


def folded(graph: gs.Graph, expected: Dict[str, List[int]]) -> gs.Graph:
    """Prunes; nothing but constants may have been added to take the fold."""
    slim = prune(graph, expected)
    assert ops(slim) == ops(graph)
    return slim
