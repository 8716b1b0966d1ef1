"""How two plans differ, for people and for machines."""

from __future__ import annotations

import json
from typing import Any, Dict, Sequence

from graphslim.plans.diff import GroupDifference, PlanDifference
from graphslim.show.console import Console, print_table
from graphslim.support.text import count, plural, share

_MANY = 12
"""Channels of one group that are listed; of more, only how many."""


def plan_difference(found: PlanDifference) -> Dict[str, Any]:
    """What `plan-diff --json` prints."""
    return {
        "same": found.same,
        "groups": [
            {
                "id": group.id,
                "block": group.block,
                "channels": list(group.channels),
                "removed": list(group.removed),
                "only_first": list(group.only_first),
                "only_second": list(group.only_second),
                "also_differ": list(group.details),
            }
            for group in found.groups
        ],
        "groups_alike": found.alike,
        "settings": {key: list(values) for key, values in found.settings.items()},
        "others": {key: list(values) for key, values in found.others.items()},
        "totals": {
            "removed": list(found.removed),
            "params": list(found.params),
            "macs": list(found.macs),
        },
    }


def print_plan_difference(console: Console, found: PlanDifference) -> None:
    """The tables that `plan-diff` prints; nothing but a line where the plans are the same."""
    if found.same:
        console.print(f"The plans are the same: {plural(found.removed[0], 'channel')} removed.")
        return
    differing = [group for group in found.groups if not _agrees(group)]
    if differing:
        columns = ("group", ">A removes", ">B removes", "A alone", "B alone", "also differ")
        print_table(console, "Groups", columns, [_row(group) for group in differing])
    rescored = len(found.groups) - len(differing)
    console.print(
        f"The same channels go from {plural(found.alike + rescored, 'group')} in both plans"
        + (f", for other scores in {rescored} of them" if rescored else "")
    )
    values = [*found.settings.items(), *found.others.items()]
    if values:
        rows = [(key, _said(one), _said(other)) for key, (one, other) in values]
        print_table(console, "Settings and the rest", ("", "A", "B"), rows)
    totals = [
        (label, count(one), count(other), share(one, other))
        for label, one, other in (
            ("channels removed", *found.removed),
            ("parameters left", *found.params),
            ("MACs left", *found.macs),
        )
    ]
    print_table(console, "Totals", ("", ">A", ">B", ">change"), totals)


def _agrees(group: GroupDifference) -> bool:
    """Whether both plans remove the same channels of a group, if for other reasons."""
    alike = not group.only_first and not group.only_second
    return alike and set(group.details) <= {"scores", "why"}


def _row(group: GroupDifference) -> Sequence[str]:
    sizes = [
        f"{gone} of {channels}" if channels else "-"
        for gone, channels in zip(group.removed, group.channels)
    ]
    alone = [_listed(channels) for channels in (group.only_first, group.only_second)]
    return (group.block or group.id, *sizes, *alone, ", ".join(group.details))


def _listed(channels: Sequence[int]) -> str:
    if len(channels) > _MANY:
        return plural(len(channels), "channel")
    return " ".join(map(str, channels)) or "-"


def _said(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join([f"{key} {_said(one)}" for key, one in value.items() if one is not None])
    return value if isinstance(value, str) else json.dumps(value)
