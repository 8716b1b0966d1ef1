"""What `plan` shows: the groups that lose channels, and what that brings."""

from __future__ import annotations

from graphslim.plans import Plan
from graphslim.show.console import Console, print_table
from graphslim.show.pruned import print_achieved
from graphslim.support.text import count, plural, share


def print_plan(console: Console, plan: Plan) -> None:
    """The widths of the groups before and after, the cost by the plan, asked and achieved."""
    rows = [
        (
            group.block or group.id,
            str(group.channels),
            str(group.channels - len(group.removed)),
            share(group.channels, group.channels - len(group.removed)),
        )
        for group in plan.groups
    ]
    if rows:
        print_table(console, "Channels", ("block or layer", ">before", ">after", ">change"), rows)
    totals = [
        (name, count(before), count(after), share(before, after))
        for name, (before, after) in (("parameters", plan.params), ("MACs", plan.macs))
    ]
    print_table(console, "Whole network", ("", ">before", ">after", ">change"), totals)
    if plan.achieved is not None:
        print_achieved(console, plan.achieved)
    console.print(f"{plural(plan.removed, 'channel')} to go")
