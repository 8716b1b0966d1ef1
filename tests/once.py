"""What is costly to make is made once in a test run, by whichever worker first wants it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Callable

VARIABLE = "GRAPHSLIM_TESTS_ONCE"
"""The environment variable with the folder that all workers of a test run share."""


def made_once(name: str, make: Callable[[Path], None], folder: Path, part: str = "") -> None:
    """Copies files into a folder, which are made once in a test run.

    Args:
        name: of what is made; the same files for the same name.
        make: writes the files into a folder.
        folder: where they are wanted; it is made where it is not there.
        part: the folder of what is made that is wanted; by default all of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shared = os.environ.get(VARIABLE)
    if shared is None:
        with tempfile.TemporaryDirectory() as place:
            make(Path(place))
            _copy(Path(place) / part, folder)
        return
    kept = Path(shared) / "".join([char if char.isalnum() else "_" for char in name])
    if not kept.is_dir():
        made = Path(tempfile.mkdtemp(dir=shared))
        make(made)
        try:
            made.rename(kept)
        except OSError:  # another worker was first
            shutil.rmtree(str(made))
    _copy(kept / part, folder)


def _copy(source: Path, folder: Path) -> None:
    for path in sorted(source.rglob("*")):
        target = folder / path.relative_to(source)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            shutil.copyfile(str(path), str(target))
