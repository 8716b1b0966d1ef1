"""What the commands on checkpoints show: the failed rate, and what was written."""

from __future__ import annotations

from typing import Any, Dict, Optional

from graphslim.checkpoint.rate import Summary, summary_tree
from graphslim.plans import Plan
from graphslim.show.console import Console, print_table
from graphslim.support.text import percent, plural

_LISTED = 12
"""Channels of one convolution that are listed; of more, only how many."""


def soft_pruning(plan: Plan, prefix: str, source: str) -> Dict[str, Any]:
    """What `soft-prune --json` prints.

    Args:
        plan: what was set to zero.
        prefix: the checkpoint written.
        source: the checkpoint that it was made from.
    """
    return {
        "model": source,
        "checkpoint": prefix,
        "removed": plan.removed,
        "groups": [
            {
                "id": group.id,
                "block": group.block,
                "channels": group.channels,
                "removed": list(group.removed),
            }
            for group in plan.groups
        ],
        "params": list(plan.params),
        "macs": list(plan.macs),
        "achieved": None if plan.achieved is None else dict(plan.achieved._asdict()),
    }


def print_summary(console: Console, summary: Summary, verbose: bool = False) -> None:
    """The failed rate per block, and of all.

    Args:
        console: where to.
        summary: the rates.
        verbose: list the channels that failed too.
    """
    rows = [
        (one.name, str(one.removed), str(one.of), str(one.failed), percent(one.rate))
        for one in summary.blocks
    ]
    if rows:
        columns = ("block or layer", ">channels removed", ">filters", ">failed", ">rate")
        print_table(console, "Filters that should be zero", columns, rows)
    if verbose and summary.unconverged:
        left = [(one.block, one.convolution, _listed(one.channels)) for one in summary.unconverged]
        print_table(console, "Not zero", ("block or layer", "variable", "channels"), left)
    if not summary.of:
        console.print("The plan removes no channel.")
    else:
        console.print(
            f"Failed rate {summary.rate:.4g}: {summary.failed} of {plural(summary.of, 'filter')} "
            "that should be zero are not."
        )


def _listed(channels: Any) -> str:
    more = len(channels) - _LISTED
    text = ", ".join(map(str, channels[:_LISTED]))
    return text + (f" and {more} more" if more > 0 else "")


def stripping(
    tree: Dict[str, Any], prefix: str, summary: Optional[Summary], meta: bool
) -> Dict[str, Any]:
    """What `strip --json` prints.

    Args:
        tree: what `show.pruning` says of the inference graph.
        prefix: of the checkpoint written.
        summary: the failed rate before.
        meta: whether its MetaGraph was written.
    """
    return {
        **tree,
        "checkpoint": prefix,
        "meta": prefix + ".meta" if meta else None,
        "summary": None if summary is None else summary_tree(summary),
    }
