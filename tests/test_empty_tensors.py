"""Tensors without elements, as converters leave them: no analysis, score or pass falls over one."""

from __future__ import annotations

import pytest
from tiny import tiny

import graphslim as gs
from graphslim.measure.feeds import random_feeds
from graphslim.pipeline.steps import passes
from graphslim.scoring import criteria
from graphslim.testing import assert_mask_equivalent, random_plan

NOTHING = "x = input 1,4,4,0\nb = f32[0]{}\n"
LAYERS = {
    "convolution of nothing": "x = input 1,4,4,0\nw = f32[1,1,0,8]{}\nc = Conv2D(x, w)",
    "convolution to nothing": "x = input 1,4,4,3\nw = f32[1,1,3,0]{}\nc = Conv2D(x, w)",
    "depthwise": "x = input 1,4,4,0\nw = f32[3,3,0,1]{}\nc = DepthwiseConv2dNative(x, w)",
    "transposed": (
        "n = i32[4]{1 8 8 0}\nx = input 1,4,4,3\nw = f32[2,2,0,3]{}\n"
        "c = Conv2DBackpropInput(n, w, x) strides=[1,2,2,1]"
    ),
    "product of nothing": "x = input 1,0\nw = f32[0,3]{}\nc = MatMul(x, w)",
    "product to nothing": "x = input 1,3\nw = f32[3,0]{}\nc = MatMul(x, w)",
    "bias": NOTHING + "c = BiasAdd(x, b)",
    "batch norm": NOTHING + "c = FusedBatchNorm(x, b, b, b, b)",
    "scale": NOTHING + "c = Mul(x, b)",
    "offset": NOTHING + "c = AddV2(x, b)",
    "bounds": NOTHING + "a = Maximum(x, b)\nc = Minimum(a, b)",
    "clip": NOTHING + "c = ClipByValue(x, b, b)",
    "choice": NOTHING + "v = f32[1,4,4,0]{}\ng = Greater(x, v)\nc = Select(g, x, v)",
    "prelu": NOTHING + "r = Relu(x)\nn = Neg(x)\ns = Relu(n)\nt = Mul(s, b)\nc = AddV2(r, t)",
    "fake quantisation": NOTHING + "c = FakeQuantWithMinMaxVarsPerChannel(x, b, b)",
    "fill": "x = input 1,4,4,0\ns = i32[1]{0}\nv = f32[]{2}\nf = Fill(s, v)\nc = Mul(x, f)",
    "concatenation": (
        "x = input 1,4,4,2\nv = f32[1,4,4,0]{}\na = i32[]{3}\nc = ConcatV2(x, v, a) Tidx=int32"
    ),
    "split": (
        "x = input 1,4,4,4\na = i32[]{3}\nn = i32[2]{0 4}\ns = SplitV(x, n, a) num_split=2\n"
        "c = Relu(s:1)"
    ),
    "gather": "x = input 1,4,4,2\ni = i32[0]{}\na = i32[]{3}\nc = GatherV2(x, i, a)",
    "slice": "x = input 1,4,4,2\nb = i32[4]{0 0 0 0}\nn = i32[4]{1 4 4 0}\nc = Slice(x, b, n)",
    "tile": "x = input 1,4,4,2\nm = i32[4]{1 1 1 0}\nc = Tile(x, m)",
    "reduction over no axis": "x = input 1,4,4,2\na = i32[0]{}\nc = Mean(x, a) Tidx=int32",
    "shape of a scalar": "x = input 1\nn = i32[0]{}\nc = Reshape(x, n)",
}
"""Layers that end in `c`."""
WIDE = {"convolution of nothing": 8, "split": 4, "concatenation": 2}
"""Those whose output has channels."""
TAIL = "\nd/w = f32[1,1,%d,6]{random 7}\nd = Conv2D(c, d/w)\ne/w = f32[1,1,6,2]{random 8}\n"
TAIL += "e = Conv2D(d, e/w)\n"


def graph_of(case: str) -> gs.Graph:
    return tiny(LAYERS[case] + (TAIL % WIDE[case] if case in WIDE else "\ny = Relu6(c)\n"))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("case", sorted(LAYERS))
def test_every_analysis_takes_it(case: str) -> None:
    graph = graph_of(case)
    random_feeds(graph)
    gs.cost(graph)
    gs.plan(graph)
    assert all(group.pinned_by or len(group) for group in gs.analyse(graph).groups)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("case", sorted(LAYERS))
def test_every_pass_takes_it(case: str) -> None:
    for name in passes():
        gs.Pipeline([name]).run(graph_of(case))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("case", sorted(WIDE))
def test_criteria_score_what_stands_behind_it(case: str) -> None:
    graph = graph_of(case)
    for name, rule in criteria().items():
        if rule.kind == "weights" and name != "bn-scale":
            plan = gs.plan(graph, criterion=name, ratio=0.5, only=["d"], multiple_of=1)
            assert [len(group.removed) for group in plan.groups] == [3], name


@pytest.mark.tf
@pytest.mark.parametrize("case", ["split", "concatenation"])
def test_what_stands_behind_it_can_be_cut(case: str) -> None:
    graph = graph_of(case)
    assert_mask_equivalent(graph, random_plan(graph))
