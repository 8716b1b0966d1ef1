"""Shapes that are computed in the graph: what is followed, rewritten, and told apart."""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np
import pytest
from tiny import constant, groups, pins, prune, tiny, value, zero_filters

import graphslim as gs
from graphslim.runtime import Session
from graphslim.testing import assert_mask_equivalent, random_plan

CONV = "a/w = f32[3,3,4,8]{random 1}\na = Conv2D(x, a/w)\n"
FIXED = "x = input 2,6,6,4\n" + CONV
OPEN = "x = input ?,6,6,4\n" + CONV
WIDE = "x = input ?,?,?,4\n" + CONV
FEED = np.random.RandomState(0).uniform(-1, 1, (2, 6, 6, 4)).astype(np.float32)
NUMBERS = "i0 = i32[]{0}\ni1 = i32[]{1}\ni2 = i32[]{2}\nm1 = i32[]{-1}\no1 = i32[1]{1}\n"
SHAPE = NUMBERS + "s = Shape(%s)\n"


def picked(name: str, at: int, source: str = "s") -> str:
    """One number of a shape vector, as TF1 and Keras pick it."""
    return (
        f"{name}/b = i32[1]{{{at}}}\n{name}/e = i32[1]{{{at + 1}}}\n"
        f"{name} = StridedSlice({source}, {name}/b, {name}/e, o1) T=int32 shrink_axis_mask=1\n"
    )


def cut(name: str, low: int, high: int) -> str:
    """Some numbers of a shape vector."""
    return (
        f"{name}/b = i32[1]{{{low}}}\n{name}/e = i32[1]{{{high}}}\n"
        f"{name} = StridedSlice(s, {name}/b, {name}/e, o1) T=int32\n"
    )


FLAT = "z/w = f32[288,3]{random 9}\nz = MatMul(y, z/w)\n"
POINT = "z/w = f32[1,1,8,3]{random 9}\nz = Conv2D(y, z/w)\n"
POOLED = "p2 = i32[2]{1 2}\np = Mean(a, p2) Tidx=int32 keep_dims=false\n"
DENSE = (
    "f3 = i32[3]{0 1 2}\nf1 = i32[1]{3}\nc0 = i32[1]{0}\n"
    "free = GatherV2(s, f3, i0) Tparams=int32\ninner = GatherV2(s, f1, i0) Tparams=int32\n"
    "pf = Prod(free, c0) T=int32 Tidx=int32 keep_dims=false\n"
    "pi = Prod(inner, c0) T=int32 Tidx=int32 keep_dims=false\n"
    "order = ConcatV2(f3, f1, i0) T=int32 Tidx=int32\nt = Transpose(a, order) Tperm=int32\n"
    "st = Pack(pf, pi) T=int32\nr = Reshape(t, st)\nd/w = f32[8,5]{random 3}\n"
    "mm = MatMul(r, d/w)\nd/o = i32[1]{5}\nso = ConcatV2(free, d/o, i0) T=int32 Tidx=int32\n"
    "y = Reshape(mm, so)\nz/w = f32[1,1,5,3]{random 9}\nz = Conv2D(y, z/w)\n"
)
FOLLOWED: Dict[str, Tuple[str, List[int]]] = {
    "batch and literal": (
        OPEN + SHAPE % "a" + picked("b", 0) + "k = i32[]{288}\nt = Pack(b, k) T=int32\n"
        "y = Reshape(a, t)\n" + FLAT,
        [8],
    ),
    "batch and the rest": (
        OPEN + SHAPE % "a" + picked("b", 0) + "t = Pack(b, m1) T=int32\ny = Reshape(a, t)\n" + FLAT,
        [8],
    ),
    "batch of the input and the rest": (
        OPEN + SHAPE % "x" + picked("b", 0) + "t = Pack(b, m1) T=int32\ny = Reshape(a, t)\n" + FLAT,
        [8],
    ),
    "product of all but the batch": (
        OPEN
        + SHAPE % "a"
        + cut("q", 1, 4)
        + "c0 = i32[1]{0}\nn = Prod(q, c0) T=int32 Tidx=int32 keep_dims=false\n"
        "t = Pack(m1, n) T=int32\ny = Reshape(a, t)\n" + FLAT,
        [8],
    ),
    "product put together": (
        OPEN
        + SHAPE % "a"
        + picked("h", 1)
        + picked("w", 2)
        + picked("c", 3)
        + "hw = Mul(h, w) T=int32\nn = Mul(hw, c) T=int32\nt = Pack(m1, n) T=int32\n"
        "y = Reshape(a, t)\n" + FLAT,
        [8],
    ),
    "unstacked": (
        OPEN + SHAPE % "a" + "u = Unpack(s) T=int32 num=4\nhw = Mul(u:1, u:2) T=int32\n"
        "t = Pack(u, hw, u:3) T=int32\nr = Reshape(a, t)\nt2 = Pack(u, u:1, u:2, u:3) T=int32\n"
        "y = Reshape(r, t2)\n" + POINT,
        [8],
    ),
    "open height and width": (
        WIDE
        + SHAPE % "a"
        + "u = Unpack(s) T=int32 num=4\nhw = Mul(u:1, u:2) T=int32\nc = i32[]{8}\n"
        "t = Pack(u, hw, c) T=int32\nr = Reshape(a, t)\nt2 = Pack(u, u:1, u:2, c) T=int32\n"
        "y = Reshape(r, t2)\n" + POINT,
        [8],
    ),
    "open height and the rest": (
        WIDE
        + SHAPE % "a"
        + picked("b", 0)
        + "c = i32[]{8}\nt = Pack(b, m1, c) T=int32\nr = Reshape(a, t)\n"
        "y = ExpandDims(r, i1) Tdim=int32\n" + POINT,
        [8],
    ),
    "dense layer on maps": (OPEN + SHAPE % "a" + DENSE, [8, 5]),
    "dense layer on maps of any size": (WIDE + SHAPE % "a" + DENSE, [8, 5]),
    "squeeze and excitation": (
        OPEN
        + POOLED
        + SHAPE % "p"
        + picked("b", 0)
        + "c = i32[]{8}\nt = Pack(b, i1, i1, c) T=int32\ng = Reshape(p, t)\ny = Mul(a, g)\n"
        + POINT,
        [8],
    ),
    "channels first vector": (
        OPEN + POOLED + NUMBERS + "t = i32[4]{-1 8 1 1}\ng = Reshape(p, t)\n"
        "o4 = i32[4]{0 2 3 1}\ng1 = Transpose(g, o4) Tperm=int32\ny = Mul(a, g1)\n" + POINT,
        [8],
    ),
    "transposed to a computed size": (
        OPEN
        + SHAPE % "a"
        + picked("b", 0)
        + picked("h", 1)
        + "h2 = Mul(h, i2) T=int32\nc = i32[]{6}\nt = Pack(b, h2, h2, c) T=int32\n"
        "y/w = f32[3,3,6,8]{random 4}\ny = Conv2DBackpropInput(t, y/w, a) strides=[1,2,2,1]\n"
        "z/w = f32[1,1,6,3]{random 9}\nz = Conv2D(y, z/w)\n",
        [8, 6],
    ),
    "transposed to a size in pieces": (
        OPEN
        + SHAPE % "a"
        + "b0 = i32[1]{0}\nb1 = i32[1]{1}\nb2 = i32[1]{2}\nsb = Slice(s, b0, b1) T=int32\n"
        "sh = Slice(s, b1, b2) T=int32\ntwo = i32[2]{2 2}\nsh2 = Mul(sh, two) T=int32\n"
        "c = i32[1]{6}\nt = ConcatV2(sb, sh2, c, i0) T=int32 Tidx=int32\n"
        "y/w = f32[3,3,6,8]{random 4}\ny = Conv2DBackpropInput(t, y/w, a) strides=[1,2,2,1]\n"
        "z/w = f32[1,1,6,3]{random 9}\nz = Conv2D(y, z/w)\n",
        [8, 6],
    ),
    "whole shape times a vector": (
        FIXED
        + SHAPE % "a"
        + "v = i32[4]{1 1 1 1}\nt = Mul(s, v) T=int32\ny = Reshape(a, t)\n"
        + POINT,
        [8],
    ),
    "half of the channels, computed": (
        FIXED
        + SHAPE % "a"
        + picked("c", 3)
        + "half = FloorDiv(c, i2) T=int32\nlow = Pack(i0, i0, i0, half) T=int32\n"
        "n = i32[4]{-1 -1 -1 -1}\nq = Slice(a, low, n)\nz/w = f32[1,1,4,3]{random 9}\n"
        "z = Conv2D(q, z/w)\n",
        [4],
    ),
    "shuffled by computed shapes": (
        OPEN + SHAPE % "a" + "u = Unpack(s) T=int32 num=4\ng4 = FloorDiv(u:3, i2) T=int32\n"
        "t = Pack(u, u:1, u:2, i2, g4) T=int32\nr = Reshape(a, t)\no5 = i32[5]{0 1 2 4 3}\n"
        "p = Transpose(r, o5) Tperm=int32\nt2 = Pack(u, u:1, u:2, u:3) T=int32\n"
        "y = Reshape(p, t2)\n" + POINT,
        [4],
    ),
    "zeros of its shape": (
        OPEN + SHAPE % "a" + "v = f32[]{0.5}\ng = Fill(s, v)\ny = AddV2(a, g)\n" + POINT,
        [8],
    ),
    "zeros of a literal shape": (
        FIXED + "t = i32[4]{2 6 6 8}\nv = f32[]{0.5}\ng = Fill(t, v)\ny = AddV2(a, g)\n" + POINT,
        [8],
    ),
    "broadcast to its shape": (
        OPEN + SHAPE % "a" + "k = f32[8]{random 5}\ng = BroadcastTo(k, s)\ny = Mul(a, g)\n" + POINT,
        [8],
    ),
    "broadcast to a literal shape": (
        FIXED
        + "k = f32[1,1]{3}\nt = i32[4]{2 6 6 8}\ng = BroadcastTo(k, t)\ny = Mul(a, g)\n"
        + POINT,
        [8],
    ),
    "tiled over space by its size": (
        OPEN
        + "p2 = i32[2]{1 2}\np = Mean(a, p2) Tidx=int32 keep_dims=true\n"
        + SHAPE % "a"
        + picked("h", 1)
        + "t = Pack(i1, h, h, i1) T=int32\ng = Tile(p, t)\ny = Mul(a, g)\n"
        + POINT,
        [8],
    ),
    "boxes and classes": (
        OPEN + "t = i32[3]{-1 72 4}\nr = Reshape(a, t)\ni1 = i32[]{1}\n"
        "e = ExpandDims(r, i1) Tdim=int32\nz/w = f32[1,1,4,3]{random 9}\nz = Conv2D(e, z/w)\n",
        [4],
    ),
    "number from a constant vector": (
        OPEN
        + NUMBERS
        + "kk = i32[3]{5 8 7}\n"
        + picked("c", 1, "kk")
        + POOLED
        + "t = Pack(m1, i1, i1, c) T=int32\ng = Reshape(p, t)\ny = Mul(a, g)\n"
        + POINT,
        [8],
    ),
    "shape turned and turned back": (
        OPEN + SHAPE % "a" + "r0 = ReverseV2(s, z0) T=int32 Tidx=int32\nz0 = i32[1]{0}\n"
        "t = ReverseV2(r0, z0) T=int32 Tidx=int32\ny = Reshape(a, t)\n" + POINT,
        [8],
    ),
    "several shapes at once": (
        OPEN
        + POOLED
        + NUMBERS
        + "n = ShapeN(a, p) out_type=int32 N=2\nr = Reshape(a, n)\ny = AddV2(r, a)\n"
        + POINT,
        [8],
    ),
}


@pytest.mark.tf
@pytest.mark.parametrize("name", sorted(FOLLOWED))
def test_computed_shape_follows_the_channels(name: str) -> None:
    text, sizes = FOLLOWED[name]
    graph = tiny(text + "output z\n")
    assert [len(one) for one in groups(graph).values() if one.prunable] == sizes
    for seed in (1, 2):
        plan = random_plan(graph, seed, ratio=(0.5, 0.99)[seed - 1])
        assert plan.removed > 0
        slim = assert_mask_equivalent(graph, plan, {"x": FEED}, tolerance=1e-5)
        again = random_plan(slim, seed, allow_empty=True)
        assert_mask_equivalent(slim, again, {"x": FEED}, tolerance=1e-5, allow_empty=True)


@pytest.mark.tf
@pytest.mark.parametrize("name", sorted(FOLLOWED))
def test_sizes_are_those_of_tensorflow(name: str) -> None:
    """What is stated of a shape holds, and with a fixed batch nothing is left open."""
    text = FOLLOWED[name][0]
    graph = tiny(text + "output z\n")
    fixed = tiny(text.replace("input ?,6,6,4", "input 2,6,6,4") + "output z\n")
    floats = [
        node.name
        for node in graph
        if node.attrs.get("T") == gs.DType.float32 and node.op != "Shape"
    ]
    with Session(graph) as session:
        arrays = session.run({"x": FEED}, floats)
    for node, array in zip(floats, arrays):
        shape = gs.analyse(graph).fact(gs.Port(node)).shape
        assert shape is not None and len(shape) == array.ndim, node
        assert all(size in (None, real) for size, real in zip(shape, array.shape)), node
        if "?" not in text.replace("?,6", ""):
            assert gs.analyse(fixed).fact(gs.Port(node)).shape == array.shape, node


PINNED: Dict[str, str] = {
    OPEN + "q = input 4\nt = Cast(q)\ny = Reshape(a, t)\n": (
        "it is reshaped to a shape that is not known @ y"
    ),
    WIDE + "t = i32[2]{1 -1}\ny = Reshape(a, t)\n": (
        "it is reshaped together with an axis of open size @ y"
    ),
    "x = input 1,?,1,4\n" + CONV + "t = i32[2]{1 -1}\ny = Reshape(a, t)\n": (
        "it is reshaped together with an axis of open size @ y"
    ),
    FIXED + SHAPE % "a" + picked("c", 3) + "n = Sub(c, i1) T=int32\nb = i32[4]{0 0 0 0}\n"
    "e = Pack(m1, m1, m1, n) T=int32\ny = Slice(a, b, e)\n": (
        "its size is computed in a way that is not followed @ y"
    ),
    FIXED + SHAPE % "a" + picked("c", 3) + "f = Cast(c) SrcT=int32 DstT=float32\n"
    "y = Mul(a, f)\n": "its size is used by a Mul @ y",
    FIXED + "n = Size(a) out_type=int32\nf = Cast(n) SrcT=int32 DstT=float32\n"
    "y = RealDiv(a, f)\n": "its size is used by a RealDiv @ y",
    FIXED + "i2 = i32[]{2}\ni4 = i32[]{4}\nn = Mul(i2, i4) T=int32\nb = i32[]{2}\nh = i32[]{6}\n"
    "t = Pack(b, h, h, n) T=int32\ny = Reshape(a, t)\n": (
        "its size is computed from numbers that stay @ y"
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", sorted(PINNED))
def test_rule_pins_and_says_why(text: str) -> None:
    assert pins(tiny(text + "q9 = Sigmoid(y)\n"), "a") == PINNED[text]


def test_open_batch_of_another_tensor_is_not_taken_for_this_one() -> None:
    """After space has moved into the first axis, the batch is not its size any more."""
    graph = tiny(
        OPEN + SHAPE % "a" + picked("b", 0) + "t = i32[2]{-1 8}\nr = Reshape(a, t)\n"
        "c = i32[]{8}\nt2 = Pack(b, m1, c) T=int32\ny = Reshape(r, t2)\n"
        "v = Reshape(a, t2)\nz = Relu(y)\nz2 = Relu(v)\n"
    )
    assert gs.analyse(graph).fact(gs.Port("y")).shape == (None, None, 8)
    assert gs.analyse(graph).fact(gs.Port("v")).shape == (None, 36, 8)


def test_division_that_rounds_is_not_undone_by_a_product() -> None:
    """C // 2 * 2 is C only while C is even."""
    graph = tiny(
        FIXED + SHAPE % "a" + picked("c", 3) + "d = FloorDiv(c, i2) T=int32\n"
        "e = Mul(d, i2) T=int32\nb = i32[]{2}\nh = i32[]{6}\nt = Pack(b, h, h, e) T=int32\n"
        "y = Reshape(a, t)\n" + POINT
    )
    assert pins(graph, "a") == "its size is computed in a way that is not followed @ y"


@pytest.mark.tf
def test_one_constant_for_several_readers_and_places() -> None:
    """8 is a height, two widths of channels and an output's: each reader gets what it needs."""
    graph = tiny(
        "x = input 2,8,8,4\na/w = f32[3,3,4,8]{random 1}\na = Conv2D(x, a/w)\n"
        "b/w = f32[3,3,4,8]{random 2}\nb = Conv2D(x, b/w)\nm1 = i32[]{-1}\nn = i32[]{8}\n"
        "t = Pack(m1, n, n, n) T=int32\nq = Identity(t) T=int32\nra = Reshape(a, t)\n"
        "rb = Reshape(b, q)\nrx = Reshape(x, t2)\nt2 = Pack(m1, n, n) T=int32\n"
        "az/w = f32[1,1,8,3]{random 3}\naz = Conv2D(ra, az/w)\n"
        "bz/w = f32[1,1,8,3]{random 4}\nbz = Conv2D(rb, bz/w)\n"
        "output az\noutput bz\noutput rx\n"
    )
    assert [len(one) for one in groups(graph).values() if one.prunable] == [8, 8]
    for seed in range(3):
        slim = assert_mask_equivalent(graph, random_plan(graph, seed, 0.7), tolerance=1e-5)
        assert_mask_equivalent(slim, random_plan(slim, seed), tolerance=1e-5)


@pytest.mark.tf
def test_number_that_is_an_output_too_stays_what_it_is() -> None:
    graph = tiny(
        FIXED + POOLED + "t = i32[4]{-1 1 1 8}\ng = Reshape(p, t)\ny = Mul(a, g)\n" + POINT
        + "output z\noutput t\n"
    )  # fmt: skip
    slim = assert_mask_equivalent(graph, random_plan(graph), {"x": FEED}, tolerance=1e-5)
    assert constant(slim, "t").tolist() == [-1, 1, 1, 8]


@pytest.mark.tf
def test_dead_channels_of_what_is_filled() -> None:
    """Where the convolution is dead, the fill is all there is: a constant, which is folded."""
    graph = tiny(FOLLOWED["zeros of a literal shape"][0] + "q = Relu(z)\noutput q\n")
    zero_filters(graph, "a/w", 3, [1, 6])
    slim = prune(graph, {"a": [1, 6]})
    assert constant(slim, "t").tolist() == [2, 6, 6, 6]


@pytest.mark.tf
def test_number_that_counts_beside_one_of_the_data() -> None:
    """A batch that the data state, and a literal number of channels, which two reshapes read."""
    graph = tiny(
        FIXED + NUMBERS + "axes = i32[4]{0 1 2 3}\ntop = Max(x, axes) Tidx=int32 keep_dims=false\n"
        "like = Sigmoid(top)\none = Ceil(like)\nn = AddV2(one, one)\nb = Cast(n)\n"
        "h = i32[]{6}\nc = i32[]{8}\nt = Pack(b, h, h, c) T=int32\nr = Reshape(a, t)\n"
        "d/w = f32[3,3,4,8]{random 2}\nd = Conv2D(x, d/w)\ne = Reshape(d, t)\n"
        "z/w = f32[1,1,8,3]{random 9}\nz = Conv2D(r, z/w)\n"
        "v/w = f32[1,1,8,3]{random 8}\nv = Conv2D(e, v/w)\noutput z\noutput v\n"
    )
    assert [len(one) for one in groups(graph).values() if one.prunable] == [8, 8]
    for seed in (1, 2):
        assert_mask_equivalent(graph, random_plan(graph, seed, 0.6), {"x": FEED}, tolerance=1e-5)


@pytest.mark.parametrize(("count", "followed"), [(1024, True), (1025, False)])
def test_only_short_vectors_of_numbers_are_followed(count: int, followed: bool) -> None:
    """Of a long one nobody looks for sizes, and the reshape is pinned."""
    numbers = " ".join(["8"] * count)
    graph = tiny(
        FIXED + NUMBERS + f"k = i32[{count}]{{{numbers}}}\n" + picked("c", 7, "k")
        + "b = i32[]{2}\nh = i32[]{6}\nt = Pack(b, h, h, c) T=int32\ny = Reshape(a, t)\n" + POINT
    )  # fmt: skip
    assert groups(graph)["a"].prunable == followed


@pytest.mark.tf
def test_random_numbers_have_the_shape_of_what_they_meet() -> None:
    """Dropout that was left in a graph: TensorFlow draws other numbers, of the right shape."""
    graph = tiny(
        OPEN + SHAPE % "a" + "r = RandomUniform(s) T=int32 dtype=float32\ny = Mul(a, r)\n" + POINT
    )
    slim = gs.apply(graph, random_plan(graph))
    with Session(slim) as session:
        assert session.run({"x": FEED}, ["y"])[0].shape == (2, 6, 6, 4)


@pytest.mark.tf
def test_values_are_those_that_tensorflow_computes() -> None:
    graph = tiny(
        "k = f32[1,2,3,4]{random 3}\nn = Size(k) out_type=int32\nr = Rank(k)\n"
        "s = Shape(k)\nq = i32[4]{5 1 1 4}\nb = BroadcastArgs(s, q) T=int32\n"
        "v = f32[]{0.5}\nt = i32[2]{3 2}\na = Fill(t, v)\nc = f32[4]{random 4}\n"
        "d = BroadcastTo(c, q)\n"
        "n1 = Cast(n) SrcT=int32 DstT=float32\nr1 = Cast(r) SrcT=int32 DstT=float32\n"
        "b1 = Cast(b) SrcT=int32 DstT=float32\ns1 = Cast(s) SrcT=int32 DstT=float32\n"
    )
    names = ["n1", "r1", "b1", "s1", "a", "d"]
    with Session(graph) as session:
        arrays = session.run({}, names)
    for name, array in zip(names, arrays):
        assert gs.analyse(graph).fact(gs.Port(name)).shape == array.shape, name
        known = value(graph, name)
        assert known is not None, name
        np.testing.assert_allclose(np.broadcast_to(known, array.shape), array, 1e-6, err_msg=name)
