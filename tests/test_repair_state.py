"""A repair that is killed goes on where it was, and gives what an undisturbed one gives."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator
from unittest import mock

import numpy as np
import pytest
from command import Run
from three_layers import images, three_layers
from tiny import tiny

import graphslim as gs
from graphslim.errors import GraphslimError
from graphslim.measure import grams
from graphslim.plans import plan_given
from graphslim.recovery import State, least_squares, state
from graphslim.recovery.distillation import Point

pytestmark = pytest.mark.tf
NET = three_layers(16, 12)
GONE = [1, 4, 6, 9]


def data(seed: int = 3) -> Dict[str, np.ndarray]:
    return {"x": images(seed=seed)}


@pytest.fixture(autouse=True)
def written_after_each_step(monkeypatch: Any) -> Iterator[None]:
    monkeypatch.setattr(state, "EVERY", 0.0)
    yield


class Killed(Exception):
    """What stands for a kill."""


def kill_at(moment: int) -> Any:
    """A progress callback that fails when it is called for the n-th time."""
    calls = []

    def tick(done: int, total: int, step: str) -> None:
        calls.append(step)
        if len(calls) == moment:
            raise Killed

    return tick


def repaired(path: Any = None, layers: int = 1, **given: Any) -> gs.Graph:
    graph = tiny(NET)
    plan = plan_given(graph, dict.fromkeys(["conv", "next"][:layers], GONE))
    options = {"data": data(), "steps": 20, "seconds": 1e6, "batch": 8, "threads": 1, **given}
    return gs.repair(graph, gs.apply(graph, plan), plan, state=path, **options).graph


def pruned(path: Any = None, **given: Any) -> gs.Graph:
    options = {"data": data(), "steps": 20, "seconds": 1e6, "batch": 8, "threads": 1, **given}
    return gs.prune_gradually(
        tiny(NET), rounds=3, criterion="l1", macs=0.4, multiple_of=1, state=path, **options
    )[1].graph


def test_a_repair_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "state"
    whole = gs.serialize(repaired())
    for moment in (2, 9, 11):
        with pytest.raises(Killed):
            repaired(path, progress=kill_at(moment))
    ticks = []
    assert gs.serialize(repaired(path, progress=lambda *told: ticks.append(told))) == whole
    assert len(ticks) < 12
    # What is done is done, until the file is removed.
    assert gs.serialize(repaired(path, progress=kill_at(1))) == whole


def test_least_squares_goes_on(tmp_path: Path, monkeypatch: Any) -> None:
    """Where the layers are measured a few at a time, those that are fitted need it no more."""
    monkeypatch.setattr(grams, "_ROOM", 1)
    path, given = tmp_path / "state", {"layers": 2, "stages": ["least-squares"]}
    measured = mock.Mock(wraps=least_squares.grams_of)
    monkeypatch.setattr(least_squares, "grams_of", measured)
    whole = gs.serialize(repaired(**given))
    assert measured.call_count == 4
    with pytest.raises(Killed):
        repaired(path, progress=kill_at(2), **given)
    measured.reset_mock()
    assert gs.serialize(repaired(path, **given)) == whole
    assert measured.call_count == 2


def test_gradual_pruning_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "state"
    whole = gs.serialize(pruned())
    for moment in (4, 11, 9, 7):
        with pytest.raises(Killed):
            pruned(path, progress=kill_at(moment))
    assert gs.serialize(pruned(path)) == whole


def test_a_state_of_something_else_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "state")
    repaired(path, steps=2)
    for given, what in (
        ({"steps": 3}, "with the option steps: 2; now with 3"),
        ({"steps": 2, "data": data(4)}, "with the images: 48 of digest"),
        ({"steps": 2, "seed": 1}, "with the option seed: 0; now with 1"),
    ):
        with pytest.raises(GraphslimError, match=what) as caught:
            repaired(path, **given)
        assert caught.value.where == path and "delete it to begin anew" in str(caught.value)
    with pytest.raises(GraphslimError, match="was left by another repair"):
        pruned(path, steps=2)


@pytest.mark.parametrize("spoil", ["cut", "other", "text", "array"])
def test_a_bad_state_is_refused(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "state"
    State(str(path), {}).put("curve", (Point(1, 0.5, float("nan")),))
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif spoil == "text":
        path.write_text("no state")
    elif spoil == "array":
        with path.open("wb") as file:
            np.savez(file, data=np.zeros(3))
    else:
        path.write_bytes(path.read_bytes().replace(b"graphslim-repair", b"graphslim-repaid"))
    before = path.read_bytes()
    with pytest.raises(GraphslimError, match="is cut off, or is no state"):
        repaired(path)
    assert path.read_bytes() == before


def test_trees_come_back_as_they_were(tmp_path: Path) -> None:
    path = str(tmp_path / "state")
    part = {
        "curve": (Point(1, 0.5, float("inf")),),
        "arrays": {"a/b": np.arange(3, dtype=np.float32), "": np.float64(1 / 3)},
        "random": np.random.RandomState(1).get_state(),
        "none": None,
    }
    State(path, {"what": 1}).put("part", part)
    back = State(path, {"what": 1}).get("part")
    assert back["curve"] == part["curve"] and back["none"] is None
    np.testing.assert_array_equal(back["arrays"]["a/b"], part["arrays"]["a/b"])
    assert back["arrays"]["a/b"].dtype == np.float32 and back["arrays"][""] == 1 / 3
    rng = np.random.RandomState(0)
    rng.set_state(back["random"])
    assert rng.random_sample() == np.random.RandomState(1).random_sample()


# --- The command.

CHOICE = "--criterion l1 --ratio 0.4 --multiple-of 1 --data data.npy --repair"
QUICK = "--steps 20 --batch 8 --state state"


@pytest.fixture
def run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Run:
    """The command line, in a folder that holds a model and inputs."""
    run = Run(tmp_path, capsys, monkeypatch)
    gs.save(tiny(NET), "model.pb")
    np.save("data.npy", images())
    return run


@pytest.mark.parametrize("more", ["", "--rounds 2"])
def test_the_state_is_removed_with_the_result_written(run: Run, more: str) -> None:
    run(f"prune model.pb -o slim.pb {CHOICE} {QUICK} {more}")
    assert "slim.pb" in run.files() and "state" not in run.files()


@pytest.mark.parametrize(
    "command",
    [
        "apply model.pb plan.json -o out.pb --data data.npy --repair",
        "repair model.pb slim.pb --plan plan.json -o out.pb --data data.npy",
        f"prune model.pb -o out.pb {CHOICE}",
    ],
)
def test_a_command_goes_on(run: Run, monkeypatch: Any, command: str) -> None:
    run("plan model.pb -o plan.json --criterion l1 --ratio 0.4 --multiple-of 1")
    run("apply model.pb plan.json -o slim.pb")
    put = State.put

    def killing(self: State, name: str, *rest: Any, **more: Any) -> None:
        put(self, name, *rest, **more)
        if name == "stages":
            raise KeyboardInterrupt

    monkeypatch.setattr(State, "put", killing)
    run(f"{command} {QUICK}", status=130)
    assert "state" in run.files() and "out.pb" not in run.files()
    monkeypatch.setattr(State, "put", put)
    told = run(f"{command} {QUICK}")
    assert "distillation took" in told.out
    assert "state" not in run.files() and "out.pb" in run.files()


def test_a_state_without_a_repair_is_refused(run: Run) -> None:
    told = run("prune model.pb -o slim.pb --dead-below 0 --state state", status=2)
    assert "only a repair keeps a state" in told.err


# --- Real kills.

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
CHILD = """
import graphslim as gs
from graphslim.recovery import state

state.EVERY = 0.0
graph = gs.load("whole.pb")
print("ready", flush=True)
plan, repaired = gs.prune_gradually(graph, state="state", **OPTIONS)
gs.save(repaired.graph, "out.pb")
"""
OPTIONS = {
    **{"rounds": 2, "criterion": "l1", "macs": 0.5, "multiple_of": 1, "data": "kind.npy"},
    **{"steps": 30, "seconds": 1e6, "batch": 16, "threads": 1},
}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
@pytest.mark.parametrize("name", ["model", pytest.param("digits", marks=pytest.mark.exhaustive)])
def test_killed_at_any_moment(run: Run, name: str) -> None:
    path, inputs = Path("model.pb"), images()
    if name == "digits":
        path = FIXTURES / "digits_mobilenet_v2_se.pb"
        with np.load(str(FIXTURES / "digits_sample.npz")) as arrays:
            inputs = arrays["image"]
    original = path.read_bytes()
    Path("whole.pb").write_bytes(original)
    np.save("kind.npy", inputs)
    program = f"OPTIONS = {OPTIONS!r}\n{CHILD}"
    for delay in np.random.RandomState(1).uniform(0.3, 1.5, 2):
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert Path("whole.pb").read_bytes() == original
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
    _, repaired = gs.prune_gradually(gs.load("whole.pb"), **OPTIONS)
    assert gs.serialize(repaired.graph) == Path("out.pb").read_bytes()
    assert not [file for file in run.files() if file.endswith(".part")]
