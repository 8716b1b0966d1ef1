"""The option `--report`: checks that the page can be made, makes it, writes it."""

from __future__ import annotations

import contextlib
from typing import Iterator, Optional

import click

from graphslim import report
from graphslim.cli import console
from graphslim.fidelity import Agreement
from graphslim.graphdef.emit import replacing
from graphslim.ir import Graph
from graphslim.plans import Plan
from graphslim.progress import bar

report_option = click.option(
    "--report",
    "report_out",
    metavar="R.html",
    help="Write a page to look at: the network, its cost, the scores and the cut, the outputs.",
)


def check_report(path: Optional[str]) -> None:
    """Refuses, before any work is done, a page that could not be drawn.

    Raises:
        GraphslimError: matplotlib is not installed.
    """
    if path is not None:
        report.require_library()


def draw_report(
    before: Graph,
    after: Graph,
    plan: Plan,
    change: Optional[Agreement],
    surgery: Optional[Agreement],
    output: str,
    seconds: float,
    quiet: bool = False,
) -> str:
    """The page as text, with a progress bar on stderr; see `report.collect`."""
    data = report.collect(before, after, plan, change, surgery, output=output, seconds=seconds)
    with bar(console.err, quiet) as tick:
        return report.render(data, tick)


@contextlib.contextmanager
def writing_report(page: Optional[str], path: Optional[str]) -> Iterator[None]:
    """Writes the page, if there is one; it appears when, and only if, what is done inside succeeds.

    Raises:
        EmitError: it cannot be written.
    """
    if page is None or path is None:
        yield
        return
    with replacing(path) as file:
        file.write(page.encode("utf-8"))
        yield
