"""What is known of a tensor while compiling: its shape, the ids of its channels, its numbers."""

from __future__ import annotations

from itertools import zip_longest
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.ir import Node

Dims = Optional[Tuple[Optional[int], ...]]
"""Sizes per axis, None where open; None as a whole where the rank is open."""
Ids = Optional[np.ndarray]
"""The channel ids along one axis, int64 of shape (size,); None where channels are not followed."""
Axis = Tuple[Optional[int], Ids]
"""The size of an axis, and its ids."""
LONGEST, LONGEST_FLAT = 1 << 22, 1 << 18
"""Axes of more positions are pinned, and so are axes that have more when flattened together."""
LAID_OUT = 1 << 24
"""Known values that stand for more elements than this are not laid out: they count as unknown."""


class Fact(NamedTuple):
    """What is known of a tensor while compiling; a channel rule reads these and returns them.

    Facts are never changed: `with_ids`, `with_size`, `without_value` and `picked` make new ones,
    and so do `Fact(shape, ids)` and `Fact.of(axes)`, for a tensor of another shape.

    Attributes:
        shape: sizes per axis, None where open; None as a whole where the rank is open.
        ids: per axis an int64 array of channel ids, one per position, or None where the channels
            of an axis are not followed; `()` for open rank. Two positions with one id, anywhere in
            the graph, are one channel: a rule that hands an array on says that an axis of its
            output has the very channels of an axis of its input.
        value: for small integer tensors the numbers, float64, NaN where unknown; else None.
        origins: beside `value`, where each number stems from (see `channels.origins`).
        batch: where the first axis is open, the origin of its size: the same for the same batch.
    """

    shape: Dims = None
    ids: Tuple[Ids, ...] = ()
    value: Optional[np.ndarray] = None
    origins: Optional[np.ndarray] = None
    batch: Optional[float] = None

    @classmethod
    def of(cls, axes: Iterable[Axis]) -> Fact:
        """The fact of a tensor with these axes."""
        pairs = list(axes)
        return cls(tuple([size for size, _ in pairs]), tuple([ids for _, ids in pairs]))

    def picked(self, axes: Sequence[int]) -> Fact:
        """The fact of a tensor that has these axes alone, in this order; the rank is known."""
        shape, ids = self.shape or (), self.ids
        batch = self.batch if axes and axes[0] == 0 else None
        return Fact(
            tuple([shape[axis] for axis in axes]), tuple([ids[axis] for axis in axes]), batch=batch
        )

    @property
    def rank(self) -> Optional[int]:
        """How many axes there are; None where that is open."""
        return None if self.shape is None else len(self.shape)

    def size(self, axis: int) -> Optional[int]:
        """The size of an axis, None where open."""
        known = self.shape is not None and -len(self.shape) <= axis < len(self.shape)
        return self.shape[axis] if known and self.shape is not None else None

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

    def without_value(self) -> Fact:
        """This fact for a tensor of the same shape and channels that holds other numbers."""
        return self._replace(value=None, origins=None)

    def with_ids(self, changes: Dict[int, Ids]) -> Fact:
        """This fact with the ids of some axes replaced."""
        ids = list(self.ids)
        for axis, new in changes.items():
            ids[axis] = new
        return self._replace(ids=tuple(ids))


UNKNOWN = Fact()


def checked(given: Fact) -> Fact:
    """A fact that the rule of an extension gave, with ids for each axis.

    Raises:
        ValueError: it contradicts itself.
    """
    shape, ids = given.shape, given.ids
    if shape is None:
        if any([array is not None for array in ids]):
            raise ValueError("a Fact of open rank has no ids")
        return given
    ids = tuple(ids) or (None,) * len(shape)
    if len(ids) != len(shape):
        raise ValueError(f"a Fact of {len(shape)} axes has ids for {len(ids)}; None for no ids")
    for axis, (size, array) in enumerate(zip(shape, ids)):
        if size is not None and not (isinstance(size, (int, np.integer)) and size >= 0):
            raise ValueError(f"axis {axis} of a Fact has the size {size!r}")
        if array is None:
            continue
        if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind != "i":
            raise ValueError(f"the ids of axis {axis} of a Fact are no vector of ids of an input")
        if size is not None and len(array) != size:
            raise ValueError(f"axis {axis} of a Fact has the size {size} and {len(array)} ids")
    return given._replace(shape=tuple(shape), ids=ids)


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


def laid_behind(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Ids one behind another, int64 of shape (n,); the only array that has any as it came."""
    wide = [ids for ids in arrays if len(ids)]
    return wide[0] if len(wide) == 1 else np.concatenate(arrays)


def axes_of(rank: Optional[int]) -> Fact:
    """A fact of that many axes, of which nothing is known; of open rank for None."""
    return UNKNOWN if rank is None else Fact((None,) * rank, (None,) * rank)


def product(sizes: Sequence[Optional[int]]) -> Optional[int]:
    """The product of sizes, None if one is open."""
    total = 1
    for size in sizes:
        if size is None:
            return None
        total *= size
    return total


def sizes_of(numbers: np.ndarray) -> List[Optional[int]]:
    """The sizes that numbers state, float64 of any shape; None for NaN and for -1."""
    return [int(number) if number >= 0 else None for number in numbers.ravel()]


def channel_axis(node: Node) -> int:
    """The channel axis that a `data_format` attribute names: 1 for NCHW, else the last."""
    return 1 if node.text("data_format", "NHWC").startswith("NC") else -1


def spatial_axes(node: Node) -> Tuple[int, int]:
    """The height and width axes that a `data_format` attribute names."""
    return (2, 3) if channel_axis(node) == 1 else (1, 2)


def known(value: Optional[np.ndarray]) -> Optional[np.ndarray]:
    """A value, float64 of any shape, if all of it is known; None if an element is NaN."""
    return None if value is None or np.isnan(value).any() else value


def per_channel(value: Optional[np.ndarray], axis: int, width: int) -> np.ndarray:
    """Values along an axis, NaN where unknown or varying along another; float64 of (width,)."""
    if value is None or (value.size != 1 and value.shape[axis] != value.size):
        return np.full(width, np.nan)
    if value.size not in (1, width):
        return np.full(width, np.nan)
    return np.broadcast_to(value.ravel(), (width,)).astype(np.float64)


def integers(known_fact: Fact) -> Optional[List[int]]:
    """The numbers of an integer tensor if all are known, flat."""
    value = known(known_fact.value)
    return None if value is None else [int(number) for number in value.ravel()]


# --- Limits. What a few bytes can state, an axis of a billion positions, may not cost more than the
# file that states it: this is asked before anything is laid out at a size that was only stated.


def fits(limit: int, *sizes: Optional[int]) -> bool:
    """Whether the product of sizes is within a limit; open sizes count as 1."""
    total = 1
    for size in sizes:
        total *= 1 if size is None else size
    return total <= limit


def fit_together(*values: np.ndarray) -> bool:
    """Whether what values are broadcast to is small, or no larger than the largest of them."""
    shapes = [value.shape[::-1] for value in values]
    sizes = [max(sizes) for sizes in zip_longest(*shapes, fillvalue=1)]
    return fits(max(LAID_OUT, *[value.size for value in values]), *sizes)


def laid_out(
    value: Optional[np.ndarray], shape: Optional[Sequence[Optional[int]]]
) -> Optional[np.ndarray]:
    """A value at its full shape, of the same element type.

    None where there is no value, where a size is open, or where that is much larger.
    """
    sizes = tuple([size for size in shape or () if size is not None])
    if value is None or shape is None or len(sizes) < len(shape):
        return None
    if value.shape == sizes:
        return value
    if value.size != product(sizes) and not fits(LAID_OUT, *sizes):
        return None
    whole: np.ndarray = np.broadcast_to(value, sizes)
    return whole


# --- Axes that are merged into one, or that one is split into.


class Joint(NamedTuple):
    """An axis whose positions go with the channels of several axes, its factors.

    Where axes of K and D channels are flattened, the position of channels k and d goes if k goes
    or if d goes; where an axis is split in K groups of D, a group may go, or the same channel of
    each group. Both are one relation between the positions of the flat axis and the channels of
    its factors.

    Attributes:
        node: the op that merges or splits.
        flat: ids of the flat axis, row-major over the factors; shape (n,).
        sizes: of the factors; their product is n.
        factors: ids of each factor, shape (size,); None for one whose positions all stay.
        preferred: where one factor alone may lose channels, as for an axis that is split, the
            index of the one that should; None where each may.
    """

    node: str
    flat: np.ndarray
    sizes: Tuple[int, ...]
    factors: Tuple[Ids, ...]
    preferred: Optional[int] = None

    def owners(self) -> np.ndarray:
        """For each factor that has ids, its channel at each position; shape (factors, n)."""
        factors = [(place, ids) for place, ids in enumerate(self.factors) if ids is not None]
        return np.stack([spread(ids, place, self.sizes) for place, ids in factors])


def spread(ids: np.ndarray, place: int, sizes: Sequence[int]) -> np.ndarray:
    """The ids of one of several axes, at each position of all of them.

    Args:
        ids: of the axis, int64 of shape (sizes[place],).
        place: which of the axes it is.
        sizes: of all the axes.

    Returns:
        int64 of shape (product of sizes,).
    """
    grid = [1] * len(sizes)
    grid[place] = -1
    return np.broadcast_to(ids.reshape(grid), sizes).ravel()
