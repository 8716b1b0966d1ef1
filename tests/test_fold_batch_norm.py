"""fold-batch-norm: every layer, every spelling, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import List

import numpy as np
import pytest
from tiny import constant, tiny

import graphslim as gs
from graphslim.testing import assert_equivalent, check_pass, round_trip

NORM = """
    g = f32[{c}]{{random 11}}
    b = f32[{c}]{{random 12}}
    m = f32[{c}]{{random 13}}
    v = f32[{c}]{{2}}
"""
ONE_OP = "z = FusedBatchNorm(y, g, b, m, v)"
LAYERS = {
    "convolution": ("w = f32[3,3,4,6]{random 1}\ny = Conv2D(x, w)", 6),
    "behind identities": ("w = f32[3,3,4,6]{random 1}\ni = Identity(w)\ny = Conv2D(x, i)", 6),
    "depthwise": ("w = f32[3,3,4,2]{random 1}\ny = DepthwiseConv2dNative(x, w)", 8),
    "transposed": (
        "n = i32[4]{2 5 5 6}\nw = f32[3,3,6,4]{random 1}\ny = Conv2DBackpropInput(n, w, x)",
        6,
    ),
    "dilated": (
        """
        p = i32[2,2]{1 2 1 2}
        k = i32[2]{2 2}
        cut = i32[2,2]{0 1 0 1}
        d = SpaceToBatchND(x, k, p)
        w = f32[2,2,4,1]{random 1}
        dw = DepthwiseConv2dNative(d, w) padding="VALID"
        y = BatchToSpaceND(dw, k, cut)
        """,
        4,
    ),
}
DENSE = {
    "dense": "w = f32[5,6]{random 1}\ny = MatMul(x, w)",
    "dense, turned": "w = f32[6,5]{random 1}\ny = MatMul(x, w) transpose_b=true",
    "batched": "w = f32[5,6]{random 1}\ny = BatchMatMulV2(x, w)",
}
SPELLINGS = {
    "V1": ONE_OP,
    "V3": "z = FusedBatchNormV3(y, g, b, m, v) U=float32 epsilon=0.01 is_training=false",
    "old": "z = BatchNormWithGlobalNormalization(y, m, v, b, g) variance_epsilon=0.01"
    " scale_after_normalization=true",
    "old, no scale": "z = BatchNormWithGlobalNormalization(y, m, v, b, g) variance_epsilon=0.01"
    " scale_after_normalization=false",
    "behind a bias": "o = f32[6]{random 14}\nq = BiasAdd(y, o)\nz = FusedBatchNorm(q, g, b, m, v)",
    "before a bias": "o = f32[6]{random 14}\nq = FusedBatchNorm(y, g, b, m, v)\nz = BiasAdd(q, o)",
    "twice": "q = FusedBatchNorm(y, g, b, m, v)\nz = FusedBatchNorm(q, b, g, m, v)",
    "in parts": """
        e = f32[]{0.001}
        s1 = AddV2(v, e)
        s2 = Rsqrt(s1)
        s = Mul(s2, g)
        q = Mul(y, s)
        s3 = Mul(m, s)
        t = Sub(b, s3)
        z = AddV2(q, t)
    """,
    "four dimensions": """
        s = f32[1,1,1,6]{random 14}
        t = f32[1,6]{random 15}
        q = Mul(s, y)
        z = Add(t, q)
    """,
    "minus and by": "q = Sub(y, m)\nu = RealDiv(q, v)\nz = Sub(b, u)",
    "a sum": "z = AddV2(y, b)",
}


def tail(graph: gs.Graph) -> List[str]:
    """The ops behind the layer that compute."""
    return [node.op for node in graph if node.op not in ("Const", "Placeholder")]


def folded(graph: gs.Graph, layers: int = 1) -> gs.Graph:
    """The graph behind the pass, which has to compute the same."""
    slim = graph.copy()
    outcome = check_pass(slim, "fold-batch-norm")
    assert outcome.notes[0] == f"layers folded: {layers}"
    slim = round_trip(slim)
    assert [str(port) for port in slim.outputs] == [str(port) for port in graph.outputs]
    assert_equivalent(graph, slim, tolerance=5e-6)
    return slim


@pytest.mark.tf
@pytest.mark.parametrize("layer", list(LAYERS))
def test_every_convolution(layer: str) -> None:
    text, width = LAYERS[layer]
    graph = tiny(f"x = input 2,5,5,4\n{text}\n{NORM.format(c=width)}\n{ONE_OP}\nr = Relu(z)")
    slim = folded(graph)
    assert tail(slim)[-2:] == ["BiasAdd", "Relu"] and len(tail(slim)) == len(tail(graph))
    assert "g" not in slim and "v" not in slim


@pytest.mark.tf
@pytest.mark.parametrize("layer", list(DENSE))
def test_every_product(layer: str) -> None:
    text = f"x = input 2,5\n{DENSE[layer]}\n{NORM.format(c=6)}\nq = Mul(y, g)\nz = AddV2(q, b)"
    assert tail(folded(tiny(text + "\nr = Tanh(z)")))[1:] == ["BiasAdd", "Tanh"]


@pytest.mark.tf
@pytest.mark.parametrize("spelling", list(SPELLINGS))
def test_every_spelling(spelling: str) -> None:
    text = f"x = input 2,5,5,4\nw = f32[3,3,4,6]{{random 1}}\ny = Conv2D(x, w)\n{NORM.format(c=6)}"
    graph = tiny(f"{text}\n{SPELLINGS[spelling]}\nr = Relu(z)\noutput r")
    assert tail(folded(graph)) == ["Conv2D", "BiasAdd", "Relu"]


@pytest.mark.tf
def test_a_scale_alone_leaves_nothing() -> None:
    graph = tiny(
        "x = input 2,5,5,4\nw = f32[3,3,4,6]{random 1}\ng = f32[6]{random 2}\n"
        "y = Conv2D(x, w)\nz = Mul(y, g)\nr = Relu(z)"
    )
    assert tail(folded(graph)) == ["Conv2D", "Relu"]


@pytest.mark.tf
def test_an_output_keeps_its_name() -> None:
    text = (
        "x = input 2,5,5,4\nw = f32[3,3,4,6]{random 1}\ng = f32[6]{random 2}\n"
        "b = f32[6]{random 3}\ny = Conv2D(x, w)\nz = Mul(y, g)"
    )
    assert tail(folded(tiny(text))) == ["Conv2D", "Identity"]
    assert tail(folded(tiny(text + "\nlast = AddV2(z, b)"))) == ["Conv2D", "BiasAdd"]


@pytest.mark.tf
def test_channels_first() -> None:
    graph = tiny(
        f"""
        x = input 2,4,5,5
        w = f32[3,3,4,6]{{random 1}}
        y = Conv2D(x, w) data_format="NCHW"
        {NORM.format(c=6)}
        q = FusedBatchNorm(y, g, b, m, v) data_format="NCHW"
        s = f32[6,1,1]{{random 5}}
        z = Mul(q, s)
        r = Relu(z)
        """
    )
    slim = folded(graph)
    assert tail(slim) == ["Conv2D", "BiasAdd", "Relu"]
    assert slim["z"].attrs["data_format"] == b"NCHW"


@pytest.mark.tf
def test_channels_behind_a_transpose() -> None:
    graph = tiny(
        """
        x = input 2,5,5,4
        w = f32[3,3,4,2]{random 1}
        d = DepthwiseConv2dNative(x, w)
        o = i32[4]{0 3 1 2}
        y = Transpose(d, o) Tperm=int32
        s = f32[8,1,1]{random 5}
        z = Mul(y, s)
        u = f32[1,8,1,1]{random 6}
        r = AddV2(z, u)
        """
    )
    slim = folded(graph)
    assert tail(slim) == ["DepthwiseConv2dNative", "Transpose", "BiasAdd"]
    assert slim["r"].attrs["data_format"] == b"NCHW"


def test_a_convolution_in_groups_gets_no_bias() -> None:
    """TensorFlow would fuse a BiasAdd, and its fused kernels take no groups."""
    text = f"x = input 2,5,5,4\nw = f32[3,3,2,6]{{random 1}}\ny = Conv2D(x, w)\n{NORM.format(c=6)}"
    graph = tiny(f"{text}\n{ONE_OP}\nr = Relu(z)")
    check_pass(graph, "fold-batch-norm")
    assert tail(graph) == ["Conv2D", "AddV2", "Relu"]
    slope = constant(tiny(text), "g") / np.sqrt(2.001)
    assert np.allclose(constant(graph, "w"), constant(tiny(text), "w") * slope, rtol=1e-6)


def test_numbers_are_rounded_once() -> None:
    text = f"x = input 2,5,5,4\nw = f32[3,3,4,6]{{random 1}}\ny = Conv2D(x, w)\n{NORM.format(c=6)}"
    graph = tiny(f"{text}\n{ONE_OP}")
    g, b, m, v, w = [constant(graph, name).astype(np.float64) for name in "gbmvw"]
    check_pass(graph, "fold-batch-norm")
    slope = g / np.sqrt(v + 0.001)
    assert np.array_equal(constant(graph, "w"), (w * slope).astype(np.float32))
    bias = graph.data_inputs("z")[1].node
    assert np.array_equal(constant(graph, bias), (b - m * slope).astype(np.float32))


@pytest.mark.parametrize(
    "norm, extra",
    [
        (ONE_OP, "output y"),
        (ONE_OP, "t = Neg(y)\noutput t"),
        (ONE_OP, "t = Conv2D(x, w)\noutput t"),
        (ONE_OP, "output w"),
        (ONE_OP, "output z:1"),
        (f"{ONE_OP} is_training=true", ""),
        ("z = FusedBatchNorm(y, g, b, m, v, ^x)", ""),
        ("s = Neg(x)\nz = Mul(y, s)", ""),
    ],
    ids=["output", "read", "shared", "weights", "mean", "training", "waits", "no constant"],
)
def test_what_may_not_be_folded_stays(norm: str, extra: str) -> None:
    graph = tiny(
        f"""
        x = input 2,5,5,1
        w = f32[3,3,1,6]{{random 1}}
        y = Conv2D(x, w)
        {NORM.format(c=6)}
        """
        + f"{norm}\nr = Relu(z)\noutput r\n{extra}"
    )
    before = gs.serialize(graph)
    assert not check_pass(graph, "fold-batch-norm").changed
    assert gs.serialize(graph) == before


def test_shared_weights_are_counted() -> None:
    graph = tiny(
        f"x = input 2,5,5,4\nw = f32[3,3,4,6]{{random 1}}\ny = Conv2D(x, w)\n{NORM.format(c=6)}\n"
        f"{ONE_OP}\nt = Conv2D(x, w)"
    )
    notes = check_pass(graph, "fold-batch-norm").notes
    assert notes[1] == "left for weights that others read: 1"


@pytest.mark.tf
def test_shared_vectors_stay_for_the_others() -> None:
    graph = tiny(
        f"""
        x = input 2,5,5,4
        w = f32[3,3,4,6]{{random 1}}
        u = f32[3,3,4,6]{{random 2}}
        y = Conv2D(x, w)
        y2 = Conv2D(x, u)
        {NORM.format(c=6)}
        {ONE_OP}
        z2 = FusedBatchNorm(y2, b, g, m, v)
        sum = AddV2(z, z2)
        more = AddV2(sum, g)
        """
    )
    slim = folded(graph, 2)
    assert "g" in slim and "m" not in slim


@pytest.mark.parametrize("op", ["Mul(y, s)", "AddV2(y, s)"])
def test_a_number_for_all_channels_belongs_to_an_activation(op: str) -> None:
    """Otherwise the 3 of relu6(x + 3) / 6 would go, and nobody would find the gate."""
    graph = tiny(
        f"x = input 2,5,5,4\nw = f32[3,3,4,6]{{random 1}}\ny = Conv2D(x, w)\n"
        f"s = f32[]{{3}}\nz = {op}\nr = Relu6(z)"
    )
    assert not check_pass(graph, "fold-batch-norm").changed


def test_a_vector_that_spreads_the_tensor_stays() -> None:
    graph = tiny(
        "x = input 2,5\nw = f32[5,1]{random 1}\ny = MatMul(x, w)\n"
        "s = f32[6]{random 2}\nz = Mul(y, s)\nr = Relu6(z)"
    )
    assert not check_pass(graph, "fold-batch-norm").changed


def test_weights_that_would_overflow_stay() -> None:
    graph = tiny(
        "x = input 2,5\nw = f32[5,6]{1e30}\ny = MatMul(x, w)\n"
        "s = f32[6]{1e30}\nz = Mul(y, s)\nr = Relu6(z)"
    )
    assert not check_pass(graph, "fold-batch-norm").changed


@pytest.mark.tf
def test_published_networks(shared: Path) -> None:
    for path in ["mobilepose/stripped.pb", "graphs/portrait_deeplab_mnv2_05.pb"]:
        graph = gs.load(str(shared / path))
        slim = graph.copy()
        check_pass(slim, "fold-batch-norm")
        assert not [node for node in slim if node.op.startswith("FusedBatchNorm")]
        assert_equivalent(graph, round_trip(slim), tolerance=5e-5)
