"""Which channels go for an amount: by score, within each group's rule."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from graphslim.channels.groups import Channels, Group
from graphslim.ir import Graph
from graphslim.plans.select import Rule, Selection, rules_of


class Ranking:
    """The channels in scope in the order in which they go; by it an amount becomes a choice.

    A choice is a number for each group: how many of it go, the first in its own order. Ties go in
    index order, and between groups in the order of the groups.

    Args:
        channels: the channel analysis.
        groups: the groups in scope that have scores.
        rules: theirs, by id.
        scores: `criteria.Scores`.
        selection: the selection.
        redundant: whether the criterion's own numbers are larger for what should go.

    Attributes:
        total: how many channels compete: those of groups whose amount is not fixed by their rule.
        local: whether each group loses the same share.
    """

    def __init__(
        self,
        channels: Channels,
        groups: Sequence[Group],
        rules: Mapping[str, Rule],
        scores: Any,
        selection: Selection,
        redundant: bool,
    ) -> None:
        self.groups, self._channels = list(groups), channels
        self.local = selection.rank == "local"
        self._wish, self._redundant = selection, redundant
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
        threshold = self._wish.threshold if rule.threshold is None else rule.threshold
        if threshold is not None:
            own = self._own[index]
            return int(np.count_nonzero(own > threshold if self._redundant else own < threshold))
        return None if self._wish.budget else 0

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


def ranking(
    graph: Graph,
    channels: Channels,
    groups: Sequence[Group],
    scores: Any,
    selection: Selection,
) -> Ranking:
    """The ranking of the groups that have scores, each with its rule."""
    # A criterion may say nothing of some groups: bn-scale of those without a batch norm.
    scored = [group for group in groups if group.id in scores.own]
    rules = rules_of(graph, channels, scored, selection)
    return Ranking(channels, scored, rules, scores, selection, is_redundant(selection))


def is_redundant(selection: Selection) -> bool:
    """Whether the criterion's own numbers are larger for what should go."""
    from graphslim.scoring import find_criterion

    return selection.criterion is not None and bool(find_criterion(selection.criterion).redundant)


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
    every, above = every[np.isfinite(every)], is_redundant(selection)
    beyond = every > selection.threshold if above else every < selection.threshold
    quartiles = np.percentile(every, [0, 25, 50, 75, 100]) if len(every) else np.zeros(5)
    return {
        "above": above,
        "beyond": int(np.count_nonzero(beyond)),
        "quartiles": [round(float(score), 6) for score in quartiles],
    }


def choose(
    graph: Graph,
    channels: Channels,
    groups: Sequence[Group],
    scores: Any,
    selection: Selection,
    amount: float,
) -> np.ndarray:
    """What goes where `amount` of the channels in scope go, before any limit.

    Args:
        graph: the graph, its blocks found.
        channels: its channels.
        groups: the groups in scope.
        scores: theirs, `criteria.Scores`.
        selection: the selection.
        amount: a share from 0 to 1; groups with an amount of their own do not follow it, and with
            a threshold none does.

    Returns:
        bool per channel of the graph.
    """
    order = ranking(graph, channels, groups, scores, selection)
    return order.mask(order.counts(int(amount * order.total + 0.5)))
