"""Random networks of all the pieces that there are, each under the three oracles."""

from __future__ import annotations

from typing import Dict, List, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, currently_in_test_context, given, note, settings
from hypothesis import strategies as st
from random_builder import DISGUISES, LAYERS
from random_nets import Layer, Recipe, build, feeds_for, recipes
from random_spread import SPREADS

import graphslim as gs
from graphslim.ir.graph import ASKED
from graphslim.ir.verify import check
from graphslim.measure.fidelity import difference
from graphslim.measure.verify import runnable
from graphslim.plans import plan_given
from graphslim.runtime import Session, version
from graphslim.testing import random_plan, round_trip, to_text

pytestmark = pytest.mark.tf

EASY = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
CONV = Layer("conv", (1, 0, 0, 4, 0, 4, 2))
NEWER = ("grouped_conv", "many_groups", "where_broadcast")
"""Layers that TensorFlow 1.15 does not run."""
UNTYING = (
    *("grouped_conv", "heads", "head_weights", "many_groups", "scaled_groups", "shuffle"),
    *("blended_kernels", "maxout", "pixel_kernels"),
)
"""Layers after which channels may come to be tied no longer, as in a group that is left with one,
or otherwise: of an axis that is split another part may be the longer one."""
Arrays = List[np.ndarray]


STEP = 1e-3
"""What one step of fake quantisation may come to at an output, as a share of its range."""


def say(text: str) -> None:
    """Shows what a failure is about."""
    if currently_in_test_context():
        note(text)
    else:
        print(text)


def modern() -> bool:
    """Whether it is TensorFlow 2 that runs the networks."""
    return version().startswith("2")


class Subject:
    """A network, its inputs, and what it computes of them."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.graph = build(recipe, modern())
        say(to_text(self.graph))
        phases = (False, True) if "phase" in self.graph.inputs else (False,)
        self.feeds = [feeds_for(self.graph, recipe, phase) for phase in phases]
        self.outputs = self.run(self.graph)

    def run(self, graph: gs.Graph) -> List[Arrays]:
        """The outputs for each set of inputs."""
        fetches = [str(port) for port in self.graph.outputs]
        with Session(runnable(graph), optimize=False) as session:
            return [session.run(feeds, fetches) for feeds in self.feeds]

    def assert_close(self, want: Sequence[Arrays], got: Sequence[Arrays], tolerance: float) -> None:
        """Asserts that outputs differ by no more than a share of their range."""
        if any(kind == "fake_quantised" for kind, _ in self.recipe.layers):
            # An activation beside the edge of a step may be rounded to the next one.
            tolerance = max(tolerance, STEP)
        for first, second in zip(want, got):
            for port, one, other in zip(self.graph.outputs, first, second):
                found = difference(str(port), one, other)
                # What hardly varies is as exact as its magnitude allows.
                scale = max(found.span, 0.1 * float(np.abs(one).max()), 1e-3)
                apart = found.absolute / scale
                assert apart <= tolerance, f"{port} differs by {apart:.3g} of its range"


def check_identity(subject: Subject) -> None:
    """Oracle 1: an empty plan changes no bit."""
    twin = round_trip(gs.apply(subject.graph, plan_given(subject.graph, {})))
    # What has no file yet has no order that counts: the Merge of a loop may move behind its turn.
    assert sorted(to_text(twin).splitlines()) == sorted(to_text(subject.graph).splitlines())
    for first, second in zip(subject.outputs, subject.run(twin)):
        for port, one, other in zip(subject.graph.outputs, first, second):
            np.testing.assert_array_equal(one, other, err_msg=str(port))


def check_dead(subject: Subject, scope: str) -> None:
    """Oracle 2: dead channels are not missed, and there are none among those that stay."""
    plan = gs.plan(subject.graph, scope=scope)
    say(f"dead channels:\n{plan}\n{plan.folds}")
    slim = applied(subject, plan)
    if plan.removed:
        subject.assert_close(subject.outputs, subject.run(slim), 1e-5)
    if unties(subject.recipe):
        return
    again = gs.plan(slim, scope=scope)
    assert not again.removed, f"a second run removes more:\n{again}"


def check_mask(subject: Subject, plan: gs.Plan) -> None:
    """Oracle 3: what is left computes what the original does with its consumers masked."""
    say(f"a random plan:\n{plan}")
    if plan.removed:
        slim = applied(subject, plan)
        masked = subject.run(gs.zero_consumers(subject.graph, plan))
        subject.assert_close(masked, subject.run(slim), 1e-4)


def unties(recipe: Recipe) -> bool:
    """Whether channels may come to be tied no longer."""
    return any(kind in UNTYING for kind, _ in recipe.layers)


def applied(subject: Subject, plan: gs.Plan) -> gs.Graph:
    """The pruned graph, which must be whole, cost what the plan says, and be as wide."""
    graph = subject.graph
    slim = round_trip(gs.apply(graph, plan))
    slim.asked = graph.asked
    check(slim)
    spent = gs.cost(slim)
    if not plan.folds:  # a fold may add an offset
        assert spent.params == plan.params[1]
    # Where sizes coincide a reshape may become ambiguous, and the cost unknown.
    assert spent.macs in (plan.macs[1], None)
    left: Dict[str, int] = {}
    for group in gs.analyse(graph).groups:
        left[group.id] = len(group)
    for one in plan.groups:
        left[one.id] -= len(one.removed)
    if 1 in left.values():
        return slim  # an axis of one channel broadcasts, and is no longer tied to others
    if unties(subject.recipe):
        return slim
    widths = {group.id: len(group) for group in gs.analyse(slim).groups}
    assert sum(widths.values()) == sum(left.values()), f"groups are {widths}, planned {left}"
    return slim


def single_channel(graph: gs.Graph, number: int) -> gs.Plan:
    """Removes one channel of one group."""
    able = [group for group in gs.analyse(graph).groups if group.prunable and len(group) > 1]
    if not able:
        return plan_given(graph, {})
    group = able[number % len(able)]
    return plan_given(graph, {group.id: [number % len(group)]})


def check_values(graph: gs.Graph) -> None:
    """Asserts that values on demand are those that are computed at once."""
    at_once, on_demand = [gs.Values(graph, zero_below=1e-9, at_once=way) for way in (True, False)]
    for node in graph:
        for index in range(len(at_once.channels.facts[node.name])):
            values = [known.at(gs.Port(node.name, index)) for known in (at_once, on_demand)]
            assert (values[0] is None) == (values[1] is None), node
            np.testing.assert_array_equal(*values, err_msg=str(node))


def check_all(recipe: Recipe, scope: str, ratio: float, number: int, asked: Sequence[str]) -> None:
    subject = Subject(recipe)
    subject.graph.asked = frozenset(asked)
    check_values(subject.graph)
    check_identity(subject)
    check_dead(subject, scope)
    check_mask(subject, random_plan(subject.graph, number, ratio, allow_empty=True))
    check_mask(subject, single_channel(subject.graph, number))


random_networks = given(
    recipe=recipes(),
    scope=st.sampled_from(("all", "all", "blocks")),
    ratio=st.sampled_from((0.5, 0.25, 0.75, 0.99)),
    number=st.integers(0, 99),
    asked=st.sampled_from(((), ("through_norms",), ("whole_heads",), ASKED)),
)


@pytest.mark.parametrize("kind", sorted(set(LAYERS) - {"branch"}))
def test_each_layer(kind: str) -> None:
    """Every layer fits somewhere, and bears the three oracles with several of its choices."""
    if kind in NEWER and not modern():
        pytest.skip("TensorFlow 1.15 does not run it on a CPU")
    fits = False
    for turn in range(3):
        made = Layer(kind, tuple([turn * (place + 2) % 7 for place in range(8)]))
        start = Layer("dense", (0, 5)) if kind == "vector_to_map" else CONV
        recipe = Recipe((start, made, Layer("conv", (turn,))), 6, 4, 4, (1, 0, 2)[turn], turn, 1)
        plain = build(recipe._replace(layers=(start, recipe.layers[2])), modern())
        fits |= len(build(recipe, modern())) > len(plain)
        check_all(recipe, "all", 0.5, turn, ())
    assert fits


@pytest.mark.parametrize("kind", sorted(DISGUISES))
def test_each_disguise_of_weights(kind: str) -> None:
    """Weights are parameters however the graph comes by them."""
    number = 4 + list(DISGUISES).index(kind)  # four plain ones come first
    layers = (Layer("conv", (1, 0, 0, 3, number)), Layer("conv", (0, 0, 0, 2, number)))
    recipe = Recipe((*layers, Layer("dense", (0, 5))), 6, 6, 4, 1, 3, 1)
    able = [group for group in gs.analyse(build(recipe, modern())).groups if group.prunable]
    assert len(able) >= 2
    check_all(recipe, "all", 0.5, 1, ())


MAP = Layer("conv", (0, 0, 0, 5))
"""Makes a map of 8 channels, as the first layer of a network."""
PRUNABLE = {
    ("clusters", ()): [8, 4],
    ("clusters", (0, 1)): [8, 4],
    ("two_streams", ()): [8, 4, 3, 4],
    ("two_streams", (0, 1)): [8, 4, 4],
    ("heads", ()): [8, 3, 3, 4],
    ("heads", (1,)): [8, 4, 4],
    ("head_weights", ()): [8, 2, 3, 3, 4],
    ("head_weights", (1, 0, 1, 1)): [8, 4, 2, 2, 4],
    ("many_groups", ()): [8, 4, 1, 4],
    ("many_groups", (0, 1)): [8, 4, 2, 4],
    ("scaled_groups", (0, 0)): [4],
    ("scaled_groups", (0, 1)): [4],
    ("scaled_groups", (2, 2)): [4, 4],
    ("stated_shape", ()): [8, 4],
    ("stated_shape", (0, 0, 0, 0, 1)): [8, 4, 4],
    ("loop", ()): [8],
    ("mixer", ()): [8, 5],
    ("blended_kernels", ()): [8, 2],
    ("memory_cell", ()): [8, 3],
    ("windows", ()): [8, 4],
}
"""By layer behind `MAP` and its choices, how many channels its groups have that may go."""


@pytest.mark.parametrize(("kind", "choices"), list(PRUNABLE))
def test_axes_and_shapes_that_are_followed(kind: str, choices: Sequence[int]) -> None:
    """No axis that is flattened, split, stated or behind a loop is pinned for want of a rule."""
    graph = build(Recipe((MAP, Layer(kind, tuple(choices))), 4, 4), modern=True)
    able = [len(group) for group in gs.analyse(graph).groups if group.prunable]
    assert able == PRUNABLE[kind, choices]


@pytest.mark.parametrize("way", sorted(SPREADS))
@pytest.mark.parametrize("batch", [1, 0])
def test_each_way_to_spread_a_constant(way: str, batch: int) -> None:
    """Channels that hold their offset alone are found behind it, and folded."""
    made = Layer("uniform_constant", (sorted(SPREADS).index(way), 0))
    recipe = Recipe((made,), 6, 4, 4, batch)
    subject = Subject(recipe)
    assert [list(one.removed) for one in gs.plan(subject.graph).groups] == [[1, 3]]
    check_dead(subject, "all")


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=EASY)
@random_networks
def test_random_networks(
    recipe: Recipe, scope: str, ratio: float, number: int, asked: Sequence[str]
) -> None:
    check_all(recipe, scope, ratio, number, asked)


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(8))
def test_many_random_networks(part: int) -> None:
    """Others each time; a failure prints how to run it again (`--hypothesis-seed` to choose)."""
    many = settings(max_examples=800, deadline=None, print_blob=True, suppress_health_check=EASY)
    many(random_networks(check_all))()
