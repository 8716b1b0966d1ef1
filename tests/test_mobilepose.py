"""The published pose network: what was put back goes again, and more where that is safe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import graphslim as gs
from graphslim.testing import assert_equivalent, round_trip

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "mobilepose"
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="shared/mobilepose is not beside the checkout"
)


@pytest.fixture(scope="module")
def inflated() -> gs.Graph:
    return gs.load(str(FOLDER / "inflated.pb"))


@pytest.fixture(scope="module")
def reduced(inflated: gs.Graph) -> gs.Graph:
    """The network pruned with the defaults."""
    return round_trip(gs.apply(inflated, gs.plan(inflated)))


def test_blocks_give_back_exactly_what_was_put_in(inflated: gs.Graph) -> None:
    plan = gs.plan(inflated, scope="blocks", dead_below=0)
    kinds = [block.kind for block in inflated.blocks]
    assert (kinds.count("inverted_residual"), kinds.count("squeeze_excite")) == (16, 4)
    wanted = json.loads((FOLDER / "removed.json").read_text(encoding="utf-8"))
    assert {group.block: list(group.removed) for group in plan.groups} == wanted
    assert plan.folds == ()


def test_result_is_the_published_network(inflated: gs.Graph) -> None:
    """Node for node: order, inputs, attributes, and every constant bit for bit."""
    slim = round_trip(gs.apply(inflated, gs.plan(inflated, scope="blocks", dead_below=0)))
    stripped = gs.load(str(FOLDER / "stripped.pb"))
    assert [(node.name, node.op) for node in slim] == [(node.name, node.op) for node in stripped]
    for mine, theirs in zip(slim, stripped):
        assert slim.inputs_of(mine) == stripped.inputs_of(theirs), mine.name
        assert sorted(mine.attrs) == sorted(theirs.attrs), mine.name
        for key in set(mine.attrs) - {"value"}:
            assert mine.attrs[key] == theirs.attrs[key], (mine.name, key)
        if mine.op == "Const":
            one, other = mine.attrs["value"], theirs.attrs["value"]
            assert (one.dtype, one.shape) == (other.dtype, other.shape), mine.name
            assert one.array.tobytes() == other.array.tobytes(), mine.name


def test_defaults_reduce_the_stem(inflated: gs.Graph) -> None:
    """Six filters of the first convolution are zero but for rounding; one leaves a constant."""
    plan = gs.plan(inflated)
    removed = {group.id: (group.channels, list(group.removed)) for group in plan.groups}
    assert removed["MobilenetV2/Conv/Conv2D"] == (16, [0, 2, 5, 6, 7, 10])
    assert [(fold.node, fold.indices) for fold in plan.folds] == [
        ("MobilenetV2/expanded_conv/project/Conv2D", (0,))
    ]
    blocks = {group.block: group for group in plan.groups}
    known = json.loads((FOLDER / "removed.json").read_text(encoding="utf-8"))
    expanded = blocks["MobilenetV2/expanded_conv_2"]
    assert len(set(expanded.removed) - set(known["MobilenetV2/expanded_conv_2"])) == 1


def test_defaults_fold_into_one_batch_norm(inflated: gs.Graph, reduced: gs.Graph) -> None:
    assert [node.name for node in reduced] == [node.name for node in inflated]
    stripped = gs.load(str(FOLDER / "stripped.pb"))
    scope = "MobilenetV2/expanded_conv/project/"
    changed = []
    for node in reduced:
        before = stripped[node.name]
        if node.op == "Const" and node.attrs["value"].shape == before.attrs["value"].shape:
            same = np.array_equal(node.attrs["value"].array, before.attrs["value"].array)
            changed.extend([] if same else [node.name])
    assert len(changed) == 1 and changed[0].startswith(scope), changed


def test_one_more_channel_of_the_third_block_goes() -> None:
    stripped = gs.load(str(FOLDER / "stripped.pb"))
    removed = {group.block: (group.channels, group.removed) for group in gs.plan(stripped).groups}
    assert removed["MobilenetV2/expanded_conv_2"] == (44, (43,))


@pytest.mark.tf
def test_defaults_compute_the_same(inflated: gs.Graph, reduced: gs.Graph) -> None:
    agreement = assert_equivalent(inflated, reduced)
    assert agreement.worst.span > 0


def test_second_run_removes_nothing(reduced: gs.Graph) -> None:
    assert gs.plan(reduced).removed == 0
