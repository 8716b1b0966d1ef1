"""Folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict

import pytest

from graphslim.errors import EmitError
from graphslim.support import writing as folders
from graphslim.support.writing import replacing_folder

OLD = {"a": "old a", "b": "old b", "sub/c": "old c"}


def fill(folder: Path, files: Dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def held(folder: Path) -> Dict[str, str]:
    found = sorted([path for path in folder.rglob("*") if path.is_file()])
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    fill(tmp_path / "out", OLD)
    return tmp_path / "out"


# --------------------------------------------------------------------------- what is written


@pytest.mark.parametrize("empty", [False, True], ids=["absent", "empty"])
def test_a_new_folder(tmp_path: Path, empty: bool) -> None:
    target = tmp_path / "out"
    if empty:
        target.mkdir()
    with replacing_folder(str(target)) as part:
        fill(Path(part), {"x": "new", "sub/y": "new"})
        assert held(target) == {}
    assert held(target) == {"x": "new", "sub/y": "new"}
    assert os.listdir(tmp_path) == ["out"]


def test_a_folder_is_as_open_as_others(tmp_path: Path) -> None:
    with replacing_folder(str(tmp_path / "out")):
        pass
    (tmp_path / "other").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_folder_that_holds_something_is_left_alone(target: Path) -> None:
    with pytest.raises(EmitError, match=r"not empty, it holds a \(.*force=True"), replacing_folder(
        str(target)
    ):
        pytest.fail("nothing may be begun")
    assert held(target) == OLD


@pytest.mark.parametrize("exchange", [True, False])
def test_with_force_new_files_come_to_the_old(
    target: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    target.chmod(0o700)
    with replacing_folder(str(target), force=True) as part:
        fill(Path(part), {"b": "new b", "sub/d": "new d"})
        assert held(target) == OLD
    assert held(target) == {"a": "old a", "b": "new b", "sub/c": "old c", "sub/d": "new d"}
    assert target.stat().st_mode & 0o777 == 0o700
    assert os.listdir(target.parent) == ["out"]


def test_files_that_stay_are_not_copied(target: Path) -> None:
    before = (target / "a").stat().st_ino
    with replacing_folder(str(target), force=True):
        pass
    assert (target / "a").stat().st_ino == before


def test_files_are_copied_where_there_are_no_links(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: Any, **options: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with replacing_folder(str(target), force=True) as part:
        fill(Path(part), {"b": "new b"})
    assert held(target) == {**OLD, "b": "new b"}


def test_a_link_to_a_folder_is_followed(target: Path) -> None:
    link = target.parent / "link"
    link.symlink_to(target, target_is_directory=True)
    with replacing_folder(str(link), force=True) as part:
        fill(Path(part), {"b": "new b"})
    assert link.is_symlink()
    assert held(target) == {**OLD, "b": "new b"}


def test_links_inside_stay_links(target: Path) -> None:
    (target / "latest").symlink_to("sub", target_is_directory=True)
    with replacing_folder(str(target), force=True):
        pass
    assert os.readlink(str(target / "latest")) == "sub"


# --------------------------------------------------------------------------- what goes wrong


def test_an_error_inside_leaves_all_as_it_was(target: Path) -> None:
    with pytest.raises(RuntimeError, match="the training failed"), replacing_folder(
        str(target), force=True
    ) as part:
        fill(Path(part), {"b": "half"})
        raise RuntimeError("the training failed")
    assert held(target) == OLD
    assert os.listdir(target.parent) == ["out"]


@pytest.mark.parametrize("step", [1, 2])
def test_a_rename_that_fails_leaves_all_as_it_was(
    target: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.rename, []

    def rename(source: str, goal: str) -> None:
        calls.append(goal)
        if len(calls) == step:
            raise OSError(errno.EIO, "the disk failed")
        real(source, goal)

    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    with pytest.raises(
        EmitError, match="out: cannot be written: the disk failed"
    ), replacing_folder(str(target), force=True) as part:
        fill(Path(part), {"b": "new b"})
    assert held(target) == OLD
    assert os.listdir(target.parent) == ["out"]


def test_an_exchange_that_fails_leaves_all_as_it_was(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(one: str, other: str) -> bool:
        raise OSError(errno.EIO, "the disk failed")

    monkeypatch.setattr(folders, "_exchange", fail)
    with pytest.raises(
        EmitError, match="out: cannot be written: the disk failed"
    ), replacing_folder(str(target), force=True) as part:
        fill(Path(part), {"b": "new b"})
    assert held(target) == OLD


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with pytest.raises(EmitError) as told, replacing_folder(str(tmp_path / "out")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "No space left on device" in str(told.value)
    assert "\n" not in str(told.value)
    assert os.listdir(tmp_path) == []


def test_a_disk_that_is_full_when_files_are_flushed(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(EmitError, match="No space left on device"), replacing_folder(
        str(target), force=True
    ) as part:
        fill(Path(part), {"b": "new b"})
    assert held(target) == OLD


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "an empty folder name"),
        ("out/a", "is a file, not a folder"),
        ("gone/out", "the folder around it does not exist"),
        ("/", "cannot be replaced"),
    ],
)
def test_targets_that_cannot_be(
    target: Path, name: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(target.parent)
    with pytest.raises(EmitError, match=told), replacing_folder(name, force=True):
        pytest.fail("nothing may be begun")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write all")
def test_a_folder_that_cannot_be_written_in(target: Path) -> None:
    target.parent.chmod(0o500)
    try:
        with pytest.raises(EmitError, match="is not writable"), replacing_folder(
            str(target), force=True
        ):
            pytest.fail("nothing may be begun")
    finally:
        target.parent.chmod(0o700)


# --------------------------------------------------------------------------- killed

_KILLED = """
import os, signal, sys
from graphslim.support import writing as folders

target, place = sys.argv[1:]

def die(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)

if place in ("_carry_over", "_put", "_sync"):
    setattr(folders, place, die)
elif place == "after":
    folders.shutil.rmtree = die
with folders.replacing_folder(target, force=True) as part:
    for name in ("a", "b"):
        with open(os.path.join(part, name), "w") as file:
            file.write("new " + name)
        if place == "inside":
            die()
"""
_NEW = {**OLD, "a": "new a", "b": "new b"}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a system with signals")
@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("inside", OLD),
        ("_carry_over", OLD),
        ("_sync", OLD),
        ("_put", OLD),
        ("after", _NEW),
    ],
)
def test_killed_at_any_moment(target: Path, place: str, expected: Dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED, str(target), place])
    assert done.returncode == -signal.SIGKILL
    assert held(target) == expected


_FOREVER = """
import itertools, os, sys
from graphslim.support.writing import replacing_folder

for round in itertools.count():
    with replacing_folder(sys.argv[1], force=True) as part:
        for name in range(20):
            with open(os.path.join(part, str(name)), "w") as file:
                file.write(str(round))
    print(round, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a system with signals")
def test_killed_from_outside(tmp_path: Path) -> None:
    """Whatever it was at, all files are of one round."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    if not folders._exchange(str(tmp_path / "one"), str(tmp_path / "other")):
        pytest.skip("this system cannot exchange two folders in one step")
    target = tmp_path / "out"
    for extra in (0.0, 0.003, 0.011):
        shutil.rmtree(str(target), ignore_errors=True)
        with subprocess.Popen(
            [sys.executable, "-c", _FOREVER, str(target)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(extra)
            process.kill()
        found = held(target)
        assert len(found) == 20
        assert len(set(found.values())) == 1
