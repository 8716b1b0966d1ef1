"""What has to run for what, and what follows it: over control edges and loops."""

from __future__ import annotations

from graphslim.ir import Port, Use
from graphslim.ir.query import (
    behind,
    constant_nodes,
    downstream,
    in_branch,
    in_loop,
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


BRANCHES = """
x = Placeholder() dtype=float32 shape=<2>
training = Placeholder() dtype=bool shape=<>
before = Relu(x)
switch = Switch(before, training)
off = Neg(switch:0)
on = Abs(switch:1)
waits = Exp(x, ^on)
y = Merge(off, on)
after = Relu(y)
"""


def test_a_branch_begins_at_a_switch_and_ends_before_a_merge() -> None:
    """The Merge has a result whichever branch ran; what waits for one of them may not run."""
    assert in_branch(from_text(BRANCHES)) == {"switch", "off", "on", "waits"}


LOOP = """
x = Placeholder() dtype=float32 shape=<2>
begin = Enter(x)
turn = Merge(begin, again)
more = Less(turn, turn)
cond = LoopCond(more)
switch = Switch(turn, cond)
end = Exit(switch:0)
body = Neg(switch:1)
again = NextIteration(body)
y = Relu(end)
"""


def test_the_switch_of_a_loop_is_no_choice_between_branches() -> None:
    """Its body runs as often as the loop turns, and its Exit always does."""
    assert in_branch(from_text(LOOP)) == set()


def test_a_loop_begins_with_its_enter_and_ends_before_its_exit() -> None:
    inside = {"begin", "turn", "more", "cond", "switch", "body", "again"}
    assert in_loop(from_text(LOOP)) == inside
    assert in_loop(from_text(BRANCHES)) == set()


def test_what_follows_a_loop_within_a_loop_is_in_the_outer_one() -> None:
    """The Exit of the inner loop leads back into the outer one, whose Exit leads out of both."""
    inner = LOOP.replace("x = Placeholder() dtype=float32 shape=<2>", "")
    inner = inner.replace("(x)", "(body)").replace("body = Neg", "within = Neg")
    inner = inner.replace("NextIteration(body)", "NextIteration(within)")
    for name in ("begin", "turn", "more", "cond", "switch", "end", "again", "y"):
        inner = inner.replace(f"{name} =", f"inner/{name} =")
        for mark in ",):":
            inner = inner.replace(f"({name}{mark}", f"(inner/{name}{mark}")
            inner = inner.replace(f", {name}{mark}", f", inner/{name}{mark}")
    graph = from_text(LOOP + inner)
    assert in_loop(graph) == {node.name for node in graph} - {"x", "end", "y"}
