"""From a graph and a selection to a plan."""

from __future__ import annotations

import os
from dataclasses import replace
from numbers import Integral
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphslim.analysis.cost import Cost, cost, cost_without
from graphslim.analysis.dead import Constant, constants_left, constants_of, consumers_of, find_dead
from graphslim.analysis.values import Values
from graphslim.channels.groups import Channels, Group, analyse, as_asked
from graphslim.errors import PlanError
from graphslim.ir import Graph
from graphslim.plans.budget import CostOf, meet
from graphslim.plans.choose import Ranking, block_of, in_scope, limit, rules_of
from graphslim.plans.layers import layers_of
from graphslim.plans.plan import Achieved, Cut, Fold, GroupPlan, Late, Model, Plan
from graphslim.plans.selection import DEAD_BELOW, Selection
from graphslim.scoring import Scores
from graphslim.support.garbage import pause_gc

_TENS = np.array([10.0**power for power in range(23)])
"""Powers of ten that a float64 holds exactly."""


@pause_gc()
def plan_dead(graph: Graph, selection: Optional[Selection] = None) -> Plan:
    """A plan that removes dead channels, and folds what constants they leave behind.

    Args:
        graph: the graph; for scope `blocks` its blocks must have been found.
        selection: what may be touched, and what counts as zero.

    Raises:
        PlanError: the selection makes no sense for this graph.
    """
    selection = selection or Selection()
    graph = as_asked(graph, selection)
    channels = analyse(graph)
    groups = in_scope(graph, channels, selection)
    dead_below = selection.dead_below
    allowed = np.zeros(channels.count, bool)
    for group in groups:
        allowed[group.channels] = True
    values = Values(graph, channels, dead_below, at_once=False)
    consumers = consumers_of(channels, values, dead_below)
    rules = rules_of(graph, channels, groups, selection)
    dead = find_dead(channels, consumers, allowed)
    removed = channels.completed(limit(groups, dead, rules))
    folds = folds_of(constants_of(consumers, removed))
    settings = {"select": "dead", "dead_below": dead_below, **selection.settings()}
    if selection.target is not None:
        single = rules_of(graph, channels, groups, replace(selection, multiple_of=1))
        kept = limit(groups, dead, single) & ~removed
        counts = {group.id: int(np.count_nonzero(kept[group.channels])) for group in groups}
        settings["kept"] = {name: count for name, count in counts.items() if count}
    return plan_removing(graph, channels, removed, "dead", settings, folds)


@pause_gc()
def plan_scored(
    graph: Graph, selection: Selection, scores: Scores, cost_of: Optional[CostOf] = None
) -> Plan:
    """A plan that removes the channels with the lowest scores, as many as a selection asks for.

    What a removed channel that is a known constant leaves behind is folded, as for dead channels.

    Args:
        graph: the graph; for scope `blocks` its blocks must have been found.
        selection: what may be touched, the criterion, and the budget or threshold.
        scores: those of the groups in scope; groups without scores are left alone.
        cost_of: what a choice costs, as a share of the whole network; see `graphslim.plans.meet`.

    Raises:
        PlanError: the selection makes no sense for this graph, or its budget cannot be met.
    """
    channels = analyse(graph)
    groups = in_scope(graph, channels, selection)
    if selection.criterion is None:
        raise PlanError("scores need a criterion's name", "--criterion")
    achieved: Optional[Achieved] = None
    if selection.budget is None or selection.budget[0] == "threshold":
        order = Ranking(graph, channels, groups, scores, selection)
        removed = order.mask(order.counts(0))
    else:
        removed, achieved = meet(graph, channels, groups, scores, selection, cost_of)
    values = Values(graph, channels, DEAD_BELOW, at_once=False)
    name = selection.criterion
    settings = {"select": "scores", **selection.settings()}
    folds = folds_of(constants_left(channels, values, DEAD_BELOW, removed))
    plan = plan_removing(graph, channels, removed, name, settings, folds, scores.own)
    return plan._replace(achieved=achieved)


def plan_given(
    graph: Graph,
    removed: Mapping[str, Sequence[int]],
    fold: bool = False,
    scores: Optional[Mapping[str, np.ndarray]] = None,
) -> Plan:
    """A plan that removes the given channels.

    Args:
        graph: the graph.
        removed: by group id, the indices of the channels that go, whole numbers of any type.
        fold: whether known constants that they leave behind are folded, as where a criterion
            chooses; without it nothing is.
        scores: by group id, the scores by which the channels were chosen; float64 of shape (n,).

    Raises:
        PlanError: a group is not there, is pinned, or would lose every channel, or an index is no
            whole number.
    """
    channels = analyse(graph)
    by_id = {group.id: group for group in channels.groups}
    mask = np.zeros(channels.count, bool)
    for name, indices in removed.items():
        group = by_id.get(name)
        if group is None:
            raise PlanError("no group of that name", name, "`graphslim inspect` lists them")
        indices = _whole(indices, name)
        check_removal(group, indices)
        mask[group.channels[indices]] = True
    mask = channels.completed(mask)
    folds: List[Fold] = []
    if fold:
        values = Values(graph, channels, DEAD_BELOW, at_once=False)
        folds = folds_of(constants_left(channels, values, DEAD_BELOW, mask))
    return plan_removing(graph, channels, mask, "given", {"select": "given"}, folds, scores)


def _whole(indices: Iterable[Any], name: str) -> List[int]:
    """Indices as numbers of Python.

    Raises:
        PlanError: an index is no whole number, such as those of a mask.
    """
    listed = list(indices)
    for index in listed:
        if isinstance(index, bool) or not isinstance(index, Integral):
            raise PlanError(f"{index!r} is no index of a channel", name, "give whole numbers")
    return [int(index) for index in listed]


def check_removal(group: Group, indices: Sequence[int]) -> None:
    """Refuses the removal of channels that do not exist, are pinned, or are all there are.

    Raises:
        PlanError: an index is out of range, the group is pinned, or no channel would be left.
    """
    if indices and not group.prunable:
        raise PlanError(f"cannot be pruned: {group.pinned_by} ({group.pinned_at})", group.id)
    unknown = [index for index in indices if not 0 <= index < len(group)]
    if unknown:
        raise PlanError(f"has only {len(group)} channels, {max(unknown)} is none of them", group.id)
    if len(set(indices)) == len(group):
        raise PlanError("would lose all its channels", group.id, "keep at least one")


def folds_of(constants: Sequence[Constant]) -> List[Fold]:
    """What removed channels leave behind, to be folded into offsets."""
    return [
        Fold(constant.node, tuple(constant.indices.tolist()), tuple(constant.values.tolist()))
        for constant in constants
    ]


def plan_removing(
    graph: Graph,
    channels: Channels,
    removed: np.ndarray,
    why: str,
    settings: Mapping[str, Any],
    folds: Sequence[Fold],
    scores: Optional[Mapping[str, np.ndarray]] = None,
) -> Plan:
    """The plan that removes some channels, whatever they do.

    Args:
        graph: the graph.
        channels: its channels.
        removed: which of them go, with those that they own; bool of shape (channels.count,).
        why: one word for why, for all groups.
        settings: how they were chosen.
        folds: what is put back.
        scores: by group id, what the criterion said of each channel.
    """
    blocks, removed = block_of(graph, channels), removed.copy()

    def planned(group: Group, gone: np.ndarray) -> GroupPlan:
        block = blocks.get(group.id)
        return GroupPlan(
            group.id,
            block.name if block else None,
            len(group),
            tuple(gone.tolist()),
            why,
            Late(lambda: written_scores((scores or {}).get(group.id))),
            Late(lambda: cuts_of(channels, group, removed)),
        )

    going = [(group, np.flatnonzero(removed[group.channels])) for group in channels.groups]
    groups = tuple([planned(group, gone) for group, gone in going if len(gone)])
    before: Cost = cost(graph)
    after = cost_without(graph, removed)
    # Kept with the graph as it is, so that whoever applies the plan to it need not check it.
    last_made(graph).update(groups=groups, removed=removed)
    if channels.statistics:
        settings = {**settings, "through_norms": True}
    if channels.heads:
        settings = {**settings, "whole_heads": True}
    return Plan(
        model_of(graph),
        settings,
        groups,
        tuple(folds),
        (before.params, after.params),
        (before.macs, after.macs),
        layers=layers_of(graph, channels),
    )


def written_scores(scores: Optional[np.ndarray]) -> Tuple[float, ...]:
    """Scores as a plan holds them: more digits than anyone reads would only be noise."""
    if scores is None:
        return ()
    with np.errstate(all="ignore"):
        power = 5 - np.floor(np.log10(np.abs(scores)))
        small, few = power > 0, np.abs(power) < len(_TENS)
        tens = _TENS[np.where(few, np.abs(power), 0).astype(int)]
        scaled = np.where(small, scores * tens, scores / tens)
        digits = np.rint(scaled)
        # A quotient of whole numbers is as exact as reading its digits; what is too near to the
        # middle between two roundings, or has other digits than six, is written out and read.
        clear = few & (np.abs(np.abs(scaled - digits) - 0.5) > 1e-6)
        clear &= (np.abs(digits) >= 1e5) & (np.abs(digits) < 1e6)
        rounded = np.where(small, digits / tens, digits * tens)
    for place in np.flatnonzero(~clear).tolist():
        rounded[place] = float(f"{scores[place]:.6g}")
    return tuple(rounded.tolist())


def cuts_of(channels: Channels, group: Group, removed: np.ndarray) -> List[Cut]:
    """What the removal of channels cuts from each binding of a group."""
    cuts = []
    going = removed[group.channels]
    alike: Dict[Tuple[bytes, bytes], Tuple[int, ...]] = {}
    for binding in channels.bindings(group):
        key = binding.positions.tobytes(), binding.channels.tobytes()
        if key not in alike:
            gone = binding.positions[going[binding.channels]]
            # A position that belongs to two channels of the group stands there for each.
            alike[key] = tuple((gone if _rises(gone) else np.unique(gone)).tolist())
        if alike[key]:
            cuts.append(Cut(binding.param, binding.axis, binding.role, alike[key]))
    return cuts


def _rises(numbers: np.ndarray) -> bool:
    return bool((numbers[1:] > numbers[:-1]).all())


def model_of(graph: Graph) -> Mapping[str, str]:
    """Name, without its folder, and digest of the file that a graph was read from."""
    return graph.memo(f"model {graph.name}", _model)


def _model(graph: Graph) -> Model:
    name = os.path.basename(os.path.normpath(graph.name))
    return Model(name, graph.origin.data if graph.origin is not None else b"")


def last_made(graph: Graph) -> Dict[str, Any]:
    """`groups` and `removed` of the last plan made for a graph as it is; empty if there is none."""
    return graph.memo("last plan made", lambda graph: {})
