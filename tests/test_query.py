"""What has to run for what, and what follows it: over control edges and loops."""

from __future__ import annotations

from graphslim.ir import Port, Use
from graphslim.ir.query import (
    behind,
    constant_nodes,
    downstream,
    needed,
    remove_unread,
    upstream,
    uses_behind,
)
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


IDENTITIES = """
x = Placeholder() dtype=float32 shape=<2>
w = Const() dtype=float32 value=[1. 2.]
one = Identity(w)
two = StopGradient(one)
y = Mul(x, two)
z = Add(one, y)
"""


def test_a_tensor_is_looked_for_behind_identities() -> None:
    graph = from_text(IDENTITIES)
    assert behind(graph, Port("two")) == Port("w")
    assert behind(graph, Port("y")) == Port("y")
    assert [str(use) for use in uses_behind(graph, Port("w"))] == [
        str(Use("y", 1)),
        str(Use("z", 0)),
    ]


def test_an_identity_that_is_fed_holds_what_it_is_fed() -> None:
    """Where a graph is cut in the middle, what stands before the cut says nothing of the tensor."""
    graph = from_text(IDENTITIES)
    graph.inputs = ["x", "one"]
    assert behind(graph, Port("two")) == Port("one")
    assert [use.node for use in uses_behind(graph, Port("w"))] == ["one"]
    assert constant_nodes(graph) == {"w"}


def test_what_an_output_waits_for_is_needed() -> None:
    graph = from_text(GRAPH)
    graph.outputs = [Port("b")]
    assert needed(graph) == {"b", "a", "x", "alone"}


def test_what_only_unread_nodes_read_goes_with_them() -> None:
    graph = from_text(IDENTITIES)
    graph.outputs = [Port("y")]
    assert remove_unread(graph, ["z", "one"]) == 1
    assert {node.name for node in graph} == {"x", "w", "one", "two", "y"}
