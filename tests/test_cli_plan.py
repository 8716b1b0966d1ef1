"""`plan`, `apply`, and `prune` with a criterion, as one types them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from tiny import tiny

import graphslim as gs

# Two convolutions that may shrink, one that the output pins.
NET = """
    x = input 1,6,6,4
    a/w = f32[3,3,4,32]{random 1}
    a = Conv2D(x, a/w)
    ra = Relu(a)
    b/w = f32[1,1,32,16]{random 2}
    b = Conv2D(ra, b/w)
    rb = Relu(b)
    p/w = f32[1,1,16,8]{random 3}
    p = Conv2D(rb, p/w)
"""


@pytest.fixture
def run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Run:
    found = Run(tmp_path, capsys, monkeypatch)
    gs.save(tiny(NET), "net.pb")
    return found


def plan_in(run: Run, name: str = "p.json") -> Any:
    return json.loads((run.folder / name).read_text(encoding="utf-8"))


def test_plan_writes_what_the_library_plans(run: Run) -> None:
    found = run("plan net.pb -o p.json --criterion l1 --macs 0.5 --multiple-of 2")
    assert re.search(
        r"macs: asked for 0.5, achieved 0\.\d+ in multiples of \d channels kept", found.out
    )
    assert "Written to p.json" in found.out and found.err == ""
    wanted = gs.plan(gs.load("net.pb"), criterion="l1", macs=0.5, multiple_of=2)
    assert (run.folder / "p.json").read_text(encoding="utf-8") == wanted.to_json()
    tree = plan_in(run)
    assert tree["settings"]["budget"] == {"macs": 0.5}
    assert abs(tree["achieved"]["achieved"] - 0.5) <= 0.01


def test_plan_json_is_the_plan(run: Run) -> None:
    found = run("plan net.pb -o p.json --criterion l2 --ratio 0.25 --json")
    assert json.loads(found.out) == plan_in(run)


def test_plan_without_a_criterion_is_of_dead_channels(run: Run) -> None:
    assert "0 channels to go" in run("plan net.pb -o p.json").out
    assert plan_in(run)["settings"]["select"] == "dead"


def test_every_option_reaches_the_selection(run: Run) -> None:
    (run.folder / "s.yaml").write_text("a: {max_ratio: 0.5}\n", encoding="utf-8")
    run(
        "plan net.pb -o p.json --criterion random --params 0.8 --rank local --aggregate max "
        "--scope all --only * --exclude p --multiple-of 2 --rounding removed --min-channels 3 "
        "--max-ratio 0.75 --settings s.yaml --seed 7"
    )
    settings = plan_in(run)["settings"]
    assert settings == {
        "select": "scores",
        "scope": "all",
        "only": ["*"],
        "exclude": ["p"],
        "multiple_of": 2,
        "rounding": "removed",
        "min_channels": 3,
        "max_ratio": 0.75,
        "criterion": "random",
        "aggregate": "max",
        "rank": "local",
        "seed": 7,
        "budget": {"params": 0.8},
        "by_name": [["a", {"max_ratio": 0.5}]],
    }


@pytest.mark.parametrize(
    "options, told",
    [
        ("--criterion l1 --macs 0.01", "--macs 0.01: at least"),
        (
            "--criterion l1 --params 0.1 --max-ratio 0.1",
            "--params 0.1: at least 1 of the parameters",
        ),
        ("--criterion l1 --macs 0.5 --only nix", "'nix' matches no group or block"),
        ("--criterion l1 --macs 0.5 --exclude nix", "'nix' matches no group or block"),
        ("--criterion l1 --macs 0.5 --params 0.5", "only one thing can be reached"),
        ("--criterion l1 --macs 50", "--macs"),
        ("--criterion l1", "not how much"),
        ("--criterion nix --macs 0.5", "no criterion 'nix'"),
        ("--macs 0.5", "needs a criterion"),
        ("--dead --criterion l1 --macs 0.5", "excludes --criterion"),
        ("--criterion l1 --macs 0.5 --settings nix.yaml", "nix.yaml: no such file"),
    ],
)
@pytest.mark.parametrize("command", ["plan net.pb -o out.json", "prune net.pb -o out.pb"])
def test_impossible_wishes(run: Run, command: str, options: str, told: str) -> None:
    """One clear line, exit status 2, and no file."""
    found = run(f"{command} {options}", status=2)
    assert told in found.err and len(found.err.splitlines()) == 1 and found.out == ""
    assert run.files() == ["net.pb"]


def test_weights_that_are_no_numbers(run: Run) -> None:
    graph = tiny(NET)
    numbers = np.array(graph["a/w"].attrs["value"].numbers())
    numbers[0, 0, 0, 0] = np.nan
    graph.set_attr("a/w", "value", graph["a/w"].attrs["value"].with_numbers(numbers))
    gs.save(graph, "nan.pb")
    found = run("plan nan.pb -o p.json --criterion l1 --macs 0.5", status=2)
    assert "a/w" in found.err and run.files() == ["nan.pb", "net.pb"]


def test_a_plan_is_not_written_over_its_inputs(run: Run) -> None:
    run("plan net.pb -o p.json --criterion l1 --macs 0.5")
    assert "is the input itself" in run("apply net.pb p.json -o p.json", status=2).err
    assert "is the input itself" in run("apply net.pb p.json -o net.pb", status=2).err
    assert "is the input itself" in run("plan net.pb -o net.pb", status=2).err


def test_curves_are_not_written_over(run: Run) -> None:
    curves = Path("s.json")
    curves.write_text("measured for hours")
    for command in ("plan net.pb -o s.json", "prune net.pb -o out.pb --plan-out s.json"):
        told = run(f"{command} --allocate s.json --macs 0.5", status=2).err
        assert told == (
            "graphslim: s.json: is the input itself (choose another name, or give --force)\n"
        )
    assert curves.read_text() == "measured for hours" and run.files() == ["net.pb", "s.json"]


def test_apply_without_tensorflow(run: Run) -> None:
    run("plan net.pb -o p.json --criterion l1 --macs 0.5 --multiple-of 4")
    found = run("apply net.pb p.json -o out.pb --no-verify")
    assert "Not verified: --no-verify was given." in found.out
    plan = gs.plan(gs.load("net.pb"), criterion="l1", macs=0.5, multiple_of=4)
    assert (run.folder / "out.pb").read_bytes() == gs.serialize(gs.apply(gs.load("net.pb"), plan))


def test_apply_refuses_a_plan_of_another_model(run: Run) -> None:
    gs.save(tiny(NET.replace("random 2", "random 9")), "other.pb")
    run("plan other.pb -o p.json --criterion l1 --macs 0.5")
    found = run("apply net.pb p.json -o out.pb", status=2)
    assert "was made for other.pb" in found.err and "out.pb" not in run.files()
    run("apply net.pb p.json -o out.pb --force --no-verify")
    assert "out.pb" in run.files()


@pytest.mark.tf
def test_apply_and_prune_do_the_same(run: Run) -> None:
    pytest.importorskip("tensorflow")
    options = "--criterion l1 --macs 0.5 --multiple-of 4"
    run(f"plan net.pb -o p.json {options}")
    applied = run("apply net.pb p.json -o one.pb")
    pruned = run(f"prune net.pb -o two.pb {options} --plan-out q.json")
    for found in (applied, pruned):
        assert "Outputs, against the original, over 8 random inputs" in found.out
        assert found.out.index("Caution: the outputs changed much: p") < found.out.index(
            "Nothing else changed"
        )
    assert (run.folder / "one.pb").read_bytes() == (run.folder / "two.pb").read_bytes()
    assert (run.folder / "p.json").read_bytes() == (run.folder / "q.json").read_bytes()


@pytest.mark.tf
def test_apply_times_its_result(run: Run) -> None:
    pytest.importorskip("tensorflow")
    options = "--criterion l1 --macs 0.5 --multiple-of 4"
    run(f"plan net.pb -o p.json {options}")
    assert "of its time" not in run("apply net.pb p.json -o one.pb").out
    found = run("apply net.pb p.json -o one.pb --for tf --threads 2")
    assert "In TensorFlow" in found.out and ", 2 threads: " in found.out
    run(f"plan net.pb -o p.json {options} --for tf")
    for words in ("apply net.pb p.json -o one.pb", f"prune net.pb -o two.pb --for tf {options}"):
        timed = run(f"{words} --threads 0 --json").json["timed"]
        assert timed["threads"] == 0 and len(timed["models"]) == 2
    assert "timed" not in run("apply net.pb p.json -o one.pb --no-verify --json").json


@pytest.mark.tf
@pytest.mark.parametrize("criterion", ["l1", "taylor"])
def test_the_figures_are_of_all_inputs(run: Run, criterion: str) -> None:
    pytest.importorskip("tensorflow")
    np.save("data.npy", np.random.RandomState(0).normal(size=(12, 6, 6, 4)))
    wish = f"--criterion {criterion} --ratio 0.5 --data data.npy"
    told = json.loads(run(f"prune net.pb -o out.pb {wish} --json").out)["changed"]
    assert (told["examples"], told["random_inputs"]) == (12, False)
    alone = run("verify net.pb out.pb --data data.npy --json", status=1).json
    assert alone["outputs"] == told["outputs"], "verify says something else than prune did"


@pytest.mark.tf
def test_prune_json_tells_both_differences(run: Run) -> None:
    pytest.importorskip("tensorflow")
    found = json.loads(run("prune net.pb -o out.pb --criterion l1 --ratio 0.5 --json").out)
    assert found["verified"]["against"] == "masked original" and found["verified"]["ok"]
    assert found["changed"]["against"] == "original"
    assert found["changed"]["outputs"][0]["relative"] > 0.01
    assert found["achieved"] == {"what": "ratio", "asked": 0.5, "achieved": 0.5, "reason": None}


@pytest.mark.tf
def test_a_result_that_is_wrong_is_not_written(run: Run, monkeypatch: Any) -> None:
    pytest.importorskip("tensorflow")
    from graphslim import planner

    def broken(graph: gs.Graph, plan: gs.Plan) -> None:
        gs.apply_in_place(graph, plan)
        tensor = graph["p/w"].attrs["value"]
        graph.set_attr("p/w", "value", tensor.with_numbers(2 * tensor.numbers()))

    monkeypatch.setattr(planner, "apply_in_place", broken)
    found = run("prune net.pb -o out.pb --criterion l1 --ratio 0.5", status=1)
    assert "the result differs by" in found.err and run.files() == ["net.pb"]


@pytest.mark.tf
def test_scores_of_random_inputs_are_cautioned_against(run: Run) -> None:
    pytest.importorskip("tensorflow")
    found = run("plan net.pb -o p.json --criterion activation --ratio 0.5")
    assert "caution: the scores were measured on 8 random inputs" in found.err
    assert plan_in(run)["settings"]["inputs"] == "random"


@pytest.mark.tf
def test_more_data_than_the_graph_takes_at_once(run: Run) -> None:
    """All of it scores; the check takes the first run."""
    pytest.importorskip("tensorflow")
    np.save("many.npy", np.random.RandomState(0).rand(5, 6, 6, 4).astype(np.float32))
    found = run("prune net.pb -o out.pb --criterion activation --ratio 0.5 --data many.npy")
    assert "caution" not in found.err and "out.pb" in run.files()


def test_criteria_are_listed(run: Run) -> None:
    lines = run("criteria").out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(gs.criteria())
    assert any("arXiv 1705.10748" in line for line in lines)
