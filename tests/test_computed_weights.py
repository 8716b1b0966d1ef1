"""Weights that are computed from constants alone are parameters like any other."""

from __future__ import annotations

from typing import Dict

import numpy as np
import pytest
from tiny import advice, constant, dead, groups, pins, tiny, zero_filters

import graphslim as gs
from graphslim.testing import (
    assert_equivalent,
    assert_identical,
    assert_mask_equivalent,
    random_plan,
    round_trip,
)

START = (
    "x = input 1,6,6,4\na/w = f32[3,3,4,8]{random 1}\na = Conv2D(x, a/w)\nr = Relu(a)\n"
    "v = f32[3,3,8,6]{random 2}\n"
)
TAIL = "b = Conv2D(r, w)\ns = Relu(b)\nc/w = f32[1,1,6,3]{random 4}\nc = Conv2D(s, c/w)\noutput c\n"
OVER = "over = i32[3]{0 1 2}\n"
WEIGHTS: Dict[str, str] = {
    "weight norm": OVER
    + "sq = Square(v)\nlen = Sum(sq, over) keep_dims=true Tidx=int32\neps = f32[]{0.001}\n"
    + "top = Maximum(len, eps)\ninv = Rsqrt(top)\nunit = Mul(v, inv)\ng = f32[6]{random 3}\n"
    + "w = Mul(unit, g)\n",
    "weight norm, the length first": OVER
    + "sq = Square(v)\nlen = Sum(sq, over) keep_dims=false Tidx=int32\nroot = Sqrt(len)\n"
    + "g = f32[6]{random 3}\ngain = RealDiv(g, root)\nw = Mul(gain, v)\n",
    "standardised": OVER
    + "mean = Mean(v, over) keep_dims=true Tidx=int32\nd = Sub(v, mean)\n"
    + "sq = SquaredDifference(v, mean)\nvar = Mean(sq, over) keep_dims=true Tidx=int32\n"
    + "eps = f32[]{0.001}\nmore = AddV2(var, eps)\ninv = Rsqrt(more)\nw = Mul(d, inv)\n",
    "spectral norm": "to = i32[2]{-1 6}\nflat = Reshape(v, to)\nu = f32[1,72]{random 5}\n"
    + "p = MatMul(u, flat)\nall = i32[2]{0 1}\nsq = Square(p)\n"
    + "len = Sum(sq, all) keep_dims=false Tidx=int32\nsigma = Sqrt(len)\nw = RealDiv(v, sigma)\n",
    "softmax": "w = Softmax(v)\n",
    "largest is one": "all = i32[4]{0 1 2 3}\nabs = Abs(v)\n"
    + "most = Max(abs, all) keep_dims=false Tidx=int32\nw = RealDiv(v, most)\n",
    "masked": "limit = f32[]{0.2}\nabs = Abs(v)\nyes = Greater(abs, limit)\n"
    + "m = Cast(yes) SrcT=bool DstT=float32\nw = Mul(v, m)\n",
}
KINDS = sorted(WEIGHTS)


@pytest.mark.tf
@pytest.mark.parametrize("kind", KINDS)
def test_layers_before_and_of_computed_weights_are_pruned(kind: str) -> None:
    graph = round_trip(tiny(START + WEIGHTS[kind] + TAIL))
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"a": 8, "b": 6}
    plan = random_plan(graph, seed=3)
    slim = assert_mask_equivalent(graph, plan, tolerance=1e-5)
    shape = gs.analyse(slim).fact(gs.Port("w")).shape
    assert shape == (3, 3, 4, 3)
    assert plan.params == (gs.cost(graph).params, gs.cost(slim).params)
    assert plan.macs == (gs.cost(graph).macs, gs.cost(slim).macs)
    # Made from the file again, and from the plan's own text, it is the same to the byte.
    again = gs.apply(round_trip(graph), gs.Plan.from_json(plan.to_json()))
    assert gs.serialize(again) == gs.serialize(gs.apply(graph, plan))
    # What was computed of filters at their full size is stored; it can be pruned again.
    assert_mask_equivalent(slim, random_plan(slim, seed=4), tolerance=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_stored_where_nothing_goes(kind: str) -> None:
    graph = tiny(START + WEIGHTS[kind] + TAIL)
    data = gs.serialize(graph)
    assert gs.serialize(gs.apply(graph, gs.plan(graph, removed={}))) == data


@pytest.mark.tf
@pytest.mark.parametrize("kind", ["weight norm", "masked", "largest is one", "spectral norm"])
def test_dead_channels_of_computed_weights(kind: str) -> None:
    graph = zero_filters(tiny(START + WEIGHTS[kind] + TAIL), "v", 3, [1, 4])
    zero_filters(graph, "v", 2, [0, 7])
    zero_filters(graph, "a/w", 3, [2])
    plan = gs.plan(graph)
    assert {one.id: one.removed for one in plan.groups} == {"a": (0, 2, 7), "b": (1, 4)}
    slim = round_trip(gs.apply(graph, plan))
    assert_equivalent(graph, slim)
    assert dead(slim) == {}


def test_what_only_moves_weights_is_not_stored() -> None:
    moved = (
        "turn = i32[4]{1 0 2 3}\nt = Transpose(v, turn) Tperm=int32\nto = i32[4]{3 3 8 6}\n"
        "zero = f32[]{0}\nfill = Fill(to, zero)\nw = Sub(t, fill)\n"
    )
    assert gs.analyse(tiny(START + moved + TAIL)).stored == {}


def test_only_what_weighs_channels_is_stored() -> None:
    graph = tiny(START + WEIGHTS["weight norm"] + TAIL)
    slim = gs.apply(graph, gs.plan(graph, removed={"a": [0, 3]}))
    assert slim["len"].op == "Const" and slim["w"].op == "Mul"
    assert constant(slim, "v").shape == (3, 3, 6, 6)
    np.testing.assert_allclose(
        constant(slim, "len"),
        np.square(constant(graph, "v").astype(float)).sum(axis=(0, 1, 2), keepdims=True),
        rtol=1e-6,
    )
    assert "sq" not in slim and "over" not in slim


def test_what_is_weighed_twice_is_stored_twice() -> None:
    """The sum of all lengths is that of all filters, also of those that go."""
    text = OVER + (
        "sq = Square(v)\nlens = Sum(sq, over) keep_dims=false Tidx=int32\nzero = i32[1]{0}\n"
        "len = Sum(lens, zero) keep_dims=false Tidx=int32\nw = RealDiv(v, len)\n"
    )
    graph = tiny(START + text + TAIL)
    slim = gs.apply(graph, gs.plan(graph, removed={"b": [0, 3]}))
    assert slim["len"].op == "Const"
    total = np.square(constant(graph, "v").astype(float)).sum()
    np.testing.assert_allclose(constant(slim, "len"), total, rtol=1e-6)


@pytest.mark.tf
@pytest.mark.parametrize("criterion", ["l1", "l2", "redundancy", "fpgm"])
def test_computed_weights_are_scored_as_the_layer_sees_them(criterion: str) -> None:
    graph = tiny(START + WEIGHTS["weight norm"] + TAIL)
    folded = graph.copy()
    gs.Pipeline(["fold-constants"]).run(folded)
    assert folded["w"].op == "Const"
    removed = []
    for one in (graph, folded):
        plan = gs.plan(one, criterion=criterion, ratio=0.5, multiple_of=1)
        removed.append({group.id: group.removed for group in plan.groups})
    assert removed[0] == removed[1]


@pytest.mark.tf
def test_weights_in_the_branches_of_a_condition() -> None:
    """A Switch passes on constants whatever its condition; what weighs them there is held."""
    branches = "p = Placeholder() dtype=bool shape=<>\ni = Switch(v, p)\nn = Neg(i:1)\nw = {}\n"
    plain = tiny(START + branches.format("Merge(i, n) N=2") + TAIL)
    assert {one.id for one in groups(plain).values() if one.prunable} == {"a", "b"}
    for truth in (False, True):
        feeds = {
            "x": np.random.RandomState(0).uniform(-1, 1, (1, 6, 6, 4)).astype(np.float32),
            "p": np.array(truth),
        }
        assert_mask_equivalent(plain, random_plan(plain, seed=2), feeds, tolerance=1e-5)
    text = START + "p = Placeholder() dtype=bool shape=<>\ni = Switch(v, p)\n" + OVER
    text += "len = Sum(i:1, over) keep_dims=true Tidx=int32\nn = Mul(i:1, len)\n"
    held = tiny(text + "w = Merge(i, n) N=2\n" + TAIL)
    reason = "weights are computed from it by a Sum, while the graph runs"
    assert pins(held, "a") == f"{reason} @ len"
    assert "graphslim optimize" in advice(held, "a")


def test_what_is_computed_from_variables_of_a_checkpoint_goes_on_being_computed() -> None:
    """They are cut where they are stored, and their filters' length would be another one then."""
    graph = tiny(START + WEIGHTS["weight norm"] + TAIL)
    graph.variables = frozenset(["v"])
    assert gs.analyse(graph.copy()).stored == {}
    reason = "weights are computed from it by a Sum, while the graph runs"
    assert pins(graph, "a") == f"{reason} @ len"
    assert "graphslim optimize" in advice(graph, "a")


def test_weights_that_cannot_be_computed_are_called_weights() -> None:
    graph = tiny(START + "w = MysteryOp(v) _output_shapes=[<3,3,8,6>]\n" + TAIL)
    reason = "weights that read it are computed in a way that is not followed"
    assert pins(graph, "a") == f"{reason} @ b"
    assert "value_rule" in advice(graph, "a")
    text = "axis = i32[]{2}\nu = Erfinv(v)\nm = Cumprod(u, axis) Tidx=int32\nw = Mul(v, m)\n"
    graph = tiny(START + text + TAIL)
    reason = "weights are computed from it by a Cumprod, in a way that is not known"
    assert pins(graph, "a") == f"{reason} @ m"
    assert "value_rule" in advice(graph, "a")


def test_random_numbers_are_no_constants() -> None:
    text = "n = i32[2]{8 6}\nw = RandomUniform(n) dtype=float32 seed=0 seed2=0\n"
    graph = tiny(
        "x = input 2,4\na/w = f32[4,8]{random 1}\na = MatMul(x, a/w)\n"
        + text
        + "b = MatMul(a, w)\nq = Relu(b)\noutput q\n"
    )
    axes = {axis.param for axis in gs.analyse(graph).axes}
    assert "w" not in axes
    assert gs.analyse(graph).stored == {}


@pytest.mark.tf
def test_a_number_computed_from_weights_alone_stays_what_it_was() -> None:
    """A loss of weight decay left in the graph: an output of constants."""
    text = START + "w = Identity(v)\nsq = Square(v)\nall = i32[4]{0 1 2 3}\n"
    text += "decay = Sum(sq, all) keep_dims=false Tidx=int32\n"
    graph = tiny(text + TAIL.replace("output c\n", "output c\noutput decay\n"))
    slim = assert_mask_equivalent(graph, random_plan(graph, seed=1), tolerance=1e-5)
    assert slim["decay"].op == "Const"
    assert_identical(slim, round_trip(slim))
