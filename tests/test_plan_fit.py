"""Plans on other graphs: another checkpoint, the same network respelled, another network."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import numpy as np
import pytest
from respell import respell
from test_apply import IR_SE, JOINED, real
from tiny import constant, tiny

import graphslim as gs
from graphslim.errors import GraphslimError, PlanError, VerifyError
from graphslim.plans import Plan, fit, plan_given
from graphslim.plans.layers import layers_of
from graphslim.runtime import Session
from graphslim.testing import assert_equivalent, random_plan, round_trip

DIGITS = Path(__file__).resolve().parents[1] / "fixtures" / "digits_mobilenet_v2_se.pb"

# Two branches of one shape; which is which shows in where the last layer reads them.
BRANCHES = """
x = input 1,4,4,3
a/w = f32[1,1,3,4]{random 1}
a = Conv2D(x, a/w)
b/w = f32[1,1,3,4]{random 2}
b = Conv2D(x, b/w)
n = i32[]{3}
c = ConcatV2(%s, n) Tidx=int32
o/w = f32[1,1,8,2]{random 3}
o = Conv2D(c, o/w)
"""
# Two branches that nothing tells apart but their names.
TWINS = """
x = input 1,4,4,3
{0}/w = f32[1,1,3,4]{{random 1}}
{0}/conv = Conv2D(x, {0}/w)
{0}/v = f32[1,1,4,2]{{random 2}}
{0}/out = Conv2D({0}/conv, {0}/v)
{1}/w = f32[1,1,3,4]{{random 3}}
{1}/conv = Conv2D(x, {1}/w)
{1}/v = f32[1,1,4,2]{{random 4}}
{1}/out = Conv2D({1}/conv, {1}/v)
o = AddV2({0}/out, {1}/out)
"""
FOLDS = """
x = input 1,4,4,3
w = f32[1,1,3,4]{1 0 0 1 1 0 0 2 1 0 0 3}
y = Conv2D(x, w)
b = f32[4]{1 %s 0 1}
yb = BiasAdd(y, b)
yr = Relu(yb)
v = f32[1,1,4,2]{random 2}
z = Conv2D(yr, v)
c = f32[2]{1 -1}
out = BiasAdd(z, c)
"""


def digests(graph: gs.Graph) -> Dict[str, int]:
    """How many layers there are of each structure."""
    found: Dict[str, int] = {}
    for layer in layers_of(graph, gs.analyse(graph)):
        found[layer.structure] = found.get(layer.structure, 0) + 1
    return found


# ------------------------------------------------------------------ the same network, respelled


@pytest.mark.tf
@pytest.mark.parametrize("seed", range(3))
def test_plan_fits_the_network_frozen_in_another_way(seed: int) -> None:
    """Other names, order and batch norm: what both lose leaves them computing the same."""
    graph = gs.load(str(DIGITS))
    twin = respell(graph, seed)
    plan = random_plan(graph, seed, ratio=0.4)
    slim, other = gs.apply(graph, plan), round_trip(gs.apply(twin, plan, force=True))
    assert gs.cost(slim) == gs.cost(other) == gs.Cost(plan.params[1], plan.macs[1])
    assert_equivalent(slim, other)


@pytest.mark.tf
def test_plan_with_folds_fits_the_network_frozen_in_another_way() -> None:
    graph = gs.load(str(DIGITS))
    twin = respell(graph)
    plan = gs.plan(graph)
    assert plan.folds, "the fixture has lost its constant channels"
    slim = gs.apply(twin, plan, force=True)
    assert_equivalent(graph, slim)
    assert gs.cost(slim).params == plan.params[1]


@pytest.mark.tf
@pytest.mark.parametrize("path", real())
def test_plan_fits_a_published_network_respelled(path: Path) -> None:
    graph = gs.load(str(path))
    try:
        Session(graph)
    except VerifyError as error:
        pytest.skip(str(error))
    plan = random_plan(graph, 1)
    slim = gs.apply(respell(graph), plan, force=True)
    assert_equivalent(gs.apply(graph, plan), slim)


@pytest.mark.parametrize("text", [IR_SE, JOINED], ids=["ir and se", "concat"])
def test_structure_does_not_depend_on_the_spelling(text: str) -> None:
    graph = tiny(text)
    assert digests(respell(graph)) == digests(graph)


def test_notes_say_what_was_matched_how() -> None:
    graph = tiny(IR_SE)
    twin = respell(graph)
    plan = plan_given(graph, {"e": [1, 2], "s": [0]})
    found = fit(twin, plan, force=True)
    assert found.notes[0] == "5 layers matched by their place in the network"
    ids = {group.id for group in found.plan.groups}
    assert {note.split(" is ")[0] for note in found.notes[1:]} == {"e", "s"}
    assert {note.split(" is ")[1].split()[0] for note in found.notes[1:]} == ids
    assert gs.apply(twin, found.plan) is not None, "a plan that was carried over fits literally"


# ------------------------------------------------------------------ another checkpoint


def test_plan_fits_another_checkpoint_by_name() -> None:
    graph, other = tiny(IR_SE), tiny(IR_SE.replace("random 1}", "random 31}"))
    plan = plan_given(graph, {"e": [1, 2]})._replace(model={"name": "a", "sha256": "0" * 64})
    with pytest.raises(PlanError, match="made for a.*force=True"):
        fit(other, plan)
    found = fit(other, plan, force=True)
    assert found.notes == ("1 group matched by name and bindings",)
    kept = np.delete(constant(other, "e/w"), [1, 2], axis=3)
    np.testing.assert_array_equal(constant(gs.apply(other, plan, force=True), "e/w"), kept)


def test_folds_of_another_checkpoint_are_refused() -> None:
    """Channel 1 is 2 in one and 3 in the other, which would shift the outputs."""
    plan = gs.plan(tiny(FOLDS % 2))._replace(model={"name": "a", "sha256": "0" * 64})
    assert plan.folds
    assert fit(tiny(FOLDS % 2), plan, force=True).plan.folds == plan.folds
    with pytest.raises(PlanError, match="z: the plan folds constants .* do not hold"):
        gs.apply(tiny(FOLDS % 3), plan, force=True)


# ------------------------------------------------------------------ what does not fit


def test_other_widths_are_refused() -> None:
    plan = plan_given(tiny(IR_SE), {"e": [1, 2]})
    other = respell(tiny(IR_SE.replace("12", "16")))
    with pytest.raises(PlanError, match=r"5 of the plan's 5 layers have no counterpart.*1x1x4x12"):
        gs.apply(other, plan, force=True)


def test_another_wiring_is_refused() -> None:
    """The same layers, but the branches join the other way round."""
    plan = plan_given(tiny(BRANCHES % "a, b"), {"a": [1], "b": [2, 3]})
    gs.apply(respell(tiny(BRANCHES % "a, b")), plan, force=True)
    turned = tiny(BRANCHES.replace("b/w = f32[1,1,3,4]", "b/w = f32[3,3,3,4]") % "b, a")
    with pytest.raises(PlanError, match="no counterpart"):
        gs.apply(respell(turned), plan, force=True)


def test_branches_of_one_shape_are_told_apart_by_where_they_are_read() -> None:
    graph = tiny(BRANCHES % "a, b")
    plan = plan_given(graph, {"a": [1], "b": [2, 3]})
    slim = gs.apply(graph, plan)
    for seed in range(4):
        other = gs.apply(respell(graph, seed), plan, force=True)
        weights = [layer.param for layer in layers_of(other, gs.analyse(other))]
        found = {constant(other, name).tobytes() for name in weights}
        assert found == {constant(slim, name).tobytes() for name in ("a/w", "b/w", "o/w")}


@pytest.mark.parametrize("op", ["Switch", "RefSwitch", "GuaranteeConst"])
def test_weights_are_found_behind_all_that_carries_them(op: str) -> None:
    """What carries a tensor, into a branch too, leaves its axes as they are."""
    graph = tiny("x = input 1,3,3,2\na/w = f32[1,1,2,3]{1}\ne = Identity(a/w)\na = Conv2D(x, e)\n")
    graph.replace(gs.Node("e", op, dict(graph["e"].attrs)), graph.inputs_of("e"))
    assert [layer.param for layer in layers_of(graph, gs.analyse(graph))] == ["a/w"]


def test_twins_are_told_apart_by_name_or_refused() -> None:
    graph = tiny(TWINS.format("left", "right"))
    plan = plan_given(graph, {"left/conv": [1], "right/conv": [2, 3]})
    assert sorted(digests(graph).values()) == [2, 2]
    moved = tiny(TWINS.format("call/right", "call/left"))
    slim = gs.apply(moved, plan, force=True)
    assert constant(slim, "call/left/w").shape == (1, 1, 3, 3)
    assert constant(slim, "call/right/w").shape == (1, 1, 3, 2)
    with pytest.raises(PlanError, match="left/conv: 2 layers stand in the same place"):
        gs.apply(tiny(TWINS.format("one", "two")), plan, force=True)


def test_twins_that_lose_the_same_need_no_names() -> None:
    plan = plan_given(tiny(TWINS.format("left", "right")), {"left/conv": [1], "right/conv": [1]})
    slim = gs.apply(tiny(TWINS.format("one", "two")), plan, force=True)
    assert constant(slim, "one/w").shape == constant(slim, "two/w").shape == (1, 1, 3, 3)


def test_plan_without_layers_or_bindings_is_not_carried_over() -> None:
    graph = tiny(IR_SE)
    plan = plan_given(graph, {"e": [1, 2]})
    with pytest.raises(PlanError, match="e: .*no such group"):
        gs.apply(respell(graph), plan._replace(layers=()), force=True)
    tree = json.loads(plan.to_json())
    del tree["groups"][0]["bindings"]
    with pytest.raises(PlanError, match="e: removes 2 channels, of which its bindings show 0 at"):
        gs.apply(respell(graph), Plan.from_json(json.dumps(tree)), force=True)
    tree = json.loads(plan.to_json())
    tree["groups"][0]["bindings"][0]["removed"] = [1, 3]
    with pytest.raises(PlanError, match="its bindings show 3 at"):
        gs.apply(respell(graph), Plan.from_json(json.dumps(tree)), force=True)


def test_without_force_nothing_is_carried_over() -> None:
    graph = gs.load(str(DIGITS))
    with pytest.raises(PlanError, match="force=True"):
        gs.apply(respell(graph), random_plan(graph))


def test_a_layer_that_is_pinned_in_the_other_graph_is_refused() -> None:
    """The same layers in the same places, but an op without a rule looks on in one graph."""
    graph = tiny(IR_SE)
    plan = plan_given(graph, {"s": [0]})
    text = IR_SE.replace("s/w", "s2/w")
    gs.apply(tiny(text + "output o\n"), plan, force=True)
    with pytest.raises(PlanError, match=r"s: cannot be pruned: .*\(odd\)"):
        gs.apply(tiny(text + "odd = MysteryOp(sr)\noutput o\n"), plan, force=True)


# ------------------------------------------------------------------ damaged

EXTREMES = (-1, 0, 1, 7, 10**6, 2**63 - 1, 2**63, 10**30, 1e308, 0.5, True, None, "", "e", [], {})


def leaves(tree: Any, path: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    """The path of everything in a tree."""
    boxes = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in boxes:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from leaves(value, (*path, key))


@pytest.mark.parametrize("seed", range(4))
def test_a_plan_with_any_value_in_any_place_fits_or_is_refused(seed: int) -> None:
    """Applied to its own graph and to one with other names, where layers are found by place."""
    graph, pick = tiny(IR_SE), random.Random(seed)
    tree = json.loads(random_plan(graph, seed).to_json())
    twin, places = respell(graph), list(leaves(tree))
    for _ in range(60):
        changed, path = copy.deepcopy(tree), pick.choice(places)
        box = changed
        for key in path[:-1]:
            box = box[key]
        box[path[-1]] = pick.choice(EXTREMES)
        for target in (graph, twin):
            try:
                gs.apply(target, Plan.from_json(json.dumps(changed)), force=True)
            except GraphslimError as error:
                assert "\n" not in str(error)


def test_a_plan_that_names_no_axis_or_position_of_the_weights_is_refused() -> None:
    graph = tiny(IR_SE)
    tree = json.loads(plan_given(graph, {"e": [1, 2]}).to_json())
    for change, told in (
        ({"axis": 7}, "axis 7 of weights that have no channels there"),
        ({"removed": [1, 99]}, "position 99 along axis 3 of weights that have 12 channels"),
    ):
        changed = copy.deepcopy(tree)
        (cut,) = [one for one in changed["groups"][0]["bindings"] if one["param"] == "e/w"]
        cut.update(change)
        with pytest.raises(PlanError, match=told):
            gs.apply(respell(graph), Plan.from_json(json.dumps(changed)), force=True)


def test_a_plan_that_cuts_coupled_layers_differently_is_refused() -> None:
    """Each layer by itself could lose these; the coupled channels of this graph lose more."""
    graph = tiny(IR_SE)
    tree = json.loads(plan_given(graph, {"e": [1, 2]}).to_json())
    layers = {layer["param"] for layer in tree["layers"]}
    consumers = [
        cut
        for cut in tree["groups"][0]["bindings"]
        if cut["param"] in layers and cut["role"] == "consumer"
    ]
    assert consumers
    consumers[0]["removed"] = [1]
    with pytest.raises(PlanError, match="the plan removes 1 of 12 along axis"):
        gs.apply(respell(graph), Plan.from_json(json.dumps(tree)), force=True)


def test_a_constant_is_not_folded_twice() -> None:
    tree = json.loads(gs.plan(tiny(FOLDS % 2)).to_json())
    tree["folds"] *= 2
    with pytest.raises(PlanError, match="z: folds.1.: folds channel 1 a second time"):
        Plan.from_json(json.dumps(tree))
