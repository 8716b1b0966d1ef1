"""The console that results for people are printed on, and its tables."""

from __future__ import annotations

import os
from typing import Any, Iterable, Sequence

import rich.console
from rich.table import Table
from rich.text import Text

from graphslim.words import visible

_WIDE = 10_000
"""Width of what is no terminal, so that no line is cut."""


class Console(rich.console.Console):
    """A console for plain text: no markup, and no line is cut where no terminal shows it."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    @property  # type: ignore[misc]  # rich has a setter too, which nothing here needs
    def size(self) -> rich.console.ConsoleDimensions:
        """The terminal's, or a width that nothing reaches."""
        found = super().size
        if self.is_terminal or "COLUMNS" in os.environ:
            return found
        return rich.console.ConsoleDimensions(_WIDE, found.height)

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints; of texts, which may hold names from a file, no control character gets through."""
        shown = [visible(one, keep="\n") if isinstance(one, str) else one for one in objects]
        super().print(*shown, **options)

    def on_broken_pipe(self) -> None:
        """Leaves it to the command line to end quietly, where rich would exit with status 1."""
        raise BrokenPipeError


def print_table(
    console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    """A table; columns whose name begins with `>` hold numbers, and are never wrapped."""
    console.print(Text(title, style="bold"))
    table = Table()
    for name in columns:
        number = name.startswith(">")
        table.add_column(
            name.lstrip(">"),
            justify="right" if number else "left",
            no_wrap=number,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*[Text(visible(cell, keep="\n")) for cell in row])
    console.print(table)


def print_times(console: Console, seconds: Iterable[Sequence[Any]]) -> None:
    """What each pass took."""
    for name, time in seconds:
        console.print(f"{1000 * time:9.1f} ms  {name}")
