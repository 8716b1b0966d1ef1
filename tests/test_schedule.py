"""The stepped threshold loop, around a training script that is made up."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np
import pytest
import trained

import graphslim as gs
from graphslim.checkpoint.fitting import places
from graphslim.errors import GraphslimError, PlanError
from graphslim.runtime import available, write_checkpoint

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(not available(), reason="TensorFlow is not installed"),
]
OUTPUTS = [trained.OUTPUT]


@pytest.fixture(scope="module")
def model(tmp_path_factory: Any) -> str:
    return trained.train(tmp_path_factory.mktemp("model"), "resource", "momentum")


class Script:
    """Takes the place of a training script: scales all weights, and lets filters come back.

    Args:
        back: for each run, the share of the plan's filters that come back.
    """

    def __init__(self, back: Sequence[float] = ()) -> None:
        self.back = list(back)
        self.asked: List[str] = []

    def __call__(self, step: gs.training.Step) -> str:
        self.asked.append(os.path.basename(step.folder))
        values: Dict[str, np.ndarray] = dict(trained.values(step.checkpoint))
        share = self.back.pop(0) if self.back else 0.0
        for name, axes in places(step.plan, ()).items():
            if values[name].ndim < 2 or "weights" not in name:
                continue
            for axis, positions in axes.items():
                rows = np.moveaxis(values[name], axis, 0)
                rows[list(positions)[: round(share * len(positions))]] = 0.01
        to = step.checkpoint + "-trained"
        write_checkpoint(to, values)
        with open(step.checkpoint + ".meta", "rb") as source, open(to + ".meta", "wb") as copy:
            copy.write(source.read())
        return to


def run(model: str, folder: Path, script: Script, **options: Any) -> gs.training.Schedule:
    steps = gs.training.schedule(model, folder, outputs=OUTPUTS, **options)
    for step in steps:
        step.retrained(script(step))
    return steps


def zeros(prefix: str, plan: gs.Plan) -> bool:
    """Whether a plan's weights are zero in a checkpoint."""
    values: Mapping[str, np.ndarray] = trained.values(prefix)
    return not any(
        np.take(values[name], positions, axis).any()
        for name, axes in places(plan, ()).items()
        if "moving" not in name
        for axis, positions in axes.items()
    )


def test_the_whole_loop(model: str, tmp_path: Path) -> None:
    import tensorflow.compat.v1 as tf

    tf.logging.set_verbosity(tf.logging.INFO)
    script = Script()
    removed = []
    steps = gs.training.schedule(model, tmp_path / "out", (0.65, 0.6, 0.5), outputs=OUTPUTS)
    for step in steps:
        assert zeros(step.checkpoint, step.plan)
        assert step.result is None
        removed.append({(one.id, index) for one in step.plan.groups for index in one.removed})
        step.retrained(script(step))
    assert script.asked == ["TH0.65", "TH0.6", "TH0.5"]
    assert removed[0] < removed[1] < removed[2], "channels that are zero stay chosen"
    assert steps.plan == step.plan
    assert steps.result == step.result == step.checkpoint + "-trained"
    assert steps.failed_rate == 0.0
    assert tf.logging.get_verbosity() == tf.logging.INFO, "it is the training's to choose"
    note = json.loads((tmp_path / "out/TH0.6/step.json").read_text())
    assert note["retrained"] == "model-trained-trained"  # in the step's own folder
    assert note["failed_rate"] == 0.0
    assert (tmp_path / "out/TH0.6/plan.json").is_file()
    one = next(iter(gs.training.schedule(model, tmp_path / "other", (0.5,), outputs=OUTPUTS)))
    assert isinstance(one.hook(), gs.training.SoftPruningHook)


def test_what_comes_back_is_pruned_again(model: str, tmp_path: Path) -> None:
    script = Script([1.0, 0.5, 0.05, 0.0])
    steps = run(model, tmp_path, script, thresholds=(0.65, 0.5), most_failed=0.25)
    assert script.asked == ["TH0.65", "TH0.65_Repruned1", "TH0.65_Repruned2", "TH0.5"]
    plans = [(tmp_path / name / "plan.json").read_text() for name in script.asked]
    first, again, third, last = [json.loads(text)["groups"] for text in plans]
    assert first == again == third != last
    assert steps.failed_rate == 0.0


def test_the_result_has_the_zeros_although_some_came_back(model: str, tmp_path: Path) -> None:
    steps = run(model, tmp_path, Script([0.3]), thresholds=(0.5,), most_failed=0.5)
    assert 0 < steps.failed_rate < 0.5
    assert steps.result == str(tmp_path / "TH0.5_Result/model-trained")
    assert zeros(steps.result, steps.plan)
    assert gs.summary(steps.result, steps.plan, outputs=OUTPUTS).rate == 0


def test_it_gives_up_and_goes_on_when_called_again(model: str, tmp_path: Path) -> None:
    script = Script([1.0, 1.0])
    options: Dict[str, Any] = {"thresholds": (0.5,)}
    with pytest.raises(GraphslimError, match="TH0.5_Repruned1: 100 % of the filters .*step.hook"):
        run(model, tmp_path, script, max_rounds=1, **options)
    assert script.asked == ["TH0.5", "TH0.5_Repruned1"]
    again = Script()
    steps = run(model, tmp_path, again, max_rounds=2, **options)
    assert again.asked == ["TH0.5_Repruned2"]
    assert steps.failed_rate == 0.0


def test_it_goes_on_behind_what_is_done(model: str, tmp_path: Path) -> None:
    steps = gs.training.schedule(model, tmp_path / "out", (0.65, 0.6), outputs=OUTPUTS)
    first = next(steps)
    first.retrained(Script()(first))
    second = next(steps)  # and here the process ends
    os.rename(str(tmp_path / "out"), str(tmp_path / "moved"))
    script = Script()
    steps = run(model, tmp_path / "moved", script, thresholds=(0.65, 0.6, 0.5))
    assert script.asked == ["TH0.6", "TH0.5"]
    kept = json.loads((tmp_path / "moved/TH0.6/plan.json").read_text())
    assert kept["groups"] == json.loads(second.plan.to_json())["groups"]
    finished = run(model, tmp_path / "moved", Script(), thresholds=(0.65, 0.6, 0.5))
    assert finished.result == steps.result
    assert finished.plan is not None and steps.plan is not None
    assert finished.plan.groups == steps.plan.groups


def test_a_folder_of_another_schedule_is_refused(model: str, tmp_path: Path) -> None:
    next(gs.training.schedule(model, tmp_path, (0.5,), outputs=OUTPUTS))
    with pytest.raises(GraphslimError, match="a schedule with another selection"):
        next(gs.training.schedule(model, tmp_path, (0.5,), outputs=OUTPUTS, multiple_of=2))
    other = trained.train(tmp_path / "other", "resource", "momentum", steps=1)
    with pytest.raises(GraphslimError, match="a schedule with another checkpoint"):
        next(gs.training.schedule(other, tmp_path, (0.5,), outputs=OUTPUTS))


def test_what_was_not_trained_is_refused(model: str, tmp_path: Path) -> None:
    steps = gs.training.schedule(model, tmp_path, (0.6, 0.5), outputs=OUTPUTS)
    step = next(steps)
    for where, said in (
        (None, r"step.retrained\(\): got no checkpoint"),
        (tmp_path / "none", "none: no checkpoint of that name"),
        (tmp_path, "holds no checkpoint"),
        (step.folder, "is the checkpoint that was to be trained"),
        (step.checkpoint, "is the checkpoint that was to be trained"),
    ):
        with pytest.raises(GraphslimError, match=said):
            step.retrained(where)
    with pytest.raises(GraphslimError, match=r"threshold 0.6: step.retrained\(\) was not called"):
        next(steps)


def test_a_folder_stands_for_its_latest_checkpoint(model: str, tmp_path: Path) -> None:
    step = next(gs.training.schedule(model, tmp_path / "out", (0.5,), outputs=OUTPUTS))
    there = str(tmp_path / "out" / "trained" / "model.ckpt-7")
    os.makedirs(os.path.dirname(there))
    trained.train_on(step.checkpoint, 1, to=there)
    step.retrained(os.path.dirname(there))
    assert os.path.realpath(str(step.result)) == os.path.realpath(there)


def test_thresholds_that_choose_nothing(model: str, tmp_path: Path) -> None:
    script = Script()
    run(model, tmp_path / "some", script, thresholds=(0.999, 0.5))
    assert script.asked == ["TH0.5"]
    with pytest.raises(PlanError, match="thresholds 0.999: none of them chooses any channels"):
        run(model, tmp_path / "none", Script(), thresholds=(0.999,))


@pytest.mark.parametrize(
    "options, said",
    [
        ({"thresholds": ()}, "thresholds: there are none"),
        ({"thresholds": (0.5, 0.5)}, "thresholds: the same one is there twice"),
        ({"thresholds": ("0.5",)}, "thresholds: '0.5' is no finite number"),
        ({"most_failed": 10}, "most_failed: must be from 0 to 1"),
        ({"max_rounds": -1}, "max_rounds: must be 0 or more"),
    ],
)
def test_arguments_that_make_no_sense(options: Dict[str, Any], said: str) -> None:
    with pytest.raises(GraphslimError, match=said):
        gs.training.schedule("model", "out", **options)
