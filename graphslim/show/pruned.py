"""What `prune` shows: channels, cost and size before and after, the budget, and the outputs."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from graphslim.analysis.cost import Cost, cost
from graphslim.fidelity import Agreement
from graphslim.graphdef import serialize
from graphslim.ir import Graph
from graphslim.plans import Plan
from graphslim.plans.plan import Achieved
from graphslim.report.data import Pair, Part, find_parts
from graphslim.show.agreement import print_agreement, print_change
from graphslim.show.console import Console, print_table
from graphslim.support.text import count, plural, share


def pruning(
    before: Graph,
    after: Graph,
    plan: Optional[Plan],
    agreement: Optional[Agreement],
    output: str,
    *,
    changed: Optional[Agreement] = None,
    seconds: Optional[float] = None,
) -> Dict[str, Any]:
    """What `prune --json` prints; the arguments are those of `print_pruning`."""
    costs = [cost(before), cost(after)]
    achieved = None if plan is None else plan.achieved
    return {
        "output": output,
        "removed": 0 if plan is None else plan.removed,
        "folded": 0 if plan is None else _folded(plan),
        "groups": [
            {
                "id": group.id,
                "block": group.block,
                "channels": group.channels,
                "removed": list(group.removed),
            }
            for group in (() if plan is None else plan.groups)
        ],
        "blocks": [
            {
                "name": part.name,
                "kind": part.kind,
                "params": list(part.params),
                "macs": None if part.macs is None else list(part.macs),
            }
            for part in find_parts(before, after)
        ],
        "params": [one.params for one in costs],
        "macs": [one.macs for one in costs],
        "size": [len(serialize(graph)) for graph in (before, after)],
        "achieved": None if achieved is None else dict(achieved._asdict()),
        "verified": None if agreement is None else agreement.as_dict(),
        "changed": None if changed is None else changed.as_dict(),
        "seconds": None if seconds is None else round(seconds, 3),
    }


def _folded(plan: Plan) -> int:
    return sum([len(fold.indices) for fold in plan.folds])


def print_pruning(
    console: Console,
    before: Graph,
    after: Graph,
    plan: Optional[Plan],
    agreement: Optional[Agreement],
    seconds: float,
    *,
    changed: Optional[Agreement] = None,
) -> None:
    """The before-and-after tables that `prune` prints.

    Args:
        console: where to.
        before, after: the graphs.
        plan: what went.
        agreement: the check that the result passed, if it was made.
        seconds: time for reading, planning and rewriting.
        changed: how far a criterion moved the outputs from those of the graph as it was.
    """
    if plan is not None and plan.groups:
        _print_channels(console, plan)
        _print_parts(console, before, after)
    _print_totals(console, before, after)
    if plan is not None and plan.achieved is not None:
        print_achieved(console, plan.achieved)
    removed = 0 if plan is None else plan.removed
    folded = (
        "" if plan is None or not plan.folds else f", {plural(_folded(plan), 'constant')} folded"
    )
    chosen = plan is not None and plan.settings.get("select") != "dead"
    nothing = "Nothing removed" if chosen else "No channel that may go is dead: nothing removed"
    text = f"{plural(removed, 'channel')} removed{folded}" if removed else nothing
    console.print(f"{text}, in {seconds:.2f} s")
    if agreement is not None and changed is not None:
        print_change(console, changed, agreement)
    elif agreement is not None:
        print_agreement(console, agreement)


def _print_channels(console: Console, plan: Plan) -> None:
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
    """Parameters and MACs of every block, and of every layer outside blocks, that changed."""
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
    sizes = [len(serialize(graph)) for graph in (before, after)]
    costs: List[Cost] = [cost(before), cost(after)]
    totals = [
        (label, count(one), count(other), share(one, other))
        for label, one, other in (
            ("parameters", costs[0].params, costs[1].params),
            ("MACs", costs[0].macs, costs[1].macs),
            ("size in bytes", sizes[0], sizes[1]),
        )
    ]
    print_table(console, "Whole network", ("", ">before", ">after", ">change"), totals)


def print_achieved(console: Console, found: Achieved) -> None:
    """What was asked for and what was achieved, side by side."""
    console.print(
        f"{found.what}: asked for {found.asked:.4g}, achieved {found.achieved:.4g}"
        + (f" ({found.reason})" if found.reason else "")
    )
