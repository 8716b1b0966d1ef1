"""The check of a result before it is written, and what is said of it."""

from __future__ import annotations

from typing import Iterable, NamedTuple, Optional

from graphslim import runtime, show
from graphslim.cli import console
from graphslim.compare import Agreement
from graphslim.criteria import criteria
from graphslim.errors import VerifyError
from graphslim.ir import Graph
from graphslim.options import Running
from graphslim.plans import Plan


class Checked(NamedTuple):
    """What a check found.

    Attributes:
        agreement: of the result and what it has to compute; None where nothing was run.
        change: of the result and the original as it was, for channels that were not dead.
    """

    agreement: Optional[Agreement] = None
    change: Optional[Agreement] = None


def tell(cautions: Iterable[object]) -> None:
    """Prints cautions on stderr."""
    for caution in cautions:
        console.err.print(f"caution: {caution}")


def tell_unchecked(checked: Checked, check: Optional[bool]) -> None:
    """Says why nothing was verified, if nothing was."""
    if checked.agreement is None:
        why = "--no-verify was given." if check is False else "TensorFlow is not installed."
        console.out.print(f"Not verified: {why}")


def checking(
    check: Optional[bool],
    running: Running,
    graph: Graph,
    slim: Graph,
    plan: Optional[Plan],
    output: str,
    force: bool = False,
) -> Checked:
    """Runs the result, and what it has to agree with.

    Args:
        check: whether to; None where TensorFlow is installed.
        running: how.
        graph, slim: the original and the result.
        plan: for channels that were chosen; the original is then masked by it.
        output: where the result is to be written.
        force: whether the plan may be of another checkpoint.

    Raises:
        VerifyError: they differ.
    """
    if check is False or (check is None and not runtime.available()):
        return Checked()
    rule = criteria().get(plan.settings.get("criterion", "")) if plan is not None else None
    # Scores may be of more data than a graph takes at once.
    first_run = rule is not None and rule.kind != "weights"
    agreement = running.compare(graph, slim, plan, force, first_run)
    if not agreement.ok:
        show.print_agreement(console.err, agreement)
        hint = "a bug; please report it" if plan else "or try --dead-below 0"
        raise VerifyError(
            f"the result differs by {agreement.worst.relative:.3g} of the range "
            f"of {agreement.worst.name}",
            output,
            f"nothing was written; look at it with --no-verify, {hint}",
        )
    change = None if plan is None else running.compare(graph, slim, first_run=first_run)
    return Checked(agreement, change)
