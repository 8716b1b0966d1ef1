"""Names as a page has room for: without what all of them share, or what says nothing."""

from __future__ import annotations

import os
from collections import Counter
from typing import Iterable


class Names:
    """Shortens the names of one network's layers and blocks, each to one that is still its own.

    Args:
        layers: the names of the layers.
        blocks: those of the blocks.
    """

    def __init__(self, layers: Iterable[str], blocks: Iterable[str]) -> None:
        layers = list(layers)
        self._blocks = set(blocks)
        scopes = [name.split("/")[:-1] for name in [*layers, *self._blocks]]
        shared = os.path.commonprefix(scopes) if scopes else []
        self._shared = "".join([f"{scope}/" for scope in shared])
        self._stems = Counter([name.rpartition("/")[0] for name in layers])

    def __call__(self, name: str) -> str:
        """A name without the scopes that all share, and without a `/Conv2D` that tells nothing."""
        short = name[len(self._shared) :] if name.startswith(self._shared) else name
        stem = name.rpartition("/")[0]
        if name in self._blocks or self._stems[stem] != 1 or len(stem) <= len(self._shared):
            return short
        return short.rpartition("/")[0]

    def inside(self, name: str, block: str) -> str:
        """The name of a layer in a block, without the block's."""
        short = self(name)
        start = self(block)
        rest = short[len(start) :] if short.startswith(start) else ""
        return rest[1:] if rest[:1] in ("/", "_") and len(rest) > 1 else short
