"""Soft pruning of checkpoints, and the failed rate; a naive version by names stands here too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Iterable, Tuple

import numpy as np
import pytest
import trained
from tiny import tiny

import graphslim as gs
from graphslim.checkpoint import Trained, open_checkpoint
from graphslim.checkpoint.fitting import fitting, folded, places
from graphslim.checkpoint.soft import BlockRate, summarise
from graphslim.errors import EmitError, PlanError
from graphslim.plans.plan import Cut, GroupPlan
from graphslim.runtime import write_checkpoint

READ: Dict[str, Any] = {"inputs": ["image"], "outputs": [trained.OUTPUT]}


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: Any) -> str:
    """A checkpoint with slots and moving averages."""
    folder = tmp_path_factory.mktemp("trained")
    return trained.train(folder, "ref", "momentum", averages=True)


def opened(prefix: str) -> Trained:
    found = open_checkpoint(prefix, **READ)
    gs.find_blocks(found.graph)
    return found


def blocks_plan(found: Trained) -> gs.Plan:
    return gs.plan(found.graph, criterion="redundancy", threshold=0.6, scope="blocks")


def in_memory(graph: gs.Graph) -> Trained:
    """A graph whose constants stand for the variables of a checkpoint."""
    names = [node.name for node in graph if node.op == "Const"]
    nothing: Any = None
    keys = {name: name for name in names}
    return Trained("net", nothing, nothing, graph, graph, keys, {}, frozenset(), {})


def plan_of(*cuts: Cut) -> gs.Plan:
    group = GroupPlan("a", "block", 4, (1,), "given", (), cuts)
    return gs.Plan({"name": "net", "sha256": ""}, {}, (group,), (), (1, 1), (None, None))


def test_slices_are_those_of_the_plan_but_for_statistics() -> None:
    plan = plan_of(
        Cut("w", 3, "producer", (1,)),
        Cut("gamma", 0, "follower", (1,)),
        Cut("mean", 0, "follower", (1,)),
        Cut("next", 2, "consumer", (1, 5)),
        Cut("next", 2, "consumer", (3,)),
        Cut("shape", 3, "shape", (1,)),
    )
    assert places(plan, {"mean"}) == {
        "w": {3: (1,)},
        "gamma": {0: (1,)},
        "next": {2: (1, 3, 5)},
    }


# ------------------------------------------------------------------ against the naive version


def naive(values: Dict[str, np.ndarray], block: str, channels: Iterable[int]) -> None:
    """What the published method sets to zero, by the names of this network's variables."""
    wide = [f"{block}/expand/weights", f"{block}/SE/excite/weights"]
    read = [f"{block}/{part}/weights" for part in ("project", "SE/squeeze")]
    read.append(f"{block}/depthwise/depthwise_weights")
    norms = [f"{block}/{part}/BatchNorm" for part in ("expand", "depthwise")]
    vectors = [f"{norm}/{kind}" for norm in norms for kind in ("gamma", "beta")]
    vectors.append(f"{block}/SE/excite/biases")
    for key, value in values.items():
        name = key.replace("/Momentum", "").replace("/ExponentialMovingAverage", "")
        for channel in channels:
            if name in wide:
                value[:, :, :, channel] = 0
            elif name in read:
                value[:, :, channel, :] = 0
            elif name in vectors:
                value[channel] = 0


@pytest.mark.tf
def test_nothing_but_the_slices_changes(prefix: str, tmp_path: Path) -> None:
    found = opened(prefix)
    plan = blocks_plan(found)
    assert {group.block for group in plan.groups} == set(trained.BLOCKS)
    written = gs.soft_prune(found, plan, tmp_path / "soft")
    wanted = {key: value.copy() for key, value in trained.values(prefix).items()}
    for group in plan.groups:
        naive(wanted, str(group.block), group.removed)
    got = trained.values(written)
    assert set(got) == set(wanted)
    for key, value in wanted.items():
        assert got[key].dtype == value.dtype and got[key].shape == value.shape, key
        assert got[key].tobytes() == value.tobytes(), key


@pytest.mark.tf
def test_the_folder_is_one_that_training_goes_on_from(prefix: str, tmp_path: Path) -> None:
    import tensorflow.compat.v1 as tf

    found = opened(prefix)
    plan = blocks_plan(found)
    written = gs.soft_prune(found, plan, tmp_path / "soft")
    assert written == str(tmp_path / "soft" / "model")
    assert tf.train.latest_checkpoint(str(tmp_path / "soft")) == written
    assert Path(written + ".meta").read_bytes() == Path(prefix + ".meta").read_bytes()
    text = (tmp_path / "soft" / "plan.json").read_text(encoding="utf-8")
    assert gs.Plan.from_json(text) == plan
    assert gs.summary(written, plan, **READ).rate == 0
    trained.train_on(written)
    assert gs.summary(written, plan, **READ).rate == 0


@pytest.mark.tf
def test_a_folder_that_holds_something_is_left_alone(prefix: str, tmp_path: Path) -> None:
    found = opened(prefix)
    (tmp_path / "soft").mkdir()
    (tmp_path / "soft" / "notes").write_text("mine")
    with pytest.raises(EmitError, match="not empty"):
        gs.soft_prune(found, blocks_plan(found), tmp_path / "soft")
    assert os.listdir(str(tmp_path / "soft")) == ["notes"]
    gs.soft_prune(found, blocks_plan(found), tmp_path / "soft", force=True)
    assert (tmp_path / "soft" / "notes").read_text() == "mine"


@pytest.mark.tf
def test_a_plan_of_another_network_is_refused(prefix: str, tmp_path: Path) -> None:
    plan = gs.plan(tiny(CHAIN), removed={"a": [1]})
    with pytest.raises(PlanError, match="another architecture"):
        gs.soft_prune(opened(prefix), plan, tmp_path / "soft")
    assert not (tmp_path / "soft").exists()


# ------------------------------------------------------------------ constants that are folded


def changed(prefix: str, folder: Path, name: str, at: Tuple[Any, ...], value: float) -> str:
    """The checkpoint with other numbers in one variable."""
    values = {key: one.copy() for key, one in trained.values(prefix).items()}
    values[name][at] = value
    folder.mkdir()
    write_checkpoint(str(folder / "model"), values)
    Path(str(folder / "model.meta")).write_bytes(Path(prefix + ".meta").read_bytes())
    return str(folder / "model")


def penalty(values: Dict[str, np.ndarray]) -> float:
    """The part of the loss that is of weights alone."""
    weights = [one for key, one in values.items() if key.endswith("weights")]
    return 1e-4 * sum(float((one.astype(np.float64) ** 2).sum()) / 2 for one in weights)


@pytest.mark.tf
def test_a_constant_goes_into_the_mean_of_the_norm_behind(prefix: str, tmp_path: Path) -> None:
    """Training takes the batch's mean away anyhow, so that its loss stays as it was too."""
    name = "block_2/depthwise/depthwise_weights"
    dead = changed(prefix, tmp_path / "dead", name, (slice(None), slice(None), 3), 0)
    before = opened(dead)
    plan = gs.plan(before.graph)
    assert [fold.node for fold in plan.folds] == ["block_2/project/Conv2D"]
    written = gs.soft_prune(before, plan, tmp_path / "soft")
    after = opened(written)
    found = gs.verify(before.graph, after.graph, tolerance=1e-5)
    assert found.ok, found
    first, second = trained.values(dead), trained.values(written)
    norm = "block_2/project/BatchNorm/"
    assert (first[norm + "beta"] == second[norm + "beta"]).all()
    assert not np.allclose(first[norm + "moving_mean"], second[norm + "moving_mean"], atol=1e-4)
    losses = [trained.train_on(one, steps=0, to=str(tmp_path / "out")) for one in (dead, written)]
    penalties = [penalty(one) for one in (first, second)]
    assert losses[0] - losses[1] == pytest.approx(penalties[0] - penalties[1], abs=2e-6)
    # What was folded is folded: the plan that stands beside fits what was written.
    kept = gs.Plan.from_json((tmp_path / "soft" / "plan.json").read_text(encoding="utf-8"))
    assert not kept.folds and gs.summary(after, kept).rate == 0


CONSTANT = """
    x = input 1,6,6,4
    a/w = f32[1,1,4,3]{1 1 0 1 1 0 1 1 0 1 1 0}
    a = Conv2D(x, a/w)
    k = f32[3]{1 1 2}
    ab = BiasAdd(a, k)
    b/w = f32[1,1,3,4]{random 2}
    b = Conv2D(ab, b/w)
"""


def test_a_bias_takes_a_constant() -> None:
    found = in_memory(tiny(CONSTANT + "c = f32[4]{1 2 3 4}\nbb = BiasAdd(b, c)\noutput bb\n"))
    plan = gs.plan(found.graph)
    assert plan.removed == 1 and len(plan.folds) == 1
    got = folded(found, fitting(found, plan, folds=True))
    weights = found.graph["b/w"].attrs["value"].numbers()[0, 0, 2]
    assert list(got) == ["c"]
    assert np.allclose(got["c"].numbers(), np.array([1, 2, 3, 4]) + 2 * weights)


def test_a_constant_without_an_offset_is_refused() -> None:
    found = in_memory(tiny(CONSTANT + "r = Relu(b)\noutput r\n"))
    plan = gs.plan(found.graph)
    assert plan.folds
    with pytest.raises(PlanError, match="^b: .*no variable of the checkpoint") as caught:
        folded(found, fitting(found, plan, folds=True))
    assert "--exclude" in caught.value.told and "(exclude its group" in str(caught.value)


def test_a_variable_is_not_cut_in_two_ways() -> None:
    found = in_memory(
        tiny(
            "x = input 1,6,6,4\nk = f32[8]{random 3}\na/w = f32[3,3,4,8]{random 1}\n"
            "a = Conv2D(x, a/w)\nab = BiasAdd(a, k)\nb/w = f32[3,3,8,8]{random 2}\n"
            "b = Conv2D(ab, b/w)\nbb = BiasAdd(b, k)\nz/w = f32[1,1,8,3]{random 4}\n"
            "z = Conv2D(bb, z/w)\noutput z\n"
        )
    )
    plan = gs.plan(found.graph, removed={"a": [0, 1], "b": [5]})
    with pytest.raises(PlanError, match=r"^k: the plan would cut it in 2 ways, for ab, bb"):
        fitting(found, plan)


# ------------------------------------------------------------------ the failed rate

CHAIN = """
    x = input 1,6,6,4
    a/w = f32[1,1,4,4]{random 1}
    a = Conv2D(x, a/w)
    k = f32[1,1,1,4]{random 2}
    m = Mul(a, k)
    b/w = f32[1,1,4,3]{random 3}
    b = Conv2D(m, b/w)
    output b
"""


def with_numbers(graph: gs.Graph, name: str, at: Any, value: float) -> None:
    numbers = np.array(graph[name].attrs["value"].numbers())
    numbers[at] = value
    graph.set_attr(name, "value", gs.Tensor.of(numbers))


@pytest.mark.parametrize("left, failed", [(0, 0), (4e-10, 0), (1.1e-9, 1), (float("nan"), 1)])
def test_a_filter_fails_from_the_sum_on(left: float, failed: int) -> None:
    """Vectors do not count, however many axes they are spelled with."""
    graph = tiny(CHAIN)
    for name, at in (("a/w", (Ellipsis, [0, 2])), ("b/w", (0, 0, [0, 2]))):
        with_numbers(graph, name, at, 0)
    with_numbers(graph, "b/w", (0, 0, 2, 0), left)
    found = summarise(in_memory(graph), gs.plan(graph, removed={"a": [0, 2]}))
    assert found.blocks == (BlockRate("a", 2, failed, 4),)
    assert (found.failed, found.of, found.rate) == (failed, 4, failed / 4)
    wanted = [("a", "b/w", (2,))] if failed else []
    assert [tuple(one) for one in found.unconverged] == wanted


def test_the_sum_is_of_magnitudes() -> None:
    graph = tiny(CHAIN)
    with_numbers(graph, "b/w", (0, 0, 1), 0)
    with_numbers(graph, "a/w", (Ellipsis, 1), 0)
    with_numbers(graph, "a/w", (0, 0, slice(2), 1), 1)
    with_numbers(graph, "a/w", (0, 0, 1, 1), -1)
    assert summarise(in_memory(graph), gs.plan(graph, removed={"a": [1]})).failed == 1


def test_a_plan_of_nothing_has_the_rate_zero() -> None:
    graph = tiny(CHAIN)
    found = summarise(in_memory(graph), gs.plan(graph, removed={}))
    assert (found.rate, found.of, found.blocks) == (0.0, 0, ())
