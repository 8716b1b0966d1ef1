"""How much each group gives, by what the network was measured to lose: the least loss for a cost.

Groups give channels in steps, each time the group that loses least for what the step saves. Steps
go from corner to corner of the lower convex hull of a group's curve, since between two corners no
width is better than a mix of both (Fox 1966: marginal analysis, optimal at every cost that it
stops at if costs are sums over groups). Costs of networks are not quite: a convolution costs the
product of the widths on its two sides, so that what a step saves is computed anew as the other
groups get narrower. It can only shrink, so a heap with the savings of earlier steps gives the best
step after few recomputations (Minoux 1978).
"""

from __future__ import annotations

import heapq
from typing import Callable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.plans.choose import Ranking
from graphslim.plans.curves import Curve, Curves, combined

_NOTHING = 1e-12
"""A step that saves a smaller share of the cost saves nothing."""


class Step(NamedTuple):
    """Numbers of channels that go, group by group.

    Attributes:
        counts: how many go, in the order of the ranking's groups.
        left: the share of the cost that remains.
        loss: what the network is predicted to lose.
    """

    counts: Tuple[int, ...]
    left: float
    loss: float


class _Ladder(NamedTuple):
    """The widths that a group may have, and what they cost the network.

    Attributes:
        counts: how many channels go, ascending; int64 of shape (n,).
        penalties: what is predicted to be lost, in the terms that add up; float64 of shape (n,).
        corners: indices of the corners of the lower convex hull, the first one 0.
    """

    counts: np.ndarray
    penalties: np.ndarray
    corners: np.ndarray


def allocate(
    order: Ranking,
    curves: Curves,
    left_of: Callable[[np.ndarray], float],
    enough: Callable[[Step], bool],
) -> List[Step]:
    """The way from the whole network to the narrowest one that the curves speak of, or to enough.

    Groups without a curve give nothing, and none more than what was measured at most.

    Args:
        order: the groups, with their rules, and the order of their channels.
        curves: what was measured.
        left_of: what a removal leaves of the cost, as a share of the whole.
        enough: whether the way may end at a step.

    Returns:
        the steps: the first as the settings fix it, each of them one group further on. The last one
        is the first that is enough, if any is.
    """
    ladders = _ladders(order, curves)
    squares = curves.about.adds_in_squares
    at = [0] * len(ladders)

    def step() -> Step:
        counts = [int(ladder.counts[place]) for ladder, place in zip(ladders, at)]
        penalties = [float(ladder.penalties[place]) for ladder, place in zip(ladders, at)]
        return Step(tuple(counts), left_of(order.mask(counts)), _loss(penalties, squares))

    def price(index: int, left: float) -> Optional[Tuple[float, int]]:
        """What the next step of a group loses for what it saves; None if it saves nothing."""
        ladder, place = ladders[index], at[index]
        at[index] = _next_corner(ladder, place)
        saved = left - step().left
        lost = float(ladder.penalties[at[index]] - ladder.penalties[place])
        at[index] = place
        return (lost / saved, index) if saved > _NOTHING else None

    steps = [step()]
    movable = [index for index, ladder in enumerate(ladders) if len(ladder.corners) > 1]
    heap = [priced for priced in (price(index, steps[0].left) for index in movable) if priced]
    heapq.heapify(heap)
    while heap and not enough(steps[-1]):
        _, index = heapq.heappop(heap)
        now = price(index, steps[-1].left)
        if now is not None and heap and now > heap[0]:
            heapq.heappush(heap, now)
            continue
        if now is None:
            continue
        at[index] = _next_corner(ladders[index], at[index])
        steps.append(step())
        if _next_corner(ladders[index], at[index]) > at[index]:
            following = price(index, steps[-1].left)
            if following is not None:
                heapq.heappush(heap, following)
    return steps


def between(
    order: Ranking,
    curves: Curves,
    left_of: Callable[[np.ndarray], float],
    steps: Sequence[Step],
) -> List[Step]:
    """The last two of some steps, and all widths between them of the group that moves."""
    if len(steps) < 2:
        return list(steps)
    before, after = steps[-2:]
    (index,) = [
        at for at, pair in enumerate(zip(before.counts, after.counts)) if len(set(pair)) > 1
    ]
    ladders, squares = _ladders(order, curves), curves.about.adds_in_squares
    ways = []
    for count in ladders[index].counts.tolist():
        if before.counts[index] <= count <= after.counts[index]:
            counts = (*before.counts[:index], count, *before.counts[index + 1 :])
            penalties = [
                float(np.interp(gone, ladder.counts, ladder.penalties))
                for gone, ladder in zip(counts, ladders)
            ]
            ways.append(Step(counts, left_of(order.mask(counts)), _loss(penalties, squares)))
    return ways


def _ladders(order: Ranking, curves: Curves) -> List[_Ladder]:
    known, squares = curves.by_group(), curves.about.adds_in_squares
    ladders = []
    for index, (group, first) in enumerate(zip(order.groups, order.counts(0))):
        curve = known.get(group.id)
        counts = [first]
        while curve is not None:
            following = order.next_count(index, counts[-1], more=True)
            if following is None or following > curve.removed[-1]:
                break
            counts.append(following)
        penalties = np.zeros(len(counts)) if curve is None else _penalties(curve, counts, squares)
        ladders.append(_Ladder(np.array(counts), penalties, _corners(counts, penalties)))
    return ladders


def _penalties(curve: Curve, counts: Sequence[int], squares: bool) -> np.ndarray:
    """What a group is predicted to lose at some widths, in terms that add up; float64 (n,)."""
    # Noise of the measurement alone makes a network better that loses more.
    losses = np.maximum.accumulate(np.maximum(curve.losses, 0.0))
    return np.interp(counts, curve.removed, losses**2 if squares else losses)


def _corners(counts: Sequence[int], penalties: np.ndarray) -> np.ndarray:
    """The corners of the lower convex hull of a curve, from left to right."""
    corners: List[int] = []
    for place, (count, penalty) in enumerate(zip(counts, penalties)):
        while len(corners) > 1:
            first, last = corners[-2:]
            slope = (penalty - penalties[first]) * (counts[last] - counts[first])
            if (penalties[last] - penalties[first]) * (count - counts[first]) < slope:
                break
            corners.pop()
        corners.append(place)
    return np.array(corners)


def _next_corner(ladder: _Ladder, place: int) -> int:
    """The corner behind a place; the place itself if it is the last one."""
    behind = ladder.corners[ladder.corners > place]
    return int(behind[0]) if len(behind) else place


def _loss(penalties: Sequence[float], squares: bool) -> float:
    return combined(np.sqrt(penalties).tolist() if squares else penalties, squares)


def predicted(curves: Curves, removed: Mapping[str, int]) -> Optional[float]:
    """What a network is predicted to lose that lost so many channels of each group.

    Args:
        curves: what was measured.
        removed: by group id, how many channels go.

    Returns:
        the loss; None where a group has no curve, or loses more than was measured.
    """
    known, squares = curves.by_group(), curves.about.adds_in_squares
    penalties = []
    for group, count in removed.items():
        if count and (group not in known or count > known[group].removed[-1]):
            return None
        if count:
            penalties.append(float(_penalties(known[group], [count], squares)[0]))
    return _loss(penalties, squares)
