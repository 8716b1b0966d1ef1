"""Mixed precision: casts between floating types are looked through wherever a layer is read."""

from __future__ import annotations

import numpy as np
import pytest
from dead_nets import BIASED, TAIL, net
from mixed import ALL_BUT_NORMS, CONVOLUTIONS, in_16_bits
from networks import Net, blocks
from spellings import NORMS
from test_fold import NORM, SPELLED
from tiny import constant, dead, tiny

import graphslim as gs
from graphslim.analysis.cautions import TOLERANCE, TRAINING, tolerance_of
from graphslim.runtime import Session, version
from graphslim.testing import assert_mask_equivalent, check_pass, random_plan, round_trip

HALF, BRAIN = gs.DType.float16, gs.DType.bfloat16
POLICIES = {
    "convolutions": CONVOLUTIONS,
    "all but norms": ALL_BUT_NORMS,
    "sums too": (*ALL_BUT_NORMS, "AddV2"),
}


def mobile_net(norm: str = "primitive") -> gs.Graph:
    """A stem, an inverted residual with a sum and one that is padded, an SE block, a classifier."""
    layers = Net(16)
    y = layers.f("Relu6", NORMS[norm](layers, layers.conv(layers.x, 8, 3, name="stem")))
    layers.scope = "first/"
    y = layers.inverted_residual(y, 24, norm=norm)
    layers.scope = "second/"
    se = lambda x: layers.squeeze_excite(x, hidden=8)  # noqa: E731
    y = layers.inverted_residual(y, 32, 12, norm, depthwise=layers.padded_depthwise, se=se)
    layers.scope = ""
    layers.matmul(layers.mean(y, keep=False), 5, name="logits")
    graph = layers.graph()
    for node in graph:
        if node.op == "Const" and (node.attrs["value"].numbers() == 1.25).all():  # a gamma
            scales = np.random.RandomState(len(node.name)).uniform(
                0.5, 2, node.attrs["value"].shape
            )
            graph.set_attr(node, "value", node.attrs["value"].with_numbers(scales))
    return graph


@pytest.mark.parametrize("dtype", [HALF, BRAIN], ids=str)
@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("norm", ["primitive", "fused", "bias"])
def test_the_same_blocks_as_in_float32(norm: str, policy: str, dtype: gs.DType) -> None:
    graph = mobile_net(norm)
    mixed = in_16_bits(graph, POLICIES[policy], dtype)
    for kind in ("inverted_residual", "squeeze_excite"):
        found = [(block.name, block.roles) for block in blocks(mixed, kind)]
        assert found == [(block.name, block.roles) for block in blocks(graph, kind)] != []


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("criterion", ["l1", "bn-scale", "redundancy"])
def test_criteria_choose_as_in_float32(criterion: str, policy: str) -> None:
    graph = mobile_net()
    mixed = in_16_bits(graph, POLICIES[policy], BRAIN)
    chosen = [
        {group.id: group.removed for group in gs.plan(one, criterion=criterion, ratio=0.5).groups}
        for one in (graph, mixed)
    ]
    assert chosen[0] == chosen[1] != {}


@pytest.mark.tf
@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_any_plan_leaves_what_the_masked_network_computes(policy: str) -> None:
    mixed = in_16_bits(mobile_net(), POLICIES[policy], HALF)
    assert_mask_equivalent(mixed, random_plan(mixed), tolerance=tolerance_of(mixed))


def test_a_cast_to_integers_is_not_looked_through() -> None:
    layers = Net()
    y = layers.f("Relu6", layers.conv(layers.x, 24, name="expand"))
    y = layers.op("Cast", y, SrcT="float32", DstT="int32")
    y = layers.op("Cast", y, SrcT="int32", DstT="float32")
    layers.conv(layers.depthwise(y, name="depthwise"), 8, name="project")
    assert blocks(layers.graph(), "inverted_residual") == []


# ---------------------------------------------------------------------- constants of dead channels


BIAS = "z/b = f32[3]{1 2 3}\no = BiasAdd(z, z/b)\n"
NORMED = NORM + "o = FusedBatchNorm(z, n/s, n/b, n/m, n/v)\n"
OFFSETS = {
    "bias": (BIAS, CONVOLUTIONS, "z/b"),
    "bias in 16 bits": (BIAS, (*CONVOLUTIONS, "BiasAdd"), "z/b"),
    "batch norm": (NORMED, CONVOLUTIONS, "n/b"),
    "batch norm in parts": (NORM + SPELLED, CONVOLUTIONS, "n/b"),
}


@pytest.mark.tf
@pytest.mark.parametrize("case", sorted(OFFSETS))
def test_a_constant_is_folded_into_the_offset_behind_a_cast(case: str) -> None:
    lines, ops, offset = OFFSETS[case]
    graph = net(BIASED, TAIL + lines + "end = Relu(o)\n")
    mixed = in_16_bits(graph, ops, HALF)
    assert dead(mixed) == {"a": [2]}
    slim = round_trip(gs.apply(mixed, gs.plan(mixed)))
    assert [node.name for node in slim if "folded" in node.name] == []
    assert (constant(slim, offset) != constant(mixed, offset)).all()
    agreement = gs.verify(mixed, slim)
    assert agreement.ok, agreement.worst


# ---------------------------------------------------------------------- what rounding allows


def test_a_graph_in_16_bits_is_compared_by_its_rounding() -> None:
    graph = mobile_net()
    assert tolerance_of(graph) == TOLERANCE
    assert tolerance_of(in_16_bits(graph, CONVOLUTIONS, HALF)) == 4 * np.finfo(np.float16).eps
    assert tolerance_of(in_16_bits(graph, CONVOLUTIONS, BRAIN)) == 4 * 2**-7


def test_ops_with_a_list_of_types_are_no_computation() -> None:
    graph = mobile_net()
    attrs = gs.Attrs({"T": [gs.DType.float16, gs.DType.float32]})
    graph.add(gs.Node("told", "Assert", attrs), [graph.outputs[0]])
    assert tolerance_of(graph) == TOLERANCE


def test_batch_norms_that_train_magnify_rounding() -> None:
    text = (
        "x = input 1,4,4,2\nc = f32[2]{1 1}\ne = f32[0]{}\n"
        "y = FusedBatchNorm(x, c, c, e, e) is_training=%s T=float32\n"
    )
    assert tolerance_of(tiny(text % "true")) == TRAINING
    assert tolerance_of(tiny(text % "false")) == TOLERANCE


def test_weights_stored_in_16_bits_are_no_computation_in_16_bits() -> None:
    graph = mobile_net()
    check_pass(graph, "half-weights")
    assert "Cast" in {node.op for node in graph}
    assert tolerance_of(graph) == TOLERANCE


@pytest.mark.tf
def test_an_output_in_bfloat16_is_compared_as_numbers() -> None:
    if version().startswith("1."):
        pytest.skip("TensorFlow 1 has no Relu in bfloat16 for a CPU")
    mixed = in_16_bits(net(BIASED, TAIL + "o = Relu(z)\n"), ("Relu",), BRAIN)
    with Session(mixed) as session:
        (value,) = session.run({"x": np.ones((1, 6, 6, 2), np.float32)})
    assert value.dtype == np.float32
    other = mixed.copy()
    weights = other["z/w"].attrs["value"]
    other.set_attr("z/w", "value", weights.with_numbers(weights.numbers() * 1.5))
    assert 0 < gs.verify(mixed, other).worst.relative < 1
