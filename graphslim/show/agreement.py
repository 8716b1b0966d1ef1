"""How far the outputs of two graphs are apart, and what that means for who uses them."""

from __future__ import annotations

from graphslim.measure.agreement import (
    Agreement,
    columns_of,
    lost,
    rows_of,
    surgery_verdict,
    verdict,
)
from graphslim.show.console import Console, print_table


def print_agreement(console: Console, agreement: Agreement) -> None:
    """Output by output, how far two graphs are apart, and whether that is within the tolerance."""
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
    """What became of a network that lost chosen channels, and that they went as they should.

    Args:
        console: where to.
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
