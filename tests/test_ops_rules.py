"""Channel rules op by op: groups, ties, pins, shapes and cost, and mask equivalence of each."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import constant, groups, pins, tiny, value, zero_filters

import graphslim as gs
from graphslim.ops.reshape import segments
from graphslim.runtime import Session
from graphslim.testing import assert_mask_equivalent, random_plan

START = "x = input 1,6,6,4\na/w = f32[3,3,4,8]{random 1}\na = Conv2D(x, a/w)\n"
PRUNABLE: Dict[str, Tuple[str, int, Dict[str, int]]] = {
    "identity": ("y = Identity(a)", 8, {"a": 8}),
    "fake quantisation": (
        "y = FakeQuantWithMinMaxArgs(a) min=-6.0 max=6.0 num_bits=8",
        8,
        {"a": 8},
    ),
    "identity of several": ("y = IdentityN(a, x) T=[float32,float32]", 8, {"a": 8}),
    "strided": (
        "b/w = f32[3,3,8,6]{random 2}\ny = Conv2D(a, b/w) strides=[1,2,2,1]",
        6,
        {"a": 8, "y": 6},
    ),
    "dilated": (
        "b/w = f32[3,3,8,6]{random 2}\ny = Conv2D(a, b/w) dilations=[1,2,2,1]",
        6,
        {"a": 8, "y": 6},
    ),
    "depthwise": ("d = f32[3,3,8,1]{random 2}\ny = DepthwiseConv2dNative(a, d)", 8, {"a": 8}),
    "multiplier": ("d = f32[3,3,8,2]{random 2}\ny = DepthwiseConv2dNative(a, d)", 16, {"a": 8}),
    "transposed": (
        "n = i32[4]{1 12 12 6}\nu = f32[3,3,6,8]{random 2}\n"
        "y = Conv2DBackpropInput(n, u, a) strides=[1,2,2,1]",
        6,
        {"a": 8, "y": 6},
    ),
    "activation": ("y = LeakyRelu(a) alpha=0.1", 8, {"a": 8}),
    "sum": ("b/w = f32[1,1,4,8]{random 2}\nb = Conv2D(x, b/w)\ny = AddN(a, b, a)", 8, {"a": 8}),
    "clip": ("l = f32[]{-1}\nh = f32[]{1}\nm = Maximum(a, l)\ny = Minimum(m, h)", 8, {"a": 8}),
    "clip by vectors": (
        "l = f32[8]{-1}\nh = f32[8]{1}\nm = Maximum(a, l)\ny = Minimum(h, m)",
        8,
        {"a": 8},
    ),
    "choice": (
        "k = f32[]{0}\nc = Greater(a, k)\nz0 = ZerosLike(a)\ny = Select(c, a, z0)",
        8,
        {"a": 8},
    ),
    "bias": ("k = f32[8]{random 3}\ny = BiasAdd(a, k)", 8, {"a": 8}),
    "norm": (
        "k = f32[8]{random 3}\nv = f32[8]{2}\ny = FusedBatchNorm(a, k, k, k, v)",
        8,
        {"a": 8},
    ),
    "average": ("y = AvgPool(a) strides=[1,2,2,1]", 8, {"a": 8}),
    "largest": ('y = MaxPool(a) padding="VALID" strides=[1,2,2,1]', 8, {"a": 8}),
    "mean": ("m = i32[2]{-3 2}\ny = Mean(a, m) Tidx=int32", 8, {"a": 8}),
    "sum over rows": ("m = i32[1]{1}\ny = Sum(a, m) Tidx=int32 keep_dims=true", 8, {"a": 8}),
    "pad": ("p = i32[4,2]{0 0 1 1 2 0 0 0}\ny = Pad(a, p) Tpaddings=int32", 8, {"a": 8}),
    "resize": (
        "n = i32[2]{9 4}\n"
        "y = ResizeNearestNeighbor(a, n) align_corners=false half_pixel_centers=false",
        8,
        {"a": 8},
    ),
    "depth to space": ("y = DepthToSpace(a)", 2, {"a": 2}),
    "space to depth": ("y = SpaceToDepth(a)", 32, {"a": 8}),
    "dilation by batch": (
        "n = i32[2]{2 2}\ne = i32[2,2]{2 2 2 2}\ns = SpaceToBatchND(a, n, e)\n"
        "d = f32[3,3,8,1]{random 2}\n"
        'q = DepthwiseConv2dNative(s, d) padding="VALID"\nc = i32[2,2]{0 0 0 0}\n'
        "y = BatchToSpaceND(q, n, c)",
        8,
        {"a": 8},
    ),
    "concat with itself": ("n = i32[]{-1}\ny = ConcatV2(a, x, a, n) Tidx=int32 N=3", 20, {"a": 8}),
    "concat of rows": (
        "b/w = f32[1,1,4,8]{random 2}\nb = Conv2D(x, b/w)\nn = i32[]{1}\n"
        "y = ConcatV2(a, b, n) Tidx=int32",
        8,
        {"a": 8},
    ),
    "split": ("n = i32[]{3}\ns = Split(n, a) num_split=4\ny = Mul(s:1, s:3)", 2, {"a": 2}),
    "whole slice": (
        "f = i32[4]{0 1 1 0}\nl = i32[4]{1 5 5 8}\no = i32[4]{1 2 1 1}\n"
        "y = StridedSlice(a, f, l, o)",
        8,
        {"a": 8},
    ),
    "ellipsis": (
        "f = i32[3]{0 0 0}\nl = i32[3]{0 0 0}\no = i32[3]{1 1 1}\n"
        "e = StridedSlice(a, f, l, o) ellipsis_mask=1 new_axis_mask=2 begin_mask=4 end_mask=4\n"
        "y = Squeeze(e) squeeze_dims=[3]",
        8,
        {"a": 8},
    ),
    "stack": (
        "p = Pack(a, a) axis=1\nm = i32[1]{1}\ny = Mean(p, m) Tidx=int32 keep_dims=false",
        8,
        {"a": 8},
    ),
    "unstack": ("u = Unpack(a) axis=1 num=6\np = Pack(u:1, u:4) axis=1\ny = Relu(p)", 8, {"a": 8}),
    "reshape": ("t = i32[4]{-1 4 9 8}\ny = Reshape(a, t) Tshape=int32", 8, {"a": 8}),
    "channel shuffle": (
        "t = i32[5]{-1 6 6 2 4}\nr = Reshape(a, t) Tshape=int32\no = i32[5]{0 1 2 4 3}\n"
        "p = Transpose(r, o) Tperm=int32\nt2 = i32[4]{-1 6 6 8}\ny = Reshape(p, t2) Tshape=int32",
        8,
        {"a": 4},
    ),
    "transposed twice": (
        "o = i32[4]{0 3 1 2}\np = Transpose(a, o) Tperm=int32\no2 = i32[4]{0 2 3 1}\n"
        "y = Transpose(p, o2) Tperm=int32",
        8,
        {"a": 8},
    ),
    "squeezed and back": (
        "m = i32[2]{1 2}\nv = Mean(a, m) Tidx=int32\ns = Squeeze(v)\nn = i32[]{0}\n"
        "e = ExpandDims(s, n) Tdim=int32\ne1 = ExpandDims(e, n) Tdim=int32\n"
        "y = ExpandDims(e1, n) Tdim=int32",
        8,
        {"a": 8},
    ),
    "moved to the batch": (
        "o = i32[4]{3 1 2 0}\np = Transpose(a, o) Tperm=int32\nk = f32[3,3,1,1]{random 5}\n"
        "q = Conv2D(p, k)\ny = Transpose(q, o) Tperm=int32",
        8,
        {"a": 8},
    ),
}


def ended(middle: str, width: int) -> gs.Graph:
    return tiny(
        START + middle + f"\nz/w = f32[1,1,{width},3]{{random 9}}\nz = Conv2D(y, z/w)\noutput z\n"
    )


@pytest.mark.tf
@pytest.mark.parametrize("name", sorted(PRUNABLE))
def test_rule_keeps_channels_prunable(name: str) -> None:
    middle, width, expected = PRUNABLE[name]
    graph = ended(middle, width)
    found = {one.id: len(one) for one in groups(graph).values() if one.prunable}
    assert found == expected
    plan = random_plan(graph, seed=len(name))
    assert plan.removed > 0
    assert_mask_equivalent(graph, plan, tolerance=1e-5)


PINNED = {
    "y = Softmax(a)": "its value depends on every channel beside it @ y",
    "y = LRN(a)": "its value depends on every channel beside it @ y",
    "y = AvgPool(a) ksize=[1,1,1,2] strides=[1,1,1,2]": "it is pooled over channels @ y",
    "n = i32[1]{-1}\ny = Mean(a, n)": "it is reduced by a Mean over channels @ y",
    'p = i32[4,2]{0 0 0 0 0 0 0 2}\ny = MirrorPad(a, p) mode="SYMMETRIC"': (
        "it is padded with its own mirror image over channels @ y"
    ),
    "n = i32[]{3}\ny = ArgMax(a, n)": "its index among all channels is asked for @ y",
    "y = Unpack(a) axis=3 num=8": "it is unstacked over channels @ y",
    "o = i32[4]{0 3 1 2}\nt = Transpose(a, o)\nn = i32[2]{4 4}\ny = ResizeBilinear(t, n)": (
        "it is resized @ y"
    ),
    "o = i32[4]{0 3 1 2}\nt = Transpose(a, o)\ny = MaxPool(t)": "it is pooled over @ y",
    "o = i32[4]{0 3 1 2}\nt = Transpose(a, o)\ng = f32[3,3,6,6]{1}\ny = Conv2D(t, g)": (
        "it is convolved over @ y"
    ),
    "n = i32[4]{0 0 0 1}\nl = i32[4]{1 6 6 5}\no = i32[4]{1 1 1 2}\ny = StridedSlice(a, n, l, o)": (
        "it is sliced in steps over channels @ y"
    ),
    "d = input 4\ni = Cast(d)\n"
    "y = Reshape(a, i)": "it is reshaped to a shape that is not known @ y",
    "d = input 4\ni = Cast(d)\n"
    "y = Transpose(a, i)": "it is transposed in an order that is not constant @ y",
    "u = input *\ny = Mul(a, u)": "it is combined with a tensor of unknown rank @ y",
    "k = f32[]{0}\nc = Greater(a, k)\ny = Switch(x, c)": "it is the condition of a Switch @ y",
    "n = i32[2]{5 7}\ny = Reshape(a, n)": "it is reshaped in a way that cannot be followed @ y",
}


@pytest.mark.parametrize("middle", sorted(PINNED))
def test_rule_pins_and_says_why(middle: str) -> None:
    graph = tiny(START + middle + "\nq = Sigmoid(y)\n")
    assert pins(graph, "a") == PINNED[middle]


SPACE: Dict[str, Tuple[str, str]] = {
    "y = Conv2D(t, k)": ("k = f32[3,3,6,5]{1}\n", "it is convolved over"),
    "y = DepthwiseConv2dNative(t, k)": ("k = f32[3,3,6,2]{1}\n", "it is convolved over"),
    "y = Conv2DBackpropInput(n, k, t)": (
        "n = i32[4]{1 8 6 5}\nk = f32[3,3,5,6]{1}\n",
        "it is convolved over",
    ),
    "y = AvgPool(t)": ("", "it is pooled over"),
    'y = MaxPoolV2(t, k, k) padding="SAME"': ("k = i32[4]{1 2 2 1}\n", "it is pooled over"),
    'y = MaxPoolWithArgmax(t) ksize=[1,2,2,1] strides=[1,1,1,1] padding="SAME"': (
        "",
        "it is pooled over",
    ),
    "y = FractionalAvgPool(t) pooling_ratio=[1.0,1.5,1.5,1.0]": ("", "it is pooled over"),
    'y = Dilation2D(t, k) strides=[1,1,1,1] rates=[1,1,1,1] padding="SAME"': (
        "k = f32[2,2,6]{1}\n",
        "it is dilated over",
    ),
    "y = AdjustContrastv2(t, f)": ("f = f32[]{2}\n", "its mean over space is taken"),
    "y = ResizeBilinear(t, two)": ("", "it is resized"),
    "y = SpaceToDepth(t)": ("", "it moves between depth and space"),
    "y = DepthToSpace(e)": (
        "k = f32[3,3,6,8]{1}\ne = Tile(t, f)\nf = i32[4]{1 1 1 2}\n",
        "it moves between depth and space",
    ),
    "y = SpaceToBatchND(t, two, e)": (
        "e = i32[2,2]{0 0 0 0}\n",
        "it moves between space and batch",
    ),
    "y = BatchToSpace(t, e) block_size=1": (
        "e = i32[2,2]{0 0 0 0}\n",
        "it moves between space and batch",
    ),
    'y = ExtractImagePatches(t) ksizes=[1,2,2,1] strides=[1,1,1,1] padding="VALID"': (
        "",
        "patches are taken from it",
    ),
    "y = CropAndResize(t, b, i, two)": ("b = f32[1,4]{1}\ni = i32[1]{0}\n", "it is cropped"),
    "y = ScaleAndTranslate(t, two, s, s)": ("s = f32[2]{1}\n", "it is warped"),
    "y = ImageProjectiveTransformV2(t, s, two)": ("s = f32[1,8]{1}\n", "it is warped"),
    "y = Mean(t, space) Tidx=int32": ("", "it is reduced by a Mean over channels"),
    "y = Max(t, space) Tidx=int32": ("", "it is reduced by a Max over channels"),
    "y = Roll(t, two, space)": ("", "its positions are shifted by a fixed number"),
    "y = GatherNd(t, c)": (
        "c = i32[1,3]{0 1 2}\n",
        "it is gathered by positions that are not a constant vector",
    ),
    "y = MatrixBandPart(t, one, one)": (
        "one = i32[]{1}\n",
        "it is made into a matrix or taken from one",
    ),
}
"""Ops that mix the positions along height and width, what they need, and why they pin those."""


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("text", sorted(SPACE))
def test_channels_along_height_and_width_are_pinned(text: str, axis: int) -> None:
    """By the rule of the op, with its reason, and not by what looks for a rule's omissions."""
    needed, why = SPACE[text]
    order = {1: "0 3 1 2", 2: "0 1 3 2"}[axis]
    more = f"two = i32[2]{{2 2}}\nspace = i32[2]{{1 2}}\no = i32[4]{{{order}}}\n{needed}"
    more += "t = Transpose(a, o)\n"
    assert pins(tiny(START + more + text + "\nq = Sigmoid(y)\n"), "a") == f"{why} @ y"


OPEN: Dict[str, Tuple[str, Optional[Tuple[Optional[int], ...]]]] = {
    "ConcatV2(a, a, n)": ("it is concatenated over an axis that is not known", (None,) * 4),
    "Concat(n, a, a) N=2": ("it is concatenated over an axis that is not known", (None,) * 4),
    "Split(n, a) num_split=2": ("it is split over an axis that is not known", None),
    "SplitV(a, n2, i) num_split=2": ("it is split into parts of unknown sizes", (1, 6, 6, None)),
    "SplitV(a, two, n) num_split=2": ("it is split over an axis that is not known", None),
    "ReverseV2(a, n2)": ("it is reversed over an axis that is not known", None),
    "Roll(a, n, n)": ("its positions are shifted by a fixed number", (1, 6, 6, 8)),
    "Cumsum(a, n)": ("a Cumsum adds up over channels", (1, 6, 6, 8)),
    "ArgMax(a, n)": ("its index among all channels is asked for", None),
    "Mean(a, n2)": ("it is reduced over axes that are not constant", None),
    "Sum(a, n2)": ("it is reduced over axes that are not constant", None),
    "ExpandDims(a, n)": ("it gains an axis in an unknown place", None),
    "Tile(a, n4)": ("it is repeated a number of times that is not known", (None,) * 4),
    "Pad(a, n42)": ("it is padded by amounts that are not known", (None,) * 4),
    "Slice(a, n4, n4)": ("it is sliced at places that are not constant", (None,) * 4),
    "StridedSlice(a, n4, n4, n4)": ("it is sliced at places that are not constant", None),
    "Conv2DBackpropInput(n4, u/w, a)": (
        "how many channels leave its transposed convolution is not known",
        (1, None, None, 5),
    ),
    "BroadcastTo(a, n4)": ("it is broadcast to a shape that is not known", (None,) * 4),
    "SpaceToBatchND(a, n2, n22)": (
        "it moves between space and batch over an unknown or the channel axis",
        None,
    ),
    "TopKV2(a, n)": ("its largest channels are asked for", (1, 6, 6, None)),
    "OneHot(a, n, v, v)": ("it is made into one-hot vectors", (1, 6, 6, 8, None)),
    "GatherV2(a, two, n)": ("it is gathered in a way that is not followed", None),
    "GatherV2(a, nu, i)": ("it is gathered in a way that is not followed", None),
    "GatherV2(a, n2, i)": (
        "it is gathered by positions that are not a constant vector",
        (1, 6, 6, 2),
    ),
}
"""Ops told by data what to do, why that pins the channels, and what remains known of the shape."""


@pytest.mark.parametrize("text", sorted(OPEN))
def test_what_data_decides_pins(text: str) -> None:
    why, shape = OPEN[text]
    fed = "".join(
        f"q{name} = input {sizes}\nn{name} = Cast(q{name})\n"
        for name, sizes in (("2", "2"), ("4", "4"), ("42", "4,2"), ("22", "2,2"))
    )
    fed += "q = input 1\nq0 = Squeeze(q)\nn = Cast(q0)\nqu = input *\nnu = Cast(qu)\n"
    constants = "i = i32[]{3}\ntwo = i32[2]{2 2}\nv = f32[]{1}\nu/w = f32[3,3,5,8]{1}\n"
    graph = tiny(START + fed + constants + f"y = {text}\nz = Sigmoid(y)\n")
    assert pins(graph, "a") == f"{why} @ y"
    assert gs.analyse(graph).fact(gs.Port("y")).shape == shape
    numbers = tiny(f"a = f32[1,6,6,8]{{random 1}}\n{fed}{constants}y = {text}\n")
    known = value(numbers, "y")
    repeats = text.startswith("BroadcastTo")
    assert repeats or known is None, "nor is a value known of what was known before"


@pytest.mark.tf
@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("y = Softmax(t)", 6),
        ("y = LRN(t)", 6),
        ("y = AdjustHue(s, n)", 3),
        ("y = Split(i, s) num_split=3", 1),
        ("y = ReverseV2(t, i1) Tidx=int32", 6),
        ("y = Cumsum(t, i) Tidx=int32", 6),
        ("y = Tile(t, i4) Tmultiples=int32", 18),
        ("y = FakeQuantWithMinMaxVarsPerChannel(t, low, high)", 6),
    ],
)
def test_channels_beside_the_axis_that_an_op_works_on_stay_prunable(text: str, width: int) -> None:
    graph = tiny(
        START + "o = i32[4]{0 3 1 2}\nt = Transpose(a, o) Tperm=int32\nn = f32[]{0.2}\n"
        "b4 = i32[4]{0 0 0 1}\nn4 = i32[4]{1 8 6 3}\ns = Slice(t, b4, n4)\ni = i32[]{3}\n"
        "i1 = i32[1]{3}\ni4 = i32[4]{1 1 1 3}\nlow = f32[6]{-1}\nhigh = f32[6]{2}\n" + text
        + "\np = i32[4]{0 2 3 1}\nu = Transpose(y, p) Tperm=int32\n"
        "z/w = f32[1,1,8,3]{random 9}\nz = Conv2D(u, z/w)\noutput z\n"
    )  # fmt: skip
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"a": 8}
    assert gs.analyse(graph).fact(gs.Port("y")).size(-1) == width
    assert_mask_equivalent(graph, random_plan(graph, seed=3), tolerance=1e-5)


JOINED = {
    "y = SpaceToBatchND(t, two, e)": "it moves between space and batch",
    "y = CropAndResize(t, b, i, two)": "it is cropped",
    "y = SegmentSum(t, i)": "its positions are joined in segments",
    "y = UnsortedSegmentSum(t, i, n)": "its positions are joined in segments",
    "y = UnsortedSegmentSum(t, u, n)": "its positions are joined in segments",
    "y = ReverseSequence(t, i) seq_dim=1 batch_dim=0": (
        "a part of it is reversed, as long as another tensor says"
    ),
}


@pytest.mark.parametrize("text", sorted(JOINED))
def test_channels_along_the_batch_are_pinned(text: str) -> None:
    more = (
        "two = i32[2]{2 2}\ne = i32[2,2]{0 0 0 0}\nb = f32[1,4]{1}\ni = i32[8]{0}\nn = i32[]{2}\n"
        "f = input *\nu = Cast(f)\no = i32[4]{3 1 2 0}\nt = Transpose(a, o)\n"
    )
    assert pins(tiny(START + more + text + "\nq = Sigmoid(y)\n"), "a") == f"{JOINED[text]} @ y"


def test_batch_that_is_open_does_not_stop_a_flatten() -> None:
    text = "x = input ?,6,6,4\na/w = f32[3,3,4,8]{1}\na = Conv2D(x, a/w)\n"
    dense = "d = f32[288,2]{1}\nz = MatMul(f, d)\n"
    minus = tiny(text + "t = i32[2]{-1 288}\nf = Reshape(a, t) Tshape=int32\n" + dense)
    batch = (
        "s = Shape(a)\nb = i32[1]{0}\ne = i32[1]{1}\n"
        "g = StridedSlice(s, b, e, e) T=int32 shrink_axis_mask=1\n"
    )
    rest = "m = i32[]{-1}\nt = Pack(g, m) T=int32\nf = Reshape(a, t) Tshape=int32\n"
    for graph in (minus, tiny(text + batch + rest + dense)):
        assert groups(graph)["a"].prunable
        assert gs.analyse(graph).fact(gs.Port("f")).shape == (None, 288)


# ------------------------------------------------------------------ shapes and cost

WINDOWS = [
    (padding, size, stride, dilation)
    for padding in ("SAME", "VALID")
    for size, stride, dilation in ((1, 1, 1), (2, 1, 1), (3, 1, 2), (3, 2, 1), (5, 3, 1), (1, 2, 1))
]


@pytest.mark.tf
def test_shapes_are_those_of_tensorflow() -> None:
    lines = ["x = input 2,11,8,4", "f = Reshape(x, t) Tshape=int32", "t = i32[2]{2 352}"]
    for at, (padding, size, stride, dilation) in enumerate(WINDOWS):
        more = f'padding="{padding}" strides=[1,{stride},{stride},1]'
        lines += [f"w{at} = f32[{size},2,4,5]{{1}}", f"d{at} = f32[{size},2,4,2]{{1}}"]
        lines += [f"c{at} = Conv2D(x, w{at}) {more} dilations=[1,{dilation},{dilation},1]"]
        lines += [f"e{at} = DepthwiseConv2dNative(x, d{at}) {more}"]
        lines += [f"p{at} = MaxPool(x) {more} ksize=[1,{size},2,1]"]
        lines += [f"q{at} = AvgPool(x) {more} ksize=[1,{size},2,1]"]
    lines += ["k = f32[7,352]{1}", "m = MatMul(f, k) transpose_b=true"]
    graph = tiny("\n".join(lines))
    names = [str(port) for port in graph.outputs]
    with Session(graph) as session:
        arrays = session.run({"x": np.zeros((2, 11, 8, 4), np.float32)}, names)
    assert len(names) == 4 * len(WINDOWS) + 1
    for name, array in zip(names, arrays):
        assert gs.analyse(graph).fact(gs.Port(name)).shape == array.shape, name


@pytest.mark.parametrize(
    "text, macs",
    [
        ("w = f32[3,3,4,8]{1}\ny = Conv2D(x, w)", 36 * 9 * 4 * 8),
        ("w = f32[3,3,4,8]{1}\ny = Conv2D(x, w) strides=[1,2,2,1]", 9 * 9 * 4 * 8),
        ('w = f32[3,3,4,8]{1}\ny = Conv2D(x, w) padding="VALID"', 16 * 9 * 4 * 8),
        ("w = f32[3,3,2,8]{1}\ny = Conv2D(x, w)", 36 * 9 * 2 * 8),
        ("w = f32[3,3,4,2]{1}\ny = DepthwiseConv2dNative(x, w)", 36 * 9 * 4 * 2),
        (
            "n = i32[4]{1 12 12 5}\nw = f32[3,3,5,4]{1}\n"
            "y = Conv2DBackpropInput(n, w, x) strides=[1,2,2,1]",
            36 * 9 * 4 * 5,
        ),
        (
            "t = i32[2]{1 144}\nf = Reshape(x, t) Tshape=int32\nw = f32[144,7]{1}\n"
            "y = MatMul(f, w)",
            144 * 7,
        ),
        (
            "t = i32[2]{1 144}\nf = Reshape(x, t) Tshape=int32\nw = f32[7,144]{1}\n"
            "y = MatMul(f, w) transpose_b=true",
            144 * 7,
        ),
    ],
)
def test_multiply_accumulates(text: str, macs: int) -> None:
    assert gs.cost(tiny("x = input 1,6,6,4\n" + text + "\n")).macs == macs


@pytest.mark.parametrize(
    "shape, text, macs",
    [
        ("1,4,6,6", 'w = f32[3,3,4,8]{1}\ny = Conv2D(x, w) data_format="NCHW"', 36 * 9 * 4 * 8),
        (
            "1,4,6,6",
            'w = f32[3,3,4,2]{1}\ny = DepthwiseConv2dNative(x, w) data_format="NCHW"',
            36 * 9 * 4 * 2,
        ),
        (
            "2,4,5,6,3",
            "w = f32[2,3,2,3,7]{1}\ny = Conv3D(x, w) strides=[1,1,2,1,1] "
            'padding="VALID" data_format="NDHWC"',
            3 * 2 * 5 * 12 * 3 * 7,
        ),
        (
            "2,4,5,6,3",
            "n = i32[5]{2 4 10 6 7}\nw = f32[2,3,2,7,3]{1}\ny = Conv3DBackpropInputV2(n, w, x) "
            'strides=[1,1,2,1,1] padding="SAME" data_format="NDHWC"',
            4 * 5 * 6 * 12 * 7 * 3,
        ),
        (
            "1,6,6,4",
            'w = f32[3,3,4,8]{1}\ny = _FusedConv2D(x, w, b) num_args=1 fused_ops=["BiasAdd"] '
            'data_format="NHWC" padding="SAME" strides=[1,2,2,1]',
            9 * 9 * 4 * 8,
        ),
        (
            "1,6,6,4",
            "w = f32[3,3,4,2]{1}\ny = _FusedDepthwiseConv2dNative(x, w, b) num_args=1 "
            'fused_ops=["BiasAdd"] data_format="NHWC" padding="SAME" strides=[1,2,2,1]',
            9 * 9 * 4 * 2,
        ),
        (
            "5,4",
            'w = f32[4,8]{1}\ny = _FusedMatMul(x, w, b) num_args=1 fused_ops=["BiasAdd"] '
            "transpose_a=false transpose_b=false",
            5 * 4 * 8,
        ),
        (
            "1,6,6,4",
            "w = f32[3,3,4,8]{1}\ny = FusedPadConv2D(x, p, w) "
            'mode="REFLECT" padding="VALID" strides=[1,1,1,1]',
            36 * 9 * 4 * 8,
        ),
        (
            "1,6,6,4",
            "w = f32[3,3,4,8]{1}\nz = i32[2]{12 10}\ny = FusedResizeAndPadConv2D(x, z, p, w) "
            'mode="REFLECT" padding="VALID" strides=[1,1,1,1] resize_align_corners=false',
            120 * 9 * 4 * 8,
        ),
    ],
)
def test_multiply_accumulates_of_rarer_ops(shape: str, text: str, macs: int) -> None:
    constants = "b = f32[8]{1}\np = i32[4,2]{0 0 1 1 1 1 0 0}\n"
    assert gs.cost(tiny(f"x = input {shape}\n{constants}{text}\n")).macs == macs


DILATED = """
x = input %s
k = i32[2]{2 3}
e = i32[2,2]{2 2 3 3}
w = f32[3,3,4,8]{1}
apart = SpaceToBatchND(x, k, e)
y = Conv2D(apart, w) padding="VALID"
z = i32[2,2]{0 0 0 0}
whole = BatchToSpaceND(y, k, z)
v = f32[1,1,8,5]{1}
last = Conv2D(whole, v)
output last
"""


@pytest.mark.parametrize("batch", ["?", "1", "5"])
def test_a_convolution_of_space_in_the_batch_counts_all_parts(batch: str) -> None:
    """As many products as the dilated convolution that it stands for."""
    graph = tiny(DILATED % f"{batch},6,6,4")
    assert gs.cost(graph).macs == 36 * 9 * 4 * 8 + 36 * 8 * 5
    plain = "x = input 1,6,6,4\nw = f32[3,3,4,8]{1}\ny = Conv2D(x, w) dilations=[1,2,3,1]\n"
    assert gs.cost(tiny(plain)).macs == 36 * 9 * 4 * 8


def test_the_old_ops_move_space_by_an_attribute() -> None:
    text = (
        "x = input ?,6,6,4\nw = f32[3,3,4,8]{1}\nc = i32[2,2]{0 0 0 0}\n"
        "a = SpaceToBatch(x, c) block_size=2\ny = Conv2D(a, w)\n"
        "b = BatchToSpace(y, c) block_size=2\nz = Conv2D(b, u)\nu = f32[1,1,8,5]{1}\n"
    )
    assert gs.cost(tiny(text)).macs == 4 * 9 * 9 * 4 * 8 + 36 * 8 * 5


def test_blocks_of_an_unknown_size_leave_the_cost_open() -> None:
    text = DILATED % "1,6,6,4"
    assert gs.cost(tiny(text.replace("k = i32[2]{2 3}", "k = input 2"))).macs is None


@pytest.mark.parametrize(
    "shape, text, macs",
    [
        # Of eight pictures with nine positions each: nine rows are of one picture, or one is.
        ("8,3,3,4", "n = i32[2]{72 4}\nf = Reshape(x, n)\ny = MatMul(f, w)", 9 * 4 * 7),
        ("8,3,3,4", "n = i32[2]{1 2}\nf = Mean(x, n) keep_dims=false\ny = MatMul(f, w)", 4 * 7),
        ("1,3,3,4", "n = i32[2]{9 4}\nf = Reshape(x, n)\ny = MatMul(f, w)", 9 * 4 * 7),
        # A table of eight rows without a batch: the first axis of two is no batch for certain.
        ("8,4", "y = MatMul(x, w)", 8 * 4 * 7),
        # A picture without a batch, which gets one.
        (
            "8,8,4",
            "z = i32[]{0}\ne = ExpandDims(x, z)\nn = i32[2]{64 4}\nf = Reshape(e, n)\n"
            "m = MatMul(f, w)\nk = i32[3]{1 64 7}\ny = Reshape(m, k)",
            64 * 4 * 7,
        ),
        # Weights that are multiplied are of no example.
        (
            "8,3,3,4",
            "a = f32[8,5]{1}\nb = f32[5,7]{1}\nm = MatMul(a, b)\nn = i32[4]{1 1 8 7}\n"
            "k = Reshape(m, n)\np = i32[4]{8 3 3 2}\nq = f32[1,1,4,8]{1}\n"
            "c = Conv2D(x, q)\ny = Conv2D(c, k)",
            9 * 4 * 8 + 9 * 8 * 7,
        ),
    ],
)
def test_a_fixed_batch_counts_for_one_example(shape: str, text: str, macs: int) -> None:
    assert gs.cost(tiny(f"x = input {shape}\nw = f32[4,7]{{1}}\n{text}\n")).macs == macs


def test_what_stands_before_a_node_that_is_fed_costs_nothing() -> None:
    graph = tiny(
        "x = input 1,6,6,4\nw = f32[3,3,4,8]{1}\nc = Conv2D(x, w)\nr = Relu(c)\n"
        "v = f32[1,1,8,5]{1}\ny = Conv2D(r, v)\noutput y\n"
    )
    assert gs.cost(graph) == (288 + 40, 36 * 9 * 4 * 8 + 36 * 8 * 5)
    graph.inputs = ["r"]
    assert gs.cost(graph) == (40, 36 * 8 * 5)


def test_open_size_leaves_the_cost_open() -> None:
    assert gs.cost(tiny("x = input 1,?,6,4\nw = f32[1,1,4,8]{1}\ny = Conv2D(x, w)\n")).macs is None


# ------------------------------------------------------------------ NCHW

LAYOUT = """
x = input %s
a/w = f32[3,3,4,8]{random 1}
a = Conv2D(x, a/w)%s
b = f32[8]{0.5 -1 0 0 0 1 0 0}
c = BiasAdd(a, b)%s
r = Relu(c)
d/w = f32[3,3,8,2]{random 2}
d = DepthwiseConv2dNative(r, d/w)%s
p = MaxPool(d)%s%s
m = i32[2]{%s}
g = Mean(p, m) Tidx=int32
y = Mul(p, g)
u = DepthToSpace(y)%s
z/w = f32[1,1,4,3]{random 3}
z = Conv2D(u, z/w)%s
s = f32[3]{random 4}
v = f32[3]{2}
o = FusedBatchNorm(z, s, s, s, v)%s
"""


def test_nchw_is_pruned_as_nhwc_is() -> None:
    """TensorFlow runs no NCHW on a CPU: groups, dead channels and cut constants are compared."""
    mark = ' data_format="NCHW"'
    texts = (
        LAYOUT % ("1,6,6,4", *[""] * 5, "1 2", *[""] * 3),
        LAYOUT % ("1,4,6,6", *[mark] * 4, " ksize=[1,1,2,2]", "2 3", *[mark] * 3),
    )
    found: List[List[object]] = []
    for text in texts:
        graph = zero_filters(tiny(text), "a/w", 3, [1, 3, 5, 7])
        channels = gs.analyse(graph)
        bound = [
            (
                one.id,
                len(one),
                one.prunable,
                [(b.param, b.axis, b.role) for b in channels.bindings(one)],
            )
            for one in channels.groups
        ]
        plan = random_plan(graph, seed=2)
        slim = gs.apply(graph, plan)
        cut = [
            (node.name, constant(slim, node.name).tolist())
            for node in slim
            if node.name[-2:] == "/w"
        ]
        dead = [(one.id, one.removed) for one in gs.plan(graph).groups]
        found.append([bound, cut, dead, plan.params, plan.macs])
    assert found[0] == found[1]
    assert found[0][0], "nothing was compared"


# ------------------------------------------------------------------ segments


@st.composite
def reshapes(draw: st.DrawFn) -> Tuple[Tuple[int, ...], Tuple[int, ...]]:
    """Two shapes of one size: the same prime factors, grouped twice."""
    factors = draw(st.lists(st.sampled_from([1, 2, 2, 3, 5]), min_size=1, max_size=6))

    def grouped() -> Tuple[int, ...]:
        cuts = sorted(draw(st.sets(st.integers(1, len(factors)), max_size=3)) - {len(factors)})
        parts = np.split(np.array(factors), cuts)
        return tuple([int(np.prod(part)) for part in parts])

    return grouped(), grouped()


@settings(deadline=None, max_examples=200)
@given(reshapes())
def test_segments_are_independent_pieces_of_a_reshape(
    case: Tuple[Tuple[int, ...], Tuple[int, ...]],
) -> None:
    """Within each piece numpy moves positions as the piece alone would move them."""
    old, new = case
    pieces = segments(old, new)
    assert pieces is not None
    assert [axis for piece in pieces for axis in piece.before] == list(range(len(old)))
    assert [axis for piece in pieces for axis in piece.after] == list(range(len(new)))
    for piece in pieces:
        inside = [old[axis] for axis in piece.before]
        index = np.arange(int(np.prod(inside))).reshape(
            [size if axis in piece.before else 1 for axis, size in enumerate(old)]
        )
        moved = np.broadcast_to(index, old).reshape(new)
        alone = index.reshape([new[axis] if axis in piece.after else 1 for axis in range(len(new))])
        np.testing.assert_array_equal(moved, np.broadcast_to(alone, new))


@pytest.mark.parametrize(
    "old, new, found",
    [
        ((None, 4, 6), (None, 24), [((0,), (0,)), ((1, 2), (1,))]),
        ((None, 4, 6), (8, 24), [((0,), (0,)), ((1, 2), (1,))]),
        ((None, 4, 6), (None, 25), [((0, 1, 2), (0, 1))]),
        ((2, None, 6), (2, None, 6), [((0,), (0,)), ((1,), (1,)), ((2,), (2,))]),
        ((None, None, 4, 6), (None, 24), [((0, 1), (0,)), ((2, 3), (1,))]),
        ((3, None, None, 6), (3, None, 2, 3), [((0,), (0,)), ((1, 2), (1,)), ((3,), (2, 3))]),
        ((2, 3), (None, 3), [((0,), (0,)), ((1,), (1,))]),
        ((), (1, 1), [((), (0,)), ((), (1,))]),
        ((2, 3), (3, 2), [((0, 1), (0, 1))]),
        ((6,), (4,), None),
    ],
)
def test_segments_with_open_sizes(
    old: Tuple[Optional[int], ...],
    new: Tuple[Optional[int], ...],
    found: Optional[List[Tuple[Tuple[int, ...], Tuple[int, ...]]]],
) -> None:
    assert segments(old, new) == found
