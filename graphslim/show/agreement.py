"""How far the outputs of two graphs are apart."""

from __future__ import annotations

from graphslim.compare import Agreement
from graphslim.show.console import Console, print_table


def print_agreement(console: Console, agreement: Agreement) -> None:
    """Output by output, how far two graphs are apart."""
    rows = [(one.name, f"{one.absolute:.3g}", f"{one.relative:.3g}") for one in agreement.outputs]
    columns = ("output", ">largest difference", ">of its range")
    print_table(console, f"Outputs, against the {agreement.against}", columns, rows)
    if agreement.nhwc_twins:
        console.print("Run as NHWC twins: TensorFlow's CPU kernels take no NCHW.")
    if agreement.unknown_ops:
        ops = ", ".join(agreement.unknown_ops)
        console.print(f"TensorFlow does not know {ops}: what enters it was compared instead.")
    if all(one.absolute == 0 for one in agreement.outputs):
        console.print("The outputs are the same, bit for bit.")
    elif agreement.ok:
        console.print(f"The outputs are the same within {agreement.tolerance:g} of their range.")
    else:
        worst = agreement.worst
        console.print(
            f"The outputs are NOT the same: {worst.name} differs by {worst.relative:.3g} of its "
            f"range, and {agreement.tolerance:g} is allowed."
        )
