"""`graphslim summary`: how many of the filters that were set to zero are zero no more."""

from __future__ import annotations

import click

from graphslim import show
from graphslim.checkpoint.fitting import fitting
from graphslim.checkpoint.soft import summary_of, summary_tree
from graphslim.cli import console
from graphslim.options import Reading, model_options
from graphslim.plans import read_plan


@click.command(short_help="Count filters that should be zero and are not.")
@click.argument("checkpoint")
@click.option("--plan", "plan_path", required=True, metavar="P.json", help="What was set to zero.")
@model_options
def summary(checkpoint: str, plan_path: str, reading: Reading, as_json: bool, verbose: bool) -> int:
    """Count the filters of a plan's channels that are not zero in CHECKPOINT, block by block.

    The failed rate is their share. Where it is 0, `graphslim strip` changes no output. With -v the
    channels are listed.
    """
    plan = read_plan(plan_path)
    trained = reading.open(checkpoint)
    fitted = fitting(trained, plan)
    for note in fitted.notes if verbose else ():
        console.err.print(note)
    found = summary_of(trained, fitted)
    if as_json:
        console.print_json(summary_tree(found))
    else:
        show.print_summary(console.out, found, verbose)
    return console.OK
