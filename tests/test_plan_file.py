"""The plan file: its schema, its bytes, plans that people edited, and how two of them differ."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
from test_apply import IR_SE, JOINED
from tiny import constant, tiny

import graphslim as gs
from graphslim.cli import main
from graphslim.cli.console import Console
from graphslim.cli.plan import print_plan_difference
from graphslim.errors import PlanError
from graphslim.plans import Achieved, Plan, plan_given
from graphslim.plans.diff import diff
from graphslim.plans.json_form import SCHEMA
from graphslim.plans.make import last_made, written_scores
from graphslim.testing import random_plan

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "fixtures" / "digits_mobilenet_v2_se.pb"


def full_plan() -> Plan:
    """A plan that has every part that a plan can have."""
    plan = plan_given(tiny(IR_SE), {"e": [1, 2], "s": [0]})
    scored = plan.groups[0]._replace(scores=(0.5,) * plan.groups[0].channels, why="l1")
    return plan._replace(
        settings={"criterion": "l1", "macs": 0.5},
        groups=(scored, *plan.groups[1:]),
        folds=(gs.plans.Fold("j", (1, 2), (0.5, -1e-20)),),
        achieved=Achieved("macs", 0.5, 0.497, None),
    )


def damaged(change: Callable[[Dict[str, Any]], None]) -> str:
    tree = json.loads(full_plan().to_json())
    change(tree)
    return json.dumps(tree)


# ------------------------------------------------------------------ written and read


def test_every_part_survives_json() -> None:
    plan = full_plan()
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.layers


def test_lists_of_numbers_stand_on_one_line() -> None:
    lines = [line.strip() for line in full_plan().to_json().splitlines()]
    assert '"removed": [1, 2],' in lines
    assert '"values": [0.5, -1e-20]' in lines


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_not_written(score: float) -> None:
    plan = full_plan()
    group = plan.groups[0]._replace(scores=(score,) * plan.groups[0].channels)
    with pytest.raises(PlanError, match="not a number"):
        plan._replace(groups=(group,)).to_json()


def test_same_file_from_every_process(tmp_path: Path) -> None:
    """Neither the order of sets nor the folder that it is called from shows in the file."""
    code = "import sys, graphslim as gs; sys.stdout.write(gs.plan(gs.load(sys.argv[1])).to_json())"
    texts: List[bytes] = []
    for seed, folder in (("1", tmp_path), ("2", DIGITS.parent)):
        path = os.path.relpath(str(DIGITS), str(folder))
        done = subprocess.run(
            [sys.executable, "-c", code, path],
            cwd=str(folder),
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            check=True,
            timeout=120,
        )
        texts.append(done.stdout)
    assert texts[0] == texts[1]
    assert Plan.from_json(texts[0].decode("utf-8")).removed > 0


# ------------------------------------------------------------------ the schema


def set_at(*path: Any) -> Callable[[Dict[str, Any]], None]:
    """Sets what the path leads to; its last item is the value."""

    def change(tree: Dict[str, Any]) -> None:
        place: Any = tree
        for key in path[:-2]:
            place = place[key]
        place[path[-2]] = path[-1]

    return change


def drop(*path: Any) -> Callable[[Dict[str, Any]], None]:
    def change(tree: Dict[str, Any]) -> None:
        place: Any = tree
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return change


BROKEN = [
    (drop("groups"), r"lacks 'groups'"),
    (set_at("extra", 1), r"has 'extra', which a plan has not"),
    (set_at("groups", {}), r"groups: must be a list, and is \{\}"),
    (set_at("groups", 1, "removed", 0, "a"), r"groups\[1\]\.removed\[0\]: must be a whole number"),
    (set_at("groups", 0, "removed", 1, True), r"groups\[0\]\.removed\[1\]: .* is true"),
    (set_at("groups", 0, "removed", 0, 1.5), r"groups\[0\]\.removed\[0\]: .* is 1\.5"),
    (set_at("groups", 0, "removed", 0, -1), r"removed\[0\]: must be 0 or more, and is -1"),
    (set_at("groups", 0, "removed", [2, 2]), r"groups\[0\]\.removed: holds 2 twice"),
    (set_at("groups", 0, "id", None), r"groups\[0\]\.id: must be a text, and is null"),
    (set_at("groups", 0, "removed", [0, 2, 2.0]), r"groups\[0\]\.removed: holds 2 twice"),
    (set_at("groups", 0, "removed", [3, [1], [1]]), r"groups\[0\]\.removed: holds \[1\] twice"),
    (set_at("groups", 0, "removed", [{}, {}]), r"groups\[0\]\.removed: holds \{\} twice"),
    (set_at("settings", "through_norms", 1), r"through_norms: must be true or false, and is 1"),
    (set_at("settings", "whole_heads", "x"), r"whole_heads: must be true or false, and is \"x\""),
    (set_at("groups", 0, "bindngs", []), r"groups\[0\]: has 'bindngs'"),
    (set_at("groups", 0, "bindings", 0, "role", "x"), r"bindings\[0\]\.role: must be one of"),
    (drop("groups", 0, "bindings", 0, "axis"), r"groups\[0\]\.bindings\[0\]: lacks 'axis'"),
    (drop("folds", 0, "values"), r"folds\[0\]: lacks 'values'"),
    (set_at("totals", "params", [1]), r"totals\.params: must hold 2 items, and holds 1"),
    (set_at("totals", "macs", [None, "1"]), r"macs\[1\]: must be a whole number or null"),
    (set_at("achieved", "asked", "0.5"), r"achieved\.asked: must be a number"),
    (set_at("layers", 0, "shape", 3), r"layers\[0\]\.shape: must be a list"),
    (set_at("settings", []), r"settings: must be an object"),
    (set_at("settings", "criterion", ["l1"]), r"settings\.criterion: must be a text or null"),
    (set_at("settings", "left_out", []), r"settings\.left_out: must be an object"),
    (set_at("settings", "dead_below", "0"), r"settings\.dead_below: must be a number"),
    (set_at("groups", 0, "channels", 2**63), r"channels: must be 9223372036854775807 at most"),
    (
        set_at("groups", 0, "removed", 0, 1e308),
        r"removed\[0\]: must be 92.* at most, and is 1e\+308",
    ),
    (set_at("groups", 0, "bindings", 0, "axis", 10**30), r"axis: must be .* at most, and is 10000"),
    (set_at("groups", 0, "bindings", 0, "removed", [2**64]), r"removed\[0\]: must be .* at most"),
    (set_at("folds", 0, "indices", 0, 2**70), r"folds\[0\]\.indices\[0\]: must be .* at most"),
    (set_at("layers", 0, "shape", 0, 1e19), r"layers\[0\]\.shape\[0\]: must be .* at most"),
    (set_at("totals", "params", 0, 10**40), r"totals\.params\[0\]: must be .* at most"),
    (set_at("totals", "macs", 1, 10**40), r"totals\.macs\[1\]: must be .* at most"),
]
CONTRADICTS = [
    (set_at("groups", 1, "id", "e"), r"groups\[1\]\.id: 'e' is that of groups\[0\] too"),
    (set_at("groups", 0, "scores", [1.0]), r"groups\[0\]\.scores: 1 scores for 12 channels"),
    (set_at("folds", 0, "values", [1.0]), r"j: folds\[0\]: 2 indices and 1 values"),
]


@pytest.mark.parametrize("change, message", [*BROKEN, *CONTRADICTS])
def test_what_breaks_the_schema_is_refused_by_its_place(
    change: Callable[[Dict[str, Any]], None], message: str
) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        Plan.from_json(damaged(change), "plan.json")
    assert str(caught.value).startswith("plan.json: ")


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"format": NaN}', "NaN is no number"),
        ('{"format": 1e999}', "1e999 is too large a number"),
        ('{"format": ' + "9" * 301 + "}", "not JSON: a number of 301 digits"),
        ('{"a": 1, "format": "graphslim-plan", "a": 1}', "the key 'a' is there twice"),
        (
            '{"format": "graphslim-plan", "settings": ' + "[" * 101 + "]" * 101 + "}",
            "nested deeper",
        ),
        ("[]", "not a graphslim plan"),
        ('{"format": "other"}', "not a graphslim plan"),
        ('{"format": "graphslim-plan", "version": 2}', "version 2 is not known"),
        ('{"format": "graphslim-plan", "version": true}', "version True is not known"),
    ],
)
def test_what_is_no_plan_is_refused(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan.from_json(text, "plan.json")


def test_the_published_schema_says_the_same() -> None:
    """The schema as the standard's own validator reads it refuses the same files."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    for plan in (full_plan(), random_plan(tiny(JOINED), 1), gs.plan(gs.load(str(DIGITS)))):
        validator.validate(json.loads(plan.to_json()))
    for change, message in BROKEN:
        assert not validator.is_valid(json.loads(damaged(change))), message
    for change, message in CONTRADICTS:
        assert validator.is_valid(json.loads(damaged(change))), message


# ------------------------------------------------------------------ edited by a person


def test_edited_group_without_bindings_is_cut_wherever_it_occurs() -> None:
    graph = tiny(IR_SE)
    tree = json.loads(plan_given(graph, {"e": [1, 2], "s": [0]}).to_json())
    tree["groups"][0]["removed"] = [0, 5, 7]
    text = json.dumps(tree)
    with pytest.raises(PlanError, match="e: .*leave `bindings` out of a group that you edit"):
        gs.apply(graph, Plan.from_json(text))
    del tree["groups"][0]["bindings"]
    slim = gs.apply(graph, Plan.from_json(json.dumps(tree)))
    assert constant(slim, "e/w").tolist() == (
        constant(gs.apply(graph, plan_given(graph, {"e": [0, 5, 7], "s": [0]})), "e/w").tolist()
    )
    assert constant(slim, "s/w").shape == (1, 1, 9, 5)


# ------------------------------------------------------------------ print(plan)


def test_a_plan_prints_as_a_screenful() -> None:
    plan = full_plan()
    group = plan.groups[0]._replace(channels=64)
    many = [
        group._replace(id=f"layer_{size}", removed=tuple(range(size)), cuts=tuple(group.cuts) * 40)
        for size in range(1, 61)
    ]
    achieved = Achieved("macs", 0.5, 0.4985, None)
    text = str(plan._replace(groups=tuple(many), achieved=achieved, params=(2000, 1500)))
    lines = text.splitlines()
    assert len(lines) <= 24
    assert lines[0] == "1830 channels to go from 60 groups"
    assert "parameters: 2.00 k -> 1.50 k (-25.0 %)" in lines
    assert "macs: asked for 0.5, achieved 0.4985" in lines
    assert f"  layer_60: 64 -> 4 channels ({group.why})" in lines, "who loses most stands first"
    assert lines[-1] == "  and 42 more groups, each of which loses no more channels"


def test_a_plan_of_nothing_says_so() -> None:
    assert str(full_plan()._replace(groups=())) == "nothing to remove"


# ------------------------------------------------------------------ plan-diff


def test_diff_of_a_plan_with_itself() -> None:
    assert diff(full_plan(), full_plan()).same


def test_diff_names_channels_settings_and_totals() -> None:
    graph = tiny(IR_SE)
    one = plan_given(graph, {"e": [1, 2, 3], "s": [0]})
    other = plan_given(graph, {"e": [2, 4]})._replace(settings={"select": "given", "seed": 1})
    found = diff(one, other)
    assert not found.same
    first, second = found.groups
    assert (first.id, first.removed, first.channels) == ("e", (3, 2), (12, 12))
    assert (first.only_first, first.only_second, first.details) == ((1, 3), (4,), ())
    assert (second.id, second.removed, second.channels) == ("s", (1, 0), (6, None))
    assert found.settings == {"seed": (None, 1)}
    assert found.removed == (4, 2)
    assert found.params == (one.params[1], other.params[1])


def change_score(plan: Plan) -> Plan:
    group = plan.groups[0]
    return plan._replace(
        groups=(group._replace(scores=(0.25, *group.scores[1:])), *plan.groups[1:])
    )


@pytest.mark.parametrize(
    "change, where",
    [
        (change_score, "groups"),
        (lambda plan: plan._replace(folds=()), "others"),
        (lambda plan: plan._replace(achieved=None), "others"),
        (lambda plan: plan._replace(model={"name": "other", "sha256": ""}), "others"),
        (lambda plan: plan._replace(settings={}), "settings"),
        (lambda plan: plan._replace(layers=plan.layers[1:]), "others"),
    ],
)
def test_diff_overlooks_nothing(change: Callable[[Plan], Plan], where: str) -> None:
    found = diff(full_plan(), change(copy.deepcopy(full_plan())))
    assert not found.same
    parts = [part for part in ("groups", "settings", "others") if getattr(found, part)]
    assert parts == [where]


def test_groups_that_lose_the_same_channels_are_counted_and_not_listed(capsys: Any) -> None:
    graph = tiny(IR_SE)
    one = plan_given(graph, {"e": [1, 2], "s": [0]})
    rescored = one.groups[0]._replace(scores=(0.5,) * one.groups[0].channels)
    other = one._replace(groups=(rescored, one.groups[1]._replace(removed=(1,))))
    print_plan_difference(Console(), diff(one, other))
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if line.startswith("│ s ")]
    assert not [line for line in text.splitlines() if line.startswith("│ e ")]
    assert "The same channels go from 1 group in both plans, for other scores in 1 of them" in text


def test_plan_diff_command(tmp_path: Path, capsys: Any) -> None:
    graph = tiny(IR_SE)
    paths = [str(tmp_path / name) for name in ("a.json", "b.json", "c.json")]
    plans = [{"e": [1, 2, 3]}, {"e": [2, 4]}, {"e": [1, 2, 3]}]
    for path, removed in zip(paths, plans):
        Path(path).write_text(plan_given(graph, removed).to_json(), encoding="utf-8")

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as caught:
            main(["plan-diff", *arguments])
        return int(caught.value.code or 0)

    assert run(paths[0], paths[2]) == 0
    assert "The plans are the same: 3 channels removed." in capsys.readouterr().out
    assert run(paths[0], paths[1]) == 1
    row = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│ e ")][0]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["e", "3 of 12", "2 of 12", "1 3", "4", ""]
    assert run(paths[0], paths[1], "--json") == 1
    tree = json.loads(capsys.readouterr().out)
    assert (tree["same"], tree["groups"][0]["only_first"]) == (False, [1, 3])
    assert run(paths[0], str(tmp_path / "none.json")) == 2
    assert "none.json: no such file" in capsys.readouterr().err


def test_an_edited_plan_is_told_from_the_one_it_was(capsys: Any) -> None:
    """Its totals, and what its budget came to, are those of channels that it no longer removes."""
    plan = full_plan()
    tree = json.loads(plan.to_json())
    edited = tree["groups"][0]
    edited["removed"], edited["bindings"] = edited["removed"][:1], []
    other = Plan.from_json(json.dumps(tree))
    assert plan.achieved and not plan.edited
    assert other.edited and other.achieved is None and other.params == plan.params
    print_plan_difference(Console(), diff(plan, other))
    text = " ".join(capsys.readouterr().out.split())
    assert "Caution: B was edited, and its parameters and MACs are those of before" in text
    assert "Caution: A was edited" not in text


@pytest.mark.parametrize("spread", [0.0, 1.0, 8.0, 60.0])
def test_scores_are_written_with_six_digits(spread: float) -> None:
    draw = np.random.RandomState(3)
    scores = np.exp(spread * draw.randn(2000)) * np.sign(draw.randn(2000))
    edges = [0.0, -0.0, 999999.5, 999999.4, 1234565.0, 0.0001234565, 5e-324, 1e22, 1e300]
    for numbers in (scores, np.array(edges), np.rint(scores * 1e7) / 2):
        expected = [repr(float(f"{number:.6g}")) for number in numbers.tolist()]
        assert [repr(number) for number in written_scores(numbers)] == expected


def test_a_digest_is_made_once_it_is_read_and_travels_with_the_plan() -> None:
    plan = gs.plan(tiny(IR_SE), criterion="l1", ratio=0.5, multiple_of=1)
    twin = copy.deepcopy(plan)
    assert twin.model == plan.model and type(twin.model) is dict
    assert Plan.from_json(plan.to_json()).model == plan.model


def test_a_plan_is_known_only_while_its_graph_stays_as_it_was() -> None:
    graph = tiny(IR_SE)
    plan = gs.plan(graph, criterion="l1", ratio=0.5, multiple_of=1)
    assert last_made(graph)["groups"] is plan.groups
    gs.apply(graph, plan)
    graph.set_origin(graph.origin)
    assert not last_made(graph)
