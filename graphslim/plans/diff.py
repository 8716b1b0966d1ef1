"""What two plans do differently: group by group, in their settings, folds and totals."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from graphslim.plans.plan import Fold, GroupPlan, Plan


class GroupDifference(NamedTuple):
    """A group that two plans treat differently.

    Attributes:
        id: the group's id.
        block: name of the block that it is the inside of, or None.
        channels: how many it has in each plan's graph; None where a plan leaves it alone.
        removed: how many each plan removes.
        only_first, only_second: the channels that one plan removes and the other does not.
        details: what else is not the same: `scores`, `why`, `bindings`, `block`, `channels`.
    """

    id: str
    block: Optional[str]
    channels: Tuple[Optional[int], Optional[int]]
    removed: Tuple[int, int]
    only_first: Tuple[int, ...]
    only_second: Tuple[int, ...]
    details: Tuple[str, ...]


class PlanDifference(NamedTuple):
    """How two plans differ.

    Attributes:
        groups: those that are not the same, in the order of the plans.
        alike: how many are the same in both.
        settings: by name, both values of each setting that differs; None where it is not there.
        others: the other parts that differ, by name, with both values where they are short:
            `model`, `achieved`, `folds`, `layers`.
        removed, params, macs: totals of both, those of the networks after pruning.
        edited: whether each was edited since its `params` and `macs` were written.
    """

    groups: Tuple[GroupDifference, ...]
    alike: int
    settings: Dict[str, Tuple[Any, Any]]
    others: Dict[str, Tuple[Any, Any]]
    removed: Tuple[int, int]
    params: Tuple[int, int]
    macs: Tuple[Optional[int], Optional[int]]
    edited: Tuple[bool, bool] = (False, False)

    @property
    def same(self) -> bool:
        """Whether the plans are the same in everything."""
        pairs = (self.removed, self.params, self.macs)
        return not (self.groups or self.settings or self.others) and all(
            [own == other for own, other in pairs]
        )


def diff(first: Plan, second: Plan) -> PlanDifference:
    """Compares two plans; groups are matched by their ids."""
    ours = {group.id: group for group in first.groups}
    theirs = {group.id: group for group in second.groups}
    groups, alike = [], 0
    for name in [*ours, *[name for name in theirs if name not in ours]]:
        difference = _group(name, ours.get(name), theirs.get(name))
        if difference is None:
            alike += 1
        else:
            groups.append(difference)
    settings = {
        key: (first.settings.get(key), second.settings.get(key))
        for key in [*first.settings, *[key for key in second.settings if key not in first.settings]]
        if first.settings.get(key) != second.settings.get(key)
    }
    return PlanDifference(
        tuple(groups),
        alike,
        settings,
        _others(first, second),
        (first.removed, second.removed),
        (first.params[1], second.params[1]),
        (first.macs[1], second.macs[1]),
        (first.edited, second.edited),
    )


def _group(
    name: str, first: Optional[GroupPlan], second: Optional[GroupPlan]
) -> Optional[GroupDifference]:
    """How two plans differ in a group; None if they do not."""
    gone = [set(group.removed) if group else set() for group in (first, second)]
    details: List[str] = []
    if first is not None and second is not None:
        details = [
            label
            for label, own, other in (
                ("channels", first.channels, second.channels),
                ("block", first.block, second.block),
                ("why", first.why, second.why),
                ("scores", first.scores, second.scores),
                ("bindings", sorted(first.cuts), sorted(second.cuts)),
            )
            if own != other
        ]
        if gone[0] == gone[1] and not details:
            return None
        if gone[0] != gone[1]:
            # Other channels touch other positions: that goes without saying.
            details = [label for label in details if label != "bindings"]
    either = first or second
    return GroupDifference(
        name,
        either.block if either else None,
        (first.channels if first else None, second.channels if second else None),
        (len(gone[0]), len(gone[1])),
        tuple(sorted(gone[0] - gone[1])),
        tuple(sorted(gone[1] - gone[0])),
        tuple(details),
    )


def _others(first: Plan, second: Plan) -> Dict[str, Tuple[Any, Any]]:
    """What differs outside the groups; of long parts only how much there is."""
    differences: Dict[str, Tuple[Any, Any]] = {}
    for key in ("name", "sha256"):
        values = (first.model.get(key), second.model.get(key))
        if values[0] != values[1]:
            differences[f"model {key}"] = values
    achieved = [plan.achieved and plan.achieved._asdict() for plan in (first, second)]
    if achieved[0] != achieved[1]:
        differences["achieved"] = (achieved[0], achieved[1])
    folds: List[List[Fold]] = [sorted(plan.folds) for plan in (first, second)]
    if folds[0] != folds[1]:
        sizes = [sum([len(fold.indices) for fold in of_plan]) for of_plan in folds]
        differences["constants folded"] = (sizes[0], sizes[1])
    if first.layers != second.layers:
        differences["layers of the network"] = (len(first.layers), len(second.layers))
    if first.params[0] != second.params[0]:
        differences["parameters before"] = (first.params[0], second.params[0])
    if first.macs[0] != second.macs[0]:
        differences["MACs before"] = (first.macs[0], second.macs[0])
    return differences
