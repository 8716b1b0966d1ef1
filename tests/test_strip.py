"""Stripping checkpoints: both kinds of variables, every optimizer, with and without averages."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterable, Optional

import numpy as np
import pytest
import trained

import graphslim as gs
from graphslim.checkpoint import Trained, open_checkpoint
from graphslim.checkpoint import strip as module
from graphslim.checkpoint.strip import Slim, cut_checkpoint
from graphslim.errors import EmitError, LoadError, PlanError, VerifyError
from graphslim.runtime import write_checkpoint

READ: Dict[str, Any] = {"inputs": ["image"], "outputs": [trained.OUTPUT]}
FILES = [
    "checkpoint", "model.data-00000-of-00001", "model.index", "model.meta", "model.pb",
    "plan.json", "summary.json",
]  # fmt: skip

pytestmark = pytest.mark.tf


def opened(prefix: str, **more: Any) -> Trained:
    found = open_checkpoint(prefix, **READ, **more)
    gs.find_blocks(found.graph)
    return found


def blocks_plan(found: Trained) -> gs.Plan:
    return gs.plan(found.graph, criterion="redundancy", threshold=0.6, scope="blocks")


class Soft:
    """A checkpoint after soft pruning, and the plan."""

    def __init__(self, folder: Path, *how: Any) -> None:
        first = opened(trained.train(folder / "first", *how))
        self.plan = blocks_plan(first)
        self.prefix = gs.soft_prune(first, self.plan, folder / "soft")


@pytest.fixture(scope="module")
def soft(tmp_path_factory: Any) -> Soft:
    return Soft(tmp_path_factory.mktemp("soft"), "ref", "momentum")


def naive(values: Dict[str, np.ndarray], block: str, channels: Iterable[int]) -> None:
    """Cuts by the names of this network's variables, slots and averages by their suffix."""
    gone = list(channels)
    for key in values:
        name = key
        for suffix in ("/Momentum", "/Adam", "/Adam_1", "/ExponentialMovingAverage"):
            name = name[: -len(suffix)] if name.endswith(suffix) else name
        part = name[len(block) + 1 :] if name.startswith(block + "/") else ""
        if part in ("expand/weights", "SE/excite/weights"):
            values[key] = np.delete(values[key], gone, 3)
        elif part in ("project/weights", "SE/squeeze/weights", "depthwise/depthwise_weights"):
            values[key] = np.delete(values[key], gone, 2)
        elif part.startswith(("expand/BatchNorm", "depthwise/BatchNorm", "SE/excite/biases")):
            values[key] = np.delete(values[key], gone, 0)


QUICK = [
    ("ref", None, False),
    ("ref", "adam", True),
    ("resource", "momentum", True),
    ("resource", "adam", False),
]


def ways() -> Iterable[Any]:
    for variables in ("ref", "resource"):
        for optimizer in (None, "momentum", "adam"):
            for averages in (False, True):
                way = (variables, optimizer, averages)
                marks = () if way in QUICK else (pytest.mark.exhaustive,)
                yield pytest.param(*way, marks=marks)


@pytest.mark.parametrize("variables, optimizer, averages", list(ways()))
def test_training_goes_on(
    variables: str, optimizer: Optional[str], averages: bool, tmp_path: Path
) -> None:
    soft = Soft(tmp_path, variables, optimizer, averages)
    loss = trained.train_on(soft.prefix)
    assert np.isfinite(loss)
    retrained = opened(soft.prefix)
    assert gs.summary(retrained, soft.plan).rate == 0
    found = gs.strip(retrained, soft.plan, tmp_path / "slim")
    assert found.agreement.ok and found.agreement.tolerance == 1e-5, found.agreement
    assert sorted(os.listdir(str(tmp_path / "slim"))) == FILES

    wanted = trained.values(soft.prefix)
    for group in soft.plan.groups:
        naive(wanted, str(group.block), group.removed)
    got = trained.values(found.prefix)
    assert set(got) == set(wanted)
    for key, value in wanted.items():
        assert got[key].shape == value.shape and got[key].tobytes() == value.tobytes(), key

    slim = gs.load(found.graph_path, **READ)
    assert gs.verify(retrained.graph, slim, tolerance=1e-5, batch=4).ok
    assert gs.verify(opened(found.prefix).graph, slim, tolerance=1e-6, batch=4).ok
    # Nothing but the removed channels is gone: the first loss is the one before.
    again = trained.train_on(found.prefix, steps=0, to=str(tmp_path / "same"))
    assert again == pytest.approx(loss, abs=1e-5)
    assert trained.train_on(found.prefix) < loss + 0.1
    assert np.isfinite(trained.train_on(found.prefix, rebuild=True))


def test_what_stands_beside_the_checkpoint(soft: Soft, tmp_path: Path) -> None:
    import tensorflow.compat.v1 as tf

    found = gs.strip(soft.prefix, soft.plan, tmp_path / "slim", **READ)
    assert tf.train.latest_checkpoint(str(tmp_path / "slim")) == found.prefix
    text = (tmp_path / "slim" / "plan.json").read_text(encoding="utf-8")
    assert gs.Plan.from_json(text) == found.plan
    tree = json.loads((tmp_path / "slim" / "summary.json").read_text(encoding="utf-8"))
    assert tree["rate"] == 0 and tree["of"] == found.summary.of == 44
    assert [one["name"] for one in tree["blocks"]] == list(trained.BLOCKS)


# ------------------------------------------------------------------ what is not zero


def spoiled(soft: Soft, folder: Path, name: str, at: Any, value: float) -> str:
    """The checkpoint, in which training brought a channel back."""
    values = {key: one.copy() for key, one in trained.values(soft.prefix).items()}
    values[name][at] = value
    folder.mkdir()
    write_checkpoint(str(folder / "model"), values)
    Path(str(folder / "model.meta")).write_bytes(Path(soft.prefix + ".meta").read_bytes())
    return str(folder / "model")


def test_a_training_graph_whose_nodes_lack_inputs(soft: Soft, tmp_path: Path) -> None:
    found = opened(soft.prefix)
    whole = found.whole.copy()
    for node in found.whole:
        if node.op == "RealDiv":
            whole.set_inputs(node.name, [])
    with pytest.raises(LoadError, match="model.meta: the inputs or attributes of a node do not"):
        gs.strip(found._replace(whole=whole), soft.plan, tmp_path / "slim")
    assert not (tmp_path / "slim").exists()


def first_removed(soft: Soft, block: str) -> int:
    return next(group.removed[0] for group in soft.plan.groups if group.block == block)


def test_channels_that_came_back_are_refused(soft: Soft, tmp_path: Path) -> None:
    channel = first_removed(soft, "block_0")
    at = (Ellipsis, channel, 0)
    prefix = spoiled(soft, tmp_path / "in", "block_0/project/weights", at, 0.1)
    with pytest.raises(VerifyError) as caught:
        gs.strip(prefix, soft.plan, tmp_path / "slim", **READ)
    said = str(caught.value)
    assert f"1 of the 44 filters to be cut are not zero: block_0: block_0/project/weights {channel}" in said  # fmt: skip # noqa: E501
    assert "allow_unconverged=True" in said and "fold=True" in said
    assert not (tmp_path / "slim").exists()
    found = gs.strip(prefix, soft.plan, tmp_path / "slim", allow_unconverged=True, **READ)
    assert found.summary.failed == 1 and found.agreement.ok
    assert found.agreement.against == "masked original"


def test_a_constant_is_folded_where_it_is_asked_for(soft: Soft, tmp_path: Path) -> None:
    """A channel whose offset and reader came back, and nothing of what it looks at."""
    channel = first_removed(soft, "block_2")
    reader = "block_2/project/weights"
    prefix = spoiled(soft, tmp_path / "one", reader, (0, 0, channel), 0.3)
    again = Soft.__new__(Soft)
    again.plan, again.prefix = soft.plan, prefix
    name = "block_2/depthwise/BatchNorm/beta"
    prefix = spoiled(again, tmp_path / "two", name, channel, 0.7)
    with pytest.raises(VerifyError, match="not zero"):
        gs.strip(prefix, soft.plan, tmp_path / "slim", **READ)
    found = gs.strip(prefix, soft.plan, tmp_path / "slim", fold=True, **READ)
    assert [fold.node for fold in found.plan.folds] == ["block_2/project/Conv2D"]
    assert found.agreement.ok and found.agreement.against == "original"
    # The checkpoint computes what the .pb does: both have taken the constant.
    slim = gs.load(found.graph_path, **READ)
    assert gs.verify(opened(found.prefix).graph, slim, tolerance=1e-6).ok


def test_what_is_no_constant_is_not_folded(soft: Soft, tmp_path: Path) -> None:
    channel = first_removed(soft, "block_2")
    prefix, again = soft.prefix, Soft.__new__(Soft)
    changes = {
        "expand/weights": (Ellipsis, channel),
        "expand/BatchNorm/gamma": (channel,),
        "depthwise/depthwise_weights": (Ellipsis, channel, 0),
        "depthwise/BatchNorm/gamma": (channel,),
        "project/weights": (0, 0, channel),
    }
    for index, (name, at) in enumerate(changes.items()):
        again.plan, again.prefix = soft.plan, prefix
        prefix = spoiled(again, tmp_path / str(index), f"block_2/{name}", at, 0.5)
    with pytest.raises(VerifyError, match=f"1 channel of the plan .*: block_2 {channel} "):
        gs.strip(prefix, soft.plan, tmp_path / "slim", fold=True, **READ)
    assert not (tmp_path / "slim").exists()


# ------------------------------------------------------------------ other MetaGraphs


def test_a_metagraph_for_inference_beside_a_training_checkpoint(soft: Soft, tmp_path: Path) -> None:
    """It knows nothing of the slots; they are cut by their keys."""
    meta = tmp_path / "inference.meta"
    trained.write_inference_meta(meta, soft.prefix)
    one = gs.strip(opened(soft.prefix), soft.plan, tmp_path / "one")
    two = gs.strip(opened(soft.prefix, meta=str(meta)), soft.plan, tmp_path / "two")
    three = gs.strip(opened(soft.prefix, inference_meta=str(meta)), soft.plan, tmp_path / "three")
    wanted = trained.values(one.prefix)
    for other in (two, three):
        got = trained.values(other.prefix)
        assert {key: value.shape for key, value in got.items()} == {
            key: value.shape for key, value in wanted.items()
        }
        assert all(got[key].tobytes() == wanted[key].tobytes() for key in wanted)
    assert np.isfinite(trained.train_on(three.prefix))


def test_without_a_metagraph(soft: Soft, tmp_path: Path) -> None:
    gs.strip(opened(soft.prefix), soft.plan, tmp_path / "slim", write_meta=False)
    assert "model.meta" not in os.listdir(str(tmp_path / "slim"))


# ------------------------------------------------------------------ checks before anything is there


def test_a_metagraph_that_does_not_fit_is_not_written(
    soft: Soft, tmp_path: Path, monkeypatch: Any
) -> None:
    """What TensorFlow refuses never takes its place; the message names a node."""

    def wrong(found: Trained, *given: Any) -> Slim:
        return cut_checkpoint(found, *given)._replace(meta=found.meta.data)

    monkeypatch.setattr(module, "cut_checkpoint", wrong)
    with pytest.raises(VerifyError, match="refuses the checkpoint at the smaller size") as caught:
        gs.strip(opened(soft.prefix), soft.plan, tmp_path / "slim")
    assert "save/" in str(caught.value.where) and "write_meta=False" in str(caught.value)
    assert os.listdir(str(tmp_path)) == []


def test_a_graph_that_computes_something_else_is_not_written(
    soft: Soft, tmp_path: Path, monkeypatch: Any
) -> None:
    def wrong(graph: gs.Graph, plan: gs.Plan, force: bool) -> gs.Graph:
        slim = gs.apply(graph, plan, force)
        bias = slim["logits/biases"].attrs["value"]
        slim.set_attr("logits/biases", "value", bias.with_numbers(bias.numbers() + 1))
        return slim

    monkeypatch.setattr(module, "apply", wrong)
    with pytest.raises(VerifyError, match="the stripped graph differs"):
        gs.strip(opened(soft.prefix), soft.plan, tmp_path / "slim")
    assert os.listdir(str(tmp_path)) == []


def test_a_full_folder_is_refused_before_any_work(soft: Soft, tmp_path: Path) -> None:
    with pytest.raises(EmitError, match="not empty"):
        gs.strip(opened(soft.prefix), soft.plan, os.path.dirname(soft.prefix))


def test_parts_of_a_variable_are_not_cut(soft: Soft, tmp_path: Path) -> None:
    found = opened(soft.prefix)._replace(parts={"block_0/expand/weights": "1 1 8 16 -:-:-:0,8"})
    with pytest.raises(PlanError, match="^block_0/expand/weights: .*one part of a larger tensor"):
        gs.strip(found, soft.plan, tmp_path / "slim")
