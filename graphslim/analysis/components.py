"""Connected components of ties between channel ids, and numbers to tell sets apart by."""

from __future__ import annotations

from typing import Any, Sequence, Tuple

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
    parent = joined(np.arange(count), ties)
    # A root is the first id of its component, so that counting roots numbers the components.
    number = np.cumsum(parent == np.arange(count)) - 1
    return number[parent], int(number[-1]) + 1 if count else 0


def joined(parent: np.ndarray, ties: Sequence[Tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """For each id the first one of its component, when more ties are added.

    Args:
        parent: the same before that; int64 of shape (count,).
        ties: as for `connected`.
    """
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
    return parent


def _round(parent: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Hooks roots onto smaller neighbours and shortens all paths to one step."""
    np.minimum.at(parent, np.maximum(first, second), np.minimum(first, second))
    while True:
        shorter = parent[parent]
        if (shorter == parent).all():
            return parent
        parent = shorter


def scramble(numbers: Any) -> np.ndarray:
    """Well-spread 64-bit numbers for small ones (SplitMix64, Steele et al. 2014)."""
    x = np.asarray(numbers).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
