"""Cutting, joining and padding channels: what is bound to what, and equivalence when run."""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np
import pytest
from tiny import constant, dead, groups, pins, prune, tiny, value, zero_filters

import graphslim as gs
from graphslim.errors import PlanError
from graphslim.plans import plan_given
from graphslim.runtime import Session
from graphslim.testing import assert_mask_equivalent, random_plan, round_trip

START = "x = input 1,6,6,4\na/w = f32[3,3,4,12]{random 1}\na = Conv2D(x, a/w)\n"
ENDS = "f = i32[4]{%s}\nl = i32[4]{%s}\no = i32[4]{1 1 1 %s}\ny = StridedSlice(a, f, l, o)"
CUT: Dict[str, Tuple[str, int, List[int]]] = {
    "first channels": (ENDS % ("0 0 0 0", "1 6 6 5", "1"), 5, [5, 7]),
    "last channels": (ENDS % ("0 0 0 5", "1 6 6 12", "1"), 7, [5, 7]),
    "middle": (ENDS % ("0 1 0 3", "1 6 6 8", "1"), 5, [3, 5, 4]),
    "end beyond the size": (ENDS % ("0 0 0 4", "1 6 6 99", "1"), 8, [4, 8]),
    "all but the last": (ENDS % ("0 0 0 0", "1 6 6 -4", "1"), 8, [8, 4]),
    "counted from the end": (ENDS % ("0 0 0 -9", "1 6 6 -2", "1"), 7, [3, 7, 2]),
    "reversed": (
        ENDS % ("0 0 0 0", "1 6 6 0", "-1") + " begin_mask=8 end_mask=8",
        12,
        [12],
    ),
    "masks": (ENDS % ("3 3 3 3", "4 4 4 4", "1") + " begin_mask=15 end_mask=7", 4, [4, 8]),
    "ellipsis": (
        "f = i32[2]{0 4}\nl = i32[2]{0 9}\no = i32[2]{1 1}\n"
        "y = StridedSlice(a, f, l, o) ellipsis_mask=1",
        5,
        [4, 5, 3],
    ),
    "ellipsis that counts as a new axis too": (
        "f = i32[2]{0 4}\nl = i32[2]{0 9}\no = i32[2]{1 1}\n"
        "y = StridedSlice(a, f, l, o) ellipsis_mask=1 new_axis_mask=1",
        5,
        [4, 5, 3],
    ),
    "one by its number": (
        "f = i32[2]{0 4}\nl = i32[2]{0 5}\no = i32[2]{1 1}\n"
        "s = StridedSlice(a, f, l, o) ellipsis_mask=1 shrink_axis_mask=2\n"
        "n = i32[]{3}\ne = ExpandDims(s, n) Tdim=int32\nt = i32[4]{1 1 1 3}\ny = Tile(e, t)",
        3,
        [4, 1, 7],
    ),
    "one by its number from the end": (
        "f = i32[2]{0 -4}\nl = i32[2]{0 0}\no = i32[2]{1 1}\n"
        "s = StridedSlice(a, f, l, o) ellipsis_mask=1 shrink_axis_mask=2\n"
        "n = i32[]{3}\ne = ExpandDims(s, n) Tdim=int32\nt = i32[4]{1 1 1 3}\ny = Tile(e, t)",
        3,
        [8, 1, 3],
    ),
    "slice": ("f = i32[4]{0 1 0 3}\nl = i32[4]{1 4 -1 5}\ny = Slice(a, f, l)", 5, [3, 5, 4]),
    "slice to the end": (
        "f = i32[4]{0 0 0 3}\nl = i32[4]{-1 -1 -1 -1}\ny = Slice(a, f, l)",
        9,
        [3, 9],
    ),
    "parts of stated sizes": (
        "n = i32[3]{2 6 4}\nd = i32[]{3}\ns = SplitV(a, n, d) num_split=3\n"
        "y = ConcatV2(s:2, s:0, d) Tidx=int32",
        6,
        [2, 6, 4],
    ),
    "parts with a rest": (
        "n = i32[3]{2 -1 4}\nd = i32[]{-1}\ns = SplitV(a, n, d) num_split=3\ny = Relu(s:1)",
        6,
        [2, 6, 4],
    ),
    "parts joined again": (
        "f = i32[4]{0 0 0 0}\nl = i32[4]{1 6 6 5}\no = i32[4]{1 1 1 1}\n"
        "c = StridedSlice(a, f, l, o)\nf1 = i32[4]{0 0 0 5}\nl1 = i32[4]{1 6 6 12}\n"
        "e = StridedSlice(a, f1, l1, o)\nr = Relu(e)\nd = i32[]{3}\n"
        "y = ConcatV2(c, r, d) Tidx=int32",
        12,
        [5, 7],
    ),
    "padded channels": ("p = i32[4,2]{0 0 0 0 0 0 2 3}\ny = Pad(a, p) Tpaddings=int32", 17, [12]),
    "padded with a value": (
        "p = i32[4,2]{0 0 0 0 0 0 0 3}\nh = f32[]{0.5}\ny = PadV2(a, p, h) Tpaddings=int32",
        15,
        [12],
    ),
    "padded shortcut": (
        "b/w = f32[1,1,4,16]{random 3}\nb = Conv2D(x, b/w)\n"
        "p = i32[4,2]{0 0 0 0 0 0 2 2}\nq = Pad(a, p) Tpaddings=int32\ny = AddV2(q, b)",
        16,
        [12, 2, 2],
    ),
    "tiled": ("t = i32[4]{1 2 1 3}\ny = Tile(a, t)", 36, [12]),
    "one channel repeated": (
        "m/w = f32[1,1,12,1]{random 4}\nm = Conv2D(a, m/w)\nt = i32[4]{1 1 1 12}\n"
        "r = Tile(m, t)\ny = Mul(r, a)",
        12,
        [12, 1],
    ),
    "beside coordinates": (
        "k = f32[1,6,6,2]{random 5}\ns = Shape(x)\nu = Reshape(k, t)\nt = i32[4]{1 6 6 2}\n"
        "n = i32[]{3}\ny = ConcatV2(a, u, n) Tidx=int32",
        14,
        [12],
    ),
}


def ended(middle: str, width: int) -> gs.Graph:
    return tiny(
        START + middle + f"\nz/w = f32[1,1,{width},3]{{random 9}}\nz = Conv2D(y, z/w)\noutput z\n"
    )


@pytest.mark.tf
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", sorted(CUT))
def test_pieces_lose_channels_on_their_own(name: str, seed: int) -> None:
    middle, width, sizes = CUT[name]
    graph = ended(middle, width)
    found = [len(one) for one in groups(graph).values() if one.id[:1] in "abm"]
    assert found == sizes
    plan = random_plan(graph, seed, ratio=(0.5, 0.99)[seed - 1])
    assert plan.removed > 0
    slim = assert_mask_equivalent(graph, plan, tolerance=1e-5)
    again = random_plan(slim, seed, allow_empty=True)
    assert_mask_equivalent(slim, again, tolerance=1e-5, allow_empty=True)


PINNED = {
    ENDS % ("0 0 0 0", "1 6 6 12", "3"): "it is sliced in steps over channels @ y",
    "q = input 4\nl = Cast(q)\nf = i32[4]{0 0 0 0}\ny = Slice(a, f, l)": (
        "it is sliced at places that are not constant @ y"
    ),
    "q = input 2\nl = Cast(q)\nd = i32[]{3}\ny = SplitV(a, l, d) num_split=2": (
        "it is split into parts of unknown sizes @ y"
    ),
    'p = i32[4,2]{0 0 0 0 0 0 1 1}\ny = MirrorPad(a, p) mode="REFLECT"': (
        "it is padded with its own mirror image over channels @ y"
    ),
    "y = Unpack(a) axis=3 num=12": "it is unstacked over channels @ y",
    "q = input 4,2\np = Cast(q)\ny = Pad(a, p)": "it is padded by amounts that are not known @ y",
    "q = input 4\np = Cast(q)\ny = Tile(a, p)": (
        "it is repeated a number of times that is not known @ y"
    ),
}


@pytest.mark.parametrize("middle", sorted(PINNED))
def test_rule_pins_and_says_why(middle: str) -> None:
    graph = tiny(START + middle + "\nq9 = Sigmoid(y)\n")
    assert pins(graph, "a") == PINNED[middle]


def test_bounds_that_are_not_known_pin_only_the_axis_that_they_cut() -> None:
    """Cropping to a computed height leaves the channels alone."""
    graph = tiny(
        START.replace("1,6,6,4", "1,?,6,4") + "s = Shape(x)\n"
        "f = i32[1]{1}\nl = i32[1]{2}\no = i32[1]{1}\n"
        "h = StridedSlice(s, f, l, o) T=int32 shrink_axis_mask=1\n"
        "n = i32[]{0}\nm = i32[]{12}\nb = i32[4]{0 0 0 0}\n"
        "e = Pack(n, h, n, m) T=int32\ns1 = i32[4]{1 1 1 1}\n"
        "y = StridedSlice(a, b, e, s1) begin_mask=15 end_mask=5\n"
        "z/w = f32[1,1,12,3]{1}\nz = Conv2D(y, z/w)\n"
    )
    assert groups(graph)["a"].prunable
    assert gs.analyse(graph).fact(gs.Port("y")).shape == (1, None, 6, 12)


def test_a_piece_keeps_a_channel() -> None:
    """An empty piece is nothing that TensorFlow could convolve, and -0 is no count from the end."""
    graph = ended(*CUT["parts joined again"][:2])
    assert [len(one) for one in groups(graph).values() if one.id[0] == "a"] == [5, 7]
    with pytest.raises(PlanError, match="would lose all"):
        plan_given(graph, {"a": [0, 1, 2, 3, 4]})


@pytest.mark.tf
def test_dead_channels_of_pieces() -> None:
    graph = ended(*CUT["counted from the end"][:2])
    zero_filters(graph, "z/w", 2, [1, 6])
    zero_filters(graph, "a/w", 3, [5])
    # The first of the three groups and the last feed nothing: each keeps its last channel.
    slim = prune(graph, {"a": [0, 1], "a#2": [1, 2, 6], "a#3": [0]})
    assert constant(slim, "f").tolist() == [0, 0, 0, -5]
    assert constant(slim, "l").tolist() == [1, 6, 6, -1]


@pytest.mark.tf
def test_dead_channels_of_parts() -> None:
    graph = zero_filters(ended(*CUT["parts of stated sizes"][:2]), "z/w", 2, [0, 1, 5])
    found = dead(graph)
    assert found == {"a": [1], "a#2": [0, 1, 2, 3, 4], "a#3": [0, 1]}
    slim = prune(graph, found)
    assert constant(slim, "n").tolist() == [1, 1, 2]


@pytest.mark.tf
def test_padding_goes_with_the_channels_that_it_meets() -> None:
    """Channels 0 and 1 of the wide convolution are added to nothing but zeros."""
    graph = zero_filters(ended(*CUT["padded shortcut"][:2]), "b/w", 3, [0, 15])
    known = value(graph, "q")
    assert known is not None and known.shape == (1, 1, 1, 16)
    assert np.isnan(known[..., 2:14]).all() and (known[..., [0, 1, 14, 15]] == 0).all()
    slim = prune(graph, {"b": [0], "b#2": [1]})
    assert constant(slim, "p")[3].tolist() == [1, 1]


@pytest.mark.tf
def test_a_constant_that_is_padded_on_is_folded() -> None:
    graph = ended(*CUT["padded with a value"][:2])
    known = value(graph, "y")
    assert known is not None
    np.testing.assert_array_equal(known[0, 0, 0, 12:], [0.5] * 3)
    zero_filters(graph, "a/w", 3, [2])
    slim = prune(graph, {"a": [2]})
    assert slim["z/w"].attrs["value"].shape == (1, 1, 14, 3)


@pytest.mark.tf
def test_bounds_shared_with_another_slice_are_told_apart() -> None:
    """One literal cuts two tensors, of which one is an output."""
    graph = tiny(
        START + "b/w = f32[1,1,4,12]{random 2}\nb = Conv2D(x, b/w)\n"
        "f = i32[4]{0 0 0 0}\nl = i32[4]{1 6 6 5}\no = i32[4]{1 1 1 1}\n"
        "y = StridedSlice(a, f, l, o)\nv = StridedSlice(b, f, l, o)\n"
        "z/w = f32[1,1,5,3]{random 9}\nz = Conv2D(y, z/w)\noutput z\noutput v\n"
    )
    assert_mask_equivalent(graph, plan_given(graph, {"a": [0, 2]}), tolerance=1e-5)


@pytest.mark.tf
def test_shapes_are_those_of_tensorflow() -> None:
    graph = tiny(
        "x = input 2,5,6,4\nf = i32[4]{0 1 -3 1}\nl = i32[4]{9 -1 -1 3}\no = i32[4]{1 2 1 1}\n"
        "a = StridedSlice(x, f, l, o)\nb = StridedSlice(x, f, l, o) shrink_axis_mask=2\n"
        "c = StridedSlice(x, f, l, o) new_axis_mask=4\nd = StridedSlice(x, f, l, o) end_mask=14\n"
        "n = i32[4]{1 2 -1 2}\nk = i32[4]{0 3 2 1}\ne = Slice(x, k, n)\n"
        "t = i32[4]{2 1 3 1}\ng = Tile(x, t)\np = i32[4,2]{0 1 2 0 0 0 1 1}\n"
        "h = Pad(x, p) Tpaddings=int32\nm = Pack(x, x) axis=-2\nu = Unpack(x) axis=2 num=6\n"
        "j = Relu(u:3)\n"
    )
    names = ["a", "b", "c", "d", "e", "g", "h", "m", "j"]
    with Session(graph) as session:
        arrays = session.run({"x": np.zeros((2, 5, 6, 4), np.float32)}, names)
    for name, array in zip(names, arrays):
        assert gs.analyse(graph).fact(gs.Port(name)).shape == array.shape, name


@pytest.mark.tf
def test_values_are_those_that_tensorflow_computes() -> None:
    """Known values go through every op of this family as TensorFlow computes them."""
    graph = tiny(
        "k = f32[1,2,3,4]{random 3}\nf = i32[4]{0 1 -3 1}\nl = i32[4]{9 2 -1 3}\n"
        "o = i32[4]{1 1 1 1}\na = StridedSlice(k, f, l, o) shrink_axis_mask=2\n"
        "b = StridedSlice(k, f, l, o) new_axis_mask=4 end_mask=8\nn = i32[4]{1 1 -1 2}\n"
        "m = i32[4]{0 1 1 2}\ne = Slice(k, m, n)\nt = i32[4]{2 1 3 1}\ng = Tile(k, t)\n"
        "p = i32[4,2]{0 0 0 0 0 0 1 2}\nq = f32[]{0.5}\nh = PadV2(k, p, q) Tpaddings=int32\n"
        "c = Pack(k, k) axis=-2\nu = Unpack(k) axis=2 num=3\nj = Identity(u:2)\n"
        "d = i32[]{3}\nr = i32[2]{1 3}\ns = SplitV(k, r, d) num_split=2\ni = Identity(s:1)\n"
    )
    names = ["a", "b", "e", "g", "h", "c", "j", "i"]
    with Session(graph) as session:
        arrays = session.run({}, names)
    for name, array in zip(names, arrays):
        known = value(graph, name)
        assert known is not None, name
        np.testing.assert_allclose(np.broadcast_to(known, array.shape), array, 1e-6, err_msg=name)


def test_cut_numbers_survive_a_round_trip() -> None:
    graph = ended(*CUT["slice"][:2])
    slim = round_trip(gs.apply(graph, plan_given(graph, {"a": [0], "a#2": [1, 2]})))
    assert constant(slim, "f").tolist() == [0, 1, 0, 2]
    assert constant(slim, "l").tolist() == [1, 4, -1, 3]
