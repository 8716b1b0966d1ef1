"""Wishes on the command line: shares, sizes, what is impossible, and what is next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, List

import pytest
from command import Run
from tiny import tiny

import graphslim as gs
from graphslim import planner
from graphslim.testing import from_text

# Channel 1 of `y` is never produced, but its offset makes it 2, which has to be folded into `c`.
# Channel 2 is never produced and 0.
FOLDS = """
x = Placeholder() dtype=float32 shape=<?,4,4,3>
w = Const() dtype=float32 value=float32[1,1,3,4]{1 0 0 1 1 0 0 2 1 0 0 3}
y = Conv2D(x, w) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
b = Const() dtype=float32 value=float32[4]{1 2 0 1}
yb = BiasAdd(y, b) T=float32 data_format="NHWC"
yr = Relu(yb) T=float32
v = Const() dtype=float32 value=float32[1,1,4,2]{random 2}
z = Conv2D(yr, v) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
c = Const() dtype=float32 value=float32[2]{1 -1}
out = BiasAdd(z, c) T=float32 data_format="NHWC"
"""


@pytest.fixture
def run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Run:
    command = Run(tmp_path, capsys, monkeypatch)
    gs.save(from_text(FOLDS), "folds.pb")
    return command


def test_a_copy_is_called_one_and_the_next_step_can_be_run(run: Run) -> None:
    run("prune", "folds.pb", "-o", "one.pb", "--no-verify")
    found = run("prune", "one.pb", "-o", "two of it.pb", "--no-verify", "--outputs", "out")
    lines = found.out.splitlines()
    assert "two of it.pb is a copy of one.pb, byte for byte." in lines
    words = shlex.split(lines[-1])
    assert words[:5] == ["graphslim", "prune", "one.pb", "-o", "two of it.pb"]
    assert words[5:] == ["--criterion", "l1", "--macs", "0.5", "--outputs", "out"]
    assert "--criterion l1" not in run("prune", "folds.pb", "-o", "o.pb", "--no-verify").out


def test_inspect_counts_dead_channels(run: Run) -> None:
    assert run("inspect", "folds.pb", "--json").json["dead"] == 2
    assert "dead     2 channels: `graphslim prune` removes them" in run("inspect", "folds.pb").out
    run("prune", "folds.pb", "-o", "one.pb", "--no-verify")
    assert "dead     0 channels\n" in run("inspect", "one.pb").out


OPEN = """
x = input ?,?,?,3
w = f32[1,1,3,16]{random 1}
y = Conv2D(x, w)
v = f32[1,1,16,4]{random 2}
z = Conv2D(y, v)
"""


@pytest.fixture
def open_sizes(run: Run) -> Run:
    gs.save(tiny(OPEN), "open.pb")
    return run


@pytest.mark.parametrize("asked", ["50%", "50 %", "0.5", ".5"])
@pytest.mark.parametrize("option", ["--macs", "--params", "--ratio"])
def test_shares_may_be_percentages(open_sizes: Run, option: str, asked: str) -> None:
    words = ["--criterion", "l1", option, asked, "--input-shape", "1,8,8,3", "--multiple-of", "1"]
    plan = open_sizes("plan", "open.pb", "-o", "p.json", "--json", *words).json
    assert plan["achieved"]["asked"] == 0.5 and plan["achieved"]["reason"] is None


@pytest.mark.parametrize(
    "words, told",
    [
        (["--macs", "50"], "'--macs': 50 is no share above 0 to 1 (or 100%); 50% is 0.5"),
        (["--macs", "0"], "'--macs': 0 is no share above 0"),
        (["--size", "110%"], "'--size': 110% is no share"),
        (["--ratio", "half"], "'--ratio': 'half' is not a number; write 0.5 or 50%"),
        (["--ratio", "50%%"], "'--ratio': '50%%' is not a number; write 0.5 or 50%"),
        (["--ratio", "nan"], "'--ratio': nan is not a finite number"),
        (["--max-ratio", "-1"], "'--max-ratio': -1 is no share from 0"),
        (["--threshold", "inf"], "'--threshold': inf is not a finite number"),
    ],
)
def test_what_is_no_share(open_sizes: Run, words: List[str], told: str) -> None:
    words = ["prune", "open.pb", "-o", "o.pb", "--criterion", "l1", *words]
    assert told in open_sizes(*words, status=2).err


@pytest.mark.parametrize("budget", ["--macs", "--latency"])
def test_a_budget_without_sizes_is_refused_before_any_scores(
    open_sizes: Run, budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "score", lambda *_, **__: pytest.fail("scores were made"))
    words = ["prune", "open.pb", "-o", "o.pb", "--criterion", "taylor", budget, "0.5"]
    told = open_sizes(*words, status=2).err
    assert (
        f"{budget}" in told and "needs the input's size (add --input-shape x=1,224,224,3)" in told
    )


def test_a_budget_out_of_reach_is_refused_before_any_scores(
    open_sizes: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "score", lambda *_, **__: pytest.fail("scores were made"))
    words = ["prune", "open.pb", "-o", "o.pb", "--criterion", "taylor", "--params", "0.1"]
    told = open_sizes(*words, status=2).err
    assert "--params 0.1: at least 0.5 of the parameters is left" in told
    assert "--multiple-of keeps the rest" in told


def test_a_shape_needs_no_name_where_there_is_one_input(open_sizes: Run) -> None:
    found = open_sizes("inspect", "open.pb", "--json", "--input-shape", "1,8,8,3").json
    assert found["macs"] == 64 * (3 * 16 + 16 * 4)
    two = OPEN + "t = input ?\nu = Relu(t)\n"
    gs.save(tiny(two), "two.pb")
    told = open_sizes("inspect", "two.pb", "--input-shape", "1,8,8,3", status=2).err
    assert "two.pb has 2 inputs, and 1,8,8,3 names none of them" in told
    assert "write x=1,8,8,3; the inputs are: x, t" in told
    told = open_sizes("inspect", "open.pb", "--input-shape", "1,8,8", status=2).err
    assert "the input x has the shape ?,?,?,3" in told


def test_a_threshold_that_selects_nothing_tells_the_range(open_sizes: Run) -> None:
    words = ["plan", "open.pb", "-o", "p.json", "--criterion", "l1", "--threshold"]
    scores = open_sizes(*words, "0").err
    assert "no score is below the threshold 0: scores of l1 are from " in scores
    least = float(scores.split(" are from ")[1].split()[0])
    told = open_sizes(*words, str(least * 1.01)).err
    assert "1 score beyond the threshold" in told and "by multiples of 8" in told
    most = float(scores.split(" to ")[1].split(",")[0])
    assert "scores of l1" not in open_sizes(*words, str(most)).err, "it selects, and that is all"
