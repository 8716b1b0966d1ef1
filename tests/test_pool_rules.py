"""Pools and other windows over space, and the audit that finds channels an op forgets."""

from __future__ import annotations

import pytest
from tiny import constant, groups, pins, prune, tiny, zero_filters

import graphslim as gs
from graphslim.channels.facts import UNKNOWN, Fact
from graphslim.channels.rules import CHANNEL_RULES, channel_rule
from graphslim.channels.visit import OpVisit
from graphslim.testing import assert_mask_equivalent, random_plan

START = "x = input 1,6,6,4\na/w = f32[3,3,4,8]{random 1}\na = Conv2D(x, a/w)\n"
END = "\nz/w = f32[1,1,8,3]{random 9}\nz = Conv2D(y, z/w)\noutput z\n"
KEPT = {
    "window by inputs": (
        "k = i32[4]{1 2 3 1}\nt = i32[4]{1 2 1 1}\n"
        'y = MaxPoolV2(a, k, t) padding="SAME" data_format="NHWC"',
        (1, 3, 6, 8),
    ),
    "argmax that nobody reads": (
        'y = MaxPoolWithArgmax(a) ksize=[1,2,2,1] strides=[1,2,2,1] padding="VALID" Targmax=int64',
        (1, 3, 3, 8),
    ),
    "dilation": (
        "d = f32[2,3,8]{random 4}\n"
        'y = Dilation2D(a, d) strides=[1,2,1,1] rates=[1,1,2,1] padding="SAME"',
        (1, 3, 6, 8),
    ),
}


@pytest.mark.tf
@pytest.mark.parametrize("name", sorted(KEPT))
def test_window_keeps_channels_prunable(name: str) -> None:
    text, shape = KEPT[name]
    graph = tiny(START + text + END)
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"a": 8}
    assert gs.analyse(graph).fact(gs.Port("y")).shape == shape
    slim = assert_mask_equivalent(graph, random_plan(graph, seed=5), tolerance=1e-5)
    assert constant(slim, "a/w").shape == (3, 3, 4, 4)


@pytest.mark.tf
def test_dead_channel_before_a_pool_with_argmax() -> None:
    text = KEPT["argmax that nobody reads"][0]
    prune(zero_filters(tiny(START + text + END), "a/w", 3, [2]), {"a": [2]})


PINNED = {
    'y = MaxPoolWithArgmax(a) ksize=[1,2,2,1] strides=[1,2,2,1] padding="VALID"'
    " Targmax=int64\nq = Cast(y:1) SrcT=int64 DstT=float32": "index of the largest",
    "y = FractionalMaxPool(a) pooling_ratio=[1.0,1.5,1.5,2.0]\nq = Relu(y)": "over channels",
    "k = input 4\ni = Cast(k)\ny = MaxPoolV2(a, i, i)\nq = Relu(y)": "not constant",
}


@pytest.mark.parametrize("text", sorted(PINNED))
def test_window_pins_and_says_why(text: str) -> None:
    assert PINNED[text] in pins(tiny(START + text + "\n"), "a")


# ------------------------------------------------------------------ what a rule forgets


@pytest.mark.tf
def test_single_channels_that_are_broadcast_stay() -> None:
    """Two maps of one channel each weigh all channels: no sum reads them, yet they are needed."""
    graph = tiny(
        START + "m/w = f32[1,1,4,2]{random 2}\nm = Conv2D(x, m/w)\nn = i32[]{3}\n"
        "s = Split(n, m) num_split=2\nu = Mul(a, s:0)\ny = Mul(u, s:1)" + END
    )
    assert not groups(graph)["m"].prunable
    prune(graph, {})


def test_channels_that_a_rule_forgets_are_pinned() -> None:
    @channel_rule("Forgetful")
    def forgetful(op: OpVisit) -> Fact:
        return UNKNOWN

    @channel_rule("Entangled")
    def entangled(op: OpVisit) -> Fact:
        """Ties two channels axes with each other, and leaves it at that."""
        op.tie(op[0].channels(3), op[1].channels(3))
        return UNKNOWN

    try:
        for line in ("y = Forgetful(a)", "y = Entangled(a, a2)"):
            graph = tiny(START + "a2 = Conv2D(x, a/w)\n" + line + "\nq = Relu(y)\n")
            name = line[4:].partition("(")[0]
            told = f"{name.lower()} for {name}, of {__name__}:"
            assert pins(graph, "a").startswith(f"the rule {told}")
            assert pins(graph, "a").endswith(", says nothing of axis 3 of input 0 @ y")
    finally:
        del CHANNEL_RULES["Forgetful"], CHANNEL_RULES["Entangled"]


@pytest.mark.tf
def test_asking_for_sizes_pins_nothing() -> None:
    graph = tiny(
        START + "s = Shape(a)\no = i32[1]{1}\nt = i32[1]{3}\n"
        "h = StridedSlice(s, o, t, o) T=int32\ny = ResizeBilinear(a, h)" + END
    )
    assert groups(graph)["a"].prunable
    assert_mask_equivalent(graph, random_plan(graph, seed=1), tolerance=1e-5)
