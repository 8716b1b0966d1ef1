"""What command-line options take: numbers, shares, lists of numbers, shapes and names."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Tuple

import click


class Finite(click.FloatRange):
    """A number from 0 on, infinity and NaN left out."""

    def __init__(self) -> None:
        super().__init__(0)

    def convert(
        self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]
    ) -> float:
        """The number that a text stands for."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Number(click.ParamType):
    """A finite number, or a percentage of 1: `0.5`, `50%`, `50 %`."""

    name = "number"

    def convert(
        self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]
    ) -> float:
        """The number that a text stands for."""
        text = str(value).strip()
        try:
            number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            self.fail(f"{text!r} is not a number; write 0.5 or 50%", param, ctx)
        if not math.isfinite(number):
            self.fail(f"{text} is not a finite number", param, ctx)
        return number


class Share(Number):
    """A share of a whole: a number from 0 (or just above) to 1, or a percentage.

    Args:
        none: whether 0 is one.
    """

    name = "share"

    def __init__(self, none: bool = False) -> None:
        self._none = none

    def convert(
        self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]
    ) -> float:
        """The share that a text stands for."""
        share = super().convert(value, param, ctx)
        if not (share >= 0 if self._none else share > 0) or share > 1:
            least = "from 0" if self._none else "above 0"
            hint = f"; {value}% is {share / 100:g}" if 1 < share <= 100 else ""
            self.fail(f"{value} is no share {least} to 1 (or 100%){hint}", param, ctx)
        return share


def shapes_of(
    context: click.Context, option: click.Parameter, texts: Tuple[str, ...]
) -> Dict[str, List[Optional[int]]]:
    """Shapes by name, from `NAME=1,224,224,3`; by the empty name where none is given."""
    shapes: Dict[str, List[Optional[int]]] = {}
    for text in texts:
        name, mark, sizes = text.rpartition("=")
        try:
            numbers = [None if size in ("?", "-1") else int(size) for size in sizes.split(",")]
        except ValueError:
            numbers = []
        if (
            not numbers
            or (mark and not name)
            or any(size is not None and size < 1 for size in numbers)
        ):
            raise click.BadParameter(
                f"{text!r} is not of the form NAME=1,224,224,3, or 1,224,224,3 for the only input"
            )
        shapes[name] = numbers
    return shapes


def names_of(context: click.Context, option: click.Parameter, texts: Tuple[str, ...]) -> List[str]:
    """Names, from options that may each hold several between commas."""
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def objects_of(
    context: click.Context, option: click.Parameter, texts: Tuple[str, ...]
) -> List[str]:
    """Names in modules, as `module:NAME,NAME`, unchanged."""
    for text in texts:
        place, _, names = text.rpartition(":")
        if not place or not all(names.split(",")):
            raise click.BadParameter(
                f"{text!r} is not of the form MODULE:NAME or file.py:NAME,NAME"
            )
    return list(texts)


class Numbers(click.ParamType):
    """Several numbers between commas.

    Args:
        counts: how many there may be.
    """

    name = "numbers"

    def __init__(self, *counts: int) -> None:
        self._counts = counts

    def convert(
        self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]
    ) -> Tuple[float, ...]:
        """The numbers that a text stands for."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple([float(text) for text in value.split(",")])
        except ValueError:
            numbers = ()
        if len(numbers) not in self._counts or not all(math.isfinite(number) for number in numbers):
            counts = " or ".join([str(count) for count in self._counts])
            self.fail(f"{value!r} is not {counts} numbers between commas.", param, ctx)
        return numbers


quiet_option = click.option("--quiet", is_flag=True, help="No progress bar.")
"""The option of every command that draws one."""


def whole_number(name: str, least: int, default: Optional[int], text: str) -> Callable[..., Any]:
    """An option that takes a whole number.

    Args:
        name: of the option, with its dashes.
        least: the smallest number that is allowed.
        default: shown in the help; None for an option that may be left out.
        text: what the help says.
    """
    return click.option(
        name,
        type=click.IntRange(least),
        default=default,
        show_default=default is not None,
        metavar="N",
        help=text,
    )
