"""Blocks are recognised where an optimizer fused their layers, and where weights are quantised."""

from __future__ import annotations

from typing import Dict, List

import pytest
from networks import Net, blocks, reason

IR, SE = "inverted_residual", "squeeze_excite"


def fused(
    net: Net, x: str, filters: int, steps: List[str], name: str = "", op: str = "_FusedConv2D"
) -> str:
    """A convolution with what follows it, in one op; `Add` takes the input of the network."""
    width = net.width[x]
    kernel = (3, 3, width, 1) if "Depthwise" in op else (1, 1, width, filters)
    kernel = (width, filters) if "MatMul" in op else kernel
    args = []
    for step in steps:
        vectors = {"BiasAdd": 1, "FusedBatchNorm": 4}.get(step, 0)
        args += [net.const((filters,), 2) for _ in range(vectors)]
        args += [net.x] if step == "Add" else []
    words: Dict[str, object] = {
        "fused_ops": "[" + ",".join(f'"{step}"' for step in steps) + "]",
        "num_args": len(args),
        "epsilon": 0.001,
    }
    if "MatMul" in op:
        words.update(transpose_a=False, transpose_b=False)
    else:
        words.update(data_format="NHWC", padding="SAME", strides="[1,1,1,1]")
    y = net.f(op, x, net.const(kernel), *args, name=name, **words)
    net.width[y] = filters
    return y


def fused_block(project: List[str], norm: str = "BiasAdd", act: str = "Relu6") -> Net:
    net = Net()
    y = fused(net, net.x, 24, [norm, act], name="expand")
    y = fused(net, y, 24, [norm, act], name="depthwise", op="_FusedDepthwiseConv2dNative")
    fused(net, y, 8, project, name="project")
    return net


@pytest.mark.parametrize("norm", ["BiasAdd", "FusedBatchNorm"])
@pytest.mark.parametrize("act", ["Relu", "Relu6", "Elu", "LeakyRelu", "Sigmoid"])
def test_finds_an_inverted_residual_of_three_fused_ops(norm: str, act: str) -> None:
    net = fused_block([norm], norm, act)
    net.f("AddV2", "project", net.x)
    found = blocks(net.graph(), IR)
    assert [dict(block.roles) for block in found] == [
        {name: name for name in ("expand", "depthwise", "project")}
    ]


def test_finds_it_where_only_some_layers_are_fused() -> None:
    net = Net()
    y = fused(net, net.x, 24, ["BiasAdd", "Relu6"], name="expand")
    y = net.f("Relu6", net.depthwise(y, name="depthwise"))
    net.conv(y, 8, name="project")
    assert len(blocks(net.graph(), IR)) == 1


def test_an_activation_fused_with_the_residual_sum_is_no_concern() -> None:
    assert len(blocks(fused_block(["BiasAdd", "Add", "Relu"]).graph(), IR)) == 1


def test_an_activation_fused_with_project_makes_it_none() -> None:
    """As in MobileNetV1, where every pointwise convolution is activated."""
    assert reason(fused_block(["BiasAdd", "Relu6"]), IR, "expand") == (
        "project: project is followed by an activation, as in MobileNetV1"
    )


def test_an_expansion_without_activation_is_none() -> None:
    net = Net()
    y = fused(net, net.x, 24, ["BiasAdd"], name="expand")
    y = fused(net, y, 24, ["BiasAdd", "Relu6"], name="depthwise", op="_FusedDepthwiseConv2dNative")
    fused(net, y, 8, ["BiasAdd"], name="project")
    assert blocks(net.graph(), IR) == []


@pytest.mark.parametrize("side_inputs, count", [(0, 1), (1, 0)])
def test_a_norm_with_its_activation_in_one_op(side_inputs: int, count: int) -> None:
    """With a side input, it is the sum that closes a residual block."""
    net = Net()
    y = net.conv(net.x, 24, name="expand")
    vectors = [net.const((24,), 2) for _ in range(4)]
    sides = [net.conv(net.x, 24)] * side_inputs
    y = net.f(
        "_FusedBatchNormEx", y, *vectors, *sides, U="float32", data_format="NHWC", epsilon=0.001,
        is_training=False, num_side_inputs=side_inputs, activation_mode='"Relu"',
    )  # fmt: skip
    y = net.f("Relu", net.depthwise(y, name="depthwise"))
    net.conv(y, 8, name="project")
    assert len(blocks(net.graph(), IR)) == count


# ------------------------------------------------------------------ squeeze and excitation


@pytest.mark.parametrize("gate_fused", [False, True])
@pytest.mark.parametrize("op", ["_FusedConv2D", "_FusedMatMul"])
def test_finds_a_squeeze_excite_block_of_fused_ops(op: str, gate_fused: bool) -> None:
    net = Net()
    y = net.mean(net.x, keep="MatMul" not in op)
    y = fused(net, y, 4, ["BiasAdd", "Relu"], name="squeeze", op=op)
    y = fused(net, y, 8, ["BiasAdd", *["Sigmoid"] * gate_fused], name="excite", op=op)
    y = y if gate_fused else net.f("Sigmoid", y)
    y = net.reshape(y, 1, 1, 1, 8) if "MatMul" in op else y
    net.f("Mul", net.x, y, name="gate")
    found = blocks(net.graph(), SE)
    assert [block.role("squeeze") for block in found] == ["squeeze"]


def test_a_gate_that_ends_in_another_activation_is_none() -> None:
    net = Net()
    y = fused(net, net.mean(net.x), 4, ["BiasAdd", "Relu"])
    net.f("Mul", net.x, fused(net, y, 8, ["BiasAdd", "Relu"]))
    assert blocks(net.graph(), SE) == []


# ------------------------------------------------------------------ weights that are computed


def behind(net: Net, weights: str, spelling: str) -> str:
    """Weights behind a cast, or dequantised, or fake-quantised, or turned."""
    if spelling == "cast":
        return net.op("Cast", weights, SrcT="float32", DstT="float32")
    low, high = net.const(value=-1), net.const(value=1)
    if spelling == "dequantised":
        narrow = net.op("Cast", weights, SrcT="float32", DstT="quint8")
        return net.op("Dequantize", narrow, low, high, T="quint8", mode='"MIN_FIRST"')
    if spelling == "fake-quantised":
        return net.op("FakeQuantWithMinMaxVars", weights, low, high, num_bits=8)
    return net.f("Transpose", weights, net.ints(0, 1, 3, 2), Tperm="int32")


@pytest.mark.parametrize("spelling", ["cast", "dequantised", "fake-quantised", "turned"])
def test_finds_blocks_whose_weights_are_made_in_the_graph(spelling: str) -> None:
    net = Net()
    shape = (1, 1, 24, 8) if spelling == "turned" else (1, 1, 8, 24)
    words = {"data_format": "NHWC", "padding": "SAME", "strides": "[1,1,1,1]"}
    y = net.f("Conv2D", net.x, behind(net, net.const(shape), spelling), name="expand", **words)
    net.width[y] = 24
    if spelling == "fake-quantised":
        y = net.op("FakeQuantWithMinMaxArgs", net.f("Relu6", y), min=0.0, max=6.0)
        y = net.depthwise(y, name="depthwise")
        y = net.op("FakeQuantWithMinMaxArgs", net.f("Relu6", y), min=0.0, max=6.0)
    else:
        y = net.f("Relu6", net.depthwise(net.f("Relu6", y), name="depthwise"))
    net.conv(y, 8, name="project")
    assert len(blocks(net.graph(), IR)) == 1
