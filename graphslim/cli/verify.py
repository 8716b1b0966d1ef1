"""`graphslim verify`: whether two graphs compute the same."""

from __future__ import annotations

import time
from typing import Optional

import click

from graphslim.cli import console
from graphslim.cli.console import Console, print_table
from graphslim.cli.files import tell_data
from graphslim.cli.options import Reading, Running, model_options, run_options
from graphslim.measure.agreement import (
    Agreement,
    columns_of,
    lost,
    rows_of,
    surgery_verdict,
    verdict,
)
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
    original, changed = reading.load_pair(first, second)
    plan = read_plan(plan_path) if plan_path else None
    tell_data(original, running.data, running.batch)
    started = time.perf_counter()
    agreement = running.compare(original, changed, plan, force=force)
    if verbose:
        from graphslim import runtime

        seconds = time.perf_counter() - started
        console.err.print(f"both run by TensorFlow {runtime.version()} in {seconds:.2f} s")
    if as_json:
        console.print_json(agreement.as_dict())
    else:
        print_agreement(console.out, agreement)
    return console.OK if agreement.ok else console.FAILED


def print_agreement(console: Console, agreement: Agreement) -> None:
    """Prints how far each output differs, and whether that is within the tolerance."""
    _print_outputs(console, agreement)
    worst, inputs = agreement.worst, agreement.inputs
    if agreement.same:
        console.print(f"The outputs are the same, bit for bit, over {inputs}.")
    elif agreement.ok:
        allowed = f"{agreement.tolerance:g} of their range"
        console.print(f"The outputs are the same within {allowed}, over {inputs}.")
    else:
        console.print(
            f"The outputs are NOT the same: {worst.name} differs by {worst.relative:.3g} of its "
            f"range over {inputs}, and {agreement.tolerance:g} is allowed."
        )
        if agreement.against == "original":
            console.print(f"{lost(agreement.furthest)}.")
    _print_cautions(console, agreement)


def print_change(console: Console, change: Agreement, surgery: Agreement) -> None:
    """Prints how a network changed that lost chosen channels, and that the cut was right.

    Args:
        console: the console.
        change: the agreement with the original.
        surgery: the agreement with the masked original.
    """
    _print_outputs(console, change)
    title, text = verdict(change)
    console.print(f"{title}: {text}.", style="bold" if change.far else None)
    _print_cautions(console, change)
    console.print(f"{surgery_verdict(surgery)}.")


def _print_outputs(console: Console, agreement: Agreement) -> None:
    title = f"Outputs, against the {agreement.against}, over {agreement.inputs}"
    print_table(console, title, columns_of(agreement), rows_of(agreement))
    if agreement.nhwc_twins:
        console.print("Run as NHWC twins: TensorFlow's CPU kernels take no NCHW.")
    if agreement.unknown_ops:
        ops = ", ".join(agreement.unknown_ops)
        console.print(f"TensorFlow does not know {ops}: what enters it was compared instead.")


def _print_cautions(console: Console, agreement: Agreement) -> None:
    for caution in agreement.cautions():
        console.print(f"Caution: {caution}")
    if agreement.random and agreement.against == "original" and not agreement.ok:
        console.print(
            "The inputs were random, which tells little of real ones: give some with --data."
        )
