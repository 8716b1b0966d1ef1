"""What commands check and print of a result before it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Sequence

import click

from graphslim import runtime
from graphslim.analysis.cautions import random_node
from graphslim.analysis.cost import cost
from graphslim.cli import console
from graphslim.cli.console import Console
from graphslim.cli.delivering import print_delivery, print_gain
from graphslim.cli.options import Running
from graphslim.cli.tables import print_changes, print_table
from graphslim.cli.verify import print_agreement, print_change
from graphslim.errors import VerifyError
from graphslim.graphdef import serialize
from graphslim.graphdef.inline import endless_call
from graphslim.ir import Graph
from graphslim.measure.agreement import Agreement, surgery_verdict, verdict
from graphslim.ops import CHANNEL_RULES, VALUE_RULES
from graphslim.plans import Plan
from graphslim.recovery import Repaired
from graphslim.report.data import Pair, Part, find_parts, repair_table
from graphslim.support.importing import is_built_in, named
from graphslim.support.text import count, plural, share

if TYPE_CHECKING:
    from graphslim.delivery import Delivery
    from graphslim.measure.timings import Timings


BUG = "a bug; please report it"
"""The hint of an error that only graphslim can be at fault for."""


class Checked(NamedTuple):
    """The outcome of a check.

    Attributes:
        agreement: the comparison that shows whether the cut was right; None if nothing was run.
        change: the comparison with the unchanged original, for channels that were not dead.
        why_not: why nothing was run.
        repaired: what a repair came to, if there was one.
        timed: the original and the result, timed in the runtime that the result is for.
    """

    agreement: Optional[Agreement] = None
    change: Optional[Agreement] = None
    why_not: str = ""
    repaired: Optional[Repaired] = None
    timed: Optional[Timings] = None

    @property
    def outcome(self) -> Optional[Agreement]:
        """How what is written compares with the original: once repaired, on images kept aside."""
        return self.change if self.repaired is None else self.repaired.after


check_option = click.option(
    "--verify/--no-verify",
    "check",
    default=None,
    help="Compare the outputs before writing.  [default: where TensorFlow is installed]",
)
"""The option of `checking`."""


def tell_result(
    as_json: bool,
    graph: Graph,
    slim: Graph,
    plan: Plan,
    checked: Checked,
    output: str,
    seconds: float,
    delivery: Optional[Delivery] = None,
) -> None:
    """Prints what was written and whether it was verified."""
    if as_json:
        tree = pruning(graph, slim, plan, checked, output, seconds)
        if checked.repaired is not None:
            tree["repair"] = checked.repaired.as_dict()
        if delivery is not None:
            tree["delivered"] = delivery.as_dict()
        if checked.timed is not None:
            tree["timed"] = checked.timed.as_dict()
        console.print_json(tree)
        return
    print_pruning(console.out, graph, slim, plan, checked, seconds)
    if checked.agreement is None:
        console.out.print(f"Not verified: {checked.why_not}")
    if delivery is not None:
        print_delivery(console.out, delivery)
    if checked.timed is not None:
        print_gain(console.out, checked.timed)
    console.out.print(f"Written to {output}")


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
    passes: Sequence[Any] = (),
) -> Checked:
    """Runs the result and the original, and compares their outputs.

    Args:
        check: whether to run them; None: if TensorFlow is installed and no output is random.
        running: the options of the comparison.
        graph, slim: the original and the result.
        plan: the plan if channels were chosen, by which the original is masked; None for dead ones.
        output: the path where the result is to be written.
        force: whether the plan may be of another checkpoint.
        advice: the hint of the error if the outputs differ and there is no plan.
        quiet: draw no progress bar.
        passes: the classes of the passes that changed the graph.

    Raises:
        VerifyError: the outputs differ by more than is allowed.
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
    with console.bar(console.err, quiet) as tick:
        if plan is None:
            agreement = running.compare(graph, slim, progress=tick)
        else:
            agreement, change = running.check(graph, slim, plan, force=force, progress=tick)
    if not agreement.ok:
        print_agreement(console.err, agreement)
        hint = _suspects(graph, passes) or (BUG if plan else advice)
        raise VerifyError(
            f"the result differs by {agreement.worst.relative:.3g} of the range "
            f"of {agreement.worst.name}",
            output,
            f"nothing was written; look at it with --no-verify, {hint}",
        )
    return Checked(agreement, change)


def _suspects(graph: Graph, passes: Sequence[Any]) -> str:
    """What may be at fault where outputs differ: the passes and rules that are not graphslim's."""
    tables: Dict[str, Any] = {"channel rule": CHANNEL_RULES, "value rule": VALUE_RULES}
    own = [named("pass", cls) for cls in passes if not is_built_in(cls)]
    own += [
        named(noun, rules[op], op)
        for noun, rules in tables.items()
        for op in sorted({node.op for node in graph} & rules.keys())
        if not is_built_in(rules[op])
    ]
    return f"and at {', '.join(own)}" if own else ""


def pruning(
    before: Graph, after: Graph, plan: Plan, checked: Checked, output: str, seconds: float
) -> Dict[str, Any]:
    """What `prune --json` prints; the arguments are those of `print_pruning`."""
    costs = [cost(before), cost(after)]
    verified, changed = checked.agreement, checked.outcome
    return {
        "output": output,
        "removed": plan.removed,
        "folded": _folded(plan),
        "groups": group_trees(plan),
        "blocks": [
            {
                "name": part.name,
                "kind": part.kind,
                "params": list(part.params),
                "macs": None if part.macs is None else list(part.macs),
            }
            for part in find_parts(before, after)
        ],
        "params": [total.params for total in costs],
        "macs": [total.macs for total in costs],
        "size": [len(serialize(graph)) for graph in (before, after)],
        "achieved": None if plan.achieved is None else dict(plan.achieved._asdict()),
        "verified": None if verified is None else verified.as_dict(),
        "changed": None if changed is None else changed.as_dict(),
        "seconds": round(seconds, 3),
    }


def group_trees(plan: Plan) -> List[Dict[str, Any]]:
    """What `--json` prints of the groups that lose channels."""
    return [
        {
            "id": group.id,
            "block": group.block,
            "channels": group.channels,
            "removed": list(group.removed),
        }
        for group in plan.groups
    ]


def _folded(plan: Plan) -> int:
    return sum([len(fold.indices) for fold in plan.folds])


def print_pruning(
    console: Console, before: Graph, after: Graph, plan: Plan, checked: Checked, seconds: float
) -> None:
    """Prints the before-and-after tables of `prune`.

    Args:
        console: the console.
        before, after: the graphs.
        plan: the plan.
        checked: the check that the result passed; a repair is shown in the place of the change.
        seconds: time for reading, planning and rewriting.
    """
    if plan.groups:
        print_channels(console, plan)
        _print_parts(console, before, after)
    _print_totals(console, before, after)
    print_achieved(console, plan)
    text = "Nothing removed"
    if plan.removed:
        text = f"{plural(plan.removed, 'channel')} removed"
    elif plan.settings.get("select") == "dead":
        text = "No channel that may go is dead: nothing removed"
    folded = f", {plural(_folded(plan), 'constant')} folded" if plan.removed and plan.folds else ""
    console.print(f"{text}{folded}, in {seconds:.2f} s")
    surgery = checked.agreement
    if checked.repaired is not None:
        if surgery is not None:
            console.print(f"{surgery_verdict(surgery)}.")
        print_repair(console, checked.repaired)
    elif surgery is not None and checked.change is not None:
        print_change(console, checked.change, surgery)
    elif surgery is not None:
        print_agreement(console, surgery)


def print_channels(console: Console, plan: Plan) -> None:
    """Prints the widths of the groups that lose channels, before and after."""
    rows = [
        (
            group.block or group.id,
            str(group.channels),
            str(group.channels - len(group.removed)),
            share(group.channels, group.channels - len(group.removed)),
        )
        for group in plan.groups
    ]
    print_table(console, "Channels", ("block or layer", ">before", ">after", ">change"), rows)


def _print_parts(console: Console, before: Graph, after: Graph) -> None:
    """Prints the costs of every block, and of every layer outside blocks, that changed."""
    rows = [
        [part.name or "the rest", *_change(part.params), *_change(part.macs)]
        for part in find_parts(before, after)
        if _changed(part)
    ]
    columns = ("block or layer", ">params", ">after", ">change", ">MACs", ">after", ">change")
    print_table(console, "Cost", columns, rows)


def _changed(part: Part) -> bool:
    return part.params[0] != part.params[1] or (
        part.macs is not None and part.macs[0] != part.macs[1]
    )


def _change(pair: Optional[Pair]) -> List[str]:
    return ["open size", "", ""] if pair is None else [count(pair[0]), count(pair[1]), share(*pair)]


def _print_totals(console: Console, before: Graph, after: Graph) -> None:
    old, new = cost(before), cost(after)
    totals = (
        ("parameters", old.params, new.params),
        ("MACs", old.macs, new.macs),
        ("size in bytes", len(serialize(before)), len(serialize(after))),
    )
    print_changes(console, "Whole network", totals)


def print_achieved(console: Console, plan: Plan) -> None:
    """Prints the budget that was asked for and what was achieved, and losses, where there are."""
    achieved, loss = plan.achieved, plan.settings.get("loss")
    if achieved is not None:
        what = achieved.what.replace("_", " ")
        step, rounding = plan.settings.get("multiple_of", 1), plan.settings.get("rounding")
        console.print(
            f"{what}: asked for {achieved.asked:.4g}, achieved {achieved.achieved:.4g}"
            + (f" in multiples of {step} channels {rounding}" if step > 1 else "")
            + (f" ({achieved.reason})" if achieved.reason else "")
        )
    if loss is not None:
        parts = [] if loss["predicted"] is None else [f"{loss['predicted']:.3g} predicted"]
        if "chosen_by" in loss:
            parts.append(f"{loss['chosen_by']:.3g} on the images that it was chosen by")
        if loss.get("images"):
            images = plural(loss["images"], "image")
            parts.append(f"{loss['measured']:.3g} measured on {images} kept aside")
        fitted = " after least squares" if loss["repaired"] else ""
        console.print(f"loss ({loss['metric']}){fitted}: {', '.join(parts) or 'not known'}")


def print_repair(console: Console, repaired: Repaired) -> None:
    """Prints what each stage came to on the images that were kept aside, and what is left to know.

    Args:
        console: the console.
        repaired: the outcome.
    """
    training, tuning, gate = repaired.images
    console.print(
        f"Repaired on {plural(training, 'image')}, tuned on {tuning}, judged on {gate} that were "
        "kept aside"
    )
    title = f"Outputs, against the original, over {repaired.before.inputs} kept aside"
    print_table(console, title, *repair_table(repaired))
    for stage in repaired.stages:
        note = f": {stage.note}" if stage.note else ""
        console.print(f"{stage.title} took {stage.seconds:.0f} s{note}")
    if repaired.left:
        name, why = next(iter(repaired.left.items()))
        more = f", and {len(repaired.left) - 1} more" if len(repaired.left) > 1 else ""
        console.print(f"Left as they are: the weights of {name}{more}: {why}")
    said, text = verdict(repaired.after)
    style = "bold" if repaired.after.far else None
    console.print(f"{said}, on the images kept aside: {text}.", style=style)
    for caution in repaired.cautions():
        console.print(f"Caution: {caution}")
