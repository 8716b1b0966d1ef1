"""Tables of the times of layers at several widths: interpolated, and cached in files."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.errors import EmitError, LoadError
from graphslim.measure.timed_layers import TimedLayer
from graphslim.support.reading import read_text
from graphslim.support.writing import replacing

VERSION = 2
"""The version of the tables' meaning, which is a part of the cache's keys."""


class Row(NamedTuple):
    """The times of one layer.

    Attributes:
        reads, makes: the widths measured, in ascending order; if a layer reads and makes the same
            channels, `makes` holds only their number.
        ms: milliseconds; shape (len(reads), len(makes)).
    """

    reads: Tuple[int, ...]
    makes: Tuple[int, ...]
    ms: Tuple[Tuple[float, ...], ...]

    def at(self, reads: int, makes: int) -> float:
        """Milliseconds at a width, interpolated; outside the measured range, those of its end."""
        along = [np.interp(makes, self.makes, line) for line in self.ms]
        return float(np.interp(reads, self.reads, along))

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Row:
        """A row from the tree that `Table.to_json` wrote.

        Raises:
            ValueError: the number of times is not that of the widths.
        """
        reads, makes = [tuple([int(width) for width in tree[key]]) for key in ("reads", "makes")]
        ms = tuple([tuple([float(number) for number in line]) for line in tree["ms"]])
        if not reads or not makes or [len(line) for line in ms] != [len(makes)] * len(reads):
            raise ValueError("a row has not as many times as widths")
        return cls(reads, makes, ms)


class Table(NamedTuple):
    """The time of a network on this machine, layer by layer.

    Attributes:
        rows: by the layer's name, its times.
        rest: milliseconds of the network outside of all layers, which no pruning saves.
    """

    rows: Mapping[str, Row]
    rest: float

    def predict(self, layers: Sequence[TimedLayer], gone: np.ndarray) -> float:
        """Milliseconds that the network should take without some channels.

        Args:
            layers: the layers of the graph that the table was made for.
            gone: which channels are removed; bool of shape (channels.count,).
        """
        timed = [layer for layer in layers if layer.name in self.rows]
        return sum([self.rows[layer.name].at(*_width(layer, gone)) for layer in timed], self.rest)

    def to_json(self) -> str:
        """The table as text."""
        rows = {name: row._asdict() for name, row in self.rows.items()}
        return json.dumps({"rest": self.rest, "rows": rows}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Table:
        """Reads a table that `to_json` wrote.

        Raises:
            ValueError: the text is not such a table, or is damaged.
        """
        try:
            tree = json.loads(text)
            rows = {name: Row.from_json(item) for name, item in tree["rows"].items()}
            return cls(rows, float(tree["rest"]))
        except (LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"no latency table: {error}") from None


# --- The cache: one file for each network, machine and setting.


def folder() -> str:
    """The cache folder: below `XDG_CACHE_HOME`, or in the system's folder for caches."""
    local = os.environ.get("LOCALAPPDATA") if os.name == "nt" else None
    home = os.environ.get("XDG_CACHE_HOME") or local or os.path.expanduser("~/.cache")
    return os.path.join(home, "graphslim", "latency")


def path_of(key: Sequence[object]) -> str:
    """The file for a key, which holds everything that a table depends on."""
    digest = hashlib.sha256("\n".join([str(part) for part in (VERSION, *key)]).encode("utf-8"))
    return os.path.join(folder(), f"{digest.hexdigest()[:32]}.json")


def read(path: str) -> Optional[Table]:
    """The table in a file; None if the file does not exist or is damaged."""
    try:
        return Table.from_json(read_text(path))
    except (LoadError, ValueError):
        return None


def write(path: str, table: Table) -> bool:
    """Writes a table to the cache; returns False if that fails, since the cache is optional."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with replacing(path) as file:
            file.write(table.to_json().encode("utf-8"))
    except (OSError, EmitError):
        return False
    return True


def _width(layer: TimedLayer, gone: np.ndarray) -> Tuple[int, int]:
    """How many channels a layer reads and makes without the removed ones, as its row has them."""
    reads, *makes = [int(np.count_nonzero(~gone[labels])) for labels in layer.sides]
    return reads, makes[0] if makes else len(layer.sides[0])
