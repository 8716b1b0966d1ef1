"""`graphslim optimize`, `prune --optimize` and `graphslim.optimize`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command import Run
from tiny import tiny

import graphslim as gs
from graphslim.errors import GraphslimError
from graphslim.pipeline import passes
from graphslim.pipeline.presets import PASSES, steps
from graphslim.testing import assert_equivalent

NETWORK = """
    x = input 1,6,6,3
    w = f32[3,3,3,8]{random 1}
    y = Conv2D(x, w)
    g = f32[8]{0 1 2 3 4 5 6 7}
    b = f32[8]{0 1 1 1 1 1 1 1}
    m = f32[8]{random 2}
    v = f32[8]{2}
    i = Identity(y)
    z = FusedBatchNorm(i, g, b, m, v)
    r = Relu6(z)
    u = f32[1,1,8,16]{random 3}
    o = Conv2D(r, u)
    out = Softmax(o)
"""


@pytest.fixture
def run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Run:
    gs.save(tiny(NETWORK), tmp_path / "m.pb")
    return Run(tmp_path, capsys, monkeypatch)


def ops(graph: gs.Graph) -> set:
    return {node.op for node in graph}


def test_every_pass_of_optimize_is_there_and_in_order() -> None:
    assert set(PASSES) <= set(passes())
    gs.Pipeline(steps(fp16_weights=True, for_tf="1.15"))


def test_another_reader_than_is_known_is_refused() -> None:
    with pytest.raises(GraphslimError, match="nothing is known of TensorFlow 1.4"):
        gs.optimize(tiny(NETWORK), for_tf="1.4")


@pytest.mark.tf
def test_optimize_leaves_the_graph_and_gives_another() -> None:
    graph = tiny(NETWORK)
    before = gs.serialize(graph)
    slim = gs.optimize(graph)
    assert gs.serialize(graph) == before
    assert "FusedBatchNorm" not in ops(slim) and "Identity" not in ops(slim)
    assert slim.inputs == graph.inputs and slim.outputs == graph.outputs
    assert_equivalent(graph, slim)
    assert not [note for note in gs.Pipeline(steps()).run(slim) if note[1].changed]


@pytest.mark.tf
def test_the_command_writes_and_verifies(run: Run) -> None:
    found = run("optimize m.pb -o o.pb --json").json
    assert found["verified"]["ok"] and found["rounded"] is None
    assert found["size"][1] < found["size"][0] and found["nodes"][1] < found["nodes"][0]
    assert "FusedBatchNorm" not in ops(gs.load("o.pb"))
    text = run("optimize m.pb -o p.pb -v")
    assert "fold-batch-norm: layers folded: 1" in text.err
    assert "The outputs are the same" in text.out and "Written to p.pb" in text.out


@pytest.mark.tf
def test_half_precision_is_told_of(run: Run) -> None:
    found = run("optimize m.pb -o o.pb --fp16-weights --json").json
    assert found["verified"]["ok"] and 0 < found["rounded"]["outputs"][0]["relative"] < 0.05
    assert "Cast" in ops(gs.load("o.pb"))
    text = run("prune m.pb -o p.pb --fp16-weights --for-tf 1.15")
    assert "Stored as half precision, out decides" in text.err
    assert "Cast" in ops(gs.load("p.pb"))


def test_prune_optimizes_what_is_left(run: Run) -> None:
    found = run("prune m.pb -o o.pb --optimize --multiple-of 1 --no-verify --json").json
    assert found["removed"] == 1
    graph = gs.load("o.pb")
    assert "FusedBatchNorm" not in ops(graph)
    assert graph["w"].attrs["value"].shape == (3, 3, 3, 7)
    assert "FusedBatchNorm" in ops(gs.load(run.folder / "m.pb"))


@pytest.mark.parametrize(
    "words, text",
    [
        ("optimize m.pb -o m.pb", "is the input itself"),
        ("optimize m.pb -o o.pb --for-tf 1.4", "--for-tf"),
        ("optimize none.pb -o o.pb", "no such file"),
        ("optimize m.pb", "--output"),
    ],
)
def test_bad_input_writes_nothing(run: Run, words: str, text: str) -> None:
    found = run(words, status=2)
    assert text in found.err and len(found.err.strip().splitlines()) == 1
    assert run.files() == ["m.pb"]
