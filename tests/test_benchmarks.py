"""The benchmarks run, as far as they need no peers, and their page says what was measured."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
from pictured import images

import graphslim as gs
from graphslim.testing import from_text

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(
    not (ROOT / "benchmarks").is_dir(), reason="there are no benchmarks beside the tests"
)

SMALL = """
x = Placeholder() dtype=float32 shape=<1,8,8,3>
w = Const() dtype=float32 value=float32[3,3,3,6]{random 1}
y = Conv2D(x, w) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
v = Const() dtype=float32 value=float32[1,1,6,2]{random 2}
z = Conv2D(y, v) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
"""


@pytest.fixture()
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the tests import the package `benchmarks`, which is not installed."""
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """A folder of networks with one small network, named like a real one."""
    place = tmp_path / "current" / "MobileNetV2"
    place.mkdir(parents=True)
    gs.save(from_text(SMALL), place / "frozen.pb")
    return tmp_path


@pytest.fixture()
def ask(tmp_path: Path) -> Callable[..., List[Any]]:
    """Runs a module of the benchmarks and gives what it tells.

    From a folder that holds nothing else: what is measured is the graphslim that is installed.
    """
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "benchmarks").symlink_to(ROOT / "benchmarks")

    def asked(*words: object) -> List[Any]:
        command = [sys.executable, "-m", *map(str, words)]
        done = subprocess.run(command, capture_output=True, cwd=str(place))
        assert done.returncode == 0, done.stderr.decode()
        lines = done.stdout.decode().splitlines()
        return [json.loads(line[11:]) for line in lines if line.startswith("benchmark: ")]

    return asked


@pytest.mark.usefixtures("modules")
def test_graphslim_and_the_floor_take_turns(folder: Path, ask: Any) -> None:
    (found,) = ask("benchmarks.compile", "turns", folder, "current", "MobileNetV2", 2)
    times = found["milliseconds"]
    assert found["errors"] == {}
    assert {"floor", "graphslim"} <= set(times)
    assert list(times["graphslim"]["steps"]) == [
        *("load", "analyse", "blocks", "plan", "apply", "write")
    ]
    assert len(times["graphslim"]["rounds"]) == 2


def test_memory_is_that_of_one_contender(folder: Path, ask: Any) -> None:
    (found,) = ask("benchmarks.compile", "alone", folder, "current", "MobileNetV2", "graphslim")
    assert 0 < found["before"] <= found["peak"]


@pytest.mark.usefixtures("modules")
def test_coverage_counts_what_goes(folder: Path) -> None:
    from benchmarks.coverage import cut, of_graph
    from benchmarks.peers import Graphslim
    from benchmarks.work import Files

    files = Files("MobileNetV2", folder / "current" / "MobileNetV2")
    assert of_graph(gs.load(str(files.frozen))) == (3 * 3 * 3 * 6 + 6 * 2, 8 * 8 * (162 + 12))
    found = cut(Graphslim(files, folder / "out.pb"))
    assert found["weights"] == pytest.approx(0.5)
    assert found["macs"] == pytest.approx(0.5)


def test_a_chain_is_measured(ask: Any) -> None:
    pytest.importorskip("resource")
    (found,) = ask("benchmarks.scale", "--json", "--only", 5)
    assert found["length"] == 5
    assert all(found[step] >= 0 for step in ("load", "analyse", "plan", "apply", "emit"))


@pytest.mark.parametrize("shape", ["identities", "readers", "concats", "calls"])
def test_other_shapes_are_measured(ask: Any, shape: str) -> None:
    pytest.importorskip("resource")
    (found,) = ask("benchmarks.scale", "--json", "--shape", shape, "--only", 4)
    assert (found["shape"], found["length"]) == (shape, 4)
    assert found["emit"] >= 0


@pytest.mark.usefixtures("modules")
def test_configurations_are_resized() -> None:
    from benchmarks.built import resized

    config: Dict[str, Any] = {
        "layers": [
            {"class_name": "Conv2D", "config": {"name": "a", "filters": 8}, "inbound_nodes": []},
            {
                "class_name": "Reshape",
                "config": {"name": "b", "target_shape": [1, 1, 8]},
                "inbound_nodes": [[["a", 0, 0, {}]]],
                "build_config": {"input_shape": [None, 8]},
            },
        ]
    }
    found = resized(config, {"a": 3})
    assert found["layers"][0]["config"]["filters"] == 3
    assert found["layers"][1]["config"]["target_shape"] == [1, 1, 3]
    assert "build_config" not in found["layers"][1]


def times(whole: float) -> Dict[str, Any]:
    steps = {"analyse": whole / 4, "plan": whole / 4, "apply": whole / 4, "write": whole / 4}
    spread = {"median": whole, "low": whole, "high": whole}
    return {"steps": steps, "whole": spread, "rounds": [whole, whole]}


@pytest.mark.usefixtures("modules")
def test_targets_are_held_against_what_was_measured() -> None:
    from benchmarks.targets import targets

    row = {"floor": times(10), "graphslim": times(40), "Torch-Pruning": times(400)}
    numbers = {
        "compile": {"current/MobileNetV2": {"milliseconds": row, "errors": {}}},
        "latency": {"current/A/1/1": {"to built": {"median": 1.01}}},
        "scale": [
            {"length": 1_000, "load": 1.0, "peak": 1e6},
            {"length": 100_000, "load": 120.0, "peak": 2e8},
        ],
    }
    found = {one.what.split(",")[0]: one for one in targets(numbers)}
    floor = found["load to write / protobuf floor"]
    assert (floor.measured, floor.reached) == ("4.00", False)
    assert "1.33" in floor.why
    assert found["Torch-Pruning's build and step / analyse"].measured == "13.33"
    assert found["Torch-Pruning's build and step / analyse"].reached
    assert found["pruned / built at those widths"].reached
    assert found["time per block at 10^5 blocks / at 10^3"].reached
    assert not found["memory per block at 10^5 blocks / at 10^3"].reached


@pytest.mark.usefixtures("modules")
def test_the_page_tells_who_failed() -> None:
    from benchmarks.results import page

    row = {"floor": times(10), "graphslim": times(40)}
    numbers = {
        "compile": {
            "current/MobileNetV2": {
                "milliseconds": row,
                "errors": {"Torch-Pruning": "IndexError: too far"},
                "memory": {"floor": {"before": 50.0, "peak": 60.0}},
            }
        },
        "coverage": {
            "MobileNetV2": {
                "graphslim": {"weights": 0.6, "macs": 0.7},
                "onnxsim": {"weights": 0.65, "macs": None},
            }
        },
    }
    text = page(numbers)
    assert "fails: IndexError: too far" in text
    assert "| 10 (10-10) | 40 (40-40) |" in text
    assert "60.0 / 70.0 | 65.0 / -" in text
    assert "**no** (5.0 points behind)" in text


def test_torch_is_pinned() -> None:
    """The newest would pull gigabytes of libraries for graphics cards."""
    lines = (ROOT / "benchmarks" / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith("torch=")] == ["torch==2.13.0"]
    if importlib.util.find_spec("torch"):
        import torch  # type: ignore[import-not-found]

        assert torch.__version__.startswith("2.13.0")


def repair_row(**changed: Any) -> Dict[str, Any]:
    """A row of the repair benchmark, as it was asked for."""
    row = {"network": "small", "criterion": "l1", "macs": 0.5, "seed": 1, "way": "at once"}
    return {**row, "images": 48, "steps": 2, "seconds": None, "threads": 1, **changed}


def repaired_row(**changed: Any) -> Dict[str, Any]:
    """The same, once it was measured."""
    columns = {
        "removed": {"error": 0.9, "right": 0.2, "seconds": 0.0},
        "least squares": {"error": 0.3, "right": 0.8, "seconds": 1.0},
        "distilled": {"error": 0.4, "right": 0.7, "seconds": 2.0},
        "both": {"error": 0.2, "right": 0.88, "seconds": 3.0},
    }
    measured = {"achieved": 0.49, "columns": columns, "made": 2, "original": 0.9}
    return {**repair_row(), **measured, "gigabytes": 1.0, "machine": "a machine", **changed}


@pytest.mark.usefixtures("modules")
def test_a_repair_is_measured_in_every_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorflow")
    from benchmarks import repair

    wide = {"<1,8,8,3>": "<?,8,8,3>", "[3,3,3,6]": "[3,3,3,16]", "[1,1,6,2]": "[1,1,16,2]"}
    graph = from_text(functools.reduce(lambda text, old: text.replace(old, wide[old]), wide, SMALL))
    images = np.random.RandomState(0).rand(48, 8, 8, 3).astype(np.float32)

    def judged(other: gs.Graph) -> Dict[str, Any]:
        return {"error": gs.verify(graph, other, data={"x": images}).error, "right": None}

    subject = repair.Subject(graph, {"x": images}, {"x": images[:8]}, judged)
    monkeypatch.setattr(repair, "open_subject", lambda *_: subject)
    at_once = repair.measure(repair_row(macs=0.6), argparse.Namespace())
    columns = at_once["columns"]
    assert list(columns) == ["removed", "least squares", "distilled", "both"]
    assert columns["both"]["error"] <= columns["least squares"]["error"]
    assert columns["least squares"]["error"] < columns["removed"]["error"]
    assert (at_once["made"], columns["removed"]["seconds"]) == (2, 0.0)
    alone = repair.measure(repair_row(macs=0.6, steps=0), argparse.Namespace())
    assert alone["columns"]["least squares"]["error"] == columns["least squares"]["error"]
    assert list(alone["columns"]) == ["removed", "least squares"]


@pytest.mark.usefixtures("modules")
def test_rows_of_a_repair_outlast_a_kill(tmp_path: Path) -> None:
    from benchmarks.repair import add_row, is_done, read_rows

    path = tmp_path / "REPAIR.jsonl"
    assert read_rows(path) == []
    add_row(path, repaired_row())
    with path.open("a") as file:
        file.write('{"network": "resnet", "macs')
    add_row(path, repaired_row(seed=2))
    rows = read_rows(path)
    assert rows == [repaired_row(), repaired_row(seed=2)]
    assert is_done(repair_row(seed=2), rows)
    assert not is_done(repair_row(seed=3), rows) and not is_done(repair_row(steps=9), rows)


@pytest.mark.usefixtures("modules")
def test_the_page_of_a_repair_has_the_means_over_seeds() -> None:
    from benchmarks.repair_page import page

    second = repaired_row(seed=2)
    second["columns"] = {**second["columns"], "both": {"error": 0.1, "right": 0.86, "seconds": 5.0}}
    rounds = {"gradual": {"error": 0.25, "right": 0.85, "seconds": 9.0}}
    gradual = repaired_row(way="gradually", columns=rounds, made=6)
    unlabelled = repaired_row(network="pose", original=None, images=None)
    unlabelled["columns"] = {"removed": {"error": 1.2, "right": None, "seconds": 0.0}}
    text = page([repaired_row(), second, gradual, unlabelled], ["pose"])
    labelled, published = text.split("## 2 steps")[1:]
    assert "| small | l1 | 0.5 | 2 | 90.00 % | 20.00 % (90.00 %) |" in labelled
    assert "| 87.00 % (15.00 %) | 85.00 % (25.00 %) | 6.0 | 3.00 | 2 | 4 | 1.0 |" in labelled
    assert "| pose | l1 | 0.5 | 1 |  | (120.00 %) |" in published


@pytest.mark.usefixtures("modules")
def test_photographs_are_cut_in_one_way(tmp_path: Path) -> None:
    from benchmarks.deliveries import crops_in
    from benchmarks.photos import crops

    photographs = images(tmp_path / "given", 2, size=(90, 60))
    cut = crops(photographs, 5, (30, 40))
    assert cut.shape == (5, 30, 40, 3) and cut.dtype == np.uint8
    assert [int(crop[0, 0, 0]) for crop in cut] == [0, 1, 0, 1, 0]
    assert (cut == crops(photographs, 5, (30, 40))).all()
    folder = crops_in(tmp_path / "made", photographs)
    assert len(list(folder.glob("*.png"))) == 30 and crops_in(tmp_path / "made", None) == folder


@pytest.mark.usefixtures("modules")
def test_a_delivery_is_told_in_a_cell() -> None:
    from benchmarks.deliveries import cell

    refused = {"status": 2, "said": "graphslim: m.tflite: the converter aborted: why"}
    assert cell(refused) == "**exit 2** m.tflite: the converter aborted: why"

    def told(judged: bool, *outputs: Any) -> Dict[str, Any]:
        sides = {side: {"outputs": outputs} for side in ("result", "original")}
        delivered = {"size": [9, 2_500_000], "verified": {"judged": judged, **sides}}
        return {"status": 0, "told": {"delivered": delivered}}

    number = {"relative": 2e-5, "error": 0.25, "agreement": None}
    classes = {"relative": 0.0, "error": None, "agreement": 0.9}
    assert cell(told(True, number, classes)) == "2.0e-05 (2.0e-05); not timed; 2.50 MB"
    assert cell(told(False, number, classes)).startswith("25% (25%)")
    assert cell(told(False, classes)).startswith("10.0% of decisions")


def test_a_page_keeps_the_sections_that_a_run_has_nothing_of(modules: None) -> None:
    from benchmarks.results import kept

    tried = "## What was tried\n\nmuch\n\n### And\n\nmore\n"
    earlier = f"# Results\n\nold\n\n## Scale\n\nold\n\n{tried}"
    page = "# Results\n\nnew\n\n## Scale\n\nnew\n"
    assert kept(page, earlier) == f"{page}\n{tried}"
    assert kept(page, "") == page
