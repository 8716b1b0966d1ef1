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

_HINT = "the plans are not of one graph"


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
        networks cannot be compared. What removed channels leave behind is folded as both plans say.

    Raises:
        PlanError: a plan does not fit its graph, or the second cuts what the graph does not have.
    """
    channels = analyse(graph)
    earlier = Removal(channels, fit(graph, first).removed)
    later = Removal(analyse(slim), fit(slim, second).removed)
    origins = origins_of(earlier, later.channels)
    both = earlier.mask.copy()
    both[origins[later.mask & (origins >= 0)]] = True
    channels.completed(both)
    for group in channels.groups:
        check_removal(group, np.flatnonzero(both[group.channels]).tolist())
    _check_widths(later, Removal(channels, both))
    why = {group.why for plan in (first, second) for group in plan.groups}
    word = why.pop() if len(why) == 1 else "given"
    folds = _folds(channels, earlier, first, second)
    return plan_removing(graph, channels, both, word, settings, folds)


def origins_of(earlier: Removal, channels: Any) -> np.ndarray:
    """For each channel of a graph that lost channels, which of the original's it was.

    Args:
        earlier: what the graph lost, in the channels of the original.
        channels: the channels of the graph as it is.

    Returns:
        int64 of shape (channels.count,); -1 for a channel of what the original does not have.
    """
    places = _places(earlier.channels)
    origins = np.full(channels.count, -1, np.int64)
    for axis in channels.axes:
        # A vector that one reader now has a copy of is known by the other axes of its channels.
        place = places.get(_key(axis))
        if place is not None:
            labels = earlier.channels.label[place.start : place.start + place.size]
            stayed = labels[~earlier.along(place)]
            if len(stayed) == axis.size:
                origins[channels.label[axis.start : axis.start + axis.size]] = stayed
    return origins


def _places(channels: Any) -> Dict[Tuple[Any, ...], ParamAxis]:
    """The axes of parameters; of a vector that several ops read, those of each reader alone."""
    several = {axis.param for axis in channels.axes if axis.use is not None}
    return {
        _key(axis): axis
        for axis in channels.axes
        if axis.use is not None or axis.param not in several
    }


def _key(axis: ParamAxis) -> Tuple[Any, ...]:
    return axis.param, axis.axis, axis.use


def _check_widths(later: Removal, both: Removal) -> None:
    """Refuses a composition that would not leave the widths that both plans leave.

    Raises:
        PlanError: along an axis of a parameter other numbers of positions stay.
    """
    first, second = _places(both.channels), _places(later.channels)
    for key in first.keys() & second.keys():
        wanted, width = [
            int(np.count_nonzero(~removal.along(places[key])))
            for removal, places in ((later, second), (both, first))
        ]
        if wanted != width:
            raise PlanError(
                f"the second plan leaves {wanted} along axis {key[1]}, and both together would "
                f"leave {width}",
                key[0],
                _HINT,
            )


def _folds(channels: Channels, earlier: Removal, first: Plan, second: Plan) -> List[Fold]:
    """The folds of both plans, those of the second in the channels of the graph.

    Raises:
        PlanError: the second plan folds into a sum that the graph does not have.
    """
    entering = {
        contraction.node: earlier.of(contraction.into) for contraction in channels.contractions
    }
    folded: Dict[str, Dict[int, float]] = {}
    for fold in first.folds:
        folded.setdefault(fold.node, {}).update(zip(fold.indices, fold.values))
    for fold in second.folds:
        if fold.node not in entering:
            raise PlanError(
                "constants are folded into a sum that the original does not have", fold.node, _HINT
            )
        kept = np.flatnonzero(~entering[fold.node])
        indices = kept[list(fold.indices)].tolist()
        folded.setdefault(fold.node, {}).update(zip(indices, fold.values))
    return [
        Fold(node, tuple(sorted(values)), tuple([values[index] for index in sorted(values)]))
        for node, values in folded.items()
    ]
