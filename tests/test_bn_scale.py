"""The criterion bn-scale: finding the scale of a batch norm in every spelling."""

from __future__ import annotations

import pytest
from scoring import NORMS, half_normed, normed, scored
from tiny import tiny

import graphslim as gs
from graphslim.errors import PlanError


@pytest.mark.parametrize("norm", list(NORMS))
def test_bn_scale_in_every_spelling(norm: str) -> None:
    found = scored(normed(NORMS[norm]), "bn-scale")
    assert found.own["y"].tolist() == found.rank["y"].tolist() == [2.0, 0.5, 1.0, 3.0]


@pytest.mark.parametrize(
    "norm",
    [
        "n = BiasAdd(y, beta)",
        "p = Relu(y)\n q = Mul(y, gamma)\n n = AddV2(p, q)",  # a PReLU in parts
        "d = AddV2(var, eps)\n q = Rsqrt(d)\n s = Mul(y, q)\n n = AddV2(s, beta)",
    ],
)
def test_bn_scale_refuses_what_has_no_scale(norm: str) -> None:
    with pytest.raises(PlanError, match="y: bn-scale finds no scores: no batch norm scales"):
        scored(normed(norm), "bn-scale")


def test_a_scale_of_ones_is_none() -> None:
    with pytest.raises(PlanError, match="a scale of ones counts as none"):
        scored(normed(NORMS["fused"], "{1 1 1 1}"), "bn-scale")


def test_bn_scale_reads_nchw_and_fused_convolutions() -> None:
    nchw = normed(NORMS["fused"])
    for name in ("y", "n", "z"):
        nchw.set_attr(name, "data_format", b"NCHW")
    nchw.set_attr("x", "shape", gs.Shape([1, 3, 6, 6]))
    fused = tiny(
        """
        x = input 1,6,6,3
        w = f32[1,1,3,4]{random 1}
        gamma = f32[4]{-2 0.5 1 3}
        beta = f32[4]{random 2}
        mean = f32[4]{random 3}
        var = f32[4]{1 2 3 4}
        y = _FusedConv2D(x, w, gamma, beta, mean, var) data_format="NHWC" padding="SAME" """
        """strides=[1,1,1,1] num_args=4 fused_ops=["FusedBatchNorm"] epsilon=0.001
        r = Relu(y)
        v = f32[1,1,4,2]{random 4}
        z = Conv2D(r, v)
    """
    )
    for graph in (nchw, fused):
        assert scored(graph, "bn-scale").own["y"].tolist() == [2.0, 0.5, 1.0, 3.0]


def test_groups_without_a_scale_are_named() -> None:
    graph = half_normed(NORMS["fused"])
    found = scored(graph, "bn-scale")
    assert list(found.own) == ["y"]
    assert list(found.missing) == ["z"] and "no batch norm" in found.missing["z"]
