"""What is costly to make is made once in a test run, by whichever worker first wants it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Callable

VARIABLE = "GRAPHSLIM_TESTS_ONCE"
"""The environment variable with the folder that all workers of a test run share."""


def made_once(name: str, make: Callable[[Path], None], folder: Path) -> None:
    """Copies files into a folder, which are made once in a test run.

    Args:
        name: of what is made; the same files for the same name.
        make: writes the files into a folder.
        folder: where they are wanted; it is made where it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shared = os.environ.get(VARIABLE)
    if shared is None:
        make(folder)
        return
    kept = Path(shared) / "".join([char if char.isalnum() else "_" for char in name])
    if not kept.is_dir():
        part = Path(tempfile.mkdtemp(dir=shared))
        make(part)
        try:
            part.rename(kept)
        except OSError:  # another worker was first
            shutil.rmtree(str(part))
    for path in sorted(kept.rglob("*")):
        target = folder / path.relative_to(kept)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            shutil.copyfile(str(path), str(target))
