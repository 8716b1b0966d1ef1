"""Connected components of ties between channel ids."""

from __future__ import annotations

from typing import Sequence, Tuple

import numpy as np


def connected(count: int, ties: Sequence[Tuple[np.ndarray, np.ndarray]]) -> Tuple[np.ndarray, int]:
    """Labels 0, 1, ... of the components of `count` ids, in the order of their first id.

    Each round hooks every root that has a smaller neighbour below it, then shortens all paths to
    one step; the number of rounds is logarithmic (Shiloach and Vishkin 1982).

    Args:
        count: how many ids there are.
        ties: pairs of equally long id arrays that are one, position by position.

    Returns:
        the labels, int64 of shape (count,), and how many there are.
    """
    parent = np.arange(count)
    if ties:
        first = np.concatenate([tie[0] for tie in ties])
        second = np.concatenate([tie[1] for tie in ties])
        while True:
            low, high = parent[first], parent[second]
            apart = low != high
            if not apart.any():
                break
            first, second = low[apart], high[apart]
            parent = _round(parent, first, second)
    roots, label = np.unique(parent, return_inverse=True)
    return label.reshape(-1), len(roots)


def _round(parent: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Hooks roots onto smaller neighbours and shortens all paths to one step."""
    np.minimum.at(parent, np.maximum(first, second), np.minimum(first, second))
    while True:
        shorter = parent[parent]
        if (shorter == parent).all():
            return parent
        parent = shorter
