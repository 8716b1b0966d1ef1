"""The option `--report` of commands that prune or repair, and its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Tuple

import click

from graphslim import report
from graphslim.cli import console
from graphslim.cli.options import Running
from graphslim.cli.results import Checked
from graphslim.ir import Graph
from graphslim.measure.looks import Look, looks_at
from graphslim.measure.samples import Examples, Samples
from graphslim.measure.shares import split
from graphslim.plans import Plan
from graphslim.rewrite import apply

if TYPE_CHECKING:
    from graphslim.delivery import Delivery

SHOWN = 4
"""Images of which outputs are shown side by side."""

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
    running: Optional[Running] = None,
    delivery: Optional[Delivery] = None,
) -> str:
    """The page as text, with a progress bar on stderr; see `report.collect`.

    Args:
        running: how the graphs were run, where a repair kept images aside, of which some are shown.
        delivery: the file that is written, where it is no graph.
    """
    looks: Tuple[Look, ...] = ()
    if running is not None and checked.repaired is not None:
        examples = Examples(before, Samples(running.data, running.batch))
        gate = split(examples.units, running.seed)[2]
        shown = examples.part(gate[: max(1, SHOWN // examples.at_once)], SHOWN)
        versions = {"original": before, "as removed": apply(before, plan), "repaired": after}
        looks = looks_at(versions, shown)
    data = report.collect(
        before,
        after,
        plan,
        checked.outcome,
        checked.agreement,
        output=output,
        seconds=seconds,
        repaired=checked.repaired,
        looks=looks,
        delivery=delivery,
        timed=checked.timed,
    )
    with console.bar(console.err, quiet) as tick:
        return report.render(data, tick)
