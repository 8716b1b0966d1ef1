"""The consoles, progress bar and exit statuses of commands."""

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
    Optional,
    TypeVar,
)

import click

from graphslim.errors import GraphslimError, visible
from graphslim.support.progress import Tick, silent

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

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


_WIDE = 10_000
"""The width outside of a terminal, so that no line is cut."""
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


def tell_cautions(cautions: Iterable[object]) -> None:
    """Prints cautions on stderr."""
    for caution in cautions:
        err.print(f"caution: {caution}")


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
