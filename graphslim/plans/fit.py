"""Whether a plan fits a graph: as it stands, or carried over to a graph with other names.

A plan that was made for other bytes is first tried by its group ids and bindings. Where these do
not fit, layers are matched by their place in the network (`plans.layers`), and channels by their
positions along the axes of the layers' weights. The result has to cut every layer of the graph
just as the plan cuts its own, or the plan is refused.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from graphslim.analysis.cost import cost, cost_without
from graphslim.analysis.values import Values
from graphslim.channels.facts import per_channel
from graphslim.channels.groups import Channels, Removal, analyse, as_asked
from graphslim.errors import PlanError
from graphslim.ir import Graph
from graphslim.plans.choose import block_of
from graphslim.plans.layers import Pairs, layers_of, pair
from graphslim.plans.make import DEAD_BELOW, check_removal, cuts_of, last_made, model_of
from graphslim.plans.plan import Fold, GroupPlan, Plan
from graphslim.support.text import plural

_OTHER = "the plan is of another architecture"
_RELATIVE, _ABSOLUTE = 1e-4, 1e-6
"""How near a constant has to be to the one that a plan folds: spellings round apart."""

Places = Dict[Tuple[str, int], Set[int]]
"""For axes of parameters, the positions that go."""


class Fitted(NamedTuple):
    """A plan in the names of a graph.

    Attributes:
        plan: the plan, or what became of it; its groups, bindings and folds are the graph's.
        notes: what was matched how, line by line; empty where the plan is of these very bytes.
        removed: which channels of the graph go, bool per channel label; see `removal_of`. Labels
            are those of the graph as the plan asks (`channels.groups.as_asked`).
    """

    plan: Plan
    notes: Tuple[str, ...]
    removed: np.ndarray


def fit(graph: Graph, plan: Plan, force: bool = False) -> Fitted:
    """The plan in the names of a graph.

    Args:
        graph: the graph.
        plan: a plan made for it, or with `force` for another checkpoint of its architecture or
            for the same network frozen in another way.
        force: take a plan that was made for other bytes.

    Raises:
        PlanError: the plan is of another model, or does not fit, and why.
    """
    graph = as_asked(graph, plan)
    made = last_made(graph)
    if plan.model is model_of(graph) and made and plan.groups is made["groups"]:
        return Fitted(plan, (), made["removed"].copy())
    wanted = plan.model.get("sha256")
    same = not wanted or wanted == model_of(graph)["sha256"]
    if not (same or force):
        raise PlanError(
            f"the plan was made for {plan.model.get('name')}, and {graph.name} has other bytes",
            "plan",
            "--force applies it to another checkpoint of the same architecture",
        )
    channels = analyse(graph)
    try:
        removed = removal_of(channels, plan)
    except PlanError:
        if not force or not plan.layers:
            raise
        return _carried(graph, channels, plan)
    if same:
        return Fitted(plan, (), removed)
    folds = _folds_here(graph, channels, plan)
    note = f"{plural(len(plan.groups), 'group')} matched by name and bindings"
    return Fitted(plan._replace(folds=folds), (note,), removed)


def removal_of(channels: Channels, plan: Plan) -> np.ndarray:
    """Which channels of the graph go, checked against every binding that the plan names.

    A group of the plan without bindings is cut wherever its channels occur.

    Returns:
        bool per channel label.

    Raises:
        PlanError: the plan does not fit the graph.
    """
    by_id = {group.id: group for group in channels.groups}
    removed = np.zeros(channels.count, bool)
    for planned in plan.groups:
        group = by_id.get(planned.id)
        if group is None or len(group) != planned.channels:
            there = "has no such group" if group is None else f"has {len(group)} channels there"
            raise PlanError(
                f"the plan cuts a group of {planned.channels} channels, this graph {there}",
                planned.id,
                _OTHER,
            )
        check_removal(group, planned.removed)
        removed[group.channels[list(planned.removed)]] = True
    channels.completed(removed)
    for planned in plan.groups:
        different = set(cuts_of(channels, by_id[planned.id], removed)) ^ set(planned.cuts)
        if different and planned.cuts:
            first = min(different)
            raise PlanError(
                f"the plan and the graph disagree about axis {first.axis} of {first.param}",
                planned.id,
                "the plan is of another architecture, or was edited: leave `bindings` out of a "
                "group that you edit",
            )
    return removed


def _carried(graph: Graph, channels: Channels, plan: Plan) -> Fitted:
    """The plan carried over by the places of its layers.

    Raises:
        PlanError: a layer or group of the plan does not fit the graph; the message names it.
    """
    pairs = pair(plan, layers_of(graph, channels))
    starts = {(axis.param, axis.axis): axis for axis in channels.axes if axis.use is None}
    removed, owned = np.zeros(channels.count, bool), channels.owned()
    why: Dict[int, GroupPlan] = {}
    for planned in plan.groups:
        labels: Set[int] = set()
        for param, axis, positions in _at_layers(planned, pairs):
            place = starts.get((param, axis))
            if place is None or max(positions, default=0) >= place.size:
                there = "no channels" if place is None else f"{place.size} channels"
                raise PlanError(
                    f"the plan removes position {max(positions, default=0)} along axis {axis} of "
                    f"weights that have {there} there",
                    param,
                    _OTHER,
                )
            cut = channels.label[place.start + np.asarray(positions, int)]
            labels.update(cut[~owned[cut]].tolist())
        if len(labels) != len(planned.removed):
            raise PlanError(
                f"removes {plural(len(planned.removed), 'channel')}, of which its bindings show "
                f"{len(labels)} at the weights of layers, by which they are found here",
                planned.id,
                "a group whose bindings were left out, or that no layer touches, fits only graphs "
                "of the same names; make a plan for this graph",
            )
        why.update({label: planned for label in labels})
        removed[sorted(labels)] = True
    channels.completed(removed)
    _same_cuts(plan, pairs, channels, removed)
    groups = _groups(graph, channels, removed, why)
    moved = [fold._replace(node=pairs.nodes.get(fold.node, fold.node)) for fold in plan.folds]
    before, after = cost(graph), cost_without(graph, removed)
    carried = plan._replace(
        model=model_of(graph),
        groups=tuple([group for group, _ in groups]),
        folds=_folds_here(graph, channels, plan._replace(folds=tuple(moved))),
        params=(before.params, after.params),
        macs=(before.macs, after.macs),
        layers=layers_of(graph, channels),
    )
    notes = [f"{source} is {group.id} here" for group, source in groups if source != group.id]
    return Fitted(carried, (*pairs.notes, *notes), removal_of(channels, carried))


def _at_layers(planned: GroupPlan, pairs: Pairs) -> List[Tuple[str, int, Sequence[int]]]:
    """The cuts of a group in weights of layers, with the names of the graph's own parameters."""
    return [
        (param, cut.axis, cut.removed)
        for cut in planned.cuts
        if cut.role not in ("shape", "index")
        for param in pairs.params.get(cut.param, ())
    ]


def _same_cuts(plan: Plan, pairs: Pairs, channels: Channels, removed: np.ndarray) -> None:
    """Refuses a plan that would cut any layer of the graph otherwise than its own.

    Raises:
        PlanError: a layer would be cut otherwise; the message names the layer.
    """
    wanted: Places = {}
    for group in plan.groups:
        for param, axis, positions in _at_layers(group, pairs):
            wanted.setdefault((param, axis), set()).update(positions)
    own = {param for params in pairs.params.values() for param in params}
    removal = Removal(channels, removed)
    for place in channels.axes:
        if place.param not in own or place.use is not None:
            continue
        gone = np.flatnonzero(removal.along(place))
        planned = wanted.get((place.param, place.axis), set())
        if set(gone.tolist()) != planned:
            raise PlanError(
                f"the plan removes {len(planned)} of {place.size} along axis {place.axis}, and "
                f"the channels coupled here would take {len(gone)}, or others",
                place.param,
                _OTHER,
            )


def _groups(
    graph: Graph, channels: Channels, removed: np.ndarray, why: Dict[int, GroupPlan]
) -> List[Tuple[GroupPlan, str]]:
    """What goes, group by group of the graph, and the plan's name for each.

    Scores are left behind: nothing says in which order the channels stood that stay.

    Raises:
        PlanError: a channel is pinned, or a group would lose all of them.
    """
    blocks = block_of(graph, channels)
    groups, left = [], removed & ~channels.owned()
    for group in channels.groups:
        gone = np.flatnonzero(removed[group.channels]).tolist()
        left[group.channels] = False
        if gone:
            check_removal(group, gone)
            source = why[int(group.channels[gone[0]])]
            block = blocks.get(group.id)
            cuts = tuple(cuts_of(channels, group, removed))
            name = None if block is None else block.name
            groups.append(
                (
                    GroupPlan(group.id, name, len(group), tuple(gone), source.why, (), cuts),
                    source.id,
                )
            )
    if left.any():
        raise PlanError(
            f"{plural(int(left.sum()), 'channel')} of it cannot be pruned in this graph",
            why[int(np.flatnonzero(left)[0])].id,
            _OTHER,
        )
    return groups


def _folds_here(graph: Graph, channels: Channels, plan: Plan) -> Tuple[Fold, ...]:
    """The folds of a plan with the constants that this graph's own channels hold.

    Raises:
        PlanError: a folded channel does not hold the constant of the plan, and outputs would shift.
    """
    if not plan.folds:
        return ()
    below = plan.settings.get("dead_below", DEAD_BELOW)
    zero_below = float(below) if isinstance(below, (int, float)) else 0.0
    values = Values(graph, channels, zero_below, at_once=False)
    contractions = {contraction.node: contraction for contraction in channels.contractions}
    folds: List[Fold] = []
    for fold in plan.folds:
        contraction = contractions.get(fold.node)
        known: Optional[np.ndarray] = None
        if contraction is not None and max(fold.indices, default=-1) < len(contraction.into):
            port = graph.data_inputs(contraction.node)[contraction.data]
            whole = per_channel(values.at(port), contraction.axis, len(contraction.into))
            known = whole[list(fold.indices)]
        if known is None or not np.allclose(known, fold.values, _RELATIVE, _ABSOLUTE):
            raise PlanError(
                "the plan folds constants into it that the channels of this graph do not hold",
                fold.node,
                "make a plan for this graph",
            )
        folds.append(fold._replace(values=tuple(known.tolist())))
    return tuple(folds)
