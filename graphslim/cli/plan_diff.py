"""`graphslim plan-diff`: what two plans do differently."""

from __future__ import annotations

import click

from graphslim import show
from graphslim.cli import console
from graphslim.plans import read_plan
from graphslim.plans.diff import diff


@click.command(name="plan-diff", short_help="Compare two plans.")
@click.argument("first", metavar="A.json")
@click.argument("second", metavar="B.json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--debug", is_flag=True, expose_value=False, help="Print tracebacks too.")
def plan_diff(first: str, second: str, as_json: bool) -> int:
    """Show what two plans remove differently, group by group; exit status 1 if they differ.

    Settings, scores, folded constants and totals are compared too.
    """
    found = diff(read_plan(first), read_plan(second))
    if as_json:
        console.print_json(show.plan_difference(found))
    else:
        show.print_plan_difference(console.out, found)
    return console.OK if found.same else console.FAILED
