"""`graphslim compare`: what changed between two graphs, layer by layer."""

from __future__ import annotations

import time

import click

from graphslim import show
from graphslim.analysis.diff import differences
from graphslim.cli import console
from graphslim.options import Reading, model_options


@click.command(short_help="Show what changed between two graphs, layer by layer.")
@click.argument("first", metavar="A.pb")
@click.argument("second", metavar="B.pb")
@click.option("--all", "everything", is_flag=True, help="Show nodes that are the same too.")
@model_options
def compare(
    first: str, second: str, everything: bool, reading: Reading, as_json: bool, verbose: bool
) -> int:
    """Show what changed from graph A to graph B: ops, shapes, parameters and MACs, old => new.

    Nodes are matched by name; those that only one graph has are shown as such. Nothing is run: what
    the graphs compute is compared by `graphslim verify`.
    """
    started = time.perf_counter()
    found = differences(*reading.load_pair(first, second))
    if verbose:
        console.err.print(f"read and compared in {time.perf_counter() - started:.2f} s")
    if as_json:
        console.print_json(show.difference_tree(found, everything))
    else:
        show.print_differences(console.out, found, everything)
    return console.OK
