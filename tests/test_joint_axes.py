"""Axes of channels that are flattened together, or split: which part goes, and what with it."""

from __future__ import annotations

from typing import Dict

import numpy as np
import pytest
from tiny import constant, groups, pins, prune, tiny, zero_filters

import graphslim as gs
from graphslim.plans import plan_given
from graphslim.testing import assert_mask_equivalent, random_plan

BASE = """
x = input 2,4,4,3
feature/w = f32[3,3,3,6]{random 1}
feature = Conv2D(x, feature/w)
f = Relu(feature)
"""
OTHER = """
other/w = f32[3,3,3,4]{random 2}
other = Conv2D(x, other/w)
o = Relu(other)
"""
POOLED = """
to = i32[3]{-1 16 6}
a = Reshape(f, to)
"""
VLAD = (
    BASE
    + POOLED
    + """
rows = i32[2]{-1 6}
points = Reshape(f, rows)
assign/w = f32[6,4]{random 3}
assign = MatMul(points, assign/w)
soft = Softmax(assign)
clusters = i32[3]{-1 16 4}
s = Reshape(soft, clusters)
sums = BatchMatMulV2(s, a) adj_x=true adj_y=false
one = i32[1]{1}
mass = Sum(s, one) Tidx=int32 keep_dims=false
last = i32[]{2}
m = ExpandDims(mass, last) Tdim=int32
centres = f32[1,4,6]{random 4}
shift = Mul(m, centres)
v = Sub(sums, shift)
flat = i32[2]{-1 24}
d = Reshape(v, flat)
head/w = f32[24,5]{random 5}
head = MatMul(d, head/w)
output head
"""
)
HEAD = """
flat = i32[2]{-1 %d}
d = Reshape(v, flat)
head/w = f32[%d,5]{random 5}
head = MatMul(d, head/w)
output head
"""
BILINEAR = BASE + POOLED + "v = BatchMatMulV2(a, a) adj_x=true adj_y=false\n" + HEAD % (36, 36)
"""x^T x: both axes of the product are the same channels."""
CROSSED = (
    BASE
    + OTHER
    + POOLED
    + "ot = i32[3]{-1 16 4}\nb = Reshape(o, ot)\nv = BatchMatMulV2(b, a) adj_x=true adj_y=false\n"
    + HEAD % (24, 24)
)
"""Two streams: a position of the product belongs to a channel of either."""


LINEAR_ATTENTION = (
    BASE
    + POOLED
    + "".join(
        [
            f"""{name}/w = f32[6,4,2]{{random {seed}}}
{name}/matrix = i32[2]{{6 8}}
{name}/m = Reshape({name}/w, {name}/matrix)
{name}/product = BatchMatMulV2(a, {name}/m)
{name}/to = i32[4]{{-1 16 4 2}}
{name}/split = Reshape({name}/product, {name}/to)
{name}/order = i32[4]{{0 2 1 3}}
{name} = Transpose({name}/split, {name}/order)
"""
            for seed, name in enumerate("qkt", 6)
        ]
    )
    + """
scores = BatchMatMulV2(q, k) adj_y=true
mixed = BatchMatMulV2(scores, t)
order = i32[4]{0 2 1 3}
back = Transpose(mixed, order)
to_rows = i32[3]{-1 16 8}
v = Reshape(back, to_rows)
head/w = f32[8,5]{random 9}
head = BatchMatMulV2(v, head/w)
output head
"""
)
"""Attention without a softmax, whose heads may go as well as the channels of each."""


def prunable(graph: gs.Graph) -> Dict[str, int]:
    return {one.id: len(one) for one in groups(graph).values() if one.prunable}


def test_two_axes_of_channels_that_are_cut_across_stay() -> None:
    """Of 6 by 4 channels 8 by 3 are made: no channel of either axis is one of those."""
    product = OTHER + "ot = i32[3]{-1 16 4}\nb = Reshape(o, ot)\n"
    text = BASE + POOLED + product + "v = BatchMatMulV2(a, b) adj_x=true adj_y=false\n"
    graph = tiny(text + "n = i32[3]{-1 8 3}\ny = Reshape(v, n)\noutput y\n")
    for name in ("feature", "other"):
        assert pins(graph, name) == ("it is cut across together with another axis of channels @ y")


@pytest.mark.tf
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (VLAD, {"feature": 6}),
        (BILINEAR, {"feature": 6}),
        (CROSSED, {"feature": 6, "other": 4}),
        (
            LINEAR_ATTENTION,
            {"feature": 6, "q/product": 4, "q/product#2": 2, "t/product": 2},
        ),
    ],
    ids=["NetVLAD", "x^T x", "two streams", "linear attention"],
)
def test_axes_that_are_flattened_together(text: str, expected: Dict[str, int]) -> None:
    graph = tiny(text)
    assert prunable(graph) == expected
    for seed in range(3):
        assert_mask_equivalent(graph, random_plan(graph, seed=seed), tolerance=1e-5)


@pytest.mark.tf
@pytest.mark.parametrize("shape", ["-1 1 24", "-1 24 1", "1 -1 24", "-1 1 24 1"])
@pytest.mark.parametrize("text", [VLAD, CROSSED], ids=["NetVLAD", "two streams"])
def test_axes_of_size_one_change_nothing(text: str, shape: str) -> None:
    """Wherever they are put in, and the same channels are found as without them."""
    sizes = shape.split()
    wide, ones = sizes.index("24"), [str(at) for at, size in enumerate(sizes) if size == "1"]
    longer = f"flat = i32[{len(sizes)}]{{{shape}}}\nu = Reshape(v, flat)\n"
    longer += f"d = Squeeze(u) squeeze_dims=[{','.join(ones)}]"
    graph = tiny(text.replace("flat = i32[2]{-1 24}\nd = Reshape(v, flat)", longer))
    assert "u" in graph
    assert prunable(graph) == prunable(tiny(text))
    slim = assert_mask_equivalent(graph, random_plan(graph, seed=2), tolerance=1e-5)
    assert constant(slim, "flat")[wide] == len(constant(slim, "head/w")) < 24


def test_positions_that_two_pairs_of_channels_claim_stay() -> None:
    """A product and its transpose, flattened and added: a position belongs to another pair too."""
    both = (
        "d1 = Reshape(v, flat)\norder = i32[3]{0 2 1}\nt = Transpose(v, order) Tperm=int32\n"
        "d2 = Reshape(t, flat)\nd = AddV2(d1, d2)"
    )
    graph = tiny(CROSSED.replace("d = Reshape(v, flat)", both))
    assert "flattened with another axis of channels in a way" in pins(graph, "other")
    symmetric = tiny(BILINEAR.replace("d = Reshape(v, flat)", both))
    assert prunable(symmetric) == {"feature": 6}, "there both claim it for the same pair"


@pytest.mark.tf
def test_a_channel_takes_a_row_of_each_cluster_with_it() -> None:
    graph = tiny(VLAD)
    slim = assert_mask_equivalent(graph, plan_given(graph, {"feature": [1, 4]}), tolerance=1e-5)
    kept = [cluster * 6 + channel for cluster in range(4) for channel in (0, 2, 3, 5)]
    np.testing.assert_array_equal(constant(slim, "head/w"), constant(graph, "head/w")[kept])
    assert constant(slim, "centres").shape == (1, 4, 4)
    assert constant(slim, "flat").tolist() == [-1, 16]


@pytest.mark.tf
def test_a_position_of_two_channels_goes_with_either() -> None:
    graph = tiny(CROSSED)
    plan = plan_given(graph, {"feature": [1, 4], "other": [3]})
    cuts = {one.id: [cut for cut in one.cuts if cut.param == "head/w"] for one in plan.groups}
    assert cuts["other"][0].removed == tuple(range(18, 24))
    assert cuts["feature"][0].removed == (1, 4, 7, 10, 13, 16, 19, 22)
    slim = assert_mask_equivalent(graph, plan, tolerance=1e-5)
    kept = [row * 6 + channel for row in range(3) for channel in (0, 2, 3, 5)]
    np.testing.assert_array_equal(constant(slim, "head/w"), constant(graph, "head/w")[kept])
    assert plan.params[1] == gs.cost(slim).params
    assert plan.macs[1] == gs.cost(slim).macs


@pytest.mark.tf
@pytest.mark.parametrize("kept", range(6))
def test_the_last_channel_times_itself_stays(kept: int) -> None:
    graph = tiny(BILINEAR)
    removed = [channel for channel in range(6) if channel != kept]
    slim = assert_mask_equivalent(graph, plan_given(graph, {"feature": removed}), tolerance=1e-5)
    row = constant(graph, "head/w")[[kept * 6 + kept]]
    np.testing.assert_array_equal(constant(slim, "head/w"), row)


@pytest.mark.tf
def test_a_plan_of_flattened_axes_is_read_and_carried_over() -> None:
    graph = tiny(CROSSED)
    plan = plan_given(graph, {"feature": [0], "other": [1, 2]})
    again = gs.Plan.from_json(plan.to_json())
    assert gs.serialize(gs.apply(graph, again)) == gs.serialize(gs.apply(graph, plan))
    renamed = tiny(CROSSED.replace("feature", "first").replace("other", "second"))
    slim = gs.apply(renamed, again, force=True)
    assert constant(slim, "head/w").shape == (10, 5)


@pytest.mark.tf
def test_dead_channels_of_flattened_axes() -> None:
    prune(zero_filters(tiny(BILINEAR), "feature/w", 3, [2, 5]), {"feature": [2, 5]})
    both = zero_filters(tiny(CROSSED), "feature/w", 3, [2, 5])
    prune(zero_filters(both, "other/w", 3, [0]), {"feature": [2, 5], "other": [0]})
    prune(zero_filters(tiny(VLAD), "head/w", 0, [3, 9, 15]), {})


@pytest.mark.tf
def test_channels_whose_rows_are_all_zero_are_dead() -> None:
    rows = [cluster * 6 + 4 for cluster in range(4)]
    graph = zero_filters(tiny(VLAD), "head/w", 0, rows)
    prune(zero_filters(graph, "assign/w", 0, [4]), {"feature": [4]})


def test_a_flat_axis_that_is_pinned_pins_both() -> None:
    text = CROSSED.split("head/w")[0] + "output d\n"
    assert pins(tiny(text), "feature") == "it is a graph output @ d"
    assert pins(tiny(text), "other") == "it is a graph output @ d"


@pytest.mark.tf
def test_flattened_axes_come_apart_again() -> None:
    """Flattened, scaled, and shaped as before: a channel of either axis still goes by itself."""
    graph = tiny(
        CROSSED.split("flat =")[0]
        + "flat = i32[2]{-1 24}\nd = Reshape(v, flat)\nk = f32[24]{random 6}\ne = Mul(d, k)\n"
        "back = i32[3]{-1 4 6}\nu = Reshape(e, back)\nup/w = f32[6,7]{random 7}\n"
        "wide = i32[2]{-1 6}\nw = Reshape(u, wide)\nup = MatMul(w, up/w)\n"
        "end = i32[3]{-1 4 7}\nt = Reshape(up, end)\nhead/w = f32[28,5]{random 5}\n"
        "last = i32[2]{-1 28}\nl = Reshape(t, last)\nhead = MatMul(l, head/w)\noutput head\n"
    )
    assert prunable(graph) == {"feature": 6, "other": 4, "up": 7}
    for seed in range(3):
        assert_mask_equivalent(graph, random_plan(graph, seed=seed), tolerance=1e-5)


@pytest.mark.tf
def test_three_axes_in_two_steps() -> None:
    text = CROSSED.split("flat =")[0] + (
        "flat = i32[2]{-1 24}\nd = Reshape(v, flat)\nmore = i32[3]{-1 24 1}\ne = Reshape(d, more)\n"
        "c/w = f32[1,3]{random 8}\npoints = i32[2]{-1 1}\np = Reshape(e, points)\n"
        "c = MatMul(p, c/w)\nthree = i32[3]{-1 24 3}\nq = Reshape(c, three)\n"
        "all = i32[2]{-1 72}\nr = Reshape(q, all)\nhead/w = f32[72,5]{random 5}\n"
        "head = MatMul(r, head/w)\noutput head\n"
    )
    graph = tiny(text)
    assert prunable(graph) == {"feature": 6, "other": 4, "c": 3}
    for seed in range(3):
        assert_mask_equivalent(graph, random_plan(graph, seed=seed), tolerance=1e-5)


# ------------------------------------------------------------------ axes that are split

SPLIT = """
x = input 1,4,4,3
a/w = f32[3,3,3,%d]{random 1}
a = Conv2D(x, a/w)
groups = i32[4]{1 16 %d %d}
g = Reshape(a, groups)
%s
back = i32[4]{1 4 4 %d}
y = Reshape(n, back)
z/w = f32[1,1,%d,3]{random 9}
z = Conv2D(y, z/w)
output z
"""
NORMALISED = """
axes = i32[2]{1 3}
mean = Mean(g, axes) Tidx=int32 keep_dims=true
n = Sub(g, mean)
"""
"""Group norm's mean: a group goes as a whole or not at all."""
ACROSS = "n = Softmax(t)\n"


@pytest.mark.tf
@pytest.mark.parametrize(("number", "width"), [(2, 6), (6, 2), (4, 4)])
def test_whole_groups_go_where_each_is_normalised(number: int, width: int) -> None:
    total = number * width
    graph = tiny(SPLIT % (total, number, width, NORMALISED, total, total))
    assert prunable(graph) == {"a": number}
    slim = assert_mask_equivalent(graph, random_plan(graph, seed=1), tolerance=1e-5)
    assert constant(slim, "groups")[3] == width and constant(slim, "groups")[2] < number


@pytest.mark.tf
@pytest.mark.parametrize(("number", "width"), [(2, 6), (6, 2), (4, 4)])
def test_a_channel_of_each_group_goes_where_groups_are_weighed(number: int, width: int) -> None:
    """Split attention weighs the groups against each other."""
    total = number * width
    weighed = (
        "order = i32[4]{0 1 3 2}\nt = Transpose(g, order) Tperm=int32\ns = Softmax(t)\n"
        "n = Transpose(s, order) Tperm=int32\n"
    )
    graph = tiny(SPLIT % (total, number, width, weighed, total, total))
    assert prunable(graph) == {"a": width}
    slim = assert_mask_equivalent(graph, random_plan(graph, seed=1), tolerance=1e-5)
    assert constant(slim, "groups")[2] == number and constant(slim, "groups")[3] < width


@pytest.mark.tf
@pytest.mark.parametrize(("number", "width"), [(2, 6), (6, 2)])
def test_scales_of_groups_are_split_alike(number: int, width: int) -> None:
    """A constant that is split follows the data, on whichever part the choice falls there."""
    total = number * width
    scaled = NORMALISED.replace("\nn = ", "\nc = ") + (
        f"k = f32[{total}]{{random 4}}\nlike = i32[4]{{1 1 {number} {width}}}\n"
        "s = Reshape(k, like)\nn = Mul(c, s)\n"
    )
    graph = tiny(SPLIT % (total, number, width, scaled, total, total))
    assert prunable(graph) == {"a": number}
    assert_mask_equivalent(graph, random_plan(graph, seed=1), tolerance=1e-5)


def test_an_axis_whose_parts_are_both_pinned() -> None:
    both = NORMALISED.replace("{1 3}", "{2 3}")
    assert "normalised" in pins(tiny(SPLIT % (12, 2, 6, both, 12, 12)), "a")


@pytest.mark.parametrize(
    "text", [CROSSED, LINEAR_ATTENTION], ids=["two streams", "linear attention"]
)
def test_what_a_position_is_computed_from_is_not_dead(text: str) -> None:
    """A product over one axis of a pair reads every position that both axes make."""
    assert not gs.plan(tiny(text)).removed
