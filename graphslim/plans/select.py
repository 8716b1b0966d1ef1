"""What a plan may touch, and within which limits: the selection, the groups in scope, rules."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, replace
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from graphslim.channels.groups import Channels, Group
from graphslim.errors import PlanError
from graphslim.ir import Block, Graph
from graphslim.plans.curves import Curves, curves_of
from graphslim.plans.options import (
    ANY_COUNT,
    COUNT,
    CURVES,
    FLAG,
    GLOBS,
    MAGNITUDE,
    NAME,
    NUMBER,
    PART,
    SETTINGS,
    SHARE,
    check_options,
    declares_options,
    flag_of,
    one_of,
    option,
)
from graphslim.plans.settings import KINDS, ByName, GroupSettings, by_name
from graphslim.plans.widths import TARGETS, Widths
from graphslim.scoring import AGGREGATES

DEAD_BELOW = 1e-9
"""Weights of smaller magnitude count as zero by default: the threshold of the published method."""
MEASURED_BY = "taylor"
"""The criterion by which a sensitivity is measured, where nobody names another."""
SCOPES = ("blocks", "all")
ROUNDINGS = ("kept", "removed")
RANKS = ("global", "local")
BUDGETS = ("threshold", "ratio", "macs", "params", "size", "latency", "max_loss")

RANKED = (
    *("criterion", "aggregate", "loss_output", "scope", "only", "exclude", "by_name"),
    *("through_norms", "whole_heads", "multiple_of", "runtime", "rounding", "min_channels"),
    "max_ratio",
)
"""Options that say which channels of which groups go, and in which steps, but not how many."""


@declares_options
@dataclass(frozen=True)
class Selection:
    """What a plan may touch and, with a criterion, which channels go and how many.

    Here each of its options is declared, for the keyword arguments of `graphslim.plan`, for the
    options of commands and for passes. Of threshold, ratio, macs, params, size and latency at most
    one is given.
    """

    dead_below: float = option(
        DEAD_BELOW,
        MAGNITUDE,
        "Weights of smaller magnitude count as zero; 0: exact zeros alone.",
        "W",
        hint="1e-9 is the default",
    )
    criterion: Optional[str] = option(
        None,
        NAME,
        "Remove the channels that a criterion scores lowest, as many as an option such as --macs "
        "says: a name (see `graphslim criteria`), module:function or file.py:function.",
        "C",
        hint="give its name, or module:function",
    )
    threshold: Optional[float] = option(
        None,
        NUMBER,
        "Channels whose score is beyond T: above, if the criterion says what is redundant; below, "
        "if it says what matters.",
        "T",
    )
    ratio: Optional[float] = option(None, PART, "Remove this share of the channels in scope.", "R")
    macs: Optional[float] = option(None, PART, "Keep this share of the multiply-accumulates.", "R")
    params: Optional[float] = option(None, PART, "Keep this share of the parameters.", "R")
    size: Optional[float] = option(None, PART, "Keep this share of the bytes of the file.", "R")
    latency: Optional[float] = option(
        None, PART, "Keep this share of the time, measured on this machine.", "R"
    )
    max_loss: Optional[float] = option(
        None,
        MAGNITUDE,
        "As narrow as the network gets while it loses at most L, measured on --data; see "
        "`graphslim sensitivity`.",
        "L",
    )
    allocate: Optional[Curves] = option(
        None,
        CURVES,
        "How much each group loses is chosen by the curves that `graphslim sensitivity` measured, "
        "so that the network loses least for the budget.",
        "S.jsonl",
    )
    rank: str = option(
        "global",
        one_of(RANKS),
        "All channels compete, or each group loses the same share.",
    )
    aggregate: Optional[str] = option(
        None,
        one_of(AGGREGATES, "no way to aggregate called {!r}"),
        "How the scores of one group's parameters become one.  [default: mean; for redundancy "
        "first]",
    )
    loss_output: Optional[str] = option(
        None,
        NAME,
        "For criteria by gradients (taylor, obs): the tensor whose gradients are taken.  [default: "
        "the outputs]",
        "NAME",
    )
    threads: int = option(
        1,
        ANY_COUNT,
        "Threads within an op when --latency or --for measures times; 0: as many as there are "
        "cores.",
        "N",
    )
    scope: str = option(
        "all", one_of(SCOPES), "Prune inside recognised blocks alone, or everywhere."
    )
    only: Sequence[str] = option(
        (), GLOBS, "Prune only groups or blocks whose names match.", "GLOB"
    )
    exclude: Sequence[str] = option(
        (), GLOBS, "Leave groups or blocks alone whose names match.", "GLOB"
    )
    by_name: ByName = option(
        (),
        SETTINGS,
        f"Other limits for some groups: YAML or JSON that maps globs to any of {', '.join(KINDS)}.",
        "FILE",
        spelled="settings",
    )
    multiple_of: Optional[int] = option(
        None,
        COUNT,
        "Keep a multiple of N channels per group.  [default: 4 with --scope blocks or --rounding "
        "removed; else 8 with --criterion, and 1 for dead channels; --for has its own]",
        "N",
    )
    runtime: Optional[str] = option(
        None,
        one_of(TARGETS),
        "Choose for the runtime that will run the result: widths at which its kernels are fast, "
        "and --latency is measured in it.  [default: tf]",
        flag="--for",
    )
    rounding: str = option(
        "kept",
        one_of(ROUNDINGS),
        "What is a multiple: the number kept, rounded up, or the number removed, rounded to the "
        "nearest, as in the published method.",
    )
    min_channels: int = option(1, COUNT, "Keep at least N channels per group.", "N")
    max_ratio: float = option(
        1.0, SHARE, "The largest share of a group's channels that may go.", "R"
    )
    through_norms: Optional[bool] = option(
        None,
        FLAG,
        "Let channels go through layer, group, RMS and L2 norms, which then run over those that "
        "stay.  [default: with --repair]",
    )
    whole_heads: Optional[bool] = option(
        None,
        FLAG,
        "Of attention heads, let whole ones go, and no channels within them.  [default: the larger "
        "number of the two is thinned out]",
    )
    seed: int = 0

    @classmethod
    def of(cls, settings: Any = None, seed: int = 0, **options: Any) -> Selection:
        """A selection of options by keyword; None stands for the default of an option.

        Args:
            settings: a file, or a mapping of globs.
            seed: for criteria that draw lots.
            **options: the others; `only` and `exclude` take one glob, or several.

        Raises:
            PlanError: the settings cannot be read, or make no sense.
            TypeError: there is no such option.
        """
        options = {name: value for name, value in options.items() if value is not None}
        for name in {"only", "exclude"} & options.keys():
            globs = options[name]
            options[name] = (globs,) if isinstance(globs, str) else tuple(globs)
        curves = options["allocate"] = curves_of(options.get("allocate"))
        if options.get("criterion") is None and curves is not None:
            options["criterion"] = curves.about.criterion
        elif options.get("criterion") is None and options.get("max_loss") is not None:
            options["criterion"] = MEASURED_BY
        return cls(**options, by_name=by_name(settings), seed=seed)

    @property
    def step(self) -> int:
        """The multiple that is in force; for a runtime, that of wide groups."""
        if self.multiple_of is not None:
            return self.multiple_of
        if self.target is not None:
            return self.target.aligned if self.criterion is None else self.target.multiple
        if self.scope == "blocks" or self.rounding == "removed":
            return 4
        return 1 if self.criterion is None else TARGETS["tf"].multiple

    @property
    def target(self) -> Optional[Widths]:
        """The widths of the runtime that the plan is for, where that decides multiples."""
        if self.runtime is None or self.multiple_of is not None or self.rounding == "removed":
            return None
        return TARGETS[self.runtime]

    def step_for(self, channels: int) -> int:
        """The multiple that is in force for a group of so many channels."""
        if self.target is None or self.criterion is None:
            return self.step
        return self.target.step_for(channels)

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
        recorded: Dict[str, Any] = {
            "scope": self.scope,
            "only": list(self.only),
            "exclude": list(self.exclude),
            "multiple_of": self.step,
            "rounding": self.rounding,
            "min_channels": self.min_channels,
            "max_ratio": self.max_ratio,
        }
        if self.criterion is not None:
            recorded.update(
                criterion=self.criterion,
                aggregate=self.aggregate,
                rank=self.rank,
                seed=self.seed,
                budget=dict([self.budget]) if self.budget else {},
            )
        if self.runtime is not None:
            recorded["runtime"] = self.runtime
        if self.allocate is not None:
            recorded["allocate"] = self.allocate.about._asdict()
        if self.by_name:
            recorded["by_name"] = [[glob, given.as_dict()] for glob, given in self.by_name]
        return recorded

    def check(self) -> None:
        """Refuses what makes no sense for any graph.

        Raises:
            PlanError: an option is unknown, out of range, missing or one too many.
        """
        check_options(self)
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        by_group = any(settings.amount for _, settings in self.by_name)
        options = " and ".join([flag_of(name) for name in given])
        if len(given) > 1:
            raise PlanError("only one thing can be reached at a time", options, "choose one")
        if self.allocate is not None:
            self._check_allocated(given)
        if self.criterion is None and (given or by_group):
            raise PlanError(
                "needs a criterion", options or "--settings", "add one, such as --criterion l1"
            )
        if self.criterion is not None and not given and not by_group:
            raise PlanError(
                "says what goes first, but not how much",
                f"--criterion {self.criterion}",
                f"add one of: {', '.join(map(flag_of, BUDGETS))}",
            )

    def _check_allocated(self, given: Sequence[str]) -> None:
        """Refuses curves that were measured by another criterion, or where nothing needs them.

        Raises:
            PlanError: the curves do not go with the other options.
        """
        assert self.allocate is not None
        measured = self.allocate.about.criterion
        if not given or given == ["threshold"]:
            raise PlanError(
                "says what a group loses, but not how much is to go",
                "--allocate",
                "add one of: --macs, --params, --size, --ratio, --latency, --max-loss",
            )
        if self.criterion not in (None, measured):
            raise PlanError(
                f"was measured by {measured}",
                "--allocate",
                f"leave --criterion out, or measure by {self.criterion}",
            )


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
