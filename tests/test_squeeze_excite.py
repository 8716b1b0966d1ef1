"""Squeeze-and-excitation blocks are recognised in every spelling; their likes are not."""

from __future__ import annotations

import pytest
from networks import Net, blocks, reason
from spellings import DENSE, GATES, POOLS

import graphslim as gs
from graphslim.ir import Block

SE = "squeeze_excite"


def assert_squeeze_excite(net: Net) -> Block:
    found = blocks(net.graph(), SE)
    assert len(found) == 1
    roles = {role: found[0].role(role) for role in ("squeeze", "excite", "gate")}
    assert roles == {role: net.given[role] for role in roles}
    assert found[0].channels_of == gs.Port(net.given["squeeze"])
    return found[0]


@pytest.mark.parametrize("pool", sorted(POOLS))
@pytest.mark.parametrize("dense", sorted(DENSE))
def test_finds_a_squeeze_excite_block_in_any_spelling(dense: str, pool: str) -> None:
    if dense in ("conv", "tensordot, turned") and "dropped" in pool:
        pytest.skip("it needs the axes")
    net = Net()
    net.squeeze_excite(net.x, pool=pool, dense=dense)
    assert_squeeze_excite(net)


@pytest.mark.parametrize("gate", sorted(GATES))
@pytest.mark.parametrize("act_name", ["relu", "relu6", "swish", "hard swish", "prelu"])
@pytest.mark.parametrize("swapped", [False, True])
def test_finds_it_with_any_gate(gate: str, act_name: str, swapped: bool) -> None:
    net = Net()
    net.squeeze_excite(net.x, gate=gate, act=act_name, swapped=swapped)
    assert_squeeze_excite(net)


def test_finds_it_behind_a_slice_that_drops_axes() -> None:
    net = Net()
    zeros, ends, ones = (net.ints(*[number] * 4) for number in (0, 1, 1))
    pooled = net.mean(net.x)
    flat = net.op(
        "StridedSlice", pooled, zeros, ends, ones, T="float32", Index="int32",
        begin_mask=9, end_mask=9, ellipsis_mask=0, new_axis_mask=0, shrink_axis_mask=6,
    )  # fmt: skip
    y = net.f("Relu", net.matmul(flat, 4, name="squeeze"))
    y = net.f("Sigmoid", net.matmul(y, 8, name="excite"))
    net.f("Mul", net.x, net.reshape(y, 1, 1, 1, 8), name="gate")
    assert_squeeze_excite(net)


def test_finds_it_where_the_size_is_open() -> None:
    net = Net(size="?")
    net.squeeze_excite(net.x)
    assert_squeeze_excite(net)


def test_a_gate_onto_another_tensor_is_none() -> None:
    net = Net()
    other = net.f("Relu", net.x)
    net.squeeze_excite(net.x, onto=other)
    assert blocks(net.graph(), SE) == []


@pytest.mark.parametrize("size", [8, "?"])
def test_spatial_attention_is_none(size: object) -> None:
    net = Net(size=size)
    y = net.mean(net.x, axes=(3,))
    net.width[y] = 1
    y = net.f("Sigmoid", net.conv(net.f("Relu", net.conv(y, 4)), 1))
    net.f("Mul", net.x, y)
    assert blocks(net.graph(), SE) == []


@pytest.mark.parametrize("size", [8, "?"])
def test_a_local_pool_is_none(size: object) -> None:
    net = Net(size=size)
    y = net.average(net.x, 3, padding="SAME")
    y = net.f("Sigmoid", net.conv(net.f("Relu", net.conv(y, 4)), 8))
    net.f("Mul", net.x, y)
    assert blocks(net.graph(), SE) == []


def test_one_dense_layer_is_none() -> None:
    net = Net()
    net.f("Mul", net.x, net.f("Sigmoid", net.conv(net.mean(net.x), 8)))
    assert blocks(net.graph(), SE) == []


def test_two_dense_layers_without_an_activation_are_none() -> None:
    net = Net()
    net.f("Mul", net.x, net.f("Sigmoid", net.conv(net.conv(net.mean(net.x), 4), 8)))
    assert blocks(net.graph(), SE) == []


def test_a_sum_with_the_gate_is_none() -> None:
    net = Net()
    y = net.f("Relu", net.conv(net.mean(net.x), 4))
    net.f("AddV2", net.x, net.f("Sigmoid", net.conv(y, 8)))
    assert blocks(net.graph(), SE) == []


def test_explains_a_miss_of_a_squeeze_excite_block() -> None:
    net = Net()
    y = net.f("Relu", net.conv(net.average(net.x, 4, stride=4), 4, name="squeeze"))
    y = net.f("Sigmoid", net.conv(y, 8, name="excite"))
    net.f("Mul", net.average(net.x, 4, stride=4), y, name="gate")
    assert "it pools to 2x2, not to 1x1" in reason(net, SE, "squeeze")
