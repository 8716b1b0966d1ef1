"""What is said of graphs that were frozen while training, or that hide something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command import Run
from tiny import tiny

import graphslim as gs
from graphslim.analysis.cautions import cautions, random_node

START = "x = input 1,6,6,4\na/w = f32[3,3,4,8]{random 1}\na = Conv2D(x, a/w)\nk = f32[8]{1}\n"
NORM = "n = FusedBatchNorm(a, k, k, e, e) is_training=true\n"


def told(text: str) -> list:
    return [one.node for one in cautions(tiny(START + "e = f32[0]{}\n" + text))]


def test_nothing_is_said_of_an_inference_graph() -> None:
    assert told("n = FusedBatchNorm(a, k, k, k, k) is_training=false\noutput n\n") == []


def test_batch_norm_in_the_training_phase() -> None:
    graph = tiny(START + "e = f32[0]{}\n" + NORM + "output n\n")
    assert str(cautions(graph)[0]).startswith(
        "1 batch norm frozen in the training phase, such as n: the outputs depend on what else is "
        "in the batch (freeze the graph for inference"
    )


def test_what_no_output_depends_on_is_not_said() -> None:
    assert told(NORM + "r = Relu(a)\noutput r\n") == []


def test_a_branch_of_the_learning_phase_is_not_said() -> None:
    phase = "p = Placeholder() dtype=bool shape=<>\ns = Switch(a, p)\n"
    norms = (
        "t = FusedBatchNorm(s:1, k, k, e, e) is_training=true\n"
        "i = FusedBatchNorm(s, k, k, k, k) is_training=false\nm = Merge(i, t) N=2\n"
    )
    assert told(phase + norms + "output m\n") == []


def test_dropout_that_was_left_on() -> None:
    text = (
        "s = Shape(a)\nr = RandomUniform(s) dtype=float32 T=int32 seed=0 seed2=0\n"
        "d = Mul(a, r)\noutput d\n"
    )
    assert told(text) == ["r"]
    assert random_node(tiny(START + text)) == "r"


def test_an_engine_that_cannot_be_seen_into() -> None:
    assert told("t = TRTEngineOp(a)\noutput t\n") == ["t"]


@pytest.mark.tf
def test_a_graph_with_dropout_is_pruned_and_not_compared(
    tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    run = Run(tmp_path, capsys, monkeypatch)
    noise = "s = Shape(a)\nr = RandomUniform(s) dtype=float32 T=int32 seed=0 seed2=0\n"
    graph = tiny(START + noise + "d = Mul(a, r)\nz = Relu(d)\noutput z\n")
    gs.save(graph, "noisy.pb")
    found = run("prune noisy.pb -o slim.pb")
    assert "Not verified: the outputs differ from run to run" in found.out
    assert "caution: dropout or noise left on at r" in found.err
    refused = run("prune noisy.pb -o other.pb --verify", status=1)
    assert "dropout or noise is left on at r" in refused.err
    assert run.files() == ["noisy.pb", "slim.pb"]
