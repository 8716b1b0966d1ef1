"""Picking channels by constant positions, and ops that ask for positions themselves."""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np
import pytest
from tiny import constant, groups, pins, prune, tiny, value, zero_filters

import graphslim as gs
from graphslim.plans import plan_given
from graphslim.runtime import Session
from graphslim.testing import assert_mask_equivalent, random_plan

START = "x = input 1,6,6,4\na/w = f32[3,3,4,8]{random 1}\na = Conv2D(x, a/w)\n"
AXIS = "n = i32[]{%d}\n"
PICKED: Dict[str, Tuple[str, int, List[int]]] = {
    "shuffled": ("k = i32[8]{0 4 1 5 2 6 3 7}\n" + AXIS % 3 + "y = GatherV2(a, k, n)", 8, [8]),
    "some of them": ("k = i32[3]{6 1 4}\n" + AXIS % -1 + "y = GatherV2(a, k, n)", 3, [5, 3]),
    "one twice": ("k = i32[4]{6 1 6 4}\n" + AXIS % 3 + "y = GatherV2(a, k, n)", 4, [5, 3]),
    "behind identities": (
        "k = i32[3]{7 2 0}\nk0 = Identity(k) T=int32\nk1 = Cast(k0) SrcT=int32 DstT=int64\n"
        + AXIS % 3
        + "y = GatherV2(a, k1, n) Tindices=int64",
        3,
        [3, 5],
    ),
    "two pieces": (
        "k = i32[4]{0 2 4 6}\nm = i32[4]{1 3 5 7}\n" + AXIS % 3 + "b = GatherV2(a, k, n)\n"
        "c = GatherV2(a, m, n)\nr = Relu(c)\ny = AddV2(b, r)",
        4,
        [4],
    ),
    "rows": ("k = i32[3]{5 1 1}\n" + AXIS % 1 + "y = GatherV2(a, k, n)", 8, [8]),
    "rows of each example": (
        "k = i32[1,3]{5 1 1}\n" + AXIS % 1 + "y = GatherV2(a, k, n) batch_dims=1", 8, [8]),
    "columns of each row": (
        "k = i32[1,6,2]{5 1 0 3 2 2 4 4 5 0 1 0}\n" + AXIS % 2
        + "y = GatherV2(a, k, n) batch_dims=-1", 8, [8]),
    "rows by coordinates": ("k = i32[2,3]{0 1 2 0 3 3}\n"
        "q = GatherNd(a, k) Tparams=float32 Tindices=int32\n"
        "t = i32[4]{1 1 2 8}\ny = Reshape(q, t)", 8, [8]),
    "reversed channels": ("k = i32[2]{3 1}\ny = ReverseV2(a, k) Tidx=int32", 8, [8]),
    "running sum over rows": (
        AXIS % 1 + "y = Cumsum(a, n) Tidx=int32 exclusive=false reverse=false",
        8,
        [8],
    ),
    "rows rolled": (
        "k = i32[1]{2}\nm = i32[1]{1}\ny = Roll(a, k, m) Tshift=int32 Taxis=int32",
        8,
        [8],
    ),
    "largest row": (
        AXIS % 1 + "g = ArgMax(a, n) Tidx=int32 output_type=int32\n"
        "q = Cast(g) SrcT=int32 DstT=float32\ny = ExpandDims(q, n) Tdim=int32",
        8,
        [8],
    ),
}  # fmt: skip


def ended(middle: str, width: int) -> gs.Graph:
    return tiny(
        START + middle + f"\nz/w = f32[1,1,{width},3]{{random 9}}\nz = Conv2D(y, z/w)\noutput z\n"
    )


@pytest.mark.tf
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", sorted(PICKED))
def test_positions_follow_the_channels(name: str, seed: int) -> None:
    middle, width, sizes = PICKED[name]
    graph = ended(middle, width)
    assert [len(one) for one in groups(graph).values() if one.prunable] == sizes
    plan = random_plan(graph, seed, ratio=(0.5, 0.99)[seed - 1])
    assert plan.removed > 0
    slim = assert_mask_equivalent(graph, plan, tolerance=1e-5)
    again = random_plan(slim, seed, allow_empty=True)
    assert_mask_equivalent(slim, again, tolerance=1e-5, allow_empty=True)


PINNED = {
    "k = i32[3]{6 1 4}\nq = input 1\nn = Cast(q)\ny = GatherV2(a, k, n)": (
        "it is gathered in a way that is not followed @ y"
    ),
    "q = input 3\nk = Cast(q)\nn = i32[]{3}\ny = GatherV2(a, k, n)": (
        "it is gathered by positions that are not a constant vector @ y"
    ),
    "k = i32[]{3}\nn = i32[]{3}\ny = GatherV2(a, k, n)": (
        "it is gathered by positions that are not a constant vector @ y"
    ),
    # Of a vector that is read in part, entries could not go with the channels that they pick.
    "k = i32[5]{6 1 4 0 2}\ni = i32[1]{0}\nj = i32[1]{3}\ne = i32[1]{1}\n"
    "p = StridedSlice(k, i, j, e)\nn = i32[]{3}\ny = GatherV2(a, p, n)": (
        "it is picked by positions that are not constant @ y"
    ),
    "k = i32[2,2]{1 2 3 4}\nn = i32[]{3}\ny = GatherV2(a, k, n)": (
        "it is gathered by positions that are not a constant vector @ y"
    ),
    "n = i32[]{3}\ny = Cumsum(a, n)": "a Cumsum adds up over channels @ y",
    "n = i32[]{3}\ny = ArgMax(a, n)": "its index among all channels is asked for @ y",
    "k = i32[]{2}\ny = TopKV2(a, k)": "its largest channels are asked for @ y",
    "y = Where(a)": "the positions at which it is true are asked for @ y",
    "y = MatrixDiag(a)": "it is made into a matrix or taken from one @ y",
    "k = i32[1]{2}\nm = i32[1]{3}\ny = Roll(a, k, m)": (
        "its positions are shifted by a fixed number @ y"
    ),
    "k = i32[1,2]{1 2}\nn = i32[]{3}\ny = GatherV2(a, k, n) batch_dims=1": (
        "it is gathered by positions that are not a constant vector @ y"
    ),
    "k = i32[1,4]{0 1 2 3}\ny = GatherNd(a, k)": (
        "it is gathered by positions that are not a constant vector @ y"
    ),
}


@pytest.mark.parametrize("middle", sorted(PINNED))
def test_rule_pins_and_says_why(middle: str) -> None:
    graph = tiny(START + middle + "\nq9 = Sigmoid(y)\n")
    assert pins(graph, "a") == PINNED[middle]


@pytest.mark.tf
def test_dead_channels_are_renumbered_away() -> None:
    """Channels 0, 2, 3, 5 and 7 are picked by nothing, 4 by no weight."""
    graph = zero_filters(ended(*PICKED["some of them"][:2]), "z/w", 2, [2])
    slim = prune(graph, {"a": [0, 1, 2, 3], "a#2": [1]})
    assert constant(slim, "k").tolist() == [1, 0]
    assert slim["a/w"].attrs["value"].shape == (3, 3, 4, 3)


@pytest.mark.tf
def test_positions_shared_by_two_widths_are_told_apart() -> None:
    """One vector picks from two convolutions that lose different channels beside the picked."""
    graph = tiny(
        START + "b/w = f32[3,3,4,9]{random 2}\nb = Conv2D(x, b/w)\nk = i32[3]{6 1 4}\n"
        "n = i32[]{3}\nc = GatherV2(a, k, n)\nd = GatherV2(b, k, n)\ny = Sub(c, d)\n"
        "z/w = f32[1,1,3,3]{random 9}\nz = Conv2D(y, z/w)\noutput z\n"
    )
    slim = assert_mask_equivalent(
        graph, plan_given(graph, {"a#2": [1], "b": [0, 2], "a": [4]}), tolerance=1e-5
    )
    # Channel 4 goes from both; beside it a loses channel 7, and b loses 0 and 3.
    assert constant(slim, "k/resized").tolist() == [5, 1]
    assert constant(slim, "k").tolist() == [3, 0]


def test_vector_that_is_read_as_numbers_too_pins_what_it_picks() -> None:
    graph = tiny(
        START + "k = i32[3]{6 1 4}\nn = i32[]{3}\ny = GatherV2(a, k, n)\n"
        "c = Cast(k) SrcT=int32 DstT=float32\nq = Mul(c, y)\n"
    )
    assert pins(graph, "a") == "it is picked by positions that are not constant @ y"


def test_plan_says_which_vector_holds_positions() -> None:
    graph = ended(*PICKED["some of them"][:2])
    plan = plan_given(graph, {"a": [0], "a#2": [1]})
    found = {
        (cut.param, cut.axis, cut.role): cut.removed for one in plan.groups for cut in one.cuts
    }
    assert found["k", 0, "follower"] == (2,)
    assert found["k", 0, "index"] == (4,)


@pytest.mark.tf
def test_values_are_those_that_tensorflow_computes() -> None:
    graph = tiny(
        "k = f32[1,2,3,4]{random 3}\ni = i32[3]{3 0 3}\nn = i32[]{3}\na = GatherV2(k, i, n)\n"
        "j = i32[2,2]{1 0 1 1}\nm = i32[]{1}\nb = GatherV2(k, j, m)\nr = i32[2]{3 1}\n"
        "c = ReverseV2(k, r) Tidx=int32\np = i32[3]{2 0 1}\nd = InvertPermutation(p) T=int32\n"
        "e = Cast(d) SrcT=int32 DstT=float32\ns = i32[]{1}\nt = i32[]{9}\nu = i32[]{3}\n"
        "f = Range(s, t, u) Tidx=int32\ng = Cast(f) SrcT=int32 DstT=float32\n"
    )
    names = ["a", "b", "c", "e", "g"]
    with Session(graph) as session:
        arrays = session.run({}, names)
    for name, array in zip(names, arrays):
        assert gs.analyse(graph).fact(gs.Port(name)).shape == array.shape, name
        known = value(graph, name)
        assert known is not None, name
        np.testing.assert_allclose(np.broadcast_to(known, array.shape), array, 1e-6, err_msg=name)
