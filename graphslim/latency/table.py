"""What each layer takes at several widths, as measured; the times between are interpolated."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from graphslim.latency.layers import Layer

SHARES = (0.75, 0.5, 0.25)
"""Of a layer's channels, the widths that are measured, beside all of them and the fewest."""


class Row(NamedTuple):
    """One layer of a table.

    Attributes:
        reads, makes: the widths measured, growing; `makes` has one entry, how many channels there
            are, where a layer reads and makes the same channels.
        ms: milliseconds; shape (len(reads), len(makes)).
    """

    reads: Tuple[int, ...]
    makes: Tuple[int, ...]
    ms: Tuple[Tuple[float, ...], ...]

    def at(self, reads: int, makes: int) -> float:
        """Milliseconds at a width, interpolated; beyond the widths measured, as at the nearest."""
        along = [np.interp(makes, self.makes, line) for line in self.ms]
        return float(np.interp(reads, self.reads, along))


class Table(NamedTuple):
    """What a network takes on this machine, layer by layer.

    Attributes:
        rows: by the layer's name.
        rest: milliseconds of the whole that no layer accounts for, which stay whatever goes.
    """

    rows: Mapping[str, Row]
    rest: float

    def predict(self, layers: Sequence[Layer], gone: np.ndarray) -> float:
        """Milliseconds that the network should take without some channels.

        Args:
            layers: the layers of the graph that the table was made for.
            gone: which channels go; bool of shape (channels.count,).
        """
        total = self.rest
        for layer in layers:
            row = self.rows.get(layer.name)
            if row is not None:
                total += row.at(*width(layer, gone))
        return total

    def to_json(self) -> str:
        """The table as text."""
        rows = {name: row._asdict() for name, row in self.rows.items()}
        return json.dumps({"rest": self.rest, "rows": rows}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Table:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: it is something else, or damaged.
        """
        try:
            tree = json.loads(text)
            rows = {name: _row(item) for name, item in tree["rows"].items()}
            return cls(rows, float(tree["rest"]))
        except (LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"no latency table: {error}") from None


def _row(item: Dict[str, Any]) -> Row:
    reads, makes = [tuple([int(one) for one in item[key]]) for key in ("reads", "makes")]
    ms = tuple([tuple([float(one) for one in line]) for line in item["ms"]])
    if not reads or not makes or [len(line) for line in ms] != [len(makes)] * len(reads):
        raise ValueError("a row has not as many times as widths")
    return Row(reads, makes, ms)


def width(layer: Layer, gone: np.ndarray) -> Tuple[int, int]:
    """How many channels a layer reads and makes without some channels."""
    if layer.tied:
        both = np.union1d(layer.reads, layer.makes)
        return int(np.count_nonzero(~gone[both])), len(both)
    return int(np.count_nonzero(~gone[layer.reads])), int(np.count_nonzero(~gone[layer.makes]))


def widths(labels: np.ndarray, pinned: np.ndarray, multiple: int) -> List[int]:
    """The widths to measure along one side of a layer, growing.

    Args:
        labels: its channels.
        pinned: which channels of the graph stay; bool of shape (channels.count,).
        multiple: widths but the full one are multiples of this, rounded up, as plans keep them.
    """
    full, least = len(labels), int(np.count_nonzero(pinned[labels]))
    if full in (0, least):
        return [full]
    found = {full, min(full, max(least, multiple))}
    for share in SHARES:
        kept = max(least, -(-int(full * share) // multiple) * multiple, multiple)
        found.add(min(full, kept))
    return sorted(found)


def without(layer: Layer, pinned: np.ndarray, reads: int, makes: int) -> np.ndarray:
    """The channels that go for a layer to have a width: the last ones that may."""
    gone = np.zeros(len(pinned), bool)
    sides = (
        [(np.union1d(layer.reads, layer.makes), reads)]
        if layer.tied
        else [(layer.reads, reads), (layer.makes, makes)]
    )
    for labels, kept in sides:
        free = labels[~pinned[labels]]
        gone[free[max(0, len(free) - (len(labels) - kept)) :]] = True
    return gone
