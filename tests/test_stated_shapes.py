"""Shapes that an op states whatever comes in: what stands behind it is cut like any other layer."""

from __future__ import annotations

from typing import Optional, Tuple

import pytest
from sessions import plain_config
from tiny import groups, tiny

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
"""
STATED = {
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
}
"""By op on a tensor of which nothing is known, the shape that it has all the same."""


@pytest.mark.parametrize("text", sorted(STATED))
def test_shape_that_is_stated_whatever_comes_in(text: str) -> None:
    graph = tiny(f"{UNKNOWN}q = ResizeBilinear(x, two)\ny = {text}\noutput y\n")
    shape = gs.analyse(graph).fact(gs.Port("y")).shape
    if text.startswith("BiasAdd"):
        assert shape == (None, 5, 7, 8)
    else:
        assert shape == STATED[text]


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
