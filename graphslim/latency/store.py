"""Where latency tables are kept between runs: one file for each network, machine and setting."""

from __future__ import annotations

import hashlib
import os
from typing import Optional, Sequence

from graphslim.errors import EmitError, LoadError
from graphslim.latency.table import Table
from graphslim.support.reading import read_text
from graphslim.support.writing import replacing

VERSION = 1
"""Grows when tables come to mean something else."""


def folder() -> str:
    """The cache folder: below `XDG_CACHE_HOME`, or where the system keeps such things."""
    local = os.environ.get("LOCALAPPDATA") if os.name == "nt" else None
    home = os.environ.get("XDG_CACHE_HOME") or local or os.path.expanduser("~/.cache")
    return os.path.join(home, "graphslim", "latency")


def path_of(key: Sequence[object]) -> str:
    """The file for a key: all that a table depends on."""
    digest = hashlib.sha256("\n".join([str(part) for part in (VERSION, *key)]).encode("utf-8"))
    return os.path.join(folder(), f"{digest.hexdigest()[:32]}.json")


def read(path: str) -> Optional[Table]:
    """The table in a file; None where there is none, or it is damaged."""
    try:
        return Table.from_json(read_text(path))
    except (LoadError, ValueError):
        return None


def write(path: str, table: Table) -> bool:
    """Keeps a table; gives whether it could: without a cache all works, only slower."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with replacing(path) as file:
            file.write(table.to_json().encode("utf-8"))
    except (OSError, EmitError):
        return False
    return True
