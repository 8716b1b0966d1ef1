"""Files of curves, and budgets shared out by them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np
import pytest
from tiny import tiny

import graphslim as gs
from graphslim.channels.groups import analyse
from graphslim.errors import PlanError
from graphslim.plans import Ranking, Selection, counted, in_scope
from graphslim.plans.allocate import Allocation, predicted
from graphslim.plans.curves import (
    About,
    Curves,
    Journal,
    Loss,
    curves_of,
    merge,
    read_curves,
    save_curves,
)
from graphslim.report.sensitivity import SHARES, told_at
from graphslim.scoring import score

ABOUT = About("model.pb", "ab" * 32, "l1", "error", False, 0, "cd" * 32, "", 100)
LOSSES = (Loss("a", 8, 2, 0.1, 1.5), Loss("a", 8, 4, 0.3), Loss("b", 4, 1, 0.25))


def test_what_stands_between_measurements_is_told_from_what_was_measured() -> None:
    """Group `a` has 8 channels, of which 2 and 4 went; `b` has 4, of which 1 went."""
    curves = Curves(ABOUT, LOSSES).by_group()
    cells = {name: [told_at(curve, share) for share in SHARES] for name, curve in curves.items()}
    assert cells["a"] == ["~5 %", "10 %", "~20 %", "30 %", "", "", ""]
    assert cells["b"] == ["~12.5 %", "25 %", *[""] * 5]


CHAIN = """
    x = input 1,8,8,3
    a = f32[3,3,3,6]{random 1}
    conv = Conv2D(x, a)
    relu = Relu(conv)
    b = f32[3,3,6,4]{random 2}
    next = Conv2D(relu, b)
    gate = Relu(next)
    c = f32[1,1,4,8]{random 3}
    third = Conv2D(gate, c)
    last = Relu(third)
    d = f32[1,1,8,2]{random 4}
    y = Conv2D(last, d)
"""


def ranked(graph: gs.Graph, **options: Any) -> Ranking:
    selection = Selection.of(criterion="l1", max_loss=1.0, **{"multiple_of": 1, **options})
    channels = analyse(graph)
    groups = in_scope(graph, channels, selection)
    return Ranking(graph, channels, groups, score(graph, channels, groups, "l1"), selection)


def curves_for(order: Ranking, values: Dict[int, Sequence[float]], metric: str) -> Curves:
    losses = [
        Loss(group.id, len(group), count, loss)
        for index, group in enumerate(order.groups)
        for count, loss in enumerate(values.get(index, ()), 1)
    ]
    return Curves(ABOUT._replace(metric=metric), tuple(losses))


# --- The file.


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    path = str(tmp_path / "s.jsonl")
    save_curves(Curves(ABOUT, LOSSES), path)
    assert read_curves(path) == Curves(ABOUT, LOSSES) == curves_of(Path(path))
    curve = read_curves(path).by_group()["a"]
    assert curve.removed.tolist() == [0, 2, 4] and curve.losses.tolist() == [0, 0.1, 0.3]


@pytest.mark.parametrize("name", ["a\u2028b\x85.pb", "caf\udce9.pb", "Gr\u00fc\u00dfe.pb"])
def test_a_model_may_have_any_file_name(tmp_path: Path, name: str) -> None:
    """Also one with a line separator, or with bytes that are no UTF-8."""
    path, about = str(tmp_path / "s.jsonl"), ABOUT._replace(model=name)
    with Journal(path, about) as journal:
        journal.add(LOSSES[0]._replace(group=name))
    assert read_curves(path) == Curves(about, (LOSSES[0]._replace(group=name),))


def test_a_journal_goes_on_behind_the_last_finished_line(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with Journal(str(path), ABOUT) as journal:
        journal.add(LOSSES[0])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"group": "a", "chan')
    assert read_curves(str(path)).losses == LOSSES[:1]
    with Journal(str(path), ABOUT) as journal:
        assert journal.curves.losses == LOSSES[:1]
        journal.add(LOSSES[1])
    assert path.read_bytes().startswith(whole) and read_curves(str(path)).losses == LOSSES[:2]


def test_a_journal_without_a_file_keeps_its_losses() -> None:
    with Journal(None, ABOUT) as journal:
        journal.add(LOSSES[0])
    assert journal.curves.losses == LOSSES[:1]


@pytest.mark.parametrize(
    "change, told",
    [
        ({"sha256": "0" * 64}, "is of another model"),
        ({"data": "other"}, "was measured on other images"),
        ({"criterion": "l2"}, "its criterion is 'l1', not 'l2'"),
        ({"repaired": True}, "its repaired is False, not True"),
    ],
)
def test_a_file_of_something_else_is_refused_and_kept(
    tmp_path: Path, change: Dict[str, Any], told: str
) -> None:
    path = tmp_path / "s.jsonl"
    save_curves(Curves(ABOUT, LOSSES), str(path))
    before = path.read_bytes()
    with pytest.raises(PlanError, match=told):
        Journal(str(path), ABOUT._replace(**change))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text, told",
    [
        ("", "holds no curves"),
        ("hello\n", "line 1: not JSON"),
        ('{"format": "graphslim-plan"}\n', "holds a plan, and no curves"),
        ('{"format": "graphslim-sensitivity", "version": 9}\n', "has the version 9"),
        ('{"format": "graphslim-sensitivity", "version": 1}\n', "its model is None"),
    ],
)
def test_what_is_no_file_of_curves_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(text)
    with pytest.raises(PlanError, match=told):
        read_curves(str(path))


@pytest.mark.parametrize(
    "row",
    [
        "[]",
        '{"group": "a"}',
        '{"group": "a", "channels": 4, "removed": 4, "loss": 0.1, "seconds": 1}',
    ],
)
def test_a_line_that_is_no_measurement_is_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "s.jsonl"
    save_curves(Curves(ABOUT, LOSSES[:1]), str(path))
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(PlanError, match="line 3: holds no measurement"):
        read_curves(str(path))


def test_files_of_one_measurement_are_joined(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl", "c.jsonl")]
    save_curves(Curves(ABOUT, LOSSES[:2]), paths[0])
    save_curves(Curves(ABOUT, LOSSES[1:]), paths[1])
    save_curves(Curves(ABOUT._replace(seed=7), LOSSES), paths[2])
    assert merge(paths[:2]).losses == LOSSES
    with pytest.raises(PlanError, match="its seed is 7, not 0"):
        merge(paths)


# --- Budgets shared out.


def allocation(graph: gs.Graph, values: Any, metric: str, **options: Any) -> Allocation:
    order = ranked(graph, **options)
    left_of = counted(graph, order.groups, "macs")
    return Allocation(order, curves_for(order, values, metric), left_of)


def test_what_costs_nothing_goes_first() -> None:
    made = allocation(tiny(CHAIN), {0: [0.5] * 5, 1: [0.4] * 3, 2: [0.0] * 7}, "agreement")
    assert made.whole.counts == (0, 0, 0) and made.whole.left == 1
    assert made.narrowest.counts == (5, 3, 7)
    free = made.within(0.95)
    assert free is not None and free.loss == 0 and free.counts[:2] == (0, 0)
    assert made.within(made.narrowest.left - 0.01) is None


def test_a_group_without_a_curve_stays_and_none_goes_beyond_its_own() -> None:
    made = allocation(tiny(CHAIN), {0: [0.1, 0.2], 2: [0.1]}, "agreement")
    assert made.narrowest.counts == (2, 0, 1)


def test_limits_hold() -> None:
    values = {0: [0.1] * 5, 1: [0.1] * 3, 2: [0.1] * 7}
    made = allocation(tiny(CHAIN), values, "error", min_channels=3, multiple_of=2)
    assert made.narrowest.counts == (2, 0, 4)


@pytest.mark.parametrize("metric", ["agreement", "error"])
@pytest.mark.parametrize("seed", range(8))
def test_the_loss_is_nearly_the_least_that_there_is(metric: str, seed: int) -> None:
    """Held against all choices of a small network, at several budgets."""
    graph, rng = tiny(CHAIN), np.random.RandomState(seed)
    order = ranked(graph)
    values = {
        index: np.cumsum(rng.exponential(0.05, len(group) - 1)).tolist()
        for index, group in enumerate(order.groups)
    }
    made, left_of = allocation(graph, values, metric), counted(graph, order.groups, "macs")
    ways = itertools.product(*[range(len(group)) for group in order.groups])
    every = [(left_of(order.mask(way)), _loss(values, way, metric)) for way in ways]
    for target in (0.8, 0.6, 0.4, 0.25):
        step = made.within(target)
        assert step is not None and step.left <= target
        best = min([loss for left, loss in every if left <= target])
        assert best - 1e-9 <= step.loss <= 1.15 * best + 1e-9, (target, step.loss / best)


def _loss(values: Dict[int, List[float]], way: Sequence[int], metric: str) -> float:
    lost = [values[index][count - 1] for index, count in enumerate(way) if count]
    return sum([loss * loss for loss in lost]) ** 0.5 if metric == "error" else sum(lost)


def test_a_prediction_is_between_measurements_and_none_beyond_them() -> None:
    curves = Curves(ABOUT._replace(metric="agreement"), LOSSES)
    assert predicted(curves, {"a": 3, "b": 1}) == pytest.approx(0.2 + 0.25)
    assert predicted(curves, {"a": 5}) is None and predicted(curves, {"c": 1}) is None
    squares = Curves(ABOUT, LOSSES)
    assert predicted(squares, {"a": 2, "b": 1}) == pytest.approx((0.01 + 0.0625) ** 0.5)
    assert predicted(squares, {}) == 0


def test_plans_by_curves(tmp_path: Path) -> None:
    graph = tiny(CHAIN)
    order = ranked(graph)
    sha256 = gs.plan(graph).model["sha256"]
    values = {0: [0.01] * 5, 1: [0.5] * 3, 2: [0.02] * 7}
    curves = curves_for(order, values, "agreement")
    curves = curves._replace(about=curves.about._replace(sha256=sha256))
    path = str(tmp_path / "s.jsonl")
    save_curves(curves, path)
    plan = gs.plan(graph, allocate=path, macs=0.5, multiple_of=1)
    removed = {group.id: len(group.removed) for group in plan.groups}
    assert order.groups[1].id not in removed
    assert plan.settings["criterion"] == "l1" and plan.settings["loss"]["predicted"] < 0.05
    assert 0.35 < plan.macs[1] / plan.macs[0] <= 0.51
    few = curves._replace(losses=curves.losses[:2])
    with pytest.raises(PlanError, match="what was measured leaves 0.* at least"):
        gs.plan(graph, allocate=few, macs=0.2, multiple_of=1)
    with pytest.raises(PlanError, match="says what a group loses, but not how much"):
        gs.plan(graph, allocate=path)
    with pytest.raises(PlanError, match="was measured by l1"):
        gs.plan(graph, allocate=path, macs=0.5, criterion="l2")
    other = curves._replace(about=curves.about._replace(sha256="0" * 64))
    with pytest.raises(PlanError, match="is of another model"):
        gs.plan(graph, allocate=other, macs=0.5, multiple_of=1)
