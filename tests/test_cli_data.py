"""What commands say of the inputs that they feed, and the options of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command import Run
from pictured import images
from tiny import tiny

import graphslim as gs

NET = """
    x = input ?,8,6,3
    w = f32[3,3,3,8]{random 1}
    conv = Conv2D(x, w)
    relu = Relu(conv)
    v = f32[1,1,8,2]{random 2}
    y = Conv2D(relu, v)
"""
PLAN = "plan net.pb -o p.json --criterion activation --ratio 0.5 --multiple-of 1 --data "


@pytest.fixture(name="run")
def command_line(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Run:
    gs.save(tiny(NET), str(tmp_path / "net.pb"))
    images(tmp_path / "photos", 3)
    return Run(tmp_path, capsys, monkeypatch)


def settings(run: Run) -> Any:
    return json.loads((run.folder / "p.json").read_text())["settings"]


@pytest.mark.parametrize("command", ["plan", "prune", "apply", "verify", "bench", "optimize"])
def test_every_command_that_runs_a_graph_takes_images(run: Run, command: str) -> None:
    help_text = run(f"{command} --help").out
    for option in ("--data", "--image-range", "--mean", "--scale", "--bgr", "--crop", "--limit"):
        assert option in help_text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--crop", "--crop: is for images, and there is no --data"),
        ("--data photos --image-range 1", "'1' is not 2 numbers between commas"),
        ("--data photos --mean 1,2", "'1,2' is not 1 or 3 numbers between commas"),
        ("--data photos --mean 1 --image-range 0,1", "excludes --mean and --scale"),
        ("--data nowhere", "nowhere: no such file"),
        ("--data nowhere.jpg", "nowhere.jpg: no such file"),
    ],
)
def test_options_that_make_no_sense_are_told(run: Run, options: str, told: str) -> None:
    found = run(f"prune net.pb -o out.pb {options}", status=2)
    assert told in " ".join(found.err.split()) and run.files() == ["net.pb", "photos"]


@pytest.mark.tf
def test_a_plan_records_what_it_was_made_from(run: Run) -> None:
    pytest.importorskip("tensorflow")
    found = run(PLAN + "photos")
    first = settings(run)
    assert found.err.count("data: 3 images from photos, stretched to 8x6, RGB, pixels scaled") == 1
    assert "inputs" not in first and first["data"]["examples"] == 3
    assert len(first["data"]["sha256"]) == 64
    (run.folder / "photos").rename(run.folder / "moved")
    run(PLAN + "moved")
    assert settings(run) == first
    run(PLAN + "moved --image-range 0,1")
    other = settings(run)["data"]
    assert other["sha256"] == first["data"]["sha256"]
    assert other["preprocessing"]["formula"] == "pixels scaled to 0..1"
    run(PLAN + "moved --limit 2")
    assert settings(run)["data"]["sha256"] != first["data"]["sha256"]


@pytest.mark.tf
def test_what_is_fed_is_told_once(run: Run) -> None:
    pytest.importorskip("tensorflow")
    (run.folder / "photos" / "broken.jpg").write_bytes(b"no image")
    found = run(
        "prune net.pb -o out.pb --criterion taylor --ratio 0.5 --multiple-of 1 --data photos"
    )
    assert found.err.count("data: 3 images") == 1
    assert found.err.count("caution: 1 of 4 images could not be read: photos/broken.jpg") == 1
    assert "data: 1 image from" in run("verify net.pb net.pb --data photos/000.png").err
    timed = run("bench net.pb net.pb --runs 1 --warmup 0 --data photos/000.png")
    assert "data: 1 image from photos/000.png" in timed.err


@pytest.mark.tf
def test_a_training_phase_is_told_with_random_inputs_too(run: Run) -> None:
    pytest.importorskip("tensorflow")
    text = NET + "    phase = Placeholder() dtype=bool shape=<>\n    on = Identity(phase) T=bool\n"
    gs.save(tiny(text), str(run.folder / "phase.pb"))
    found = run("verify phase.pb phase.pb --outputs y,on")
    assert found.err.count("input phase is fed with False (inference)") == 1
    assert "phase" in run("verify phase.pb phase.pb --outputs y,on --data photos").err


def test_the_next_step_takes_images_as_they_were_taken(run: Run) -> None:
    given = "--data photos/000.png --mean 127.5 --scale 0.0078125 --limit 1 --bgr --crop"
    found = run(f"prune net.pb -o out.pb --no-verify {given}")
    assert f" --criterion taylor {given} --macs 0.5\n" in found.out
    found = run("prune net.pb -o out.pb --no-verify --data photos/000.png --image-range -1,0.5")
    assert " --data photos/000.png --image-range -1.0,0.5 --macs 0.5\n" in found.out
