"""What is known of a tensor while compiling: its shape, the ids of its channels, its numbers."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

Dims = Optional[Tuple[Optional[int], ...]]
Ids = Optional[np.ndarray]


class Fact(NamedTuple):
    """What is known of a tensor while compiling.

    Attributes:
        shape: sizes per axis, None where open; None as a whole where the rank is open.
        ids: per axis an int64 array of channel ids, one per position, or None; `()` for open rank.
        value: for small integer tensors the numbers, float64, NaN where unknown; else None.
        atoms: beside `value`, where each number stems from (see `analysis.sizes`).
        batch: where the first axis is open, the origin of its size: the same for the same batch.
    """

    shape: Dims = None
    ids: Tuple[Ids, ...] = ()
    value: Optional[np.ndarray] = None
    atoms: Optional[np.ndarray] = None
    batch: Optional[float] = None

    @property
    def rank(self) -> Optional[int]:
        """How many axes there are; None where that is open."""
        return None if self.shape is None else len(self.shape)

    def size(self, axis: int) -> Optional[int]:
        """The size of an axis, None where open."""
        return (
            None
            if self.shape is None or not -len(self.shape) <= axis < len(self.shape)
            else self.shape[axis]
        )

    def channels(self, axis: int) -> Ids:
        """The ids along an axis, None where there are none."""
        return self.ids[axis] if -len(self.ids) <= axis < len(self.ids) else None

    def with_size(self, axis: int, size: Optional[int]) -> Fact:
        """This fact with the size of an axis filled in where it is open."""
        if self.shape is None or self.size(axis) is not None:
            return self
        sizes = list(self.shape)
        sizes[axis] = size
        return self._replace(shape=tuple(sizes))

    def with_ids(self, changes: Dict[int, Ids]) -> Fact:
        """This fact with the ids of some axes replaced."""
        ids = list(self.ids)
        for axis, new in changes.items():
            ids[axis] = new
        return self._replace(ids=tuple(ids))


UNKNOWN = Fact()


def fact(shape: Dims, ids: Optional[Dict[int, Ids]] = None) -> Fact:
    """A fact of that shape with ids on the named axes, which fill in open sizes."""
    if shape is None:
        return UNKNOWN
    sizes: List[Optional[int]] = list(shape)
    per_axis: List[Ids] = [None] * len(shape)
    for axis, array in (ids or {}).items():
        per_axis[axis] = array
        if array is not None:
            sizes[axis] = len(array)
    return Fact(tuple(sizes), tuple(per_axis))
