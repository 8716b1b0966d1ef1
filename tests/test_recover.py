"""The plan by which a graph was narrowed, found again from the weights of both."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from random_nets import Recipe, build, recipes
from three_layers import three_layers
from tiny import tiny

import graphslim as gs
from graphslim.errors import PlanError
from graphslim.ir import Tensor
from graphslim.plans import plan_given
from graphslim.testing import random_plan

NET = three_layers(bias="0.1 -0.2 0.3 0 0.1 0.2 -0.1 0.4")


def test_a_plan_is_found_again() -> None:
    graph = tiny(NET)
    plan = plan_given(graph, {"conv": [1, 4, 6], "next": [0]})
    found = gs.recover_plan(graph, gs.apply(graph, plan))
    assert [(group.id, group.removed) for group in found.groups] == [
        ("conv", (1, 4, 6)),
        ("next", (0,)),
    ]
    assert found == plan


def test_channels_that_only_their_readers_tell_apart() -> None:
    text = NET.replace("w = f32[3,3,3,8]{random 1}", "w = f32[3,3,3,8]{0.5}")
    graph = tiny(text.replace("{0.1 -0.2 0.3 0 0.1 0.2 -0.1 0.4}", "{0.25}"))
    plan = plan_given(graph, {"conv": [0, 3]})
    assert gs.recover_plan(graph, gs.apply(graph, plan)) == plan


def test_channels_that_readers_tell_apart_once_it_is_known_how_they_are_cut() -> None:
    """What reads `conv` lost channels of its own, which have to be known first."""
    text = NET.replace("w = f32[3,3,3,8]{random 1}", "w = f32[3,3,3,8]{0.5}")
    graph = tiny(text.replace("{0.1 -0.2 0.3 0 0.1 0.2 -0.1 0.4}", "{0.25}"))
    plan = plan_given(graph, {"conv": [0, 3], "next": [0]})
    assert gs.recover_plan(graph, gs.apply(graph, plan)) == plan


def test_channels_that_nothing_tells_apart() -> None:
    graph = tiny(NET.replace("{random 1}", "{0.5}").replace("{random 2}", "{0.5}"))
    alike = tiny(NET.replace("{random 1}", "{0.5}").replace("{random 2}", "{0.5}"))
    slim = gs.apply(graph, plan_given(graph, {"conv": [1, 4, 6]}))
    found = gs.recover_plan(alike, slim)
    assert gs.serialize(gs.apply(alike, found)) == gs.serialize(slim)


def test_folded_constants_are_found_again() -> None:
    """A channel of zero weights and a bias is dead, and its constant is folded behind it."""
    text = NET.replace("{random 1}", "{random 1}", 1)
    graph = tiny(text)
    weights = graph["w"].attrs["value"].numbers().copy()
    weights[..., 2] = 0
    graph.set_attr("w", "value", Tensor.of(weights))
    plan = gs.plan(graph)
    assert plan.folds
    found = gs.recover_plan(graph, gs.apply(graph, plan))
    assert (found.groups[0].removed, found.folds) == (plan.groups[0].removed, plan.folds)


def test_changed_weights_show_no_plan() -> None:
    graph = tiny(NET)
    slim = gs.apply(graph, plan_given(graph, {"conv": [1, 4, 6]}))
    for name in ("w", "u"):
        changed = slim.copy()
        value = changed[name].attrs["value"]
        changed.set_attr(name, "value", value.with_numbers(value.numbers() * 1.01))
        with pytest.raises(PlanError, match="is not found again"):
            gs.recover_plan(graph, changed)
    with pytest.raises(PlanError, match="is not found again"):
        gs.recover_plan(graph, tiny(NET.replace("conv", "other")))


def recover_one(recipe: Recipe) -> None:
    graph = build(recipe, True)
    plan = random_plan(graph, 0, allow_empty=True)
    assume(plan.removed)
    slim = gs.apply(graph, plan)
    try:
        found = gs.recover_plan(graph, slim)
    except PlanError as error:
        # Channels that are alike in what is known first, or groups that became single channels.
        assert "is not found again" in str(error)
        assume(False)
    assert gs.serialize(gs.apply(graph, found)) == gs.serialize(slim)


EASY: Any = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}


@given(recipes())
@settings(max_examples=30, derandomize=True, phases=[Phase.generate], **EASY)
def test_random_networks(recipe: Recipe) -> None:
    recover_one(recipe)


@pytest.mark.exhaustive
@given(recipes())
@settings(max_examples=300, **EASY)
def test_many_random_networks(recipe: Recipe) -> None:
    recover_one(recipe)
