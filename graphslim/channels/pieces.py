"""Channels in pieces: runs of neighbours that nothing tells apart, so that one stands for all.

Most ties, pins and marks are of whole axes, and then an axis is one piece, however wide. Where
something takes an axis apart, such as a concatenation, a slice or a shuffle, the pieces are as
fine as that takes, and so are those of all that is tied to it.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np


class Ranges:
    """The ranges of ids that a walk has given out: each is an axis as it was first seen.

    Attributes:
        count: how many ids there are.
        starts: the first id of each range, ascending.
    """

    def __init__(self) -> None:
        self.count = 0
        self.starts: List[int] = []
        self._arrays: Dict[int, Tuple[int, np.ndarray]] = {}

    def new(self, size: int) -> np.ndarray:
        """The next ids; int64 of shape (size,)."""
        ids = np.arange(self.count, self.count + size)
        self._arrays[id(ids)] = len(self.starts), ids
        self.starts.append(self.count)
        self.count += size
        return ids

    def index(self, ids: np.ndarray) -> Optional[int]:
        """Which range an array of ids is, as it was given out; None if it is another array."""
        entry = self._arrays.get(id(ids))
        return None if entry is None else entry[0]


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
