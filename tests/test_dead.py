"""Dead channels, case by case: what goes and what stays; all run in TensorFlow."""

from __future__ import annotations

from typing import Dict, List

import numpy as np
import pytest
from dead_nets import BIASED, HEAD, TAIL, WIDE, folded, net, ops
from tiny import constant, dead, prune, tiny, zero_filters

import graphslim as gs
from graphslim.errors import PlanError
from graphslim.testing import assert_equivalent, round_trip

pytestmark = pytest.mark.tf

# ------------------------------------------------------------------ a constant of zero


@pytest.mark.parametrize(
    "middle",
    [
        "y = Identity(a)",
        "y = Relu6(a)",
        "s = Sigmoid(a)\ny = Mul(s, a)",
        "s = Sigmoid(a)\ny = Mul(a, s)",
        "b = f32[3,3,4,1]{random 3}\ny = DepthwiseConv2dNative(a, b)",
        "y = MaxPool(a)",
        "y = AvgPool(a)",
        "p = i32[4,2]{0 0 1 1 1 1 0 0}\ny = Pad(a, p) Tpaddings=int32",
        "n = i32[2]{12 12}\ny = ResizeBilinear(a, n) align_corners=false half_pixel_centers=false",
        "y = LeakyRelu(a) alpha=0.3",
        "y = Tanh(a)",
        "y = Elu(a)",
    ],
)
def test_zero_needs_no_fold_even_before_a_border(middle: str) -> None:
    """Producer-dead with v = 0: it goes from a SAME 3x3 consumer too."""
    tail = "z/w = f32[3,3,4,3]{random 2}\nz = Conv2D(y, z/w)\n"
    slim = prune(net(middle + "\n", tail), {"a": [2]})
    assert "BiasAdd" not in ops(slim)


def test_gate_of_a_dead_channel_goes_with_it() -> None:
    """In x * gate the zero of x wins, though sigmoid(anything) is no zero."""
    graph = net(
        "m = i32[2]{1 2}\np = Mean(a, m) Tidx=int32\ns/w = f32[1,1,4,2]{random 4}\n"
        "s = Conv2D(p, s/w)\nr = Relu(s)\ne/w = f32[1,1,2,4]{random 5}\ne = Conv2D(r, e/w)\n"
        "g = Sigmoid(e)\ny = Mul(a, g)\n",
        "z/w = f32[3,3,4,3]{random 2}\nz = Conv2D(y, z/w)\n",
    )
    slim = prune(graph, {"a": [2]})
    assert constant(slim, "e/w").shape == (1, 1, 2, 3)
    assert constant(slim, "s/w").shape == (1, 1, 3, 2)


# ------------------------------------------------------------------ other ways to be dead


def test_depthwise_row_of_zeros_is_constant_whatever_comes_in() -> None:
    graph = tiny(
        HEAD + BIASED + "d/w = f32[3,3,4,1]{random 3}\nd = DepthwiseConv2dNative(y, d/w)\n"
        "d/b = f32[4]{1 2 3 4}\ne = BiasAdd(d, d/b)\n" + TAIL.replace("(y", "(e") + "o = Relu(z)\n"
    )
    prune(zero_filters(graph, "d/w", 2, [0, 3]), {"a": [0, 3]})


def test_consumer_dead() -> None:
    """All its weights there are zero: it goes, whatever its value, border or not."""
    graph = tiny(HEAD + BIASED + WIDE % "")
    slim = prune(zero_filters(graph, "z/w", 2, [1, 3]), {"a": [1, 3]})
    assert constant(slim, "a/b").tolist() == [0.5, 2]


def test_every_consumer_has_to_be_indifferent() -> None:
    tail = WIDE % "" + "v/w = f32[1,1,4,3]{random 9}\nv = Conv2D(y, v/w)\nq = Relu(v)\n"
    graph = zero_filters(tiny(HEAD + BIASED + tail), "z/w", 2, [1, 3])
    prune(graph, {})
    prune(zero_filters(graph, "v/w", 2, [3]), {"a": [3]})


def test_chain_that_feeds_only_dead_channels_goes() -> None:
    text = HEAD + "m/w = f32[1,1,4,4]{random 5}\nm = Conv2D(a, m/w)\n" + TAIL.replace("(y", "(m")
    graph = zero_filters(tiny(text + "o = Relu(z)\n"), "z/w", 2, [0, 1])
    weights = np.array(constant(graph, "m/w"))
    weights[0, 0, 3, 2:] = 0  # channel 3 of a feeds channels 0 and 1 of m alone
    graph.set_attr("m/w", "value", graph["m/w"].attrs["value"].with_numbers(weights))
    prune(graph, {"a": [3], "m": [0, 1]})


def test_sigmoid_of_zero_is_a_half() -> None:
    graph = net("y = Sigmoid(a)\n", TAIL + "z/b = f32[3]{0 0 0}\no = BiasAdd(z, z/b)\n")
    slim = folded(graph, {"a": [2]})
    np.testing.assert_allclose(
        constant(slim, "z/b"), constant(graph, "z/w")[0, 0, 2] / 2, rtol=1e-6
    )


HARD = {
    "relu6(x + 3) / 6": "h3 = f32[]{3}\nh6 = f32[]{6}\nh = AddV2(a, h3)\nr = Relu6(h)\n"
    "y = RealDiv(r, h6)\n",
    "times 1/6": "h3 = f32[]{3}\nh6 = f32[]{0.16666667}\nh = AddV2(a, h3)\nr = Relu6(h)\n"
    "y = Mul(h6, r)\n",
    "clip": "h3 = f32[]{0.5}\nl = f32[]{0}\nu = f32[]{1}\nh = AddV2(a, h3)\nr = Maximum(h, l)\n"
    "y = Minimum(r, u)\n",
    "clip by value": "h3 = f32[]{0.5}\nl = f32[]{0}\nu = f32[]{1}\nh = AddV2(a, h3)\n"
    "y = ClipByValue(h, l, u)\n",
}


@pytest.mark.parametrize("spelling", sorted(HARD))
def test_hard_sigmoid_of_zero_is_a_half(spelling: str) -> None:
    graph = net(HARD[spelling], TAIL + "z/b = f32[3]{0 0 0}\no = BiasAdd(z, z/b)\n")
    slim = folded(graph, {"a": [2]})
    np.testing.assert_allclose(
        constant(slim, "z/b"), constant(graph, "z/w")[0, 0, 2] / 2, rtol=1e-5
    )


@pytest.mark.parametrize("spelling", sorted(HARD))
def test_hard_swish_of_a_constant(spelling: str) -> None:
    graph = net(HARD[spelling].replace("y =", "g =") + "y = Mul(a, g)\n", WIDE % "")
    prune(graph, {"a": [2]})


@pytest.mark.parametrize("op", ["AddV2", "Add", "AddN", "Sub", "Maximum", "SquaredDifference"])
def test_sum_is_constant_only_where_both_sides_are(op: str) -> None:
    text = (
        HEAD + f"b/w = f32[1,1,2,4]{{random 5}}\nb = Conv2D(x, b/w)\ny = {op}(a, b)\n" + WIDE % ""
    )
    graph = zero_filters(tiny(text), "a/w", 3, [0, 2])
    prune(graph, {})
    both = zero_filters(graph, "b/w", 3, [2, 3])
    prune(both, {"a": [2]})


def test_residual_sum_of_two_constants_is_folded() -> None:
    text = HEAD + "b/w = f32[1,1,2,4]{random 5}\nb = Conv2D(x, b/w)\nab = BiasAdd(a, a/b)\n"
    text += "y = AddV2(ab, b)\n" + WIDE % ' padding="VALID"'
    graph = zero_filters(zero_filters(tiny(text), "a/w", 3, [2]), "b/w", 3, [2])
    prune(graph, {"a": [2]})


def test_concatenation_of_constant_and_live_channels() -> None:
    text = HEAD + BIASED + "b/w = f32[1,1,2,2]{random 5}\nb = Conv2D(x, b/w)\nn = i32[]{-1}\n"
    text += "c = ConcatV2(b, y, n) Tidx=int32\nz/w = f32[3,3,6,3]{random 2}\n"
    same = zero_filters(tiny(text + "z = Conv2D(c, z/w)\no = Relu(z)\n"), "a/w", 3, [1, 2])
    prune(same, {})
    text += 'z = Conv2D(c, z/w) padding="VALID"\no = Relu(z)\n'
    valid = zero_filters(tiny(text), "a/w", 3, [1, 2])
    slim = prune(valid, {"a": [1, 2]})
    assert constant(slim, "z/w").shape == (3, 3, 4, 3)


def test_split_parts_go_together() -> None:
    text = HEAD + "n = i32[]{3}\ns = Split(n, a) num_split=2\ny = AddV2(s, s:1)\n"
    text += "z/w = f32[3,3,2,3]{random 2}\nz = Conv2D(y, z/w)\no = Relu(z)\n"
    prune(zero_filters(tiny(text), "a/w", 3, [1]), {})
    prune(zero_filters(tiny(text), "a/w", 3, [1, 3]), {"a": [1]})


def test_pixel_shuffle_needs_all_of_a_block() -> None:
    text = (
        "x = input 1,4,4,2\na/w = f32[1,1,2,8]{random 1}\na = Conv2D(x, a/w)\ny = DepthToSpace(a)\n"
    )
    text += "z/w = f32[3,3,2,3]{random 2}\nz = Conv2D(y, z/w)\no = Relu(z)\n"
    prune(zero_filters(tiny(text), "a/w", 3, [1, 3, 5]), {})
    prune(zero_filters(tiny(text), "a/w", 3, [1, 3, 5, 7]), {"a": [1]})


def test_softmax_pins_dead_channels() -> None:
    graph = net("s = Softmax(a)\ny = Mul(s, a)\n", TAIL + "o = Relu(z)\n")
    prune(graph, {})


@pytest.mark.parametrize("pool", ["AvgPool", "MaxPool"])
def test_pools_under_same_padding_do_not_count_the_border(pool: str) -> None:
    middle = BIASED + f"q = {pool}(y) ksize=[1,3,3,1] strides=[1,2,2,1]\n"
    tail = TAIL.replace("(y", "(q") + "z/b = f32[3]{0 0 0}\no = BiasAdd(z, z/b)\n"
    folded(net(middle, tail), {"a": [2]})


def test_resized_constant_is_folded() -> None:
    middle = (
        BIASED + "n = i32[2]{9 11}\n"
        "q = ResizeBilinear(y, n) align_corners=false half_pixel_centers=false\n"
    )
    prune(net(middle, TAIL.replace("(y", "(q") + "o = Relu(z)\n"), {"a": [2]})


def test_leaky_relu_of_a_negative_constant() -> None:
    graph = net(
        BIASED + "q = LeakyRelu(y) alpha=0.3\n", TAIL.replace("(y", "(q") + "o = Relu(z)\n", kill=1
    )
    prune(graph, {"a": [1]})


def test_constant_that_varies_over_space_is_no_constant() -> None:
    """Four rows of a positional constant are not four channels."""
    text = (
        "x = input 1,4,4,2\n"
        + HEAD.replace("x = input 1,6,6,2\n", "")
        + "p = f32[4,1,1]{1 2 3 4}\n"
    )
    text += "q = AddV2(a, p)\n" + TAIL.replace("(y", "(q") + "o = Relu(z)\n"
    prune(zero_filters(tiny(text), "a/w", 3, [0, 1, 2, 3]), {})
    column = text.replace("[4,1,1]", "[4,1]")
    prune(zero_filters(tiny(column), "a/w", 3, [0, 1, 2, 3]), {})


def test_zero_scale_of_a_batch_norm_leaves_its_offset() -> None:
    norm = (
        "n/s = f32[4]{1 0 1 0}\nn/b = f32[4]{1 -2 3 0.5}\nn/m = f32[4]{9 8 7 6}\n"
        "n/v = f32[4]{1 2 3 4}\n"
    )
    norm += "y = FusedBatchNorm(a, n/s, n/b, n/m, n/v)\nr = Relu(y)\n"
    graph = tiny(
        HEAD + norm + TAIL.replace("(y", "(r") + "z/b = f32[3]{0 0 0}\no = BiasAdd(z, z/b)\n"
    )
    folded(graph, {"a": [1, 3]})


def test_batch_norm_in_training_keeps_its_channels() -> None:
    norm = "n/s = f32[4]{1 1 1 1}\nn/b = f32[4]{1 2 3 4}\nn/e = f32[0]{}\n"
    norm += "y = FusedBatchNorm(a, n/s, n/b, n/e, n/e) is_training=true\n"
    assert dead(net(norm, TAIL + "o = Relu(z)\n")) == {}
    without = norm.replace("{1 1 1 1}", "{1 0 1 0}").replace("{1 2 3 4}", "{1 -2 3 0}")
    prune(zero_filters(net(without, WIDE % ""), "z/w", 2, [1]), {"a": [1, 3]})


# ------------------------------------------------------------------ how much goes


def test_unused_branch_keeps_one_channel() -> None:
    graph = tiny(HEAD + "u = Relu(a)\nv/w = f32[1,1,2,3]{random 4}\nv = Conv2D(x, v/w)\noutput v\n")
    assert dead(graph) == {"a": [0, 1, 2]}


def test_all_channels_dead_keeps_one() -> None:
    graph = zero_filters(tiny(HEAD + WIDE.replace("(y", "(a") % ""), "a/w", 3, [0, 1, 2, 3])
    plan = gs.plan(graph)
    slim = round_trip(gs.apply(graph, plan))
    assert constant(slim, "a/w").shape == (1, 1, 2, 1)
    assert_equivalent(graph, slim)


def test_threshold_counts_rounding_noise_as_zero() -> None:
    graph = tiny(HEAD + WIDE.replace("(y", "(a") % "")
    weights = np.array(constant(graph, "a/w"))
    weights[..., 2] = 1e-13
    graph.set_attr("a/w", "value", graph["a/w"].attrs["value"].with_numbers(weights))
    assert dead(graph, dead_below=0) == {}
    prune(graph, {"a": [2]}, dead_below=1e-9)
    with pytest.raises(PlanError, match="0 or more"):
        gs.plan(graph, dead_below=-1)


@pytest.mark.parametrize(
    "options, removed",
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"multiple_of": 4}, [1, 2, 3, 4]),
        ({"multiple_of": 3}, [1, 2, 3, 4, 5]),
        ({"multiple_of": 8}, []),
        ({"min_channels": 6}, [1, 2]),
        ({"min_channels": 9}, []),
        ({"multiple_of": 2, "min_channels": 5}, [1, 2]),
    ],
)
def test_rounding_counts_kept_channels_and_rounds_up(
    options: Dict[str, int], removed: List[int]
) -> None:
    text = "x = input 1,6,6,2\na/w = f32[1,1,2,8]{random 1}\na = Conv2D(x, a/w)\n"
    text += "z/w = f32[3,3,8,3]{random 2}\nz = Conv2D(a, z/w)\no = Relu(z)\n"
    graph = zero_filters(tiny(text), "a/w", 3, [1, 2, 3, 4, 5])
    plan = gs.plan(graph, **options)  # type: ignore[arg-type]
    assert [list(group.removed) for group in plan.groups] == ([removed] if removed else [])
    assert_equivalent(graph, round_trip(gs.apply(graph, plan)))


def test_chain_held_up_by_rounding_stays_exact() -> None:
    """Dead channels that rounding keeps may have lost what fed them."""
    text = HEAD + "m/w = f32[1,1,4,4]{random 5}\nm = Conv2D(a, m/w)\n" + TAIL.replace("(y", "(m")
    graph = zero_filters(tiny(text + "o = Relu(z)\n"), "z/w", 2, [0, 1, 2])
    weights = np.array(constant(graph, "m/w"))
    weights[0, 0, :3, 3] = 0
    graph.set_attr("m/w", "value", graph["m/w"].attrs["value"].with_numbers(weights))
    plan = gs.plan(graph, min_channels=3)
    assert {group.id: len(group.removed) for group in plan.groups} == {"a": 1, "m": 1}
    assert_equivalent(graph, round_trip(gs.apply(graph, plan)))


FUSED = """
x = input 1,6,6,2
a/w = f32[1,1,2,5]{random 1}
a = Conv2D(x, a/w)
a/b = f32[5]{0.5 -1 2 1 3}
y = BiasAdd(a, a/b)
m/w = f32[1,1,5,4]{random 5}
m = _FusedConv2D(y, m/w) num_args=0 fused_ops=["Relu"] padding="SAME" strides=[1,1,1,1]
z/w = f32[1,1,4,3]{random 2}
z = Conv2D(m, z/w)
o = Relu(z)
"""


def test_what_makes_a_constant_stays_as_long_as_the_constant_does() -> None:
    """`m` has no offset to fold into: channel 3 of it is a constant because channel 0 of `a` is."""
    graph = zero_filters(tiny(FUSED), "a/w", 3, [0])
    weights = np.array(constant(graph, "m/w"))
    weights[0, 0, 0], weights[0, 0, :, 3] = 0, 0
    weights[0, 0, 0, 3] = 1
    graph.set_attr("m/w", "value", graph["m/w"].attrs["value"].with_numbers(weights))
    assert dead(graph, min_channels=3) == {"m": [3]}
    assert dead(graph, min_channels=4) == {}
