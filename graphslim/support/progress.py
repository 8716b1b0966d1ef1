"""A progress bar on stderr for what takes longer than a second, where a person is watching."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional

if TYPE_CHECKING:
    import rich.console
    from rich.progress import Progress

Tick = Callable[[int, int, str], None]
"""Told how many steps are done, of how many, and what was done last."""

PATIENCE = 1.0
"""Seconds before a bar appears."""


def silent(done: int, total: int, what: str) -> None:
    """Says nothing."""


@contextlib.contextmanager
def bar(
    console: rich.console.Console, quiet: bool = False, clock: Callable[[], float] = time.monotonic
) -> Iterator[Tick]:
    """A function to report progress to, which draws a bar that is gone when all is done.

    Args:
        console: where to; nothing is drawn where it is no terminal.
        quiet: whether to draw nothing at all.
        clock: gives seconds.
    """
    if quiet or not console.is_terminal:
        yield silent
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    started = clock()
    drawn: Optional[Progress] = None
    task: Any = None

    def tick(done: int, total: int, what: str) -> None:
        nonlocal drawn, task
        if drawn is None:
            if clock() - started < PATIENCE or done >= total:
                return
            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            drawn = Progress(*columns, console=console, transient=True)
            drawn.start()
            task = drawn.add_task(what, total=total)
        drawn.update(task, completed=done, total=total, description=what)

    try:
        yield tick
    finally:
        if drawn is not None:
            drawn.stop()
