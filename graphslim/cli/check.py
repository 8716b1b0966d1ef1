"""The check of a result before it is written, and what is said of it."""

from __future__ import annotations

from typing import Iterable, NamedTuple, Optional

from graphslim import runtime, show
from graphslim.analysis.cautions import random_node
from graphslim.cli import console
from graphslim.errors import VerifyError
from graphslim.fidelity import Agreement
from graphslim.graphdef.library import endless_call
from graphslim.ir import Graph
from graphslim.options import Running
from graphslim.plans import Plan
from graphslim.support import progress


class Checked(NamedTuple):
    """What a check found.

    Attributes:
        agreement: of the result and what it has to compute; None where nothing was run.
        change: of the result and the original as it was, for channels that were not dead.
        why_not: why nothing was run.
    """

    agreement: Optional[Agreement] = None
    change: Optional[Agreement] = None
    why_not: str = ""


def tell(cautions: Iterable[object]) -> None:
    """Prints cautions on stderr."""
    for caution in cautions:
        console.err.print(f"caution: {caution}")


def tell_result(
    as_json: bool,
    graph: Graph,
    slim: Graph,
    plan: Optional[Plan],
    checked: Checked,
    output: str,
    seconds: float,
) -> int:
    """Says what was written, and whether it was verified; gives the exit status."""
    if as_json:
        tree = show.pruning(
            graph,
            slim,
            plan,
            checked.agreement,
            output,
            changed=checked.change,
            seconds=seconds,
        )
        console.print_json(tree)
        return console.OK
    show.print_pruning(
        console.out, graph, slim, plan, checked.agreement, seconds, changed=checked.change
    )
    if checked.agreement is None:
        console.out.print(f"Not verified: {checked.why_not}")
    console.out.print(f"Written to {output}")
    return console.OK


def checking(
    check: Optional[bool],
    running: Running,
    graph: Graph,
    slim: Graph,
    plan: Optional[Plan],
    output: str,
    force: bool = False,
    advice: str = "or try --dead-below 0",
    quiet: bool = False,
) -> Checked:
    """Runs the result, and what it has to agree with.

    Args:
        check: whether to; None where TensorFlow is installed and the outputs are not random.
        running: how.
        graph, slim: the original and the result.
        plan: for channels that were chosen; the original is then masked by it.
        output: where the result is to be written.
        force: whether the plan may be of another checkpoint.
        advice: what else to do where they differ and there is no plan.
        quiet: draw no progress bar.

    Raises:
        VerifyError: they differ.
    """
    if check is False:
        return Checked(why_not="--no-verify was given.")
    if check is None and not runtime.available():
        return Checked(why_not="TensorFlow is not installed.")
    if check is None and random_node(graph) is not None:
        return Checked(why_not="the outputs differ from run to run, those of the original too.")
    call = endless_call(graph) if check is None else None
    if call is not None:
        return Checked(why_not=f"{call} calls functions that double too often to be run.")
    change = None
    with progress.bar(console.err, quiet) as tick:
        if plan is None:
            agreement = running.compare(graph, slim, progress=tick)
        else:
            agreement, change = running.check(graph, slim, plan, force=force, progress=tick)
    if not agreement.ok:
        show.print_agreement(console.err, agreement)
        hint = "a bug; please report it" if plan else advice
        raise VerifyError(
            f"the result differs by {agreement.worst.relative:.3g} of the range "
            f"of {agreement.worst.name}",
            output,
            f"nothing was written; look at it with --no-verify, {hint}",
        )
    return Checked(agreement, change)
