"""The calls of the library: what they take, and what they say of what they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphslim as gs
from graphslim.errors import GraphslimError
from graphslim.testing import from_text

LIMITED = "x = Placeholder() dtype=float32 shape=<?,3>\ny = Relu(x) T=float32"
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
