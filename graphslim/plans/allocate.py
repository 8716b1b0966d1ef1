"""How much each group gives, by what the network was measured to lose: the least loss for a cost.

Losses of groups are taken to add up (errors in squares), and so are their savings, near a choice:
that is a knapsack, which a dynamic programme solves over a grid of savings, whatever the shapes of
the curves. A greedy walk along convex hulls is as good where steps are small, and was several times
worse on small networks and mild budgets. Savings do not quite add up, since a convolution costs the
product of the widths on its two sides: they are counted around the choice that was found, and the
knapsack is packed again, until nothing changes.
"""

from __future__ import annotations

from typing import Callable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.plans.choose import Ranking
from graphslim.plans.curves import Curve, Curves, combined

_GRID = 2000
"""Steps of the grid of savings."""
_POINTS = 5
"""Widths of each group at which savings are counted; between them they are interpolated."""
_PACKED = 8
"""How often the knapsack is packed at most."""

CostOf = Callable[[np.ndarray], float]
"""From what goes, bool per channel, to the share that remains, such as of multiply-accumulates."""


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
    """

    counts: np.ndarray
    penalties: np.ndarray


class Allocation:
    """Choices by curves.

    Groups without a curve give nothing, and none more than was measured.

    Args:
        order: the groups, with their rules, and the order of their channels.
        curves: what was measured.
        left_of: the share of a cost that remains.

    Attributes:
        whole: the choice in which nothing goes but what the settings fix.
        narrowest: the choice in which all goes that was measured.
    """

    def __init__(self, order: Ranking, curves: Curves, left_of: CostOf) -> None:
        self._order, self._left_of = order, left_of
        self._squares = curves.about.adds_in_squares
        self._ladders = _ladders(order, curves)
        self.whole, self.narrowest = [
            self._step([int(ladder.counts[place]) for ladder in self._ladders]) for place in (0, -1)
        ]

    def within(self, target: float) -> Optional[Step]:
        """The choice that loses least of those that leave a share of the cost at most.

        Returns:
            the choice; None if what was measured does not reach so far.
        """
        if self.narrowest.left > target:
            return None
        best, now, packed = self.narrowest, self.whole, {self.whole.counts}
        if self.whole.left <= target:
            return self.whole
        for _ in range(_PACKED):
            now = self._step(self._packed(now, target))
            if now.left <= target and now.loss <= best.loss:
                best = now
            if now.counts in packed:
                break
            packed.add(now.counts)
        return self._widened(best, target)

    def _widened(self, step: Step, target: float) -> Step:
        """A choice within the target, its groups made wider while one can be and it loses less."""
        while True:
            wider = [way for way in self._wider(step.counts) if way.left <= target]
            best = min([step, *wider], key=lambda way: way.loss)
            if best is step:
                return step
            step = best

    def _wider(self, counts: Sequence[int]) -> Iterator[Step]:
        """The choices in which one of the groups is wider by a step."""
        for index, ladder in enumerate(self._ladders):
            place = int(np.searchsorted(ladder.counts, counts[index])) - 1
            if place >= 0:
                yield self._step([*counts[:index], int(ladder.counts[place]), *counts[index + 1 :]])

    def _step(self, counts: Sequence[int]) -> Step:
        penalties = [
            float(np.interp(count, ladder.counts, ladder.penalties))
            for count, ladder in zip(counts, self._ladders)
        ]
        left = self._left_of(self._order.mask(counts))
        return Step(tuple(counts), left, _loss(penalties, self._squares))

    def _packed(self, around: Step, target: float) -> List[int]:
        """The least penalties whose savings, as counted around a choice, reach a target."""
        savings = [self._savings(around, index) for index in range(len(self._ladders))]
        whole = around.left + sum(
            [
                float(np.interp(count, ladder.counts, saved))
                for count, ladder, saved in zip(around.counts, self._ladders, savings)
            ]
        )
        unit = max(whole - target, 1e-12) / _GRID
        least = np.full(_GRID + 1, np.inf)
        least[0] = 0.0
        taken = []
        for ladder, saved in zip(self._ladders, savings):
            steps = np.clip((saved / unit + 1e-9).astype(np.int64), 0, _GRID)
            best, choice = np.full(_GRID + 1, np.inf), np.zeros(_GRID + 1, np.int64)
            for place, (step, penalty) in enumerate(zip(steps.tolist(), ladder.penalties)):
                # By `step` further on the grid; what would be beyond its end counts as its end.
                reached = np.full(_GRID + 1, np.inf)
                reached[step:] = least[: _GRID + 1 - step]
                reached[_GRID] = least[_GRID - step :].min()
                reached += penalty
                better = reached < best
                best[better], choice[better] = reached[better], place
            taken.append((steps, choice, least))
            least = best
        return self._unpacked(taken)

    def _unpacked(self, taken: Sequence[Tuple[np.ndarray, np.ndarray, np.ndarray]]) -> List[int]:
        """The choice that was packed, group by group from the last one back."""
        counts: List[int] = []
        at = _GRID
        for ladder, (steps, choice, before) in zip(self._ladders[::-1], taken[::-1]):
            place = int(choice[at])
            counts.append(int(ladder.counts[place]))
            step = int(steps[place])
            if at < _GRID:
                at -= step
            else:
                at = _GRID - step + int(np.argmin(before[_GRID - step :]))
        return counts[::-1]

    def _savings(self, around: Step, index: int) -> np.ndarray:
        """What the widths of a group save, the others being as they are; float64 of shape (n,)."""
        ladder = self._ladders[index]
        places = np.unique(np.linspace(0, len(ladder.counts) - 1, _POINTS).astype(np.int64))
        left = [
            self._left_of(
                self._order.mask([*around.counts[:index], count, *around.counts[index + 1 :]])
            )
            for count in ladder.counts[places].tolist()
        ]
        saved = np.maximum.accumulate(left[0] - np.array(left))
        return np.interp(ladder.counts, ladder.counts[places], saved)


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
        ladders.append(_Ladder(np.array(counts), penalties))
    return ladders


def _penalties(curve: Curve, counts: Sequence[int], squares: bool) -> np.ndarray:
    """What a group is predicted to lose at some widths, in terms that add up; float64 (n,)."""
    # Noise of the measurement alone makes a network better that loses more.
    losses = np.maximum.accumulate(np.maximum(curve.losses, 0.0))
    return np.interp(counts, curve.removed, losses**2 if squares else losses)


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
