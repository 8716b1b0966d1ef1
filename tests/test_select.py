"""Which channels go for a wish: rounding, limits, ranking, settings for single groups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny

import graphslim as gs
from graphslim.errors import PlanError
from graphslim.plans import (
    GroupSettings,
    Ranking,
    Rule,
    Selection,
    in_scope,
    plan_scored,
    read_settings,
    settings_of,
)
from graphslim.scoring import Scores

# Three layers in a row; the widths of `a` and `b` may shrink.
CHAIN = """
    x = input 1,6,6,2
    a/w = f32[1,1,2,8]{random 1}
    a = Conv2D(x, a/w)
    ra = Relu(a)
    b/w = f32[3,3,8,12]{random 2}
    b = Conv2D(ra, b/w)
    rb = Relu(b)
    z/w = f32[1,1,12,3]{random 3}
    z = Conv2D(rb, z/w)
    o = Relu(z)
"""
A = [5, 1, 1, 7, 3, 1, 9, 2]
B = [4, 4, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8]


def scores(**own: List[float]) -> Scores:
    arrays = {name: np.array(numbers, float) for name, numbers in own.items()}
    return Scores(arrays, arrays)


def gone(wish: Selection, amount: float, **own: List[float]) -> Dict[str, List[int]]:
    """By group, what goes of the chain."""
    graph = tiny(CHAIN)
    channels = gs.analyse(graph)
    wish = replace(wish, ratio=0.5)
    groups = in_scope(graph, channels, wish)
    order = Ranking(graph, channels, groups, scores(**(own or {"a": A, "b": B})), wish)
    mask = order.mask(order.counts(int(amount * order.total + 0.5)))
    return {group.id: np.flatnonzero(mask[group.channels]).tolist() for group in groups}


# ---------------------------------------------------------------------- rounding


@pytest.mark.parametrize(
    "wished, allowed", [(0, 0), (1, 0), (2, 2), (3, 2), (5, 2), (6, 6), (7, 6), (9, 6), (10, 6)]
)
def test_kept_widths_are_multiples_rounded_up(wished: int, allowed: int) -> None:
    assert Rule(4, "kept", 1).allowed(10, wished) == allowed


@pytest.mark.parametrize(
    "wished, allowed",
    [(0, 0), (1, 0), (2, 4), (3, 4), (4, 4), (5, 4), (6, 8), (7, 8), (9, 8), (10, 8), (11, 8)],
)
def test_removed_numbers_are_rounded_to_the_nearest(wished: int, allowed: int) -> None:
    """Remainder 1 down, 2 and 3 up; all 12 channels would be too many."""
    assert Rule(4, "removed", 1).allowed(12, wished) == allowed


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 40),
    step=st.integers(1, 16),
    least=st.integers(1, 40),
    rounding=st.sampled_from(["kept", "removed"]),
)
def test_rules_hold_whatever_is_wished(size: int, step: int, least: int, rounding: str) -> None:
    rule = Rule(step, rounding, least)
    found = [rule.allowed(size, wished) for wished in range(size + 1)]
    assert found == sorted(found) and found[0] == 0
    for count in found:
        assert count == 0 or size - count >= least
        assert count == 0 or (size - count if rounding == "kept" else count) % step == 0


# ---------------------------------------------------------------------- ranking


def test_global_ranking_lets_all_compete() -> None:
    wish = Selection(criterion="l1", multiple_of=1)
    assert gone(wish, 0.3) == {"a": [1, 2, 4, 5, 7], "b": [0]}


def test_local_ranking_takes_the_same_share_of_each() -> None:
    wish = Selection(criterion="l1", multiple_of=1, rank="local")
    assert gone(wish, 0.5) == {"a": [1, 2, 5, 7], "b": [0, 1, 2, 3, 4, 5]}


def test_one_channel_of_a_group_always_stays() -> None:
    assert gone(Selection(criterion="l1", multiple_of=1), 1.0) == {
        "a": [0, 1, 2, 3, 4, 5, 7],
        "b": list(range(11)),
    }


@pytest.mark.parametrize(
    "limits, widths",
    [
        ({"max_ratio": 0.25}, [6, 9]),
        ({"min_channels": 5}, [5, 5]),
        ({"multiple_of": 4}, [4, 4]),
        ({"multiple_of": 4, "max_ratio": 0.25}, [8, 12]),
        ({"multiple_of": 4, "max_ratio": 0.34}, [8, 8]),
        ({"exclude": ("b",)}, [1, 12]),
        ({"only": ("b",)}, [8, 1]),
    ],
)
def test_limits(limits: Dict[str, Any], widths: List[int]) -> None:
    found = gone(Selection(**{"criterion": "l1", "multiple_of": 1, **limits}), 1.0)
    assert [8 - len(found.get("a", ())), 12 - len(found.get("b", ()))] == widths


def test_groups_without_scores_are_left_alone() -> None:
    assert gone(Selection(criterion="l1", multiple_of=1), 1.0, a=A)["b"] == []


@pytest.mark.parametrize(
    "criterion, threshold, expected",
    [("l1", 2, [1, 2, 5]), ("redundancy", 4.5, [0, 3, 6]), ("l1", -1, []), ("l1", 99, [0, 3, 6])],
)
def test_threshold_is_on_the_criterions_own_numbers(
    criterion: str, threshold: float, expected: List[int]
) -> None:
    """Below it for what matters, above it for what is redundant; never all of a group."""
    graph = tiny(CHAIN)
    wish = Selection(criterion=criterion, threshold=threshold, multiple_of=1, only=("a",))
    found = scores(a=A)
    if criterion == "redundancy":
        found = found._replace(rank={"a": 1 - found.own["a"]})
    plan = plan_scored(graph, wish, found)
    removed = list(plan.groups[0].removed) if plan.groups else []
    if threshold == 99:
        assert len(removed) == 7 and 6 not in removed
    else:
        assert removed == expected
    assert plan.achieved is None


def test_scores_stand_in_the_plan() -> None:
    plan = plan_scored(
        tiny(CHAIN), Selection(criterion="l1", threshold=2, multiple_of=1), scores(a=A)
    )
    assert [(one.id, one.why, one.scores) for one in plan.groups] == [("a", "l1", tuple(A))]


def test_constants_of_chosen_channels_are_folded() -> None:
    """Channel 1 of `a` is 2 everywhere: what `z` made of it goes into an offset."""
    graph = tiny("""
        x = input 1,6,6,2
        a/w = f32[1,1,2,2]{3 0 4 0}
        a = Conv2D(x, a/w)
        a/b = f32[2]{0 2}
        c = BiasAdd(a, a/b)
        z/w = f32[1,1,2,3]{random 2}
        z = Conv2D(c, z/w)
        o = Relu(z)
    """)
    plan = gs.plan(graph, criterion="l1", ratio=0.5, multiple_of=1)
    assert [(fold.node, fold.indices, fold.values) for fold in plan.folds] == [("z", (1,), (2.0,))]


# ---------------------------------------------------------------------- settings for single groups


def test_settings_overrule_by_name_and_the_later_the_earlier() -> None:
    held = settings_of({"*": {"max_ratio": 0.5}, "b": {"max_ratio": 0.25, "min_channels": 10}})
    found = gone(Selection(criterion="l1", multiple_of=1, by_name=held), 1.0)
    assert [8 - len(found["a"]), 12 - len(found["b"])] == [4, 10]


def test_settings_can_fix_an_amount() -> None:
    held = settings_of({"a": {"ratio": 0.25}, "b": {"threshold": 5}})
    found = gone(Selection(criterion="l1", multiple_of=1, by_name=held), 0.0)
    assert found == {"a": [1, 2], "b": [0, 1, 2, 3, 4, 5]}


def test_settings_alone_are_enough() -> None:
    plan = gs.plan(tiny(CHAIN), criterion="l1", multiple_of=1, settings={"b": {"ratio": 0.5}})
    assert [(one.id, len(one.removed)) for one in plan.groups] == [("b", 6)]


def test_settings_exclude_and_round() -> None:
    held = settings_of({"a": {"exclude": True}, "b": {"multiple_of": 8}})
    found = gone(Selection(criterion="l1", multiple_of=1, by_name=held), 1.0)
    assert found == {"b": [0, 1, 2, 3]}


def test_settings_hold_for_dead_channels_too() -> None:
    graph = tiny(CHAIN)
    graph.set_attr("a/w", "value", graph["a/w"].attrs["value"].with_numbers(np.zeros((1, 1, 2, 8))))
    plan = gs.plan(graph, settings={"a": {"max_ratio": 0.5}})
    assert [(one.id, len(one.removed)) for one in plan.groups if one.id == "a"] == [("a", 4)]


@pytest.mark.parametrize("name", ["s.yaml", "s.json"])
def test_settings_files(tmp_path: Path, name: str) -> None:
    texts = {"s.yaml": "'b*': {ratio: 0.5}\na: {exclude: yes}\n"}
    texts["s.json"] = '{"b*": {"ratio": 0.5}, "a": {"exclude": true}}'
    (tmp_path / name).write_text(texts[name], encoding="utf-8")
    found = read_settings(str(tmp_path / name))
    assert found == (("b*", GroupSettings(ratio=0.5)), ("a", GroupSettings(exclude=True)))


@pytest.mark.parametrize(
    "text, told",
    [
        ("[1]", "holds a list instead of a mapping"),
        ("a: 3", "'a' holds a int, no mapping"),
        ("a: {exlude: true}", "no setting 'exlude' (did you mean exclude?)"),
        ("a: {ratio: 2}", "ratio is 2, and has to be a number from 0 to 1"),
        ("a: {ratio: yes}", "has to be a number from 0 to 1"),
        ("a: {multiple_of: 0}", "has to be a whole number from 1 on"),
        ("a: {threshold: .nan}", "has to be a finite number"),
        ("a: {exclude: 1}", "has to be true or false"),
        ("a: {ratio: 0.1, threshold: 2}", "exclude each other"),
        ("a: {", "not YAML"),
    ],
)
def test_settings_files_that_make_no_sense(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlanError) as caught:
        read_settings(str(path))
    assert told in str(caught.value) and "s.yaml" in str(caught.value)


def test_settings_file_that_is_not_there() -> None:
    with pytest.raises(PlanError, match="no such file"):
        read_settings("nowhere.yaml")


# ---------------------------------------------------------------------- wishes that make no sense


@pytest.mark.parametrize(
    "wish, told",
    [
        ({"macs": 0.5}, "macs: needs a criterion"),
        ({"settings": {"a": {"ratio": 0.5}}}, "settings: needs a criterion"),
        ({"criterion": "l1"}, "not how much"),
        ({"criterion": "l1", "macs": 0.5, "size": 0.5}, "macs and size: only one"),
        ({"criterion": "l1", "macs": 0.0}, "macs: 0.0 is no share"),
        ({"criterion": "l1", "ratio": 1.5}, "ratio: 1.5 is no share"),
        ({"criterion": "l1", "threshold": float("nan")}, "is no finite number"),
        ({"criterion": "l1", "macs": 0.5, "rank": "lokal"}, "no rank 'lokal'"),
        ({"criterion": "l1", "macs": 0.5, "rounding": "up"}, "no rounding 'up'"),
        ({"criterion": "l1", "macs": 0.5, "max_ratio": 2}, "max_ratio: must be from 0 to 1"),
        ({"criterion": "l1", "macs": 0.5, "only": ("nix",)}, "only: 'nix' matches no group"),
        ({"criterion": "l1", "macs": 0.5, "settings": {"nix": {}}}, "settings: 'nix' matches no"),
        ({"criterion": "l0", "macs": 0.5}, "no criterion 'l0'"),
        ({"criterion": len, "macs": 0.5}, "criterion: <built-in function len> is no name"),
        ({"criterion": "taylor", "macs": 0.5, "loss_output": 3}, "loss_output: 3 is no name"),
        ({"criterion": "l1", "max_loss": "0.1"}, "max_loss: must be a number"),
        ({"dead_below": "1e-9"}, "dead_below: must be a number of 0 or more"),
        ({"dead_below": float("inf")}, "dead_below: must be a number of 0 or more"),
        ({"only": [3]}, "only: (3,) holds no globs"),
    ],
)
def test_wishes_that_make_no_sense(wish: Dict[str, Any], told: str) -> None:
    with pytest.raises(PlanError) as caught:
        gs.plan(tiny(CHAIN), **wish)
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ["scope", "rounding", "max_ratio", "min_channels", "dead_below"])
def test_none_is_the_default_by_keyword_and_nothing_in_a_selection(name: str) -> None:
    assert Selection.of(**{name: None}) == Selection()
    with pytest.raises(PlanError):
        Selection(**{name: None}).check()


def test_one_glob_needs_no_list() -> None:
    assert Selection.of(only="a*", exclude="b*") == Selection.of(only=["a*"], exclude=("b*",))
    assert set(gs.plan(tiny(CHAIN), only="a").settings["only"]) == {"a"}


def test_numbers_of_numpy_are_written_as_those_of_python() -> None:
    ways = [
        gs.plan(
            tiny(CHAIN), criterion="l1", ratio=real(0.5), multiple_of=whole(2), seed=whole(7)
        ).to_json()
        for real, whole in ((float, int), (np.float32, np.int64))
    ]
    assert ways[0] == ways[1]
