"""The consoles, tables, progress bar and exit statuses of commands."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    ContextManager,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
)

import click

from graphslim.errors import GraphslimError, visible
from graphslim.support.progress import Tick, silent

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

Saved = TypeVar("Saved")

OK, FAILED, BAD_INPUT, INTERRUPTED, PIPE = 0, 1, 2, 130, 141


class Console:
    """A console for plain text: no markup, and no line is cut outside of a terminal.

    What a terminal shows is laid out by rich, which takes longer to import than a network to be
    looked at; what goes to a file or a pipe is written without it, and is the same.

    Attributes:
        file: where to print; None for the standard stream of the moment.
    """

    def __init__(self, stderr: bool = False) -> None:
        self.file: Any = None
        self._stderr = stderr
        self._rich: Optional[RichConsole] = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing depends on a terminal: neither its width nor its colours."""
        stream, encoding = self._stream, getattr(self._stream, "encoding", None) or "utf-8"
        laid_out = stream.isatty() or any(name in os.environ for name in _LAYOUT)
        return not laid_out and encoding.lower()[:3] == "utf"

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks on."""
        return not self.is_plain and self.rich.is_terminal

    @property
    def width(self) -> int:
        """The terminal's width in columns; outside of a terminal, wider than any line."""
        return _WIDE if self.is_plain else self.rich.width

    @property
    def rich(self) -> RichConsole:
        """What lays out what a terminal shows."""
        if self._rich is None:
            self._rich = _rich_console(self._stderr)
        if self.file is not None:
            self._rich.file = self.file
        return self._rich

    @property
    def _stream(self) -> Any:
        return self.file or (sys.stderr if self._stderr else sys.stdout)

    def print(self, text: str = "", style: Optional[str] = None, soft_wrap: bool = False) -> None:
        """Prints a text; control characters, as names from a file may have them, are escaped.

        Args:
            text: the text.
            style: `bold`, in a terminal.
            soft_wrap: leave it to the terminal to wrap lines.
        """
        shown = visible(text, keep="\n")
        if self.is_plain and (soft_wrap or len(shown) < _WIDE // 2):
            with _plain_broken_pipe():
                self._stream.write(shown + "\n")
                self._stream.flush()
            return
        from rich.text import Text

        self.rich.print(Text(shown, style=style or ""), soft_wrap=soft_wrap)


def _rich_console(stderr: bool) -> RichConsole:
    """A console of rich's with the ways of `Console`."""
    from rich.console import Console as RichConsole
    from rich.console import ConsoleDimensions

    class Wide(RichConsole):
        @property  # type: ignore[misc]  # rich has a setter too, which nothing here needs
        def size(self) -> ConsoleDimensions:
            measured = super().size
            if self.is_terminal or "COLUMNS" in os.environ:
                return measured
            return ConsoleDimensions(_WIDE, measured.height)

        def on_broken_pipe(self) -> None:  # rich would exit with status 1
            raise BrokenPipeError

    return Wide(stderr=stderr, highlight=False, markup=False, emoji=False)


_LAYOUT = ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
"""Variables of the environment by which rich lays out what is printed to a file or a pipe, too."""
out = Console()
err = Console(stderr=True)


@contextlib.contextmanager
def told_first(saving: ContextManager[Saved]) -> Iterator[Saved]:
    """Lets results be printed before their files are renamed to their final names.

    A failure while the text is made or printed thus leaves no file: a command that exits with 1 or
    2 has written none. A reader that closes the pipe early (`| head`) is no failure.

    Args:
        saving: writes the files beside their targets when entered, and renames them when left.

    Raises:
        GraphslimError: standard output cannot be written, for example since the disk is full.
    """
    unread: Optional[BrokenPipeError] = None
    with saving as saved:
        try:
            yield saved
            sys.stdout.flush()
        except BrokenPipeError as error:
            unread = error
        except OSError as error:
            raise unwritable(error) from None
    if unread is not None:
        raise unread


def unwritable(error: OSError) -> GraphslimError:
    """The error about a standard output that cannot be written; later output is discarded."""
    silence()
    return GraphslimError(
        f"cannot be written: {error.strerror or error}",
        "standard output",
        "no file was written; send it elsewhere, such as to /dev/null",
    )


def silence() -> None:
    """Discards what is left of standard output, which would fail again when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(tree: Any) -> None:
    """Prints a tree as JSON on stdout."""
    import json

    echo(json.dumps(tree, indent=1, allow_nan=False) + "\n")


def echo(text: str) -> None:
    """Prints a text on stdout as it is."""
    with _plain_broken_pipe():
        click.echo(text, nl=False)


@contextlib.contextmanager
def _plain_broken_pipe() -> Iterator[None]:
    """Raises a broken pipe without its errno, for which click has an exit status of its own."""
    try:
        yield
    except BrokenPipeError:
        raise BrokenPipeError from None


_WIDE = 10_000
"""The width outside of a terminal, so that no line is cut."""
_LEGIBLE = 24
"""The smallest width of a column of names or texts before the table changes its form."""
_GAP = 2
"""Blanks between the columns of a table without a frame."""
_ARROW, _TURN = " => ", "\n=> "


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


PATIENCE = 1.0
"""Seconds before a bar appears."""
_bars: List[Tick] = []
"""What draws the bars that may be drawn now, the innermost last."""


def tell_waiting(step: str) -> None:
    """Shows at once, where there may be a bar, a step that takes long and does not say how far."""
    for draw in _bars[-1:]:
        draw(0, 1, step)


@contextlib.contextmanager
def bar(
    console: Console, quiet: bool = False, clock: Callable[[], float] = time.monotonic
) -> Iterator[Tick]:
    """A function to report progress to, which draws a bar that vanishes at the end.

    Args:
        console: the console; nothing is drawn if it is no terminal.
        quiet: draw nothing at all.
        clock: returns the time in seconds.
    """
    if quiet or not console.is_terminal:
        yield silent
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    started = clock()
    drawn: Optional[Progress] = None
    task: Any = None

    def draw(done: int, total: int, step: str) -> None:
        nonlocal drawn, task
        if drawn is None:
            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            drawn = Progress(*columns, console=console.rich, transient=True)
            drawn.start()
            task = drawn.add_task(step, total=total)
        drawn.update(task, completed=done, total=total, description=step)

    def tick(done: int, total: int, step: str) -> None:
        if drawn is not None or (clock() - started >= PATIENCE and done < total):
            draw(done, total, step)

    _bars.append(draw)
    try:
        yield tick
    finally:
        _bars.remove(draw)
        if drawn is not None:
            drawn.stop()
