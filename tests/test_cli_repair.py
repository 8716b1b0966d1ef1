"""`graphslim repair`, and `--repair` of `prune` and `apply`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from tiny import tiny

import graphslim as gs
from graphslim.cli import repair as command
from graphslim.errors import GraphslimError
from graphslim.measure.shares import split

pytestmark = pytest.mark.tf

MODEL = """
    x = input ?,6,6,3
    w = f32[3,3,3,8]{random 1}
    conv = Conv2D(x, w)
    relu = Relu(conv)
    v = f32[1,1,8,4]{random 2}
    y = Conv2D(relu, v)
"""
CHOICE = "--criterion l1 --ratio 0.4 --multiple-of 1 --data data.npy"
QUICK = "--steps 20 --batch 8"


@pytest.fixture
def run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Run:
    """The command line, in a folder that holds a model and inputs."""
    run = Run(tmp_path, capsys, monkeypatch)
    gs.save(tiny(MODEL), "model.pb")
    rng = np.random.RandomState(3)
    np.save("data.npy", rng.uniform(-1, 1, (48, 6, 6, 3)).astype(np.float32))
    return run


def test_prune_repairs_and_says_what_became_of_it(run: Run) -> None:
    told = run(f"prune model.pb -o slim.pb {CHOICE} --repair {QUICK} --plan-out plan.json")
    assert "Repaired on 30 images, tuned on 6, judged on 12 that were kept aside" in told.out
    assert "as removed" in told.out and "least-squares" in told.out
    assert "Nothing else changed" in told.out
    plain = run("apply model.pb plan.json -o plain.pb --data data.npy --json").json
    record = json.loads(Path("plan.json").read_text())["settings"]["repair"]
    (before,), (after,) = record["before"].values(), record["after"].values()
    assert after["error"] < before["error"] < 2 * plain["changed"]["outputs"][0]["error"]
    assert record["images"]["gate"] == 12 and len(record["data"]["sha256"]) == 64


def test_json_has_the_repair(run: Run) -> None:
    tree = run(f"prune model.pb -o slim.pb {CHOICE} --repair {QUICK} --json").json
    assert [stage["name"] for stage in tree["repair"]["stages"]] == [
        "least-squares",
        "distillation",
    ]
    assert tree["changed"]["examples"] == 12 and tree["verified"]["ok"]


def test_apply_and_repair_give_what_prune_gives(run: Run) -> None:
    stage = "--stage least-squares"
    run(f"prune model.pb -o whole.pb {CHOICE} --repair {stage} {QUICK}")
    run(f"plan model.pb -o plan.json {CHOICE}")
    run(f"apply model.pb plan.json -o applied.pb --data data.npy --repair {stage} {QUICK}")
    run("apply model.pb plan.json -o slim.pb --data data.npy")
    told = run(
        f"repair model.pb slim.pb --plan plan.json --data data.npy -o repaired.pb {stage} {QUICK}"
    )
    assert "Written to repaired.pb" in told.out
    whole, applied, repaired, slim = [
        Path(f"{name}.pb").read_bytes() for name in ("whole", "applied", "repaired", "slim")
    ]
    assert whole == applied == repaired != slim


CHOSEN = f"{CHOICE.replace('l1', 'activation')} --batch 8"


@pytest.mark.parametrize("rounds", ["", "--rounds 2"])
def test_channels_are_chosen_without_the_images_that_judge(run: Run, rounds: str) -> None:
    line = f"prune model.pb -o slim.pb {CHOSEN} --repair --steps 4 {rounds} --force"
    told = run(f"{line} --plan-out p.json")
    assert "flatter" not in told.out
    judged, data = split(48, 0)[2], np.load("data.npy")
    data[judged] = np.abs(data[judged]) * np.array([1, 5, -5], np.float32)
    np.save("data.npy", data)
    run(f"{line} --plan-out q.json")
    first, second = [json.loads(Path(name).read_text()) for name in ("p.json", "q.json")]
    assert first["groups"] == second["groups"]
    if not rounds:
        assert first["settings"]["data"]["kept_aside"] == {"examples": 12, "seed": 0}


def test_a_plan_that_was_chosen_by_the_images_that_judge_it_is_told(run: Run) -> None:
    run(f"plan model.pb -o plan.json {CHOSEN}")
    line = "apply model.pb plan.json -o slim.pb --repair --batch 8 --steps 4"
    assert "by the very images that judge it" in run(f"{line} --data data.npy").out
    np.save("others.npy", np.load("data.npy")[::-1] * 0.9)
    assert "by the very images" not in run(f"{line} --data others.npy --force").out


def test_curves_that_saw_the_images_that_judge_are_refused(run: Run) -> None:
    run("sensitivity model.pb -o s.jsonl --data data.npy --criterion l1 --ratios 0.5 --seed 1")
    line = "prune model.pb -o slim.pb --criterion l1 --ratio 0.4 --data data.npy --allocate s.jsonl"
    told = run(f"{line} --repair", status=2)
    assert "other images were kept aside" in told.err and "give --seed 1" in told.err
    assert "slim.pb" not in run.files()


def test_repair_before_optimizing(run: Run) -> None:
    run(f"prune model.pb -o slim.pb {CHOICE} --repair {QUICK} --optimize")
    assert "slim.pb" in run.files()


def test_without_images_nothing_is_done(run: Run) -> None:
    told = run("prune model.pb -o slim.pb --criterion l1 --ratio 0.4 --repair", status=2)
    assert told.err.startswith("graphslim: --data: is needed for a repair")
    assert "slim.pb" not in run.files()


def test_a_plan_of_another_graph_is_refused(run: Run) -> None:
    run(f"plan model.pb -o plan.json {CHOICE}")
    told = run("repair model.pb model.pb --plan plan.json --data data.npy -o out.pb", status=1)
    assert "the result differs" in told.err
    assert "out.pb" not in run.files()


def test_an_error_in_the_middle_leaves_no_file(run: Run, monkeypatch: Any) -> None:
    def killed(*args: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "repaired_by", killed)
    before = run.files()
    told = run(f"prune model.pb -o slim.pb {CHOICE} --repair", status=130)
    assert told.err.splitlines()[-1] == "graphslim: interrupted"
    assert run.files() == before


def test_a_repair_is_told_without_a_check_too(run: Run) -> None:
    told = run(f"prune model.pb -o slim.pb {CHOICE} --repair {QUICK} --no-verify")
    assert "judged on 12 that were kept aside" in told.out
    assert "Nothing else changed" not in told.out and "--no-verify was given" in told.out


def test_what_images_cannot_teach_is_said_before_a_plan_is_made(run: Run, monkeypatch: Any) -> None:
    def planned(*_: object) -> None:
        raise GraphslimError("a plan is made", "here")

    monkeypatch.setattr("graphslim.cli.prune.make_plan", planned)
    line = f"prune model.pb -o slim.pb {CHOICE} --repair"
    np.save("data.npy", np.ones((20, 6, 6, 3), np.float32))
    told = run(line, status=2)
    assert "20 images are few to repair a network by" in told.err
    assert "hardly differ from input to input" in told.err and "a plan is made" in told.err
    np.save("data.npy", np.ones((3, 6, 6, 3), np.float32))
    told = run(line, status=2)
    assert "it takes 4 at least" in told.err and "a plan is made" not in told.err


def test_the_plan_is_found_again(run: Run) -> None:
    run(f"prune model.pb -o slim.pb {CHOICE} --plan-out plan.json")
    line = f"repair model.pb slim.pb --data data.npy --stage least-squares {QUICK} -o"
    told = run(f"{line} found.pb")
    assert "plan: found again: 3 channels of 1 group went" in told.err
    run(f"{line} given.pb --plan plan.json")
    assert Path("found.pb").read_bytes() == Path("given.pb").read_bytes()


def test_passes_behind_a_repair_are_looked_at_too(run: Run) -> None:
    looks = "-v --time-passes --dump-after drop-unused"
    told = run(f"prune model.pb -o slim.pb {CHOICE} --repair {QUICK} --optimize {looks}").err
    assert "drop-unused: nodes removed: " in told
    times = [line.split()[2] for line in told.splitlines() if " ms  " in line]
    assert times[0] == "find-inverted-residual" and {"remove-channels", "drop-unused"} < {*times}
    (dumped,) = [name for name in run.files() if name.endswith("drop-unused.pbtxt")]
    assert f"dumped {dumped}" in told


def test_pages_show_what_the_repair_brought_back(run: Run) -> None:
    pytest.importorskip("matplotlib", reason="the extra `report` is not installed")
    run(
        f"prune model.pb -o slim.pb {CHOICE} --repair {QUICK} --plan-out p.json --report prune.html"
    )
    run("apply model.pb p.json -o plain.pb --report plain.html")
    run(f"apply model.pb p.json -o a.pb --data data.npy --repair {QUICK} --report apply.html")
    run(f"repair model.pb plain.pb --data data.npy -o b.pb {QUICK} --report repair.html")
    for name in ("prune", "apply", "repair"):
        page = Path(f"{name}.html").read_text()
        assert "What the repair brought back" in page
        assert page.count("<td>least-squares</td>") == page.count("<td>distillation</td>") == 1
        assert 'aria-label="distillation: loss' in page and "12 that no stage looked at" in page
    assert "What the repair brought back" not in Path("plain.html").read_text()


def test_a_page_needs_the_plan(run: Run) -> None:
    pytest.importorskip("matplotlib", reason="the extra `report` is not installed")
    run(f"prune model.pb -o slim.pb {CHOICE} --repair {QUICK}")
    told = run("repair model.pb slim.pb --data data.npy -o b.pb --report r.html", status=2)
    assert "needs the plan, which is not found again" in told.err and "b.pb" not in run.files()
