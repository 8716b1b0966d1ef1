"""`graphslim verify`: whether two graphs compute the same."""

from __future__ import annotations

import time
from typing import Optional

import click

from graphslim import show
from graphslim.cli import console
from graphslim.cli.data import tell_data
from graphslim.options import Reading, Running, model_options, run_options
from graphslim.plans import read_plan


@click.command(short_help="Compare what two graphs compute.")
@click.argument("first", metavar="A.pb")
@click.argument("second", metavar="B.pb")
@click.option(
    "--plan",
    "plan_path",
    metavar="P.json",
    help="Compare with A masked by a plan, which is what a graph pruned by it must compute.",
)
@click.option("--force", is_flag=True, help="Allow a plan that was made for another checkpoint.")
@run_options
@model_options
def verify(
    first: str,
    second: str,
    plan_path: Optional[str],
    force: bool,
    running: Running,
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Run two graphs on the same inputs and compare their outputs; exit status 1 if they differ."""
    one, other = reading.load_pair(first, second)
    plan = read_plan(plan_path) if plan_path else None
    tell_data(one, running.data, running.batch)
    started = time.perf_counter()
    agreement = running.compare(one, other, plan, force=force)
    if verbose:
        from graphslim import runtime

        seconds = time.perf_counter() - started
        console.err.print(f"both run by TensorFlow {runtime.version()} in {seconds:.2f} s")
    if as_json:
        console.print_json(agreement.as_dict())
    else:
        show.print_agreement(console.out, agreement)
    return console.OK if agreement.ok else console.FAILED
