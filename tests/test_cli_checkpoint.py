"""`soft-prune`, `summary` and `strip`, as one types them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trained
from command import Run
from tiny import tiny

import graphslim as gs
from graphslim.runtime import write_checkpoint

CHOOSE = "--criterion redundancy --threshold 0.6 --scope blocks"
READ = f"--inputs image --outputs {trained.OUTPUT}"

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: Any) -> str:
    return trained.train(tmp_path_factory.mktemp("trained"), "resource", "momentum")


@pytest.fixture
def run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Run:
    return Run(tmp_path, capsys, monkeypatch)


def spoil(prefix: str) -> None:
    """One removed channel of block_1 comes back."""
    values = {key: one.copy() for key, one in trained.values(prefix).items()}
    weights = values["block_1/project/weights"]
    dead = np.flatnonzero(np.abs(weights).sum(axis=(0, 1, 3)) == 0)
    weights[:, :, dead[0]] = 0.5
    write_checkpoint(prefix, values)


def test_the_loop(run: Run, prefix: str) -> None:
    found = run(f"soft-prune {prefix} -o soft {CHOOSE} {READ}")
    assert "12 channels to go" in found.out and "Written to soft/model" in found.out
    assert "block_1 " in found.out
    trained.train_on("soft/model")
    found = run(f"summary soft/model --plan soft/plan.json {READ}")
    assert "Failed rate 0: 0 of 44 filters that should be zero are not." in found.out
    assert [line for line in found.out.splitlines() if "block_1 " in line and " 20 " in line]
    found = run(f"strip soft/model --plan soft/plan.json -o slim {READ}")
    assert "12 channels removed" in found.out
    assert "Written to slim/model and slim/model.pb" in found.out
    assert run("verify soft/model slim/model.pb --tolerance 1e-5 " + READ).status == 0
    assert np.isfinite(trained.train_on("slim/model"))


def test_json(run: Run, prefix: str) -> None:
    tree = run(f"soft-prune {prefix} -o soft {CHOOSE} {READ} --json").json
    assert tree["checkpoint"] == "soft/model" and tree["removed"] == 12
    assert [group["block"] for group in tree["groups"]] == list(trained.BLOCKS)
    assert tree["params"][1] < tree["params"][0]
    tree = run(f"summary soft --plan soft/plan.json {READ} --json").json
    assert tree["rate"] == 0 and tree["of"] == 44 and tree["unconverged"] == []
    assert tree["blocks"][0] == {
        "name": "block_0", "removed": 4, "failed": 0, "of": 12, "rate": 0.0
    }  # fmt: skip
    tree = run(f"strip soft --plan soft/plan.json -o slim {READ} --no-meta --json").json
    assert tree["checkpoint"] == "slim/model" and tree["meta"] is None
    assert tree["summary"]["rate"] == 0 and tree["verified"]["ok"]
    assert not os.path.exists("slim/model.meta")


def test_what_did_not_stay_at_zero(run: Run, prefix: str) -> None:
    run(f"soft-prune {prefix} -o soft {CHOOSE} {READ}")
    spoil("soft/model")
    found = run(f"summary soft/model --plan soft/plan.json {READ} -v")
    assert "Failed rate 0.02273: 1 of 44 filters" in found.out
    assert "block_1/project/weights" in found.out
    found = run(f"strip soft/model --plan soft/plan.json -o slim {READ}", status=1)
    assert found.err.count("\n") == 1 and "1 of the 44 filters" in found.err and found.out == ""
    assert not os.path.exists("slim")
    found = run(f"strip soft/model --plan soft/plan.json -o slim {READ} --allow-unconverged")
    assert "Nothing else changed" in found.out and "Failed rate 0.02273" in found.out


def test_a_plan_instead_of_a_selection(run: Run, prefix: str) -> None:
    run(f"plan {prefix} -o p.json {CHOOSE} {READ}")
    run(f"soft-prune {prefix} -o one --plan p.json {READ}")
    run(f"soft-prune {prefix} -o two {CHOOSE} {READ}")
    one, two = trained.values("one/model"), trained.values("two/model")
    assert all(one[key].tobytes() == two[key].tobytes() for key in two)
    found = run(f"soft-prune {prefix} -o no --plan p.json --threshold 0.5 {READ}", status=2)
    assert found.err.startswith("graphslim: --threshold: the plan says which channels go")


@pytest.mark.parametrize("command", ["summary", "soft-prune -o no", "strip -o no"])
def test_bad_input(command: str, run: Run, prefix: str) -> None:
    """One line on stderr, status 2, and nothing written."""
    net = tiny(
        "x = input 1,6,6,4\nw = f32[1,1,4,8]{random 1}\na = Conv2D(x, w)\n"
        "v = f32[1,1,8,4]{random 2}\nb = Conv2D(a, v)\noutput b\n"
    )
    Path("p.json").write_text(gs.plan(net, removed={"a": [1]}).to_json(), encoding="utf-8")
    gs.save(net, "net.pb")
    for words, said in (
        (f"{prefix} --plan p.json {READ}", "another architecture"),
        (f"{prefix} --plan none.json {READ}", "none.json: no such file"),
        ("nowhere/model --plan p.json", "nowhere/model"),
        ("net.pb --plan p.json", "net.pb"),
    ):
        found = run(f"{command} {words}", status=2)
        assert found.err.count("\n") == 1 and said in found.err and found.out == "", found
    assert run.files() == ["net.pb", "p.json"]


@pytest.mark.parametrize("command", ["soft-prune", "strip"])
def test_a_folder_that_is_not_empty(command: str, run: Run, prefix: str) -> None:
    run(f"plan {prefix} -o p.json {CHOOSE} {READ}")
    os.mkdir("there")
    Path("there/notes").write_text("mine", encoding="utf-8")
    more = "" if command == "soft-prune" else " --allow-unconverged"
    found = run(f"{command} {prefix} --plan p.json -o there {READ}{more}", status=2)
    assert found.err.count("\n") == 1 and "there: the folder is not empty" in found.err
    assert os.listdir("there") == ["notes"]
    run(f"{command} {prefix} --plan p.json -o there {READ}{more} --force")
    assert sorted(os.listdir("there"))[:2] == ["checkpoint", "model.data-00000-of-00001"]
    assert Path("there/notes").read_text(encoding="utf-8") == "mine"


def test_options_that_exclude_each_other(run: Run, prefix: str) -> None:
    words = f"strip {prefix} --plan p.json -o slim --fold --allow-unconverged"
    assert "--fold: excludes --allow-unconverged" in run(words, status=2).err
