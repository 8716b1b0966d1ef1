"""`--for`: widths at which the runtime that will run the result is fast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command import Run
from tiny import tiny

import graphslim as gs
from graphslim.errors import PlanError
from graphslim.planner import cautions_of
from graphslim.plans import TARGETS


def net(width: int, dead: int = 0) -> gs.Graph:
    """Two convolutions; the last `dead` of the `width` channels between them are zero."""
    graph = tiny(
        f"""
        x = input 1,4,4,3
        w = f32[3,3,3,{width}]{{random 1}}
        conv = Conv2D(x, w)
        relu = Relu(conv)
        v = f32[1,1,{width},5]{{random 2}}
        y = Conv2D(relu, v)
        """
    )
    weights = graph["w"].attrs["value"].numbers().copy()
    weights[..., width - dead :] = 0
    graph.set_attr("w", "value", graph["w"].attrs["value"].with_numbers(weights))
    return graph


def kept(graph: gs.Graph, **options: Any) -> int:
    plan = gs.plan(graph, **options)
    (group,) = plan.groups
    return group.channels - len(group.removed)


@pytest.mark.parametrize("runtime", sorted(TARGETS))
def test_widths_are_multiples_of_what_the_runtime_computes_at_once(runtime: str) -> None:
    multiple = TARGETS[runtime].multiple
    for ratio in (0.3, 0.5, 0.6):
        width = kept(net(96), criterion="l1", ratio=ratio, runtime=runtime)
        assert width % multiple == 0 and width < 96
    assert kept(net(96), criterion="l1", ratio=0.5, runtime=runtime, multiple_of=1) == 48


@pytest.mark.parametrize(("channels", "step"), [(96, 16), (17, 16), (16, 16), (15, 4), (3, 4)])
def test_narrow_groups_have_smaller_steps(channels: int, step: int) -> None:
    assert TARGETS["ort"].step_for(channels) == step


def test_a_budget_comes_before_the_widths_of_a_runtime() -> None:
    plan = gs.plan(net(24), criterion="l1", params=0.4, runtime="ort")
    assert plan.groups[0].channels - len(plan.groups[0].removed) == 8
    assert plan.settings["multiple_of"] == 8 and plan.settings["runtime"] == "ort"
    (told,) = cautions_of(net(24), plan)
    assert "multiples of 16, which are fast in ONNX Runtime" in told and "multiples of 8" in told
    with pytest.raises(PlanError, match="multiple_of keeps the rest"):
        gs.plan(net(24), criterion="l1", params=0.4, runtime="ort", multiple_of=16)
    with pytest.raises(PlanError, match="is left when all goes that may"):
        gs.plan(net(24), criterion="l1", params=0.01, runtime="ort")


@pytest.mark.parametrize(("dead", "left"), [(3, 64), (4, 60), (14, 52)])
def test_dead_channels_stay_that_make_the_runtime_faster(dead: int, left: int) -> None:
    graph = net(64, dead)
    assert kept(graph) == 64 - dead
    assert kept(graph, runtime="ort", multiple_of=1) == 64 - dead
    assert kept(graph, runtime="tflite") == 64 - dead
    plan = gs.plan(graph, runtime="ort")
    assert 64 - plan.removed == left
    assert plan.settings["runtime"] == "ort"
    told = [text for text in cautions_of(graph, plan) if "change nothing" in text]
    staying = left - (64 - dead)
    assert sum(plan.settings["kept"].values()) == staying and bool(told) == (staying > 0)
    if told:
        assert "ONNX Runtime is slower" in told[0] and "--multiple-of 1 takes them" in told[0]


def test_what_other_limits_keep_is_not_laid_at_the_runtime() -> None:
    plan = gs.plan(net(64, 64), runtime="ort", min_channels=4)
    assert 64 - plan.removed == 4 and plan.settings["kept"] == {}


def test_settings_of_a_group_come_before_the_runtime() -> None:
    graph = net(96)
    settings = {"*": {"multiple_of": 3}}
    assert kept(graph, criterion="l1", ratio=0.5, runtime="ort", settings=settings) == 48
    assert kept(graph, criterion="l1", ratio=0.45, runtime="ort", settings=settings) % 3 == 0


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(PlanError, match="'coreml'.*tflite-int8"):
        gs.plan(net(8), runtime="coreml")


def test_the_command_line_calls_it_for(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    run = Run(tmp_path, capsys, monkeypatch)
    gs.save(net(64, 3), "m.pb")
    told = run("plan m.pb -o p.json --for ort --scope all")
    assert "3 channels that change nothing" in told.err
    assert "p.json" in run.files()
