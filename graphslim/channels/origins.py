"""Where the numbers of a graph come from, and which of them count channels.

Beside the numbers of a small integer tensor (`Fact.value`) go their origins, floats: 0 and up for
an element of a constant, which can be rewritten when a width changes; `FIXED` for numbers that
never change, computed from constants or the sizes of axes without ids; and from `FIRST` down for
the size of an axis, either of one that has ids, which changes with them, or of the open first axis
of a batch.
"""

from __future__ import annotations

import bisect
from fractions import Fraction
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.facts import Fact
from graphslim.ir.families import DIVISIONS

FIXED, FIRST = -1.0, -2.0
"""Origins: of numbers that never change, and the first of axes."""


class Counted(NamedTuple):
    """A number that changes with channels: `share` times how many there are of `ids`.

    Without a share it is some other function of them.
    """

    ids: np.ndarray
    share: Optional[Fraction]


class Origins:
    """The origins that one walk has given out, and what stands behind each."""

    def __init__(self) -> None:
        self._starts: List[int] = []
        self._params: List[str] = []
        self._end = 0
        self._sources: List[Optional[Counted]] = []

    def constant(self, param: str, shape: Sequence[int], count: int) -> np.ndarray:
        """New origins for the elements of a constant; float64 of that shape."""
        self._starts.append(self._end)
        self._params.append(param)
        self._end += count
        return np.arange(self._end - count, self._end, dtype=np.float64).reshape(tuple(shape))

    def number(self, ids: np.ndarray) -> float:
        """A new origin, of a number that counts channels; their ids are int64 of shape (n,)."""
        return self.source(Counted(ids, Fraction(1)))

    def source(self, counted: Optional[Counted]) -> float:
        """A new origin: of a number that changes with channels, or of a batch that is open."""
        self._sources.append(counted)
        return FIRST - len(self._sources) + 1

    def counts(self, origins: Any) -> List[Counted]:
        """What those numbers count that count channels."""
        sources = [self._sources[int(FIRST - at)] for at in np.ravel(origins) if at <= FIRST]
        return [counted for counted in sources if counted is not None]

    def counts_in(self, known: Fact) -> List[Tuple[int, Counted]]:
        """The places of the numbers of a tensor that count something, and what they count."""
        if known.origins is None:
            return []
        return [
            (place, counted)
            for place, origin in enumerate(known.origins.ravel().tolist())
            if origin <= FIRST
            for counted in self.counts(origin)
        ]

    def element(self, origin: float) -> Tuple[str, int]:
        """The constant, and the element of it, that an origin of 0 and up stands for."""
        place = bisect.bisect_right(self._starts, origin) - 1
        return self._params[place], int(origin) - self._starts[place]

    def size(self, known: Fact, axis: int) -> float:
        """The origin of the size of an axis."""
        ids, size = known.channels(axis), known.size(axis)
        if ids is not None:
            return self.number(ids)
        return known.batch if axis == 0 and size is None and known.batch is not None else FIXED

    def combined(self, op: str, origins: Any, number: float) -> float:
        """The origin of one number that an op computes from others, NaN if it is unknown."""
        counts = self.counts(origins)
        if not counts:
            return FIXED
        return self.source(_combined(op, counts, number, first=bool(self.counts(origins[:1]))))


def _combined(op: str, counts: Sequence[Counted], number: float, first: bool) -> Counted:
    """What a computed number counts; `first` says whether the first operand counts something."""
    ids, share = counts[0]
    whole = not np.isnan(number) and number == int(number) and len(ids) > 0
    if len(counts) == 1 and share is not None and whole:
        new = Fraction(int(number), len(ids))
        # What a division cut off would not come back: only a count that divides stays a share.
        grows = op in ("Mul", "Prod") and (share.denominator == 1 or new == share)
        if new > 0 and (grows or (op in DIVISIONS and first)):
            return Counted(ids, new)
    return Counted(np.concatenate([counted.ids for counted in counts]), None)


def origin_of(known: Fact, element: int) -> float:
    """Where one number of a tensor comes from."""
    return FIXED if known.origins is None else float(known.origins.item(element))


def origins_of(known: Fact) -> np.ndarray:
    """Where the numbers of a tensor come from; float64 of its shape."""
    if known.origins is not None:
        return known.origins
    return np.full(np.asarray(known.value).shape, FIXED)


def without_repeated(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> List[np.ndarray]:
    """Origins after an op that moves numbers: an element of a constant that it repeats is fixed.

    One element that stands in two places could not be rewritten for one of them alone.

    Args:
        before: the origins of what the op reads; float64 of the inputs' shapes.
        after: those of what it gives, as it moves them; float64 of the outputs' shapes.
    """
    old = np.concatenate([origins.ravel() for origins in before])
    new = np.concatenate([origins.ravel() for origins in after])
    elements, times = np.unique(new[new >= 0], return_counts=True)
    repeated = [at for at, count in zip(elements, times) if count > (old == at).sum()]
    return [np.where(np.isin(origins, repeated), FIXED, origins) for origins in after]


def stays_size(counted: Counted, ids: np.ndarray, label: np.ndarray) -> bool:
    """Whether a number remains the size of an axis whatever channels go.

    Args:
        counted: the number.
        ids: the axis, int64 of shape (size,).
        label: the channel of each id, int64 of shape (ids,).
    """
    share = counted.share
    if share is None:
        return False
    source, times = np.unique(label[counted.ids], return_counts=True)
    target, copies = np.unique(label[ids], return_counts=True)
    return np.array_equal(source, target) and np.array_equal(
        times * share.numerator, copies * share.denominator
    )


def tie_for(counted: Counted, ids: np.ndarray) -> Optional[Tuple[np.ndarray, np.ndarray]]:
    """Two arrays of ids that have to be tied for a number to go on to be the size of an axis.

    `ids` are those of the axis, int64 of shape (n,), and so are the arrays. None if there is no
    such tie.
    """
    source, share = counted.ids, counted.share
    if share is None or not len(ids) or share * len(source) != len(ids):
        return None
    if share == 1:
        return source, ids
    few, many = (source, ids) if share > 1 else (ids, source)
    if len(many) % len(few):
        return None
    times = len(many) // len(few)
    tiled, repeated = np.tile(few, times), np.repeat(few, times)
    if (repeated == many).all() or (many.reshape(-1, times)[:, 0] == few).all():
        return repeated, many
    if (tiled == many).all() or (many[: len(few)] == few).all():
        return tiled, many
    return None
