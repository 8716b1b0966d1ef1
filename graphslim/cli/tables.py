"""Tables and lists of names that stay legible in a narrow terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from graphslim.cli.console import Console
from graphslim.errors import visible
from graphslim.support.text import count, share

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_LEGIBLE = 24
"""The smallest width of a column of names or texts before the table changes its form."""
_GAP = 2
"""Blanks between the columns of a table without a frame."""
_ARROW, _TURN = " => ", "\n=> "


def shape_text(shape: Optional[Sequence[Optional[int]]]) -> str:
    """A shape as `1x224x224x3`, with `?` for a size that is open."""
    if shape is None:
        return "open shape"
    return "x".join(["?" if size is None else str(size) for size in shape]) or "scalar"


class _Column(NamedTuple):
    """A column of a table: its kind (see `print_table`), its heading and its cells."""

    kind: str
    heading: str
    cells: Tuple[str, ...]

    @property
    def natural(self) -> int:
        """The width at which nothing is wrapped."""
        return max([cell_len(text) for text in (self.heading, *self.cells)])

    @property
    def least(self) -> int:
        """The smallest width at which it can be read."""
        if self.kind == "<":
            return _least_distinct(self.cells, self.natural)
        lines = [line for cell in self.cells for line in cell.replace(_ARROW, _TURN).split("\n")]
        least = max([cell_len(line) for line in [self.heading, *lines]])
        return least if self.kind == ">" else min(least, _LEGIBLE)

    def fitted(self, width: int) -> List[Text]:
        """The cells at a width: names lose their beginning, `old => new` takes two lines."""
        cells = self.cells
        if self.kind == "<":
            cells = tuple([elided(cell, width) for cell in cells])
        elif width < self.natural:
            cells = tuple([cell.replace(_ARROW, _TURN) for cell in cells])
        from rich.text import Text

        return [Text(cell) for cell in cells]


def print_table(
    console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    """Prints a table that stays legible in a narrow terminal.

    A table that is too wide loses its frame; its names lose the scope that they all share, which is
    printed in the title, and then their beginnings. If that is not enough, the names of the first
    column become lines of their own, each above the other cells of its row.

    Args:
        console: the console.
        title: the line above the table.
        columns: the headings. The first column holds names, as does a column whose heading begins
            with `<`. A column with `>` holds numbers, which are wrapped at ` => ` only. A column
            with `+` may move up to the line of the row's name.
        rows: the cells, one for each column.
    """
    table: List[_Column] = []
    cells = list(zip(*rows)) or [()] * len(columns)
    for index, name in enumerate(columns):
        kind = name[0] if name[:1] in ("<", ">", "+") else ""
        shown = tuple([visible(cell, keep="\n") for cell in cells[index]])
        table.append(_Column(kind if index else "<", name.lstrip("<>+"), shown))
    natural = [column.natural for column in table]
    if sum(natural) + 3 * len(table) + 1 <= console.width:
        console.print(title, style="bold")
        if console.is_plain and table[0].cells:
            _print_plain(console, table, natural)
        else:
            from rich.table import Table

            console.rich.print(_filled(Table(), table, natural))
        return
    table, scope = _without_scope(table)
    console.print(f"{title} (names in {scope})" if scope else title, style="bold")
    widths, fits = _widths(table, console.width - _GAP * (len(table) - 1))
    if fits:
        console.rich.print(_filled(_frameless(), table, widths))
    else:
        _print_under_names(console, table)
    console.print()


def print_changes(
    console: Console,
    title: str,
    numbers: Iterable[Tuple[str, Optional[int], Optional[int]]],
    sides: Tuple[str, str] = ("before", "after"),
) -> None:
    """Prints a table of large numbers on two sides, and how they changed.

    Args:
        console: the console.
        title: the line above the table.
        numbers: for each row its name and both numbers; None where an input's size is open.
        sides: the headings of the two.
    """
    rows = [(name, count(old), count(new), share(old, new)) for name, old, new in numbers]
    print_table(console, title, ("", *[f">{side}" for side in sides], ">change"), rows)


def _print_plain(console: Console, table: Sequence[_Column], widths: Sequence[int]) -> None:
    """Prints a table as rich would, and a good deal faster."""

    def ruled(left: str, line: str, between: str, right: str) -> str:
        return left + between.join([line * (width + 2) for width in widths]) + right

    def filled(edge: str, texts: Sequence[str]) -> List[str]:
        parts = [text.split("\n") for text in texts]
        lines = [
            [part[at] if at < len(part) else "" for part in parts]
            for at in range(max(map(len, parts)))
        ]
        return [edge + edge.join(map(padded, line, table, widths)) + edge for line in lines]

    def padded(text: str, column: _Column, width: int) -> str:
        if column.kind == ">":
            text = text.rstrip()
            return f" {' ' * (width - cell_len(text))}{text} "
        return f" {text}{' ' * (width - cell_len(text))} "

    lines = [ruled("┏", "━", "┳", "┓"), *filled("┃", [column.heading for column in table])]
    lines.append(ruled("┡", "━", "╇", "┩"))
    for row in zip(*[column.cells for column in table]):
        lines += filled("│", row)
    for line in [*lines, ruled("└", "─", "┴", "┘")]:
        console.print(line, soft_wrap=True)


def _frameless(header: bool = True) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    box = SIMPLE_HEAD if header else None
    return Table(
        box=box,
        show_header=header,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1 if header else _GAP, 0, 0),
    )


def _filled(frame: Table, columns: Sequence[_Column], widths: Sequence[int]) -> Table:
    """A table of some columns at some widths."""
    for column, width in zip(columns, widths):
        frame.add_column(
            column.heading,
            justify="right" if column.kind == ">" else "left",
            width=width,
            overflow="fold",
        )
    for row in zip(*[column.fitted(width) for column, width in zip(columns, widths)]):
        frame.add_row(*row)
    return frame


def _print_under_names(console: Console, table: Sequence[_Column]) -> None:
    """The rows of a table, the name of each on a line of its own."""
    from rich.padding import Padding

    heads = [table[0], *[column for column in table[1:] if column.kind == "+"]]
    body_columns = [column for column in table[1:] if column.kind != "+"]
    widths, _ = _widths(body_columns, console.width - _GAP * len(body_columns))
    names = [[column.heading for column in heads], *zip(*[column.cells for column in heads])]
    body = [column._replace(cells=(column.heading, *column.cells)) for column in body_columns]
    lines = zip(*[column.fitted(width) for column, width in zip(body, widths)])
    for number, (name, line) in enumerate(zip(names, lines)):
        beside = "".join([f"  {text}" for text in name[1:] if text])
        shown = elided(name[0], max(console.width - cell_len(beside), _LEGIBLE)) + beside
        console.print(shown, style=None if number else "bold")
        grid = _filled(
            _frameless(False), [column._replace(cells=()) for column in body_columns], widths
        )
        grid.add_row(*line)
        console.rich.print(Padding(grid, (0, 0, 0, _GAP)))
        if not number:
            console.rich.rule(style="none")


def _widths(columns: Sequence[_Column], room: int) -> Tuple[List[int], bool]:
    """The width of each column, and whether all of them can be read.

    Each column gets the least that it needs; the room left goes to the narrowest that need more.
    """
    widths = [column.least for column in columns]
    natural = [column.natural for column in columns]
    for _ in range(room - sum(widths)):
        wanting = [index for index, width in enumerate(widths) if width < natural[index]]
        if not wanting:
            break
        widths[min(wanting, key=widths.__getitem__)] += 1
    return widths, sum(widths) <= room


def _without_scope(table: Sequence[_Column]) -> Tuple[List[_Column], str]:
    """The columns without the scope that all names are in, and that scope."""
    names = [cell for column in table if column.kind == "<" for cell in column.cells if cell]
    scope = os.path.commonprefix(names)
    scope = scope[: scope.rfind("/") + 1] if len(set(names)) > 1 else ""
    if not scope:
        return list(table), ""
    return [
        column._replace(cells=tuple([cell[len(scope) :] for cell in column.cells]))
        if column.kind == "<"
        else column
        for column in table
    ], scope


def cell_len(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii() and text.isprintable():
        return len(text)
    from rich.cells import cell_len as measured

    return measured(text)


def elided(name: str, width: int) -> str:
    """The end of a name, which tells more than its beginning, in so many columns."""
    if cell_len(name) <= width:
        return name
    return "..." + name[-max(width - 3, 1) :]


def _least_distinct(names: Sequence[str], natural: int) -> int:
    """The smallest legible width at which names that differ still do when they are elided."""
    several = set(names)
    for width in range(min(_LEGIBLE, natural), natural):
        if len({elided(name, width) for name in several}) == len(several):
            return width
    return natural


def print_pairs(console: Console, pairs: Iterable[Tuple[str, str]]) -> None:
    """Prints names with a text each, which is wrapped beside its name."""
    import textwrap

    listed = [(visible(name), visible(text)) for name, text in pairs]
    indent = max([cell_len(name) for name, _ in listed] or [0]) + _GAP
    for name, text in listed:
        lines = textwrap.wrap(
            text,
            max(console.width - indent, _LEGIBLE),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for index, line in enumerate(lines or [""]):
            shown = f"{'' if index else name:{indent}}{line}".rstrip()
            console.print(shown, soft_wrap=True)
