"""Numbers as people say them."""

from __future__ import annotations

from typing import Optional


def plural(number: int, noun: str) -> str:
    """A count and its noun: `1 channel`, `2 channels`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def count(number: Optional[int]) -> str:
    """A large number, shortened: `1.64 M`."""
    if number is None:
        return "open size"
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return str(number)


def exact(number: int) -> str:
    """A number in full, and shortened where that helps: `1,644,769  (1.64 M)`."""
    return f"{number:,}" if number < 1000 else f"{number:,}  ({count(number)})"


def share(before: Optional[int], after: Optional[int]) -> str:
    """How much less there is: `-41.4 %`."""
    if not before or after is None:
        return ""
    if after == before:
        return "the same"
    percent = 100 * (after - before) / before
    return f"{percent:+.1f} %" if abs(percent) >= 0.1 else f"{percent:+.2g} %"
