"""Gradual pruning: to the budget in rounds, with repair in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from oracles import structure
from three_layers import images, three_layers
from tiny import constant, tiny

import graphslim as gs
from graphslim.errors import PlanError, VerifyError
from graphslim.recovery import rounds
from graphslim.recovery.run import Work

pytestmark = pytest.mark.tf
NET = three_layers(16, 12)
OPTIONS = {"criterion": "l1", "multiple_of": 1, "steps": 12, "batch": 8, "threads": 1}


def pruned(graph: gs.Graph, **given: Any) -> Any:
    return gs.prune_gradually(graph, data={"x": images()}, **{**OPTIONS, **given})


@pytest.mark.parametrize("budget", [{"macs": 0.5}, {"ratio": 0.5}, {"params": 0.4, "rounds": 2}])
def test_the_budget_is_that_of_the_original(budget: Any) -> None:
    graph = tiny(NET)
    plan, repaired = pruned(graph, **budget)
    ((what, asked),) = [item for item in budget.items() if item[0] != "rounds"]
    assert plan.achieved.what == what and plan.achieved.asked == asked
    assert plan.achieved.achieved == pytest.approx(asked, abs=0.08)
    left = gs.cost(repaired.graph)
    assert (left.params, left.macs) == (plan.params[1], plan.macs[1])
    numbers = [stage.round for stage in repaired.stages if stage.name == "removal"]
    assert numbers == list(range(1, 1 + budget.get("rounds", 3)))
    # As much of what is left goes in each round.
    shares = [each["left"] for each in plan.settings["rounds"]]
    steps = np.array([1.0, *shares[:-1]]) / shares
    assert what == "params" or np.abs(steps - steps.mean()).max() < 0.15


def test_one_plan_says_what_all_rounds_removed() -> None:
    graph = tiny(NET)
    plan, repaired = pruned(graph, macs=0.5)
    plain = gs.apply(graph, plan)
    assert structure(plain) == structure(repaired.graph)
    assert gs.verify(graph, plain, plan=plan).ok
    assert plan == gs.Plan.from_json(plan.to_json())
    assert max(max(group.removed) for group in plan.groups) > 8
    again = gs.repair(
        graph, repaired.graph, plan, data={"x": images()}, steps=2, batch=8, threads=1
    )
    assert structure(again.graph) == structure(plain)


def test_never_worse_than_removal_at_once() -> None:
    graph = tiny(NET)
    _, repaired = pruned(graph, macs=0.5)
    assert repaired.after.is_better_than(repaired.before)


def test_what_is_worse_than_removal_at_once_is_thrown_away(monkeypatch: Any) -> None:
    class Spoiling(Work):
        def run(self) -> None:
            zero = {name: np.zeros(array.shape) for name, array in kernels(self.slim).items()}
            self.slim = rounds.with_numbers(self.slim, zero)
            worse = self.before.outputs[0]._replace(error=9.0)
            stage = rounds.Stage("distillation", True, self.before._replace(outputs=(worse,)), 0.0)
            self.stages.append(stage)

    monkeypatch.setattr(rounds, "Work", Spoiling)
    graph = tiny(NET)
    plan, repaired = pruned(graph, macs=0.5)
    assert repaired.after is repaired.before
    assert repaired.stages[-1].note.startswith("what the rounds gave was no better")
    np.testing.assert_array_equal(
        constant(repaired.graph, "v"), constant(gs.apply(graph, plan), "v")
    )


def kernels(graph: gs.Graph) -> Any:
    return {node.name: constant(graph, node.name) for node in graph if node.op == "Const"}


def test_limits_are_those_of_the_original() -> None:
    graph = tiny(NET)
    plan, _ = pruned(graph, settings={"conv": {"max_ratio": 0.25}}, ratio=0.4)
    removed = {group.id: len(group.removed) for group in plan.groups}
    assert removed["conv"] <= 4
    plan, _ = pruned(graph, settings={"conv": {"ratio": 0.5}, "next": {"exclude": True}})
    assert {group.id: len(group.removed) for group in plan.groups} == {"conv": 8}


def test_steps_and_seconds_are_shared_out() -> None:
    graph = tiny(NET)
    _, repaired = pruned(graph, macs=0.5, stages=["distillation"], steps=22)
    notes = [stage.note for stage in repaired.stages if stage.name == "distillation"]
    assert notes == ["1 step", "4 steps", "17 steps"]


def test_a_wrong_cut_is_refused(monkeypatch: Any) -> None:
    apply = rounds.apply

    def wrong(graph: gs.Graph, plan: gs.Plan) -> gs.Graph:
        slim = apply(graph, plan)
        slim.set_attr("v", "value", slim["v"].attrs["value"].with_numbers(-constant(slim, "v")))
        return slim

    monkeypatch.setattr(rounds, "apply", wrong)
    with pytest.raises(VerifyError, match="the result of round 1 differs by"):
        pruned(tiny(NET), macs=0.5)


def test_training_that_is_ended_goes_to_the_budget_at_once(monkeypatch: Any) -> None:
    def end(done: int, total: int, step: str) -> None:
        if step == "round 1 of 3: distillation":
            raise KeyboardInterrupt

    plan, repaired = pruned(tiny(NET), macs=0.5, steps=42, progress=end)
    assert [(stage.round, stage.name) for stage in repaired.stages] == [
        (1, "removal"),
        (1, "least-squares"),
        (1, "distillation"),
        (3, "removal"),
        (3, "least-squares"),
    ]
    assert "ended from the keyboard" in repaired.stages[2].note
    assert plan.achieved.achieved == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 0.1},
        {"latency": 0.5},
        {"criterion": None},
        {"macs": 0.5, "settings": {"conv": {"threshold": 1.0}}},
    ],
)
def test_what_has_no_steps_is_refused(options: Any) -> None:
    with pytest.raises(PlanError, match="has no steps"):
        pruned(tiny(NET), **options)


def test_a_budget_that_cannot_be_met_is_refused_at_once() -> None:
    with pytest.raises(PlanError, match="is left when all goes that may"):
        pruned(tiny(NET), macs=0.01, progress=None)
    with pytest.raises(PlanError, match="must be 1 or more"):
        pruned(tiny(NET), macs=0.5, rounds=0)


def test_nothing_to_remove() -> None:
    graph = tiny(NET)
    plan, repaired = pruned(graph, macs=1.0)
    assert not plan.removed and not repaired.stages


# --- The command.

CHOICE = "--criterion l1 --macs 0.5 --multiple-of 1 --data data.npy"
QUICK = "--repair --steps 12 --batch 8"


@pytest.fixture
def run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Run:
    """The command line, in a folder that holds a model and inputs."""
    run = Run(tmp_path, capsys, monkeypatch)
    gs.save(tiny(NET), "model.pb")
    np.save("data.npy", images())
    return run


def test_prune_in_rounds(run: Run) -> None:
    told = run(f"prune model.pb -o slim.pb {CHOICE} {QUICK} --rounds 3 --plan-out plan.json")
    assert "round 3: distillation" in told.out and "macs: asked for 0.5" in told.out
    assert "Nothing else changed" in told.out
    tree = json.loads(Path("plan.json").read_text())
    assert len(tree["settings"]["rounds"]) == 3
    assert tree["settings"]["repair"]["rounds"] == 3
    run("apply model.pb plan.json -o plain.pb --data data.npy")
    plain, slim = [gs.load(name) for name in ("plain.pb", "slim.pb")]
    assert structure(plain) == structure(slim)
    told = run(
        "repair model.pb slim.pb --plan plan.json -o out.pb --data data.npy --steps 2 --batch 8"
    )
    assert "slim.pb holds other weights than the plan leaves" in told.err


def test_rounds_go_with_optimizing_and_a_report(run: Run) -> None:
    run(f"prune model.pb -o slim.pb {CHOICE} {QUICK} --rounds 2 --optimize --report page.html")
    assert "slim.pb" in run.files() and "page.html" in run.files()


def test_rounds_without_a_repair_are_refused(run: Run) -> None:
    told = run(f"prune model.pb -o slim.pb {CHOICE} --rounds 3", status=2)
    assert told.err == (
        "graphslim: --rounds 3: rounds repair the network in between (add --repair and --data)\n"
    )
    assert "slim.pb" not in run.files()
