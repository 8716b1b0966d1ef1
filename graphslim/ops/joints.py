"""Axes that are merged into one, or that one is split into: how their channels hang together.

Where axes of K and D channels are flattened, the position of channels k and d goes if k goes or if
d goes; where an axis is split in K groups of D, a group may go, or the same channel of each group.
Both are one relation between the positions of the flat axis and the channels of its factors.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np

LONGEST_FLAT = 1 << 18
"""Axes that would have more positions together are not followed."""

Ids = Optional[np.ndarray]


class Joint(NamedTuple):
    """An axis whose positions go with the channels of several axes, its factors.

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
        rows = [
            spread(ids, place, self.sizes)
            for place, ids in enumerate(self.factors)
            if ids is not None
        ]
        return np.stack(rows)


def spread(ids: np.ndarray, place: int, sizes: Sequence[int]) -> np.ndarray:
    """The ids of one of several axes at each position of all of them, flattened."""
    grid = [1] * len(sizes)
    grid[place] = -1
    return np.broadcast_to(ids.reshape(grid), sizes).ravel()
