"""The complete example runs, on a narrow network and made-up images: accuracy is not asked."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Callable, List, Tuple

import numpy as np
import pytest

import graphslim as gs
from graphslim import runtime

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "digits"
MODULES = ("data", "network", "results", "session", "estimator")

pytestmark = [
    pytest.mark.skipif(not EXAMPLE.is_dir(), reason="there are no examples beside the tests"),
    pytest.mark.tf,
    pytest.mark.slow,
]

Run = Callable[..., Tuple[Path, List[Any]]]


@pytest.fixture()
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs one of the scripts as from a command line; gives its folder and its rows."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)

    def main(script: str, *options: str) -> Tuple[Path, List[Any]]:
        data, network, results = map(importlib.import_module, ("data", "network", "results"))
        monkeypatch.setattr(data, "load", lambda seed, source: (images(data, 48), images(data, 16)))
        monkeypatch.setattr(data, "BATCH", 8)
        monkeypatch.setattr(network, "STEM", 8)
        blocks = (network.Block(16, 8, 1, False), network.Block(32, 12, 2, True))
        monkeypatch.setattr(network, "BLOCKS", blocks)
        tables: List[Any] = []
        monkeypatch.setattr(results, "draw", lambda rows, path: tables.append(rows))
        folder = tmp_path / "out"
        monkeypatch.setattr(sys, "argv", [script, str(folder), *options])
        importlib.import_module(script).main()
        return folder, tables[0]

    yield main
    for name in MODULES:
        sys.modules.pop(name, None)


def images(data: Any, count: int) -> Any:
    random = np.random.RandomState(count)
    pixels = random.uniform(size=(count, data.SIZE, data.SIZE, 1)).astype(np.float32)
    return data.Digits(pixels, np.arange(count, dtype=np.int64) % 10)


FEW = ("--steps", "4", "--retrain-steps", "2", "--thresholds", "0.7", "0.5")


def check(folder: Path, rows: List[Any]) -> None:
    """What must hold whatever the network learned."""
    assert [row.step for row in rows] == ["unpruned", "TH0.7", "TH0.5", "stripped"]
    assert [row.failed for row in rows] == [None, 0.0, 0.0, 0.0], "zeros did not stay"
    widths = [row.removed for row in rows]
    assert 0 < widths[1] < widths[2] == widths[3]
    macs = [row.macs for row in rows]
    assert macs[0] > macs[1] > macs[2] == macs[3]
    assert rows[3].accuracy == rows[2].accuracy, "stripping changed what the network says"
    assert (folder / "table.md").read_text(encoding="utf-8").count("\n| ") == len(rows)
    prefix = runtime.plain_tensorflow().train.latest_checkpoint(str(folder / "stripped"))
    assert gs.cost(gs.load(prefix, outputs=["probabilities"])) == gs.cost(
        gs.load(str(folder / "stripped.pb"))
    )


def test_session_loop(run: Run) -> None:
    check(*run("session", *FEW))


@pytest.mark.skipif(sys.version_info[:2] > (3, 7), reason="current TensorFlow has no Estimator")
def test_estimator_loop(run: Run) -> None:
    check(*run("estimator", *FEW))


def test_folder_in_use_is_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        run("session", *FEW)
    assert stopped.value.code == 2
    assert "is not empty" in capsys.readouterr().err


def test_chart(run: Run, tmp_path: Path) -> None:
    results = importlib.import_module("results")
    row = results.Row("unpruned", 0, None, 0.98, 1000, 2000, 1.5, 1.0)
    rows = [row, row._replace(step="TH0.5", accuracy=0.97, macs=900, speed=0.5)]
    results.draw(rows, str(tmp_path / "chart.svg"))
    drawn = (tmp_path / "chart.svg").read_text(encoding="utf-8")
    assert all(text in drawn for text in ("unpruned", "TH0.5", "MACs", "latency", "accuracy"))
