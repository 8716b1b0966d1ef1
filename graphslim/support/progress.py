"""The callback by which long computations report their progress."""

from __future__ import annotations

from typing import Callable

Tick = Callable[[int, int, str], None]
"""Called with the number of steps done, the number of all steps, and the last step's name."""


def silent(done: int, total: int, step: str) -> None:
    """Shows no progress."""
