"""Numbers and names as they are shown to people, and checks of numbers that people give."""

from __future__ import annotations

import math
import numbers
from typing import Any, Iterable, Optional


def plural(number: int, noun: str) -> str:
    """A count and its noun: `1 channel`, `2 channels`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def threads_used(number: int) -> str:
    """A number of threads, of which 0 stands for as many as there are cores."""
    return plural(number, "thread") if number else "as many threads as cores"


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


def percent(part: float) -> str:
    """A share of a whole that it may exceed: `12.3 %`, `1,260 %`; `100 %` is all of it."""
    if part >= 1:
        return f"{100 * part:,.0f} %"
    text = f"{100 * part:.3g}"
    return "over 99.9 %" if text == "100" else f"{text} %"


def share(before: Optional[int], after: Optional[int]) -> str:
    """The relative change of a number: `-41.4 %`."""
    if not before or after is None:
        return ""
    if after == before:
        return "the same"
    percent = 100 * (after - before) / before
    return f"{percent:+.1f} %" if abs(percent) >= 0.1 else f"{percent:+.2g} %"


def meant(name: str, known: Iterable[str]) -> str:
    """Advice about an unknown name: the known names that are spelled alike, or all of them."""
    import difflib  # only a mistake waits for it

    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=2)
    return f"did you mean {' or '.join(close)}?" if close else f"one of: {', '.join(names)}"


def is_count(value: Any) -> bool:
    """Whether a value is a whole number from 1 on."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 1


def is_share(value: Any) -> bool:
    """Whether a value is a number from 0 to 1."""
    return is_finite(value) and 0 <= float(value) <= 1


def is_finite(value: Any) -> bool:
    """Whether a value is a number, and no infinity or NaN."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that is larger than any float
        return False
