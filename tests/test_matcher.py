"""Patterns that people declare, and what their conditions may ask of the matcher."""

from __future__ import annotations

import re
from typing import Iterator, Optional

import pytest
from networks import Net
from spellings import ACTIVATIONS, NORMS

import graphslim as gs
from graphslim.errors import PatternError
from graphslim.match import PATTERNS, Matcher
from graphslim.pattern import (
    ADD,
    Chain,
    Ending,
    Op,
    Var,
    act,
    block_pattern,
    conv,
    depthwise,
    norm,
)
from graphslim.support.importing import load_plugins
from graphslim.testing import from_text

# ---------------------------------------------------------------------- declaring a block


@pytest.fixture()
def forget() -> Iterator[None]:
    """Takes the patterns that a test declares out again."""
    load_plugins()
    before = dict(PATTERNS)
    yield
    PATTERNS.clear()
    PATTERNS.update(before)


def test_a_user_declares_a_block_in_the_same_way(forget: None) -> None:
    @block_pattern("bottleneck", channels_of="inner")
    def bottleneck(x: gs.Pattern) -> gs.Pattern:
        y = act(norm(conv(x, kernel=1, name="reduce")))
        y = act(norm(conv(y, kernel=3, name="inner")))
        return Op(ADD, (norm(conv(y, kernel=1, name="restore")), x), any_order=True)

    class FindBottleneck(gs.FindBlocks):
        """Finds the bottlenecks of ResNet."""

        name, kind = "find-bottleneck", "bottleneck"

    net = Net()
    y = net.f("Relu", NORMS["fused"](net, net.conv(net.x, 4, name="a")))
    y = net.f("Relu", NORMS["fused"](net, net.conv(y, 4, 3, name="b")))
    net.f("Relu", net.f("Add", net.x, NORMS["fused"](net, net.conv(y, 8, name="c"))))
    graph = net.graph()
    outcome = FindBottleneck().run(graph)
    assert len(outcome.notes) == 1 and not outcome.changed
    assert dict(graph.blocks[0].roles) == {"reduce": "a", "inner": "b", "restore": "c"}
    assert re.fullmatch(r"(tests\.)?test_matcher:\d+", PATTERNS["bottleneck"].at)


def test_conditions_may_ask_for_what_stands_around(forget: None) -> None:
    def at_the_input(matcher: Matcher, match: gs.Match) -> Optional[str]:
        return None if match.x.node in matcher.graph.inputs else "it is not at the input"

    @block_pattern("first_pair", channels_of="a", where=(at_the_input,))
    def first_pair(x: gs.Pattern) -> gs.Pattern:
        return conv(act(depthwise(x)), kernel=1, name="a")

    net = Net()
    y = net.conv(net.f("Relu", net.depthwise(net.x)), 8, name="first")
    net.conv(net.f("Relu", net.depthwise(y)), 8, name="second")
    graph = net.graph()
    matcher = Matcher(graph)
    assert [match.end.node for match in matcher.find(PATTERNS["first_pair"])] == ["first"]
    miss = matcher.explain(PATTERNS["first_pair"], "second")
    assert miss is not None and (miss.node, miss.reason) == ("second", "it is not at the input")


def test_a_bad_declaration_is_refused(forget: None) -> None:
    with pytest.raises(PatternError, match="there already"):
        block_pattern("squeeze_excite", channels_of="a")(lambda x: conv(x, name="a"))
    with pytest.raises(PatternError, match="end in one op"):
        block_pattern("new", channels_of="a")(lambda x: norm(conv(x, name="a")))
    with pytest.raises(PatternError, match="no op is named 'b'"):
        block_pattern("new", channels_of="b")(lambda x: conv(x, name="a"))
    with pytest.raises(PatternError, match="never comes to its input"):
        block_pattern("new", channels_of="a")(lambda x: conv(gs.Var("y"), name="a"))
    assert "new" not in PATTERNS


# ---------------------------------------------------------------------- what a matcher can be asked


def test_readers_stand_behind_identities() -> None:
    graph = from_text("""
        x = Placeholder() dtype=float32 shape=<1,2>
        i = Identity(x) T=float32
        n = IdentityN(i, x) T=[float32,float32]
        a = Relu(n:1) T=float32
        b = Neg(i) T=float32
        c = Abs(x) T=float32
        d = Relu6(n) T=float32
    """)
    names = [node.name for node in Matcher(graph).readers(gs.Port("x"))]
    assert sorted(names) == ["a", "b", "c", "d"]


def test_layers_on_a_tensor() -> None:
    net = Net()
    y = net.conv(net.x, 4, name="conv")
    z = ACTIVATIONS["swish"](net, NORMS["fused"](net, y))
    net.f("Relu", z)
    found = Matcher(net.graph()).layers_on(gs.Port("conv"), lambda x: act(norm(x)))
    ops = [net.graph()[match.end.node].op for match in found]
    assert ops == ["Sigmoid", "Mul"]
    assert all(match.x == gs.Port("conv") for match in found)


def test_a_long_chain_of_identities_is_no_trouble() -> None:
    net = Net()
    y = net.x
    for _ in range(3000):
        y = net.identity(y)
    net.inverted_residual(y)
    assert len(gs.find_blocks(net.graph()).blocks) == 1


def test_the_only_type_of_an_op_needs_no_list() -> None:
    x = Var("x")
    assert Op("Relu", (x,)).types == Op(("Relu",), (x,)).types == {"Relu"}
    assert Ending(x, lambda matcher, node: None, "Relu").heads == {"Relu"}
    assert Chain(x, lambda matcher, node: None, "any", "Relu").through == {"Relu"}
