"""Loops of TensorFlow 1: what reaches their end over the back edge, and the layers behind them."""

from __future__ import annotations

import pytest
from tiny import groups, tiny

import graphslim as gs
from graphslim.analysis.cautions import cautions
from graphslim.graphdef import to_graph_def
from graphslim.testing import assert_mask_equivalent, random_plan

_ENTER = 'frame_name="turns" parallel_iterations=1 is_constant='
RNN = f"""
x = input 1,6
zero = i32[]{{0}}
one = i32[]{{1}}
five = i32[]{{5}}
begin = f32[1,6]{{0}}
w = f32[6,6]{{random 1}}
enter_i = Enter(zero) T=int32 {_ENTER}false
enter_h = Enter(begin) {_ENTER}false
enter_x = Enter(x) {_ENTER}true
enter_w = Enter(w) {_ENTER}true
enter_one = Enter(one) T=int32 {_ENTER}true
enter_five = Enter(five) T=int32 {_ENTER}true
i = Merge(enter_i, next_i) T=int32 N=2
h = Merge(enter_h, next_h) N=2
less = Less(i, enter_five) T=int32
goes_on = LoopCond(less)
turn_i = Switch(i, goes_on) T=int32
turn_h = Switch(h, goes_on)
next = AddV2(turn_i:1, enter_one) T=int32
product = MatMul(turn_h:1, enter_w)
sum = AddV2(product, enter_x)
state = Tanh(sum)
next_i = NextIteration(next) T=int32
next_h = NextIteration(state)
last = Exit(turn_h)
wide/w = f32[6,32]{{random 2}}
wide = MatMul(last, wide/w)
r = Relu(wide)
"""
"""An RNN of five turns: what it is fed reaches `last` from the second turn on."""
HEAD = "labels/w = f32[32,4]{random 3}\nlabels = MatMul(r, labels/w)\n"


def test_outputs_behind_a_loop_are_inferred() -> None:
    graph = gs.load(to_graph_def(tiny(RNN + HEAD)))
    assert graph.inputs == ["x"]
    assert [str(port) for port in graph.outputs] == ["labels"]


@pytest.mark.tf
def test_the_layer_behind_a_loop_is_pruned() -> None:
    graph = gs.load(to_graph_def(tiny(RNN + HEAD)))
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"wide": 32}
    plan = gs.plan(graph, criterion="l2", ratio=0.5, multiple_of=1)
    assert plan.removed == 16
    assert_mask_equivalent(graph, plan, tolerance=1e-5)
    assert_mask_equivalent(graph, random_plan(graph, seed=3), tolerance=1e-5)


def test_dropout_behind_a_loop_is_no_branch_of_a_condition() -> None:
    """The Switch of a loop leads into its body and out of it: what it gives is always needed."""
    noise = (
        "s = Shape(r)\nd = RandomUniform(s) dtype=float32 T=int32 seed=0 seed2=0\n"
        "labels = Mul(r, d)\noutput labels\n"
    )
    assert [one.node for one in cautions(tiny(RNN + noise))] == ["d"]
