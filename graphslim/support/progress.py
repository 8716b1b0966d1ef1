"""How what takes long reports its progress, to whoever draws it."""

from __future__ import annotations

from typing import Callable

Tick = Callable[[int, int, str], None]
"""Told how many steps are done, of how many, and what was done last."""


def silent(done: int, total: int, what: str) -> None:
    """Says nothing."""
