"""Channels in pieces: runs of neighbours that nothing tells apart, so that one stands for all.

Most ties, pins and marks are of whole axes, and then an axis is one piece, however wide. Where
something takes an axis apart, such as a concatenation, a slice or a shuffle, the pieces are as
fine as that takes, and so are those of all that is tied to it.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional

import numpy as np

_BLOCK = 1 << 14
"""How many ids stand in one array in memory at most, if one range has not more."""


class Ranges:
    """The ranges of ids that a walk has given out: each is an axis as it was first seen.

    Attributes:
        count: how many ids there are.
        starts: the first id of each range, ascending.
    """

    def __init__(self) -> None:
        self.count = 0
        self.starts: List[int] = []
        self._arrays: List[np.ndarray] = []
        self._indices: Dict[int, int] = {}
        self._block, self._begin, self._end = np.arange(0), 0, 0

    def new(self, size: int) -> np.ndarray:
        """The next ids; int64 of shape (size,)."""
        start = self.count
        self.count += size
        if self.count > self._end:
            # A view of a longer array takes half of the time, and of the memory.
            self._begin, self._end = start, start + max(size, min(start, _BLOCK), 64)
            self._block = np.arange(self._begin, self._end)
        ids = self._block[start - self._begin : self.count - self._begin]
        self._indices[id(ids)] = len(self.starts)
        self._arrays.append(ids)
        self.starts.append(start)
        return ids

    def index(self, ids: np.ndarray) -> Optional[int]:
        """Which range an array of ids is, as it was given out; None if it is another array."""
        return self._indices.get(id(ids))


class Pieces(NamedTuple):
    """Runs of channels, each a range of labels.

    Attributes:
        starts, sizes: the first label of each piece, ascending, and how many channels it has;
            int64 of shape (pieces,).
    """

    starts: np.ndarray
    sizes: np.ndarray

    def of(self, labels: np.ndarray) -> np.ndarray:
        """The index of the piece that has each channel; int64 of the shape of `labels`."""
        index: np.ndarray = np.searchsorted(self.starts, labels, side="right") - 1
        return index


class Edges:
    """Where pieces have to end.

    Attributes:
        borders: whether a piece begins at a channel; bool of shape (count + 1,).
    """

    def __init__(self, count: int) -> None:
        self.borders = np.zeros(count + 1, bool)
        self.borders[[0, -1]] = True

    def note(self, labels: np.ndarray, cuts: np.ndarray) -> None:
        """Ends pieces where an array of channels does not go on with the next, or is cut.

        Args:
            labels: the channels, int64 of shape (n,).
            cuts: before which of them the array is cut, the first included; bool of shape (n,).
        """
        begins = cuts.copy()
        begins[1:] |= np.diff(labels) != 1
        self.borders[labels[begins]] = True
        self.borders[labels[np.append(begins[1:], True)[: len(labels)]] + 1] = True

    def note_each(self, labels: np.ndarray) -> None:
        """Makes channels, int64 of shape (n,), pieces of their own."""
        self.borders[labels] = self.borders[labels + 1] = True

    def pieces(self) -> Pieces:
        """The pieces."""
        first = np.flatnonzero(self.borders)
        return Pieces(first[:-1], np.diff(first))


def ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Ranges of numbers, one after another.

    Args:
        starts: where each begins; int64 of shape (n,).
        sizes: how long each is; int64 of shape (n,).
    """
    ends = np.cumsum(sizes)
    length = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - ends + sizes, sizes) + np.arange(length)
