"""Plans that follow each other, composed to one plan of the graph that the first was made for."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from graphslim.channels.groups import Channels, Removal, analyse
from graphslim.channels.walk import ParamAxis
from graphslim.errors import PlanError
from graphslim.ir import Graph
from graphslim.plans.fit import fit
from graphslim.plans.make import check_removal, plan_removing
from graphslim.plans.plan import Fold, Plan


def compose(
    graph: Graph, first: Plan, slim: Graph, second: Plan, settings: Mapping[str, Any]
) -> Plan:
    """The plan that removes at once what two plans remove one after the other.

    Applied to the graph it gives the nodes and shapes that both plans give, and the same numbers as
    long as weights that stay were not changed in between.

    Args:
        graph: the graph that the first plan was made for.
        first: the first plan.
        slim: the graph without the channels of the first plan; its numbers may be others.
        second: a plan made for `slim`.
        settings: those of the composed plan.

    Returns:
        the plan, in the channels of `graph`. Channels have no scores, since those of different
        rounds cannot be compared. What removed channels leave behind is folded as both plans say.

    Raises:
        PlanError: a plan does not fit its graph, or the second cuts what the graph does not have.
    """
    channels = analyse(graph)
    earlier = Removal(channels, fit(graph, first).removed)
    later = Removal(analyse(slim), fit(slim, second).removed)
    places = {_key(axis): axis for axis in channels.axes}
    both = Removal(channels, earlier.mask.copy())
    for axis in later.channels.axes:
        gone = np.flatnonzero(later.along(axis))
        # A vector that one reader now has a copy of is known by the other axes of its channels.
        place = places.get(_key(axis))
        if len(gone) and place is not None:
            both.add(place, np.flatnonzero(~earlier.along(place))[gone])
    channels.completed(both.mask)
    for group in channels.groups:
        check_removal(group, np.flatnonzero(both.mask[group.channels]).tolist())
    _check_widths(places, later, both)
    why = {group.why for plan in (first, second) for group in plan.groups}
    word = why.pop() if len(why) == 1 else "given"
    folds = _folds(channels, earlier, first, second)
    return plan_removing(graph, channels, both.mask, word, settings, folds)


def _key(axis: ParamAxis) -> Tuple[Any, ...]:
    return axis.param, axis.axis, axis.use


def _check_widths(
    places: Mapping[Tuple[Any, ...], ParamAxis], later: Removal, both: Removal
) -> None:
    """Refuses a composition that would not leave the widths that both plans leave.

    Raises:
        PlanError: along an axis of a parameter other numbers of positions stay.
    """
    for axis in later.channels.axes:
        place = places.get(_key(axis))
        if place is None:
            continue
        wanted, width = [
            int(np.count_nonzero(~removal.along(at)))
            for removal, at in ((later, axis), (both, place))
        ]
        if wanted != width:
            raise PlanError(
                f"the second plan leaves {wanted} along axis {axis.axis}, and both together would "
                f"leave {width}",
                axis.param,
                "the plans are not of one graph",
            )


def _folds(channels: Channels, earlier: Removal, first: Plan, second: Plan) -> List[Fold]:
    """The folds of both plans, those of the second in the channels of the graph.

    Raises:
        PlanError: the second plan folds into a sum that the graph does not have.
    """
    entering = {one.node: earlier.of(one.into) for one in channels.contractions}
    folded: Dict[str, Dict[int, float]] = {}
    for fold in first.folds:
        folded.setdefault(fold.node, {}).update(zip(fold.indices, fold.values))
    for fold in second.folds:
        if fold.node not in entering:
            raise PlanError(
                "constants are folded into a sum that the original does not have",
                fold.node,
                "the plans are not of one graph",
            )
        kept = np.flatnonzero(~entering[fold.node])
        indices = kept[list(fold.indices)].tolist()
        folded.setdefault(fold.node, {}).update(zip(indices, fold.values))
    return [
        Fold(node, tuple(sorted(values)), tuple([values[index] for index in sorted(values)]))
        for node, values in folded.items()
    ]
