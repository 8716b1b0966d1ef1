"""Ops that TensorFlow does not know: outputs like any other, compared at what they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command import Run
from tiny import tiny

import graphslim as gs
from graphslim.errors import VerifyError
from graphslim.runtime import Session
from graphslim.runtime.library import has_op
from graphslim.testing import round_trip

DETECTOR = """
x = input 1,8,8,4
w = f32[3,3,4,16]{random 1}
c = Conv2D(x, w)
r = Relu(c)
b/w = f32[1,1,16,4]{random 2}
b = Conv2D(r, b/w)
s/w = f32[1,1,16,3]{random 3}
s = Conv2D(r, s/w)
scores = Sigmoid(s)
anchors = f32[64,4]{random 4}
found = TFLite_Detection_PostProcess(b, scores, anchors) max_detections=10 %s
"""
TYPES = "_output_types=[float32,float32,float32,float32]"


def detector(types: str = TYPES, more: str = "") -> gs.Graph:
    return tiny(DETECTOR % types + more)


def loaded(graph: gs.Graph) -> gs.Graph:
    return gs.load(gs.to_graph_def(graph))


def test_its_outputs_are_as_many_as_it_states() -> None:
    ports = [str(port) for port in loaded(detector()).outputs]
    assert ports == ["found", "found:1", "found:2", "found:3"]
    assert [str(port) for port in loaded(detector("")).outputs] == ["found"]


@pytest.mark.tf
def test_what_enters_it_is_compared() -> None:
    graph = loaded(detector())
    plan = gs.plan(graph, criterion="l1", ratio=0.5, only=["c"])
    assert [len(group.removed) for group in plan.groups] == [8]
    slim = round_trip(gs.apply(graph, plan))
    agreement = gs.verify(graph, slim, plan=plan)
    assert agreement.ok and agreement.unknown_ops == ("TFLite_Detection_PostProcess",)
    assert [one.name for one in agreement.outputs] == ["b", "scores"]
    assert not gs.verify(graph, slim).ok, "the comparison sees no difference"
    assert slim["found"].op == graph["found"].op


@pytest.mark.tf
def test_outputs_that_do_not_need_it_are_compared_as_ever() -> None:
    graph = loaded(detector(TYPES, "n = Neg(found:2)\nm = Neg(scores)\n"))
    agreement = gs.verify(graph, graph)
    assert [one.name for one in agreement.outputs] == ["m", "b", "scores"]


@pytest.mark.tf
def test_nothing_beside_it_is_an_error() -> None:
    graph = loaded(tiny("x = input 1,4\ny = OnlyMine(x)\n"))
    with pytest.raises(VerifyError, match=r"does not know OnlyMine.*name outputs"):
        gs.verify(graph, graph)


@pytest.mark.tf
def test_running_it_says_what_can_be_run() -> None:
    with pytest.raises(VerifyError, match="outputs b outputs scores"):
        Session(loaded(detector()))


@pytest.mark.tf
def test_prune_writes_it_and_says_what_was_compared(
    tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    command = Run(tmp_path, capsys, monkeypatch)
    gs.save(loaded(detector()), "model.pb")
    done = command("prune model.pb -o slim.pb --criterion l1 --ratio 0.5 --only c")
    assert "does not know TFLite_Detection_PostProcess: what enters it was compared" in done.out
    assert gs.load("slim.pb")["found"].op == "TFLite_Detection_PostProcess"


@pytest.mark.tf
def test_ops_that_only_an_optimiser_writes_are_known() -> None:
    assert [has_op(op) for op in ("Conv2D", "_FusedConv2D", "Conv2E")] == [True, True, False]
