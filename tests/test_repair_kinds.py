"""Repair of networks that label pixels or are quantised, and of one that is killed meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny import constant, tiny

import graphslim as gs
from graphslim.plans import plan_given
from graphslim.recovery import repair
from graphslim.runtime import Session

pytestmark = pytest.mark.tf
GONE = [1, 4, 6]
PIXELS = """
    x = input ?,6,6,3
    w = f32[3,3,3,8]{random 1}
    conv = Conv2D(x, w)
    relu = Relu(conv)
    v = f32[1,1,8,4]{random 2}
    scores = Conv2D(relu, v)
    axis = i32[]{3}
    y = ArgMax(scores, axis)
"""
QUANTISED = """
    x = input ?,6,6,3
    w = f32[3,3,3,8]{random 1}
    low = f32[]{-0.9}
    high = f32[]{0.9}
    held = FakeQuantWithMinMaxVars(w, low, high)
    conv = Conv2D(x, held)
    relu = Relu(conv)
    v = f32[1,1,8,4]{random 2}
    held2 = FakeQuantWithMinMaxVars(v, low, high)
    next = Conv2D(relu, held2)
    gate = Relu(next)
    u = f32[1,1,4,5]{random 3}
    y = Conv2D(gate, u)
"""


def images(count: int = 48) -> np.ndarray:
    rng = np.random.RandomState(3)
    return rng.uniform(-1, 1, (count, 6, 6, 3)).astype(np.float32)


def test_pixels_are_judged_by_their_classes() -> None:
    graph = tiny(PIXELS)
    plan = plan_given(graph, {"conv": GONE})
    result = repair(
        graph, gs.apply(graph, plan), plan, data={"x": images()}, steps=40, batch=8, threads=1
    )
    (before,), (after,) = result.before.outputs, result.after.outputs
    assert before.mean_iou is not None and after.mean_iou is not None
    assert after.mean_iou > before.mean_iou and after.compared_at == "scores"
    (figures,) = result.as_dict()["after"].values()
    assert figures["mean_iou"] == after.mean_iou
    worse = after._replace(ious=tuple([(number, iou / 2) for number, iou in after.ious]))
    fewer = result.after._replace(outputs=(worse._replace(error=0.0),))
    assert not fewer.is_better_than(result.before), (
        "a smaller error is no gain where fewer pixels are of their class"
    )


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantised_weights_are_trained_through_and_not_fitted(per_channel: bool) -> None:
    """The range is none of the weights, though it be as long as their channels are many."""
    text = QUANTISED
    if per_channel:
        text = text.replace("low = f32[]{-0.9}", "low = f32[4]{-0.6 -0.7 -0.8 -0.9}")
        text = text.replace("high = f32[]{0.9}", "high = f32[4]{0.9 0.8 0.7 0.6}")
        text = text.replace("held = FakeQuantWithMinMaxVars(w, low, high)", "held = Identity(w)")
        text = text.replace("MinMaxVars(v", "MinMaxVarsPerChannel(v")
    graph = tiny(text)
    plan = plan_given(graph, {"conv": GONE})
    slim = gs.apply(graph, plan)
    given = {"data": {"x": images()}, "steps": 40, "batch": 8, "threads": 1}
    fitted = repair(graph, slim, plan, stages=["least-squares"], **given)
    for name in ("v",) if per_channel else ("w", "v"):
        np.testing.assert_array_equal(constant(fitted.graph, name), constant(slim, name))
    trained = repair(graph, slim, plan, stages=["distillation"], **given)
    assert trained.stages[0].kept
    assert not np.array_equal(constant(trained.graph, "v"), constant(slim, "v"))
    for name in ("low", "high"):
        np.testing.assert_array_equal(constant(trained.graph, name), constant(slim, name))
    v, low, high = [constant(trained.graph, name) for name in ("v", "low", "high")]
    assert np.abs(v).max() < 2 * np.abs(constant(slim, "v")).max()
    with Session(trained.graph) as session:
        (held,) = session.run({"x": images(1)}, ["held2"])
    assert (held >= low - 0.01).all() and (held <= high + 0.01).all()


def test_a_kill_leaves_the_files_as_they_are(tmp_path: Path) -> None:
    graph = tiny(PIXELS)
    slim = gs.apply(graph, plan_given(graph, {"conv": GONE}))
    gs.save(graph, str(tmp_path / "model.pb"))
    gs.save(slim, str(tmp_path / "slim.pb"))
    np.save(str(tmp_path / "data.npy"), images())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    line = "repair model.pb slim.pb --data data.npy -o out.pb --steps 1000000 --seconds 600"
    # The first sign of training: the gate has been measured, and a progress bar is no file.
    script = (
        "import graphslim.recovery.run as run, graphslim.__main__ as cli, sys\n"
        "begin = run.distill\n"
        "def begun(*given, **more):\n"
        "    print('begun', flush=True)\n"
        "    return begin(*given, **more)\n"
        "run.distill = begun\n"
        "cli.main(sys.argv[1:])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, *line.split()],
        cwd=str(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline().strip() == b"begun"
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
