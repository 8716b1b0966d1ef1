"""What a plan may touch, and within which limits: the wish, the groups in scope, their rules."""

from __future__ import annotations

import fnmatch
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from graphslim.channels.groups import Channels, Group
from graphslim.errors import PlanError
from graphslim.ir import Block, Graph
from graphslim.plans.settings import ByName, GroupSettings
from graphslim.support.text import is_count, is_finite, is_share

SCOPES = ("blocks", "all")
ROUNDINGS = ("kept", "removed")
RANKS = ("global", "local")
BUDGETS = ("threshold", "ratio", "macs", "params", "size", "latency")


class Selection(NamedTuple):
    """What a plan may touch and, with a criterion, which channels go and how many.

    Attributes:
        scope: `blocks` (channels inside recognised blocks) or `all`.
        only, exclude: globs; a group counts as matched if its id or its block's name is.
        multiple_of: keep a multiple of this many channels in each group, rounding up. By default
            4 in blocks, as the published method does; elsewhere 1 for dead channels, and 8 for
            chosen ones.
        min_channels: keep at least so many in each group.
        rounding: what is a multiple: the number `kept`, or the number `removed`, as in the
            published method, to the nearest multiple; its default is then 4.
        max_ratio: the largest share of a group's channels that may go.
        rank: `global` lets all channels in scope compete; `local` takes the same share of each
            group.
        criterion: the name of the criterion that scores them; None for dead channels.
        aggregate: how the scores of one group's parameters become one; None: the criterion says.
        seed: for the criterion `random`.
        threshold: channels go whose score is beyond it: above, for a criterion of redundancy,
            and below for others.
        ratio: the share of the channels in scope that goes.
        macs, params, size, latency: the share of the network's that remains; size is that of the
            file in bytes. Of threshold, ratio and these, one is given.
        by_name: what holds for some groups instead.
    """

    scope: str = "all"
    only: Sequence[str] = ()
    exclude: Sequence[str] = ()
    multiple_of: Optional[int] = None
    min_channels: int = 1
    rounding: str = "kept"
    max_ratio: float = 1.0
    rank: str = "global"
    criterion: Optional[str] = None
    aggregate: Optional[str] = None
    seed: int = 0
    threshold: Optional[float] = None
    ratio: Optional[float] = None
    macs: Optional[float] = None
    params: Optional[float] = None
    size: Optional[float] = None
    latency: Optional[float] = None
    by_name: ByName = ()

    @property
    def step(self) -> int:
        """The multiple that is in force."""
        if self.multiple_of is not None:
            return self.multiple_of
        if self.scope == "blocks" or self.rounding == "removed":
            return 4
        return 1 if self.criterion is None else 8

    @property
    def budget(self) -> Optional[Tuple[str, float]]:
        """What is to be reached, by name, if anything."""
        for name in BUDGETS:
            asked: Optional[float] = getattr(self, name)
            if asked is not None:
                return name, asked
        return None

    def settings(self) -> Dict[str, Any]:
        """The settings as a plan records them."""
        found: Dict[str, Any] = {
            "scope": self.scope,
            "only": list(self.only),
            "exclude": list(self.exclude),
            "multiple_of": self.step,
            "rounding": self.rounding,
            "min_channels": self.min_channels,
            "max_ratio": self.max_ratio,
        }
        if self.criterion is not None:
            found.update(
                criterion=self.criterion,
                aggregate=self.aggregate,
                rank=self.rank,
                seed=self.seed,
                budget=dict([self.budget]) if self.budget else {},
            )
        if self.by_name:
            found["by_name"] = [[glob, held.as_dict()] for glob, held in self.by_name]
        return found

    def check(self) -> None:
        """Refuses what makes no sense for any graph.

        Raises:
            PlanError: an option is unknown, out of range, missing or one too many.
        """
        for option, value, known in (
            ("scope", self.scope, SCOPES),
            ("rounding", self.rounding, ROUNDINGS),
            ("rank", self.rank, RANKS),
        ):
            if value not in known:
                raise PlanError(f"no {option} {value!r}", f"--{option}", f"one of: {_list(known)}")
        for option, number in (("multiple-of", self.step), ("min-channels", self.min_channels)):
            if not is_count(number):
                raise PlanError("must be 1 or more", f"--{option}")
        if not is_share(self.max_ratio):
            raise PlanError("must be from 0 to 1", "--max-ratio")
        self._check_budget()

    def _check_budget(self) -> None:
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        own = any(_amount(held) for _, held in self.by_name)
        options = " and ".join([f"--{name}" for name in given])
        if len(given) > 1:
            raise PlanError("only one thing can be reached at a time", options, "choose one")
        if self.criterion is None and (given or own):
            raise PlanError(
                "needs a criterion", options or "--settings", "add one, such as --criterion l1"
            )
        if self.criterion is not None and not given and not own:
            raise PlanError(
                "says what goes first, but not how much",
                f"--criterion {self.criterion}",
                f"add one of: {_list([f'--{name}' for name in BUDGETS])}",
            )
        for name in given:
            asked = getattr(self, name)
            if name == "threshold" and not is_finite(asked):
                raise PlanError(f"{asked} is no finite number", "--threshold")
            if name != "threshold" and not (is_share(asked) and asked > 0):
                raise PlanError(f"{asked} is no share above 0, and at most 1", f"--{name}")


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
        PlanError: the selection makes no sense, or a glob matches nothing.
    """
    wish.check()
    names = _names(graph, channels)
    chosen = [group for group in channels.groups if group.prunable]
    globs = [
        *[("--only", glob) for glob in wish.only],
        *[("--exclude", glob) for glob in wish.exclude],
        *[("--settings", glob) for glob, _ in wish.by_name],
    ]
    for option, glob in globs:
        if not any(fnmatch.filter(one, glob) for one in names.values()):
            raise PlanError(
                f"{glob!r} matches no group or block", option, "`graphslim inspect` lists them"
            )
    if wish.only:
        chosen = [group for group in chosen if _any(names[group.id], wish.only)]
    blocks = block_of(graph, channels) if wish.scope == "blocks" else {}
    return [
        group
        for group in chosen
        if not _any(names[group.id], wish.exclude)
        and not _held(names[group.id], wish).exclude
        and (wish.scope == "all" or group.id in blocks)
    ]


def rules_of(
    graph: Graph, channels: Channels, groups: Sequence[Group], wish: Selection
) -> Dict[str, Rule]:
    """The rule of each group by id: what the selection says, and what it says for its name."""
    names = _names(graph, channels)
    rules: Dict[str, Rule] = {}
    for group in groups:
        held = _held(names[group.id], wish)
        ratio = wish.max_ratio if held.max_ratio is None else held.max_ratio
        # The small part makes up for a product such as 0.29 * 100, which falls short of 29.
        least = len(group) - int(ratio * len(group) + 1e-9)
        rules[group.id] = Rule(
            held.multiple_of or wish.step,
            wish.rounding,
            max(1, held.min_channels or wish.min_channels, least),
            held.ratio,
            held.threshold,
        )
    return rules


def _held(names: Sequence[str], wish: Selection) -> GroupSettings:
    """What the settings say for a group of these names, the later ones first."""
    held = GroupSettings()
    for glob, one in wish.by_name:
        if fnmatch.filter(names, glob):
            # An amount overrules an amount of the other kind too.
            held = one.over(held._replace(ratio=None, threshold=None) if _amount(one) else held)
    return held


def _amount(held: GroupSettings) -> bool:
    return held.ratio is not None or held.threshold is not None


def _names(graph: Graph, channels: Channels) -> Dict[str, List[str]]:
    """By group id, what globs may match: the id, and the block's name."""
    blocks = block_of(graph, channels)
    return {
        group.id: [group.id] + ([blocks[group.id].name] if group.id in blocks else [])
        for group in channels.groups
    }


def _any(names: Sequence[str], globs: Sequence[str]) -> bool:
    return any(fnmatch.filter(names, glob) for glob in globs)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


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
