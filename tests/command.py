"""Runs the command line in the process of the tests."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, List, NamedTuple

import pytest

from graphslim.cli import console, main


class Result(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Run:
    """Runs a command line in a folder of its own: its words, or all of them in one text."""

    def __init__(self, folder: Path, capsys: Any, monkeypatch: Any) -> None:
        self.folder, self.capsys = folder, capsys
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        for name in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name, raising=False)
        # A console looks at the environment when it is made; that of the tests may set a width.
        monkeypatch.setattr(console, "out", console.Console())
        monkeypatch.setattr(console, "err", console.Console(stderr=True))

    def __call__(self, *arguments: str, status: int = 0) -> Result:
        words = arguments if len(arguments) > 1 else arguments[0].split() if arguments else ()
        with pytest.raises(SystemExit) as caught:
            main(list(words))
        found = Result(int(caught.value.code or 0), *self.capsys.readouterr())
        assert found.status == status, found
        return found

    def files(self) -> List[str]:
        return sorted(os.listdir(str(self.folder)))
