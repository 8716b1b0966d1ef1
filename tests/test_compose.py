"""Plans that follow each other, composed: the same structure and numbers as one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from oracles import structure
from random_nets import Recipe, build, recipes
from three_layers import three_layers
from tiny import constant, tiny

import graphslim as gs
from graphslim.errors import PlanError
from graphslim.plans import compose, plan_given
from graphslim.testing import assert_equivalent, random_plan

EASY = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
NET = three_layers(bias="0.1 -0.2 0.3 0 0.1 0.2 -0.1 0.4")


def silenced(graph: gs.Graph, name: str, outputs: list) -> None:
    """Sets the filters of some outputs to zero."""
    numbers = constant(graph, name).copy()
    numbers[..., outputs] = 0
    graph.set_attr(name, "value", graph[name].attrs["value"].with_numbers(numbers))


def test_indices_are_those_of_the_first_graph() -> None:
    graph = tiny(NET)
    first = plan_given(graph, {"conv": [1, 4], "next": [0]})
    slim = gs.apply(graph, first)
    second = plan_given(slim, {"conv": [0, 2, 5]})
    both = compose(graph, first, slim, second, {"select": "given"})
    removed = {group.id: group.removed for group in both.groups}
    assert removed == {"conv": (0, 1, 3, 4, 7), "next": (0,)}
    assert both.params == (first.params[0], second.params[1])
    assert structure(gs.apply(graph, both)) == structure(gs.apply(slim, second))
    np.testing.assert_array_equal(
        constant(gs.apply(graph, both), "v"), constant(gs.apply(slim, second), "v")
    )


@pytest.mark.tf
def test_constants_of_dead_channels_are_folded() -> None:
    graph = tiny(NET)
    silenced(graph, "w", [2, 7])
    first = gs.plan(graph, settings={"conv": {"max_ratio": 0.25}}, multiple_of=1)
    assert [fold.indices for fold in first.folds] == [(2, 7)]
    slim = gs.apply(graph, first)
    # Of what is left, another one dies.
    silenced(slim, "w", [0])
    dead = gs.plan(slim)
    assert [fold.indices for fold in dead.folds] == [(0,)]
    silenced(graph, "w", [0])
    both = compose(graph, first, slim, dead, {"select": "given"})
    assert [(fold.node, fold.indices) for fold in both.folds] == [("next", (0, 2, 7))]
    np.testing.assert_allclose(both.folds[0].values, [0.1, 0.3, 0.4], 1e-6)
    assert structure(gs.apply(graph, both)) == structure(gs.apply(slim, dead))
    assert_equivalent(graph, gs.apply(graph, both))


def test_what_does_not_belong_together_is_refused() -> None:
    graph, other = tiny(NET), tiny(NET.replace("conv", "another"))
    plan = plan_given(graph, {"conv": [1]})
    with pytest.raises(PlanError, match="this graph has no such group"):
        compose(other, plan, gs.apply(graph, plan), plan, {})


@given(recipes())
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=EASY,
)
def test_random_networks(recipe: Recipe) -> None:
    compose_some(recipe)


@pytest.mark.exhaustive
@given(recipes())
@settings(max_examples=200, deadline=None, suppress_health_check=EASY)
def test_many_random_networks(recipe: Recipe) -> None:
    compose_some(recipe)


def compose_some(recipe: Recipe) -> None:
    """Random channels go, then what is dead, then random ones again."""
    graph = build(recipe)
    composed = random_plan(graph, 0, 0.3, allow_empty=True)
    assume(composed.removed)
    slim = gs.apply(graph, composed)
    for plan_of in (gs.plan, lambda graph: random_plan(graph, 1, 0.3, allow_empty=True)):
        plan = plan_of(slim)
        composed = compose(graph, composed, slim, plan, {})
        slim = gs.apply(slim, plan)
        at_once = gs.apply(graph, composed)
        assert structure(at_once) == structure(slim)
        for node in slim:
            if node.op == "Const" and node.attrs["value"].dtype.is_floating:
                np.testing.assert_allclose(
                    constant(at_once, node.name), constant(slim, node.name), 1e-4, 1e-5
                )
