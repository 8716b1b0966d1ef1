"""What a plan takes from the variables of a checkpoint, position by position."""

from __future__ import annotations

from typing import Collection, Dict, List, NamedTuple, Set, Tuple

import numpy as np

from graphslim.analysis.channels import Channels, analyse
from graphslim.analysis.shared import copies_needed
from graphslim.checkpoint.model import Trained
from graphslim.errors import PlanError
from graphslim.plans import GroupPlan, Plan, fit
from graphslim.plans.fit import removal_of
from graphslim.plans.make import cuts_of

WEIGHT_ROLES = ("producer", "consumer", "follower")
"""Roles of what a variable holds; the others are sizes and indices, which stand in the graph."""

Places = Dict[str, Dict[int, Tuple[int, ...]]]
"""For axes of variables, the positions that go, in order."""


class Fitting(NamedTuple):
    """A plan in the names of a checkpoint's variables.

    Attributes:
        plan: the plan; every group says what it cuts.
        channels: the channel analysis of the inference graph.
        removed: which of its channels go; bool of shape (channels.count,).
        notes: how the plan was matched, line by line.
    """

    plan: Plan
    channels: Channels
    removed: np.ndarray
    notes: Tuple[str, ...]


def fitting(trained: Trained, plan: Plan, folds: bool = False) -> Fitting:
    """A plan in the names of a checkpoint's variables, whose values may have changed since.

    Args:
        trained: the checkpoint.
        plan: of it, or of another checkpoint of the same architecture.
        folds: keep the plan's folds, which have to be true of these values; else they are left
            out: after a soft pruning they are done already.

    Raises:
        PlanError: the plan does not fit, or cuts one variable in two ways.
    """
    found = fit(trained.graph, plan if folds else plan._replace(folds=()), force=True)
    channels = analyse(trained.graph)
    removed = removal_of(channels, found.plan)
    _refuse_copies(trained, channels, removed)
    by_id = {group.id: group for group in channels.groups}
    groups: List[GroupPlan] = [
        one._replace(cuts=tuple(cuts_of(channels, by_id[one.id], removed)))
        for one in found.plan.groups
    ]
    return Fitting(found.plan._replace(groups=tuple(groups)), channels, removed, found.notes)


def places(plan: Plan, without: Collection[str] = ()) -> Places:
    """By parameter and axis, the positions that a plan removes; sizes and indices left out.

    Args:
        plan: the plan.
        without: parameters to leave out.
    """
    found: Dict[str, Dict[int, Set[int]]] = {}
    for group in plan.groups:
        for cut in group.cuts:
            if cut.role in WEIGHT_ROLES and cut.param not in without:
                found.setdefault(cut.param, {}).setdefault(cut.axis, set()).update(cut.removed)
    return {
        param: {axis: tuple(sorted(gone)) for axis, gone in sorted(axes.items())}
        for param, axes in found.items()
    }


def _refuse_copies(trained: Trained, channels: Channels, removed: np.ndarray) -> None:
    """Refuses a plan whose readers of one variable would each need another part of it.

    Raises:
        PlanError: so.
    """
    for param, copies in copies_needed(channels, removed).items():
        if len(copies) > 1 and param in trained.keys:
            readers = [use.node for _, uses in copies for use in uses]
            raise PlanError(
                f"the plan would cut it in {len(copies)} ways, for {', '.join(readers[:3])}, and a "
                "checkpoint holds it once",
                param,
                "--exclude the groups of all these readers but one",
            )
