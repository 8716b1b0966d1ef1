"""The option `--report` of commands that prune or repair, and its page."""

from __future__ import annotations

from typing import Optional

import click

from graphslim import report
from graphslim.cli import console
from graphslim.cli.results import Checked
from graphslim.ir import Graph
from graphslim.plans import Plan

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
    checked: Checked,
    output: str,
    seconds: float,
    quiet: bool = False,
) -> str:
    """The page as text, with a progress bar on stderr; see `report.collect`."""
    data = report.collect(
        before,
        after,
        plan,
        checked.outcome,
        checked.agreement,
        output=output,
        seconds=seconds,
        repaired=checked.repaired,
    )
    with console.bar(console.err, quiet) as tick:
        return report.render(data, tick)
