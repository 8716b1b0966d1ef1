"""What has to run for what, and what follows it: over control edges and loops."""

from __future__ import annotations

from graphslim.ir.query import downstream, upstream
from graphslim.testing import from_text

GRAPH = """
x = Placeholder() dtype=float32 shape=<2>
alone = Placeholder() dtype=float32 shape=<2>
a = Relu(x)
b = Neg(a, ^alone)
c = Abs(alone)
"""


def test_what_is_read_and_what_is_waited_for_has_to_run() -> None:
    graph = from_text(GRAPH)
    assert upstream(graph, ["b"]) == {"b", "a", "x", "alone"}
    assert upstream(graph, ["c"]) == {"c", "alone"}
    assert upstream(graph, []) == set()


def test_what_reads_and_what_waits_follows() -> None:
    graph = from_text(GRAPH)
    assert downstream(graph, ["x"]) == {"x", "a", "b"}
    assert downstream(graph, ["alone"]) == {"alone", "b", "c"}
    assert downstream(graph, ["b"]) == {"b"}
