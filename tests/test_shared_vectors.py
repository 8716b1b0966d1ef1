"""Vectors that unrelated layers share: they couple nothing, and are copied where needed."""

from __future__ import annotations

import pytest
from tiny import constant, groups, prune, tiny, zero_filters

import graphslim as gs
from graphslim.testing import assert_mask_equivalent, random_plan

TWO_LAYERS = """
x = input 1,6,6,4
k = f32[8]{random 3}
a/w = f32[3,3,4,8]{random 1}
a = Conv2D(x, a/w)
ab = BiasAdd(a, k)
b/w = f32[3,3,8,8]{random 2}
b = Conv2D(ab, b/w)
bb = BiasAdd(b, READS)
z/w = f32[1,1,8,3]{random 4}
z = Conv2D(bb, z/w)
"""


def two_layers(reads: str = "k", more: str = "", outputs: str = "output z\n") -> gs.Graph:
    text = TWO_LAYERS.replace("k = f32[8]{random 3}\n", "k = f32[8]{random 3}\n" + more)
    return tiny(text.replace("READS", reads) + outputs)


@pytest.mark.tf
def test_a_shared_scale_of_four_axes_couples_nothing() -> None:
    """What grappler makes of vectors that a Reshape lays along the channels."""
    graph = tiny(
        "x = input 1,6,6,4\nk = f32[1,1,1,8]{random 3}\na/w = f32[3,3,4,8]{random 1}\n"
        "a = Conv2D(x, a/w)\nam = Mul(a, k)\nb/w = f32[3,3,8,8]{random 2}\nb = Conv2D(am, b/w)\n"
        "bm = AddV2(k, b)\nz/w = f32[1,1,8,3]{random 4}\nz = Conv2D(bm, z/w)\noutput z\n"
    )
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"a": 8, "b": 8}
    plan = gs.plan(graph, removed={"a": [0, 1, 2], "b": [5]})
    slim = assert_mask_equivalent(graph, plan, tolerance=1e-5)
    assert constant(slim, "k").shape == (1, 1, 1, 5)
    assert constant(slim, "k/cut").shape == (1, 1, 1, 7)
    assert gs.cost(slim).params == plan.params[1]


def test_a_filter_of_one_channel_that_convolutions_share_stays_one() -> None:
    graph = tiny(
        "x = input 1,6,6,1\ny = input 1,6,6,1\nw = f32[1,1,1,8]{random 1}\na = Conv2D(x, w)\n"
        "b = Conv2D(y, w)\nz/w = f32[1,1,8,3]{random 4}\nz = Conv2D(a, z/w)\nq = Conv2D(b, z/w)\n"
        "output z\noutput q\n"
    )
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"a": 8}


def vectors(graph: gs.Graph) -> dict:
    """Which constants of rank 1 there are, and how long."""
    return {
        node.name: node.attrs["value"].shape[0]
        for node in graph
        if node.op == "Const" and len(node.attrs["value"].shape) == 1
    }


@pytest.mark.tf
@pytest.mark.parametrize("reads, more", [("k", ""), ("ki", "ki = Identity(k)\n")])
def test_a_shared_bias_couples_nothing(reads: str, more: str) -> None:
    graph = two_layers(reads, more)
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"a": 8, "b": 8}
    plan = gs.plan(graph, removed={"a": [0, 1, 2], "b": [5]})
    slim = assert_mask_equivalent(graph, plan, tolerance=1e-5)
    assert sorted(vectors(slim).values()) == [5, 7]
    assert gs.cost(slim).params == plan.params[1]


@pytest.mark.tf
def test_readers_that_lose_the_same_go_on_sharing() -> None:
    graph = two_layers()
    plan = gs.plan(graph, removed={"a": [1, 4], "b": [1, 4]})
    slim = assert_mask_equivalent(graph, plan, tolerance=1e-5)
    assert vectors(slim) == {"k": 6}
    assert gs.cost(slim).params == plan.params[1]


def test_the_original_stays_with_the_reader_that_loses_nothing() -> None:
    graph = two_layers()
    plan = gs.plan(graph, removed={"b": [0]})
    slim = gs.apply(graph, plan)
    assert vectors(slim) == {"k": 8, "k/cut": 7}
    assert gs.cost(slim).params == plan.params[1]
    assert [str(port) for port in slim.inputs_of("ab")] == ["a", "k"]
    assert (constant(slim, "k/cut") == constant(graph, "k")[1:]).all()
    assert (constant(graph, "k").shape, len(graph)) == ((8,), 10)


@pytest.mark.parametrize("output", ["k", "ki"])
def test_a_shared_vector_that_is_an_output_stays_whole(output: str) -> None:
    graph = two_layers("k", "ki = Identity(k)\n", f"output z\noutput {output}\n")
    slim = gs.apply(graph, gs.plan(graph, removed={"a": [0], "b": [0]}))
    assert vectors(slim) == {"k": 8, "k/cut": 7}


def test_one_pinned_reader_does_not_pin_the_other() -> None:
    graph = two_layers(outputs="output z\noutput bb\n")
    assert {one.id: one.prunable for one in groups(graph).values()} == {
        "a": True,
        "b": False,
        "z": False,
    }


def test_a_plan_with_shared_vectors_survives_its_file() -> None:
    graph = two_layers()
    plan = random_plan(graph)
    assert gs.Plan.from_json(plan.to_json(), "plan") == plan
    cuts = [cut.param for group in plan.groups for cut in group.cuts]
    assert cuts.count("k") == 2


@pytest.mark.tf
def test_a_fold_behind_a_shared_offset_leaves_the_other_reader_alone() -> None:
    """Channel 5 of b is the constant k[5]; z takes it in an offset of its own, a keeps k."""
    graph = zero_filters(two_layers(outputs="r = Relu(z)\noutput r\n"), "b/w", 3, [5])
    slim = prune(graph, {"b": [5]})
    assert vectors(slim) == {"k": 8, "k/cut": 7, "z/folded_bias": 3}


@pytest.mark.tf
def test_siamese_weights_still_tie() -> None:
    """A weight that two convolutions share is one parameter, and stays one."""
    graph = tiny(
        "x = input 1,6,6,4\ny = input 1,6,6,4\nw = f32[3,3,4,8]{random 1}\nk = f32[8]{random 2}\n"
        "a = Conv2D(x, w)\nab = BiasAdd(a, k)\nb = Conv2D(y, w)\nbb = BiasAdd(b, k)\n"
        "d = Sub(ab, bb)\nz/w = f32[1,1,8,3]{random 4}\nz = Conv2D(d, z/w)\noutput z\n"
    )
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"a": 8}
    slim = assert_mask_equivalent(graph, random_plan(graph), tolerance=1e-5)
    assert vectors(slim) == {"k": 4}


def test_a_vector_that_is_fed_keeps_its_width() -> None:
    """What several ops read is cut for each of them, but nobody cuts what a user feeds."""
    graph = tiny(
        "x = input 1,4,4,3\nw = f32[1,1,3,4]{random 1}\nb = f32[4]{random 2}\ny = Conv2D(x, w)\n"
        "i = BiasAdd(y, b)\nj = BiasAdd(i, b)\nv = f32[1,1,4,2]{random 3}\nz = Conv2D(j, v)\n"
        "output z\n"
    )
    graph.inputs = ["x", "b"]
    assert [group.pinned_by for group in gs.analyse(graph).groups][0] == "it is a graph input"
