"""Convolutions that resize or pad first, which TF1's optimize_for_inference makes."""

from __future__ import annotations

from typing import Dict

import numpy as np
import pytest
from tiny import constant, groups, pins, prune, tiny, value, zero_filters

import graphslim as gs
from graphslim.testing import assert_equivalent, assert_mask_equivalent, random_plan

PADS = "pads = i32[4,2]{0 0 1 2 1 0 0 0}\n"
START = (
    "x = input 1,6,6,4\na/w = f32[3,3,4,8]{random 1}\na = Conv2D(x, a/w)\nb = f32[8]{random 2}\n"
    "c = BiasAdd(a, b)\nr = Relu(c)\nd/w = f32[3,3,8,6]{random 3}\n"
)
TAIL = "e = Relu(d)\nf/w = f32[1,1,6,3]{random 4}\nf = Conv2D(e, f/w)\nq = Relu(f)\noutput q\n"
ATTRS = 'mode="REFLECT" strides=[1,1,1,1]'
PLAIN: Dict[str, str] = {
    "pad": PADS + f'd = FusedPadConv2D(r, pads, d/w) {ATTRS} padding="VALID"\n',
    "resize": PADS
    + "size = i32[2]{9 7}\n"
    + f'd = FusedResizeAndPadConv2D(r, size, pads, d/w) {ATTRS} padding="SAME" '
    + "resize_align_corners=false\n",
}
SPELLED: Dict[str, str] = {
    "pad": PADS
    + 'p = MirrorPad(r, pads) mode="REFLECT" Tpaddings=int32\n'
    + 'd = Conv2D(p, d/w) padding="VALID"\n',
    "resize": PADS
    + "size = i32[2]{9 7}\ns = ResizeBilinear(r, size) align_corners=false "
    + "half_pixel_centers=false\n"
    + 'p = MirrorPad(s, pads) mode="REFLECT" Tpaddings=int32\nd = Conv2D(p, d/w)\n',
}
KINDS = sorted(PLAIN)


@pytest.mark.tf
@pytest.mark.parametrize("kind", KINDS)
def test_padded_convolution_is_pruned_as_its_steps_are(kind: str) -> None:
    graph, spelled = tiny(START + PLAIN[kind] + TAIL), tiny(START + SPELLED[kind] + TAIL)
    assert_equivalent(graph, spelled, tolerance=1e-5)
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"a": 8, "d": 6}
    plan = random_plan(graph, seed=1)
    slim = gs.apply(graph, plan)
    assert constant(slim, "d/w").shape == (3, 3, 4, 3)
    assert_mask_equivalent(graph, plan, tolerance=1e-5)
    assert gs.cost(graph) == gs.cost(spelled)
    assert gs.cost(slim) == gs.cost(gs.apply(spelled, random_plan(spelled, seed=1)))


@pytest.mark.tf
@pytest.mark.parametrize("kind", KINDS)
def test_constant_channels_are_known_behind_a_padded_convolution(kind: str) -> None:
    """A mirror shows the constant; under VALID it is folded, under SAME the zero border is seen."""
    graph = zero_filters(tiny(START + PLAIN[kind] + TAIL), "a/w", 3, [0, 2, 5])
    offsets = np.array([0.5, 1.0, 0.0, 1.0, 1.0, -1.0, 1.0, 1.0])
    graph.set_attr("b", "value", graph["b"].attrs["value"].with_numbers(offsets))
    spelled = zero_filters(tiny(START + SPELLED[kind] + TAIL), "a/w", 3, [0, 2, 5])
    spelled.set_attr("b", "value", graph["b"].attrs["value"])
    zero_filters(graph, "d/w", 3, [1])
    zero_filters(spelled, "d/w", 3, [1])
    np.testing.assert_equal(value(graph, "d"), value(spelled, "d"))
    prune(graph, {"a": [0, 2, 5] if kind == "pad" else [2, 5], "d": [1]})


def test_padding_over_channels_stays() -> None:
    graph = tiny(START + PLAIN["pad"].replace("0 0 0}", "0 0 1}") + TAIL)
    graph.set_attr("d/w", "value", gs.Tensor.from_numbers(np.ones((3, 3, 9, 6)), gs.DType.float32))
    assert pins(graph, "a") == "it is padded with its own mirror image over channels @ d"


def test_padded_convolutions_are_part_of_blocks() -> None:
    text = (
        "x = input 1,6,6,4\nsize = i32[2]{9 7}\npads = i32[4,2]{0 0 0 0 0 0 0 0}\n"
        "e/w = f32[1,1,4,16]{random 1}\n"
        f'e = FusedResizeAndPadConv2D(x, size, pads, e/w) {ATTRS} padding="SAME"\n'
        "r = Relu6(e)\nd/w = f32[3,3,16,1]{random 2}\nd = DepthwiseConv2dNative(r, d/w)\n"
        "s = Relu6(d)\np/w = f32[1,1,16,4]{random 3}\n"
        f'p = FusedPadConv2D(s, pads, p/w) {ATTRS} padding="SAME"\noutput p\n'
    )
    (block,) = gs.find_blocks(tiny(text)).blocks
    assert block.kind == "inverted_residual"
    assert {"e", "d", "p"} <= set(block.nodes)


@pytest.mark.tf
def test_padded_convolution_beside_nchw_layers() -> None:
    """It computes in NHWC alone: in a graph that is turned, it reads what it read before."""
    text = (
        "x = input 1,4,6,6\na/w = f32[3,3,4,8]{random 1}\n"
        'a = Conv2D(x, a/w) data_format="NCHW"\no = i32[4]{0 2 3 1}\nr = Transpose(a, o) '
        "Tperm=int32\nd/w = f32[3,3,8,6]{random 3}\n"
    )
    graph = tiny(text + PLAIN["pad"] + TAIL)
    turned = graph.copy()
    gs.Pipeline(["to-nhwc"]).run(turned)
    assert turned["a"].text("data_format") == "NHWC"
    assert "Transpose" not in [turned[port.node].op for port in turned.data_inputs("d")]
    assert_mask_equivalent(turned, random_plan(turned, seed=3), tolerance=1e-5)
