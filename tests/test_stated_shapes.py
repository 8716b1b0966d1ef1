"""Shapes that an op states whatever comes in: what stands behind it is cut like any other layer."""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import pytest
from sessions import plain_config
from tiny import groups, pins, tiny

import graphslim as gs
from graphslim.testing import assert_mask_equivalent, random_plan

UNKNOWN = """
x = Placeholder() dtype=float32 shape=<*>
known = input 1,4,4,2
two = i32[2]{5 7}
four = i32[4]{-1 2 3 8}
sizes = i32[4]{1 2 3 8}
zeros = i32[4]{0 0 0 0}
order = i32[4]{0 3 1 2}
pads = i32[4,2]{0 0 1 1 1 1 0 0}
axis = i32[]{3}
v = f32[8]{1}
w = f32[3,3,4,8]{random 1}
d = f32[3,3,4,2]{random 1}
m = f32[4,8]{random 1}
edges = i32[2,2]{0 0 0 0}
boxes = f32[3,4]{1}
at = i32[3]{0}
f = f32[2,2,4]{1}
back = f32[3,3,8,4]{1}
s = f32[]{1}
axes = i32[1]{3}
cells = i32[5,2]{0}
ones = i32[4]{1 1 1 1}
w3 = f32[3,3,3,4,8]{1}
"""
STATED: Dict[str, Optional[Tuple[Optional[int], ...]]] = {
    "Reshape(x, four)": (None, 2, 3, 8),
    "BroadcastTo(x, sizes)": (1, 2, 3, 8),
    "Slice(x, zeros, four)": (None, 2, 3, 8),
    "Tile(x, sizes)": (None,) * 4,
    "Transpose(x, order) Tperm=int32": (None,) * 4,
    "Pad(x, pads) Tpaddings=int32": (None,) * 4,
    'MirrorPad(x, pads) Tpaddings=int32 mode="REFLECT"': (None,) * 4,
    "ConcatV2(x, known, axis)": (1, 4, 4, None),
    "Pack(x, known) axis=0": (2, 1, 4, 4, 2),
    "ResizeBilinear(x, two)": (None, 5, 7, None),
    "AvgPool(x)": (None,) * 4,
    "MaxPool(x)": (None,) * 4,
    "DepthToSpace(x)": (None,) * 4,
    "Conv2D(x, w)": (None, None, None, 8),
    "DepthwiseConv2dNative(x, d)": (None, None, None, 8),
    "MatMul(x, m)": (None, 8),
    "FusedBatchNorm(x, v, v, v, v)": (None, None, None, 8),
    "BiasAdd(q, v)": (None, None, None, 8),
    "EnsureShape(x) shape=<?,4,4,8>": (None, 4, 4, 8),
    "SpaceToDepth(x)": (None,) * 4,
    "CropAndResize(x, boxes, at, two)": (3, 5, 7, None),
    "Conv2DBackpropInput(sizes, back, x)": (1, 2, 3, 8),
    "DepthwiseConv2dNativeBackpropInput(sizes, d, x)": (1, 2, 3, 8),
    "L2Loss(x)": (),
    "Where(x)": (None, None),
    "InTopK(x, two)": (None,),
    'Einsum(x, m) equation="abc,cd->abd" N=2': (None, None, 8),
    "SparseMatMul(x, m)": (None, 8),
    "Shape(x)": (None,),
    "Size(x) out_type=int32": (),
    "Rank(x)": (),
    "Range(axis, x, axis)": (None,),
    "LinSpace(s, s, axis)": (3,),
    "Conv3D(x, w3)": (None, None, None, None, 8),
    "MaxPool3D(x)": (None,) * 5,
    "DecodeJpeg(x) channels=3": (None, None, 3),
    "DecodeWebP(x) channels=4": (None, None, 4),
    "DecodePng(x) channels=0": (None, None, None),
    "DecodeGif(x)": (None, None, None, 3),
    "DecodeWav(x)": (None, None),
    "DecodeWav(x) desired_channels=-1 desired_samples=-1": (None, None),
    "DecodeWav(x) desired_channels=2 desired_samples=100": (100, 2),
    "DecodeImage(x) channels=1 expand_animations=false": (None, None, 1),
    "RandomUniform(sizes)": (1, 2, 3, 8),
    "InvertPermutation(x)": (None,),
    "BroadcastArgs(x, two)": (None,),
}
for _text in (
    *("SpaceToBatchND(x, two, edges)", "BatchToSpace(x, edges) block_size=2", "LRN(x)"),
    *("ExtractImagePatches(x) ksizes=[1,2,2,1]", "ScaleAndTranslate(x, two, v, v)", "Softmax(x)"),
    *("ImageProjectiveTransformV2(x, v, two)", "Mean(x, axis) Tidx=int32", "ArgMax(x, axis)"),
    *("TopKV2(x, axis)", "OneHot(x, axis, s, s)", "Cumsum(x, axis)", "Roll(x, axis, axis)"),
    *("ReverseV2(x, axes) Tidx=int32", "GatherV2(x, two, axis)", "GatherNd(x, cells)"),
    *("Unpack(x) axis=1 num=3", "Split(axis, x) num_split=3", "SplitV(x, two, axis) num_split=2"),
    *("Squeeze(x)", "Squeeze(x) squeeze_dims=[1]", "ExpandDims(x, axis)", "AdjustHue(x, s)"),
    *("StridedSlice(x, zeros, sizes, ones)", "SegmentSum(x, two)", "MatrixDiag(x)"),
    *("UnsortedSegmentSum(x, two, axis)", "BatchMatMulV2(x, m)", "Select(x, known, known)"),
    *("AddV2(x, known)", "AddN(x, known)", "Fill(x, s)", "FakeQuantWithMinMaxVars(x, s, s)"),
    *("QuantizeV2(x, s, s)", "ReverseSequence(x, two) seq_dim=1", "DynamicPartition(x, two)"),
    *("DecodeImage(x) channels=1", "FractionalMaxPool(x) pooling_ratio=[1.0,1.5,1.5,1.0]"),
    'Dilation2D(x, f) strides=[1,1,1,1] rates=[1,1,1,1] padding="SAME"',
):
    STATED[_text] = None
"""By op on a tensor of which nothing is known, the shape that it has all the same, if any."""


@pytest.mark.parametrize("text", sorted(STATED))
def test_shape_that_is_stated_whatever_comes_in(text: str) -> None:
    graph = tiny(f"{UNKNOWN}q = ResizeBilinear(x, two)\ny = {text}\noutput y\n")
    shape = gs.analyse(graph).fact(gs.Port("y")).shape
    if text.startswith("BiasAdd"):
        assert shape == (None, 5, 7, 8)
    else:
        assert shape == STATED[text]


def test_sizes_given_for_tensors_inside_the_graph() -> None:
    """They fill in what is open, and none of those sizes is for graphslim to change."""
    graph = tiny(
        "x = input ?,?,6,4\na/w = f32[3,3,4,8]{1}\na = Conv2D(x, a/w)\nm = Mystery(a)\n"
        "z/w = f32[1,1,8,3]{1}\nz = Conv2D(m, z/w)\noutput z\n"
    )
    graph.input_shapes = {"a": (2, 5, 9, 8), "m": (2, 5, 6, 8), "z": (1, 2)}
    channels = gs.analyse(graph)
    shapes = [channels.fact(gs.Port(name)).shape for name in "amz"]
    assert shapes == [(2, 5, 6, 8), (2, 5, 6, 8), (2, 5, 6, 3)]
    counts = [None if ids is None else len(ids) for ids in channels.fact(gs.Port("a")).ids]
    assert counts == [2, 5, None, 8], "the size that the file states has no ids"
    assert [len(ids) for ids in channels.fact(gs.Port("m")).ids if ids is not None] == [2, 5, 6, 8]
    assert pins(graph, "a") == "graphslim has no rule for the op Mystery @ m"


SOUND = (
    "wav = Placeholder() dtype=string shape=<>\n"
    "s = DecodeWav(wav) desired_channels=1 desired_samples=16000\n"
    "p = AudioSpectrogram(s) window_size=640 stride=640 magnitude_squared=true\n"
    "c = Mfcc(p, s:1) dct_coefficient_count=10\noutput c\n"
)


def test_shapes_of_sound() -> None:
    """As TensorFlow computes them: the window's next power of two has 1024 samples."""
    channels = gs.analyse(tiny(SOUND))
    shapes = [channels.fact(gs.Port(name)).shape for name in "spc"]
    assert shapes == [(16000, 1), (1, 25, 513), (1, 25, 10)]


@pytest.mark.tf
def test_shapes_of_sound_are_those_of_tensorflow() -> None:
    import tensorflow as tf

    raw = getattr(tf, "raw_ops", None) or tf.compat.v1.raw_ops
    with tf.Graph().as_default(), tf.compat.v1.Session(
        config=plain_config(tf.compat.v1)
    ) as session:
        for window, stride, samples in ((640, 640, 16000), (480, 160, 16000), (512, 512, 500)):
            sound = tf.zeros([samples, 1])
            power = raw.AudioSpectrogram(input=sound, window_size=window, stride=stride)
            text = (
                f"x = input {samples},1\np = AudioSpectrogram(x) window_size={window} "
                f"stride={stride} magnitude_squared=false\noutput p\n"
            )
            assert gs.analyse(tiny(text)).fact(gs.Port("p")).shape == session.run(power).shape


def _product(shape: Optional[Tuple[int, ...]]) -> gs.Graph:
    """Two layers behind a Reshape to a literal target, which is all that tells their sizes."""
    graph = tiny(
        "x = Placeholder() dtype=float32 shape=<*>\nt = i32[2]{-1 12}\n"
        "features = Reshape(x, t)\nfc1/w = f32[12,16]{random 1}\nfc1 = MatMul(features, fc1/w)\n"
        "r = Relu(fc1)\nfc2/w = f32[16,14]{random 2}\nfc2 = MatMul(r, fc2/w)\ns = Relu(fc2)\n"
        "fc3/w = f32[14,3]{random 3}\nfc3 = MatMul(s, fc3/w)\ny = Softmax(fc3)\noutput y\n"
    )
    graph.input_shapes = {} if shape is None else {"x": shape}
    return graph


def test_layers_behind_a_literal_reshape_are_prunable_and_scored() -> None:
    graph = _product(None)
    prunable = {one.id: len(one) for one in groups(graph).values() if one.prunable}
    assert prunable == {"fc1": 16, "fc2": 14}
    assert gs.plan(graph, criterion="l2", ratio=0.5, multiple_of=1).removed == 15


@pytest.mark.tf
def test_layers_behind_a_literal_reshape_are_cut() -> None:
    graph = _product((2, 3, 4))
    assert_mask_equivalent(graph, random_plan(graph, seed=2), tolerance=1e-5)
