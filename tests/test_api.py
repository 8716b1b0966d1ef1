"""The calls of the library: what they take, and what they say of what they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import tiny

import graphslim as gs
from graphslim.errors import GraphslimError, PlanError
from graphslim.testing import from_text

LIMITED = "x = Placeholder() dtype=float32 shape=<?,3>\ny = Relu(x) T=float32"
READER = "u = f32[1,1,8,2]{random 2}\ny = Conv2D(c, u)"
FREE = "x = Placeholder() dtype=float32 shape=<?,3>\ny = Identity(x) T=float32"


@pytest.mark.tf
@pytest.mark.parametrize("kind", ["path", "text", "arrays", "feeds"])
def test_verify_runs_on_the_data_that_it_is_given(tmp_path: Path, kind: str) -> None:
    first, second = from_text(LIMITED), from_text(FREE)
    path = tmp_path / "data.npy"
    for sign, same in ((1, True), (-1, False)):
        values = sign * np.ones((2, 3), np.float32)
        np.save(str(path), values)
        given: Any = {"path": path, "text": str(path)}.get(kind, {"x": values})
        option = "feeds" if kind == "feeds" else "data"
        assert gs.verify(first, second, **{option: given}).ok is same


def test_verify_takes_inputs_from_one_place() -> None:
    graph, values = from_text(FREE), {"x": np.ones((1, 3), np.float32)}
    with pytest.raises(GraphslimError, match="data and feeds: the inputs are given twice"):
        gs.verify(graph, graph, data=values, feeds=values)


@pytest.mark.parametrize("call", [gs.plan, gs.verify, gs.load])
def test_no_call_swallows_a_misspelt_keyword(call: Any) -> None:
    graph = from_text(FREE)
    with pytest.raises(TypeError, match=f"{call.__name__}.. got an unexpected keyword .*'mac'"):
        call(*[graph] * (2 if call is gs.verify else 1), mac=0.5)


def test_channels_may_be_named_by_any_whole_numbers_and_nothing_else() -> None:
    graph = tiny("x = input 1,4,4,3\nw = f32[1,1,3,8]{random 1}\nc = Conv2D(x, w)\n" + READER)
    plans = [
        gs.plan(graph, removed={"c": indices})
        for indices in ([1, 2], (2, 1), {1, 2}, range(1, 3), np.array([1, 2]), np.int64([2, 1]))
    ]
    assert {plan.groups[0].removed for plan in plans} == {(1, 2)}
    for indices in ([1.0], [True, False], np.ones(8, bool), [[1, 2]]):
        with pytest.raises(PlanError, match="c: .* is no index of a channel"):
            gs.plan(graph, removed={"c": indices})
    with pytest.raises(PlanError, match="c: has only 8 channels, -1 is none of them"):
        gs.plan(graph, removed={"c": [-1, 3]})
