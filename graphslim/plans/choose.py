"""What a selection lets go: the groups in scope, the rule of each, and the order of channels."""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set

import numpy as np

from graphslim.channels.groups import Channels, Group
from graphslim.errors import PlanError
from graphslim.ir import Block, Graph
from graphslim.plans.selection import Selection
from graphslim.plans.settings import GroupSettings
from graphslim.scoring import Scores, find_criterion


class Rule(NamedTuple):
    """How many channels of one group may go.

    Attributes:
        step: keep, or remove, a multiple of so many.
        rounding: which of the two.
        least: keep at least so many.
        ratio, threshold: what goes whatever the budget, if that is fixed.
    """

    step: int
    rounding: str
    least: int
    ratio: Optional[float] = None
    threshold: Optional[float] = None

    def allowed(self, size: int, wished: int) -> int:
        """How many of `size` channels go where `wished` should; it grows with `wished`.

        The number kept is rounded up. The number removed is rounded to the nearest multiple: up
        from the half on, as the published method does, and down where else too few are kept.
        """
        if self.rounding == "kept":
            kept = max(size - wished, self.least)
            return max(0, size + -kept // self.step * self.step)
        over = wished % self.step
        near = wished - over + (self.step if over and 2 * over >= self.step else 0)
        most = max(0, size - self.least)
        return min(near, most - most % self.step)


def block_of(graph: Graph, channels: Channels) -> Dict[str, Block]:
    """For each group that is the inside of one block alone, by id, that block."""
    blocks: Dict[str, Block] = {}
    for block in graph.blocks:
        group = channels.group_at(block.channels_of)
        if group is not None and _why_not(channels, block, group) is None:
            blocks.setdefault(group.id, block)
    return blocks


def why_not(channels: Channels, block: Block) -> Optional[str]:
    """Why the channels of a block cannot be pruned within it, or None."""
    group = channels.group_at(block.channels_of)
    if group is not None:
        return _why_not(channels, block, group)
    if channels.channels_at(block.channels_of) is None:
        return "its channels cannot be followed"
    return "its channels belong to more than one group"


def _why_not(channels: Channels, block: Block, group: Group) -> Optional[str]:
    if not group.prunable:
        return f"{group.pinned_by} ({group.pinned_at})"
    inside: Set[str] = set(block.nodes)
    outside = [binding.param for binding in channels.bindings(group) if binding.param not in inside]
    if outside:
        return f"its channels are also used outside it, with {outside[0]}"
    return None


def in_scope(graph: Graph, channels: Channels, selection: Selection) -> List[Group]:
    """The prunable groups that a selection may touch.

    Raises:
        PlanError: the selection makes no sense, or a glob matches nothing.
    """
    selection.check()
    chosen = [group for group in channels.groups if group.prunable]
    globs = [
        *[("--only", glob) for glob in selection.only],
        *[("--exclude", glob) for glob in selection.exclude],
        *[("--settings", glob) for glob, _ in selection.by_name],
    ]
    names = _names(graph, channels) if globs else {}
    for flag, glob in globs:
        if not any(fnmatch.filter(known, glob) for known in names.values()):
            raise PlanError(
                f"{glob!r} matches no group or block", flag, "`graphslim inspect` lists them"
            )
    if globs:
        chosen = [
            group
            for group in chosen
            if (not selection.only or _any(names[group.id], selection.only))
            and not _any(names[group.id], selection.exclude)
            and not _settings_for(names[group.id], selection).exclude
        ]
    blocks = block_of(graph, channels) if selection.scope == "blocks" else {}
    return [group for group in chosen if selection.scope == "all" or group.id in blocks]


def rules_of(
    graph: Graph, channels: Channels, groups: Sequence[Group], selection: Selection
) -> Dict[str, Rule]:
    """The rule of each group by id: what the selection says, and what it says for its name."""
    names = _names(graph, channels) if selection.by_name else {}
    rules: Dict[str, Rule] = {}
    for group in groups:
        own = _settings_for(names.get(group.id, ()), selection)
        ratio = selection.max_ratio if own.max_ratio is None else own.max_ratio
        # The small part makes up for a product such as 0.29 * 100, which falls short of 29.
        least = len(group) - int(ratio * len(group) + 1e-9)
        rules[group.id] = Rule(
            own.multiple_of or selection.step_for(len(group)),
            selection.rounding,
            max(1, own.min_channels or selection.min_channels, least),
            own.ratio,
            own.threshold,
        )
    return rules


def _settings_for(names: Sequence[str], selection: Selection) -> GroupSettings:
    """What the settings say for a group of these names, the later ones first."""
    settings = GroupSettings()
    for glob, given in selection.by_name:
        if fnmatch.filter(names, glob):
            # An amount overrules an amount of the other kind too.
            if given.amount:
                settings = replace(settings, ratio=None, threshold=None)
            settings = given.over(settings)
    return settings


def _names(graph: Graph, channels: Channels) -> Dict[str, List[str]]:
    """By group id, what globs may match: the id, and the block's name."""
    blocks = block_of(graph, channels)
    return {
        group.id: [group.id] + ([blocks[group.id].name] if group.id in blocks else [])
        for group in channels.groups
    }


def _any(names: Sequence[str], globs: Sequence[str]) -> bool:
    return any(fnmatch.filter(names, glob) for glob in globs)


def limit(groups: Sequence[Group], removable: np.ndarray, rules: Dict[str, Rule]) -> np.ndarray:
    """Keeps so many of the removable channels that each group obeys its rule.

    The first in index order go first, so that it is the last that stay.

    Args:
        groups: those in scope.
        removable: bool per channel of the graph.
        rules: theirs, by id.

    Returns:
        bool per channel: what goes.
    """
    removed = np.zeros_like(removable)
    for group in groups:
        able, rule = group.channels[removable[group.channels]], rules[group.id]
        count = rule.allowed(len(group), len(able))
        # Rounding up what goes would take channels that may not.
        removed[able[: count if count <= len(able) else count - rule.step]] = True
    return removed


# --- The order in which channels go.


class Ranking:
    """The channels in scope in the order in which they go; by it an amount becomes a choice.

    A choice is a number for each group: how many of it go, the first in its own order. Ties go in
    index order, and between groups in the order of the groups.

    Args:
        graph: the graph, its blocks found.
        channels: its channels.
        groups: the groups in scope.
        scores: theirs; a group without scores does not take part.
        selection: the selection.

    Attributes:
        groups: those that take part.
        total: how many channels compete: those of groups whose amount is not fixed by their rule.
        local: whether each group loses the same share.
    """

    def __init__(
        self,
        graph: Graph,
        channels: Channels,
        groups: Sequence[Group],
        scores: Scores,
        selection: Selection,
    ) -> None:
        # A criterion may say nothing of some groups: bn-scale of those without a batch norm.
        self.groups = groups = [group for group in groups if group.id in scores.own]
        self._channels, self._selection = channels, selection
        self.local = selection.rank == "local"
        rules = rules_of(graph, channels, groups, selection)
        self._rules = [rules[group.id] for group in groups]
        self._own = [np.asarray(scores.own[group.id], np.float64) for group in groups]
        self._rank = [np.asarray(scores.rank[group.id], np.float64) for group in groups]
        self._orders: Dict[int, np.ndarray] = {}
        self._sizes = np.array([len(group) for group in groups], np.int64)
        self._fixed: Dict[int, int] = {}
        for index, rule in enumerate(self._rules):
            wished = self._wished(index, rule)
            if wished is not None:
                self._fixed[index] = wished
        free = [index for index in range(len(groups)) if index not in self._fixed]
        self.total = int(self._sizes[free].sum())
        self._queue: np.ndarray = np.zeros(0, np.int64)
        if free and not self.local:
            ranks = np.concatenate([self._rank[index] for index in free])
            self._queue = np.repeat(free, self._sizes[free])[np.argsort(ranks, kind="stable")]

    def order_of(self, index: int) -> np.ndarray:
        """The channels of a group in the order in which they go, by their index in it."""
        if index not in self._orders:
            self._orders[index] = np.argsort(self._rank[index], kind="stable")
        return self._orders[index]

    def _wished(self, index: int, rule: Rule) -> Optional[int]:
        """How many of a group should go whatever the amount; None if that is open."""
        if rule.ratio is not None:
            return int(rule.ratio * self._sizes[index] + 0.5)
        threshold = self._selection.threshold if rule.threshold is None else rule.threshold
        if threshold is not None:
            return int(np.count_nonzero(_beyond(self._own[index], threshold, self._selection)))
        return None if self._selection.budget else 0

    def counts(self, going: int) -> List[int]:
        """The choice where, before any limit, `going` of the `total` channels go."""
        if self.local:
            share = going / max(1, self.total)
            wished = (share * self._sizes + 0.5).astype(np.int64)
        else:
            wished = np.bincount(self._queue[:going], minlength=len(self.groups))
        for index, count in self._fixed.items():
            wished[index] = count
        return [
            rule.allowed(int(size), int(count))
            for rule, size, count in zip(self._rules, self._sizes, wished)
        ]

    def mask(self, counts: Sequence[int]) -> np.ndarray:
        """What goes by a choice; bool per channel of the graph."""
        removed = np.zeros(self._channels.count, bool)
        for index, (group, count) in enumerate(zip(self.groups, counts)):
            if count:
                removed[group.channels[self.order_of(index)[:count]]] = True
        return self._channels.completed(removed)

    def allowed(self, index: int, ratio: float) -> int:
        """How many channels of a group go where `ratio` of them should, as its rule allows."""
        size = int(self._sizes[index])
        return self._rules[index].allowed(size, int(ratio * size + 0.5))

    def next_count(self, index: int, count: int, more: bool) -> Optional[int]:
        """The next larger (or smaller) number of channels of a group that may go, if any."""
        if index in self._fixed:
            return None
        size, rule = int(self._sizes[index]), self._rules[index]
        for wished in range(count + 1, size + 1) if more else range(count - 1, -1, -1):
            allowed = rule.allowed(size, wished)
            if (allowed > count) if more else (allowed < count):
                return allowed
        return None

    def by_turn(self, counts: Sequence[int], more: bool) -> List[int]:
        """The groups in the order in which they would next lose, or get back, a channel."""
        turns = []
        for index, count in enumerate(counts):
            place = count if more else count - 1
            if 0 <= place < self._sizes[index]:
                rank = self._rank[index][self.order_of(index)[place]]
                turns.append((rank if more else -rank, index))
        return [index for _, index in sorted(turns)]


def _is_redundant(selection: Selection) -> bool:
    """Whether the criterion's own numbers are larger for what should go."""
    return selection.criterion is not None and find_criterion(selection.criterion).redundant


def _beyond(scores: np.ndarray, threshold: float, selection: Selection) -> np.ndarray:
    """Which scores are beyond a threshold, on the side of what should go; bool of shape (n,)."""
    return scores > threshold if _is_redundant(selection) else scores < threshold


def scores_beyond(own: Mapping[str, Any], selection: Selection) -> Dict[str, Any]:
    """How the scores lie about a threshold, for plans.

    Args:
        own: scores by group, as the criterion gives them.
        selection: the selection, with a threshold.

    Returns:
        `above`: whether larger ones go; `beyond`: how many do, before any rule; `quartiles`: the
        least, the quartiles and the largest.
    """
    every = np.concatenate(
        [np.asarray(scores, np.float64) for scores in own.values()] or [np.zeros(0)]
    )
    every = every[np.isfinite(every)]
    assert selection.threshold is not None
    beyond = _beyond(every, selection.threshold, selection)
    quartiles = np.percentile(every, [0, 25, 50, 75, 100]) if len(every) else np.zeros(5)
    return {
        "above": _is_redundant(selection),
        "beyond": int(np.count_nonzero(beyond)),
        "quartiles": [round(float(score), 6) for score in quartiles],
    }
