"""Normalisation spelled out: over space it is per channel, over channels it pins and says so."""

from __future__ import annotations

from typing import Dict

import pytest
from networks import Net
from spellings import NORMS
from tiny import dead, groups, pins, prune, tiny, zero_filters

import graphslim as gs
from graphslim.testing import assert_mask_equivalent, random_plan

pytestmark = pytest.mark.tf


def prunable(graph: gs.Graph) -> Dict[str, int]:
    return {one.id: len(one) for one in groups(graph).values() if one.prunable}


# ------------------------------------------------------------------ batch norm and bias


def normalised(name: str, depthwise: bool) -> gs.Graph:
    """A layer of eight filters, of which 1 and 5 are zero, then norm, activation and a reader."""
    net = Net(channels=4, size=5)
    y = net.conv(net.x, 8, 3, name="a")
    if depthwise:
        y = net.depthwise(y)
    y = net.f("Relu", NORMS[name](net, y))
    graph = net.graph(net.f("Relu", net.conv(y, 3, name="z")))
    return zero_filters(graph, graph.data_inputs("a")[1].node, 3, [1, 5])


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("name", sorted(NORMS))
def test_batch_norm_is_per_channel(name: str, depthwise: bool) -> None:
    graph = normalised(name, depthwise)
    assert prunable(graph) == {"a": 8}
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)
    prune(graph, {"a": [1, 5]})


def test_scale_in_the_weights_goes_with_the_channel() -> None:
    """Weights times a vector that the graph computes, and an offset left behind."""
    graph = tiny(
        "x = input 1,6,6,4\nw = f32[3,3,4,8]{random 1}\ng = f32[8]{random 2}\nw1 = Mul(w, g)\n"
        "a = Conv2D(x, w1)\nb = f32[8]{random 3}\ny = AddV2(a, b)\nr = Relu(y)\n"
        "z/w = f32[1,1,8,3]{random 4}\nz = Conv2D(r, z/w)\nq = Relu(z)\noutput q\n"
    )
    assert prunable(graph) == {"a": 8}
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)
    zero_filters(graph, "g", 0, [2, 3])
    prune(graph, {"a": [2, 3]})


def test_norm_of_weights_over_their_inputs_is_per_filter() -> None:
    """Weight normalisation: each filter divided by its own length."""
    graph = tiny(
        "x = input 1,6,6,4\nw = f32[3,3,4,8]{random 1}\nn = i32[3]{0 1 2}\nsq = Square(w)\n"
        "s = Sum(sq, n) Tidx=int32 keep_dims=true\nr = Rsqrt(s)\nw1 = Mul(w, r)\n"
        "a = Conv2D(x, w1)\ny = Relu(a)\nz/w = f32[1,1,8,3]{random 4}\nz = Conv2D(y, z/w)\n"
        "output z\n"
    )
    assert prunable(graph) == {"a": 8}
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)


@pytest.mark.tf
def test_sum_of_weights_over_their_filters_is_a_parameter() -> None:
    graph = tiny(
        "x = input 1,6,6,4\nw = f32[1,1,4,8]{random 1}\nn = i32[1]{3}\n"
        "s = Sum(w, n) Tidx=int32 keep_dims=true\nw1 = Sub(w, s)\na = Conv2D(x, w1)\n"
        "y = Relu(a)\nz/w = f32[1,1,8,3]{random 4}\nz = Conv2D(y, z/w)\noutput z\n"
    )
    assert prunable(graph) == {"a": 8}
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)


# ------------------------------------------------------------------ over space: per channel

START = "x = input 1,6,6,4\na/w = f32[3,3,4,8]{random 1}\na = Conv2D(x, a/w)\n"
END = "z/w = f32[1,1,8,3]{random 9}\nz = Conv2D(y, z/w)\noutput z\n"
MOMENTS = (
    "m = Mean(a, n) Tidx=int32\ns = StopGradient(m)\nd = SquaredDifference(a, s)\n"
    "v = Mean(d, n) Tidx=int32\ne = f32[]{0.001}\nve = AddV2(v, e)\nr = Rsqrt(ve)\n"
    "c = Sub(a, m)\n"
)
PER_CHANNEL = {
    "instance norm": "n = i32[2]{1 2}\n" + MOMENTS + "y = Mul(c, r)\n",
    "instance norm with scale and offset": (
        "n = i32[2]{1 2}\n" + MOMENTS + "g = f32[8]{random 5}\nb = f32[1,1,1,8]{random 6}\n"
        "q = Mul(g, r)\nt = Mul(a, q)\nu = Mul(m, q)\no = Sub(b, u)\ny = AddV2(t, o)\n"
    ),
    "global response norm without its mean": (
        "n = i32[2]{1 2}\nq = Square(a)\ns = Sum(q, n) Tidx=int32 keep_dims=true\nr = Sqrt(s)\n"
        "y = Mul(a, r)\n"
    ),
    "length over space": (
        "n = i32[2]{1 2}\nl = EuclideanNorm(a, n) Tidx=int32 keep_dims=true\ny = DivNoNan(a, l)\n"
    ),
    "softmax over space": (
        "n = i32[2]{1 2}\nm = Max(a, n) Tidx=int32 keep_dims=true\nd = Sub(a, m)\nq = Exp(d)\n"
        "s = Sum(q, n) Tidx=int32 keep_dims=true\ny = RealDiv(q, s)\n"
    ),
    "softmax of the last axis, which is space": (
        "p = i32[4]{0 1 3 2}\nt = Transpose(a, p) Tperm=int32\ns = Softmax(t)\n"
        "y = Transpose(s, p) Tperm=int32\n"
    ),
    "any": (
        "k = f32[]{0.1}\nn = i32[1]{1}\ng = Greater(a, k)\n"
        "h = Any(g, n) Tidx=int32 keep_dims=true\nf = Cast(h) SrcT=bool DstT=float32\n"
        "y = Mul(a, f)\n"
    ),
}


@pytest.mark.parametrize("name", sorted(PER_CHANNEL))
def test_what_is_taken_over_space_is_per_channel(name: str) -> None:
    graph = tiny(START + PER_CHANNEL[name] + END)
    assert prunable(graph) == {"a": 8}
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)


def test_constant_channel_is_nothing_after_instance_norm() -> None:
    """Minus its own mean it is zero, whatever the constant was."""
    text = START + "k = f32[8]{random 3}\na0 = BiasAdd(a, k)\n"
    text += PER_CHANNEL["instance norm"].replace("(a,", "(a0,") + END
    graph = zero_filters(tiny(text), "a/w", 3, [4, 6])
    assert dead(graph) == {"a": [4, 6]}
    prune(graph, {"a": [4, 6]})


# ------------------------------------------------------------------ over channels: pinned

LAYER_NORM = "it is normalised over channels (layer norm)"
SOFTMAX = "it is divided by a sum over channels (softmax)"
LENGTH = "it is divided by its length over channels (L2 or RMS norm)"
PINNED = {
    "layer norm": ("n = i32[1]{-1}\n" + MOMENTS + "y = Mul(c, r)\n", f"{LAYER_NORM} @ m"),
    "layer norm over all": (
        "n = i32[3]{1 2 3}\n" + MOMENTS + "y = Mul(c, r)\n",
        f"{LAYER_NORM} @ m",
    ),
    "variance alone": (
        "n = i32[1]{3}\nk = f32[8]{1}\nd = SquaredDifference(a, k)\n"
        "v = Mean(d, n) Tidx=int32\nr = Rsqrt(v)\ny = Mul(a, r)\n",
        f"{LAYER_NORM} @ v",
    ),
    "rms norm": (
        "n = i32[1]{3}\nq = Square(a)\nm = Mean(q, n) Tidx=int32\ne = f32[]{0.001}\n"
        "v = AddV2(m, e)\nr = Rsqrt(v)\ny = Mul(a, r)\n",
        f"{LENGTH} @ m",
    ),
    "l2 norm": (
        "n = i32[1]{3}\nq = Square(a)\nm = Sum(q, n) Tidx=int32 keep_dims=true\ne = f32[]{0.001}\n"
        "v = Maximum(m, e)\nr = Rsqrt(v)\ny = Mul(a, r)\n",
        f"{LENGTH} @ m",
    ),
    "softmax": (
        "n = i32[1]{-1}\nm = Max(a, n) Tidx=int32 keep_dims=true\nd = Sub(a, m)\nq = Exp(d)\n"
        "s = Sum(q, n) Tidx=int32 keep_dims=true\ny = RealDiv(q, s)\n",
        f"{SOFTMAX} @ m",
    ),
    "softmax without the largest": (
        "n = i32[1]{3}\nq = Exp(a)\ns = Sum(q, n) Tidx=int32 keep_dims=true\ny = RealDiv(q, s)\n",
        f"{SOFTMAX} @ s",
    ),
    "softmax by a reciprocal": (
        "n = i32[1]{3}\nq = Exp(a)\ns = Sum(q, n) Tidx=int32 keep_dims=true\ne = f32[]{0.1}\n"
        "f = AddV2(s, e)\ni = Reciprocal(f)\ny = Mul(q, i)\n",
        "something is divided by its sum over channels @ s",
    ),
    "sum that divides whole numbers": (
        "n = i32[1]{3}\ns = Sum(a, n) Tidx=int32 keep_dims=true\ny = FloorDiv(a, s)\n",
        "something is divided by its sum over channels @ s",
    ),
    "mean of channels": (
        "n = i32[1]{3}\nm = Mean(a, n) Tidx=int32\ns = Sigmoid(m)\ny = Mul(a, s)\n",
        "it is reduced by a Mean over channels @ m",
    ),
    "length": (
        "n = i32[1]{3}\nl = EuclideanNorm(a, n) Tidx=int32 keep_dims=true\ny = RealDiv(a, l)\n",
        "it is reduced by an EuclideanNorm over channels @ l",
    ),
    "softmax in one op": (
        "y = LogSoftmax(a)\n",
        "its value depends on every channel beside it @ y",
    ),
    "local response": ("y = LRN(a)\n", "its value depends on every channel beside it @ y"),
}


GROUP_NORM = (
    "t = i32[5]{1 6 6 2 4}\nb = Reshape(a, t) Tshape=int32\nn = i32[3]{1 2 4}\n"
    + MOMENTS.replace("(a,", "(b,")
    + "g = Mul(c, r)\nt2 = i32[4]{1 6 6 8}\ny = Reshape(g, t2) Tshape=int32\n"
)


@pytest.mark.tf
def test_whole_groups_of_a_group_norm_may_go() -> None:
    """A group is normalised by itself: it goes as a whole, and the others stay as they were."""
    graph = tiny(START + GROUP_NORM + END)
    assert len(groups(graph)["a"]) == 2 and groups(graph)["a"].prunable
    plan = gs.plan(graph, removed={"a": [1]})
    slim = assert_mask_equivalent(graph, plan)
    assert slim["a/w"].attrs["value"].shape[3] == 4


@pytest.mark.parametrize("name", sorted(PINNED))
def test_what_is_taken_over_channels_pins_and_says_what_it_is(name: str) -> None:
    middle, why = PINNED[name]
    graph = tiny(START + middle + END)
    assert pins(graph, "a") == why
    assert prunable(graph) == {}
    assert dead(graph) == {}


def test_one_channel_that_is_reduced_away_is_needed() -> None:
    graph = tiny(
        "x = input 1,6,6,4\nb/w = f32[1,1,4,6]{random 2}\nb = Conv2D(x, b/w)\n"
        "a/w = f32[1,1,6,1]{random 1}\na = Conv2D(b, a/w)\nn = i32[1]{3}\n"
        "y = Mean(a, n) Tidx=int32 keep_dims=false\noutput y\n"
    )
    assert not groups(graph)["a"].prunable
    assert dead(graph) == {}


def test_reduction_over_unknown_axes_pins() -> None:
    graph = tiny(START + "n = input 1\ni = Cast(n)\ny = Mean(a, i) Tidx=int32\noutput y\n")
    assert pins(graph, "a") == "it is reduced over axes that are not constant @ y"


@pytest.mark.parametrize(
    "middle, why",
    [
        (
            "s = i32[6]{0 0 1 1 2 2}\nr = Squeeze(a) squeeze_dims=[0]\no = i32[3]{2 0 1}\n"
            "t = Transpose(r, o) Tperm=int32\ns8 = i32[8]{0 0 1 1 2 2 3 3}\n"
            "y = SegmentSum(t, s8) Tindices=int32",
            "its positions are joined in segments @ y",
        ),
        (
            "m = i32[2]{1 2}\nv = Mean(a, m) Tidx=int32 keep_dims=false\ni = i32[1]{2}\n"
            "k = i32[]{3}\ny = InTopKV2(v, i, k) T=int32",
            "its rank among all channels is asked for @ y",
        ),
    ],
)
def test_segments_and_ranks_pin(middle: str, why: str) -> None:
    assert pins(tiny(START + middle + "\noutput y\n"), "a") == why


def test_segments_of_rows_keep_the_channels() -> None:
    graph = tiny(
        START + "r = Squeeze(a) squeeze_dims=[0]\ns = i32[6]{0 0 1 1 2 2}\n"
        "t = SegmentMean(r, s) Tindices=int32\nn = i32[]{0}\n"
        "y = ExpandDims(t, n) Tdim=int32\n" + END
    )
    assert prunable(graph) == {"a": 8}
    assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)
