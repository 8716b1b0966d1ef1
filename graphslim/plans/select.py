"""Choosing what goes: which groups are in scope, and how many of the channels that may go do go."""

from __future__ import annotations

import fnmatch
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set

import numpy as np

from graphslim.analysis.channels import Channels, Group
from graphslim.errors import PlanError
from graphslim.ir import Block, Graph

SCOPES = ("blocks", "all")


class Selection(NamedTuple):
    """What a plan may touch.

    Attributes:
        scope: `blocks` (channels inside recognised blocks) or `all`.
        only, exclude: globs; a group counts as matched if its id or its block's name is.
        multiple_of: keep a multiple of this many channels in each group, rounding up; by default
            4 in blocks, as the published method does, and 1 elsewhere.
        min_channels: keep at least so many in each group.
    """

    scope: str = "all"
    only: Sequence[str] = ()
    exclude: Sequence[str] = ()
    multiple_of: Optional[int] = None
    min_channels: int = 1

    @property
    def step(self) -> int:
        """The multiple that is in force."""
        return self.multiple_of or (4 if self.scope == "blocks" else 1)

    def settings(self) -> Dict[str, Any]:
        """The settings as a plan records them."""
        return {
            "scope": self.scope,
            "only": list(self.only),
            "exclude": list(self.exclude),
            "multiple_of": self.step,
            "rounding": "kept",
            "min_channels": self.min_channels,
        }


def block_of(graph: Graph, channels: Channels) -> Dict[str, Block]:
    """For each group that is the inside of one block alone, by id, that block."""
    found: Dict[str, Block] = {}
    for block in graph.blocks:
        group = channels.group_at(block.channels_of)
        if group is not None and why_not(channels, block) is None:
            found.setdefault(group.id, block)
    return found


def why_not(channels: Channels, block: Block) -> Optional[str]:
    """Why the channels of a block cannot be pruned within it, or None."""
    labels = channels.channels_at(block.channels_of)
    group = channels.group_at(block.channels_of)
    if labels is None:
        return "its channels cannot be followed"
    if group is None:
        return "its channels belong to more than one group"
    if not group.prunable:
        return f"{group.pinned_by} ({group.pinned_at})"
    inside: Set[str] = set(block.nodes)
    outside = [binding.param for binding in channels.bindings(group) if binding.param not in inside]
    if outside:
        return f"its channels are also used outside it, with {outside[0]}"
    return None


def in_scope(graph: Graph, channels: Channels, wish: Selection) -> List[Group]:
    """The prunable groups that a selection may touch.

    Raises:
        PlanError: an unknown scope, a bad number, or a glob that matches nothing.
    """
    if wish.scope not in SCOPES:
        raise PlanError(f"no scope {wish.scope!r}", "--scope", f"one of: {', '.join(SCOPES)}")
    if wish.step < 1 or wish.min_channels < 1:
        raise PlanError("must be 1 or more", "--multiple-of" if wish.step < 1 else "--min-channels")
    blocks = block_of(graph, channels)
    names = {group.id: _names(group, blocks.get(group.id)) for group in channels.groups}
    chosen = [group for group in channels.groups if group.prunable]
    for option, globs in (("--only", wish.only), ("--exclude", wish.exclude)):
        for glob in globs:
            if not any(fnmatch.filter(one, glob) for one in names.values()):
                raise PlanError(
                    f"{glob!r} matches no group or block", option, "`graphslim inspect` lists them"
                )
    if wish.only:
        chosen = [group for group in chosen if _any(names[group.id], wish.only)]
    chosen = [group for group in chosen if not _any(names[group.id], wish.exclude)]
    return [group for group in chosen if wish.scope == "all" or group.id in blocks]


def _names(group: Group, block: Optional[Block]) -> List[str]:
    return [group.id] + ([block.name] if block else [])


def _any(names: Sequence[str], globs: Sequence[str]) -> bool:
    return any(fnmatch.filter(names, glob) for glob in globs)


def limit(groups: Sequence[Group], removable: np.ndarray, wish: Selection) -> np.ndarray:
    """Keeps so many of the removable channels that each group obeys its multiple and minimum.

    The first in index order go first, so that it is the last that stay.

    Args:
        groups: those in scope.
        removable: bool per channel of the graph.
        wish: the selection.

    Returns:
        bool per channel: what goes.
    """
    removed = np.zeros_like(removable)
    for group in groups:
        able = group.channels[removable[group.channels]]
        kept = len(group) - len(able)
        wanted = max(-(-kept // wish.step) * wish.step, wish.min_channels, 1)
        removed[able[: max(0, len(group) - wanted)]] = True
    return removed
