"""Meeting a budget: the amount that comes nearest to what was asked, found by searching."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.analysis.cost import bytes_without, cost, cost_without
from graphslim.channels.groups import Channels, Group, analyse
from graphslim.errors import PlanError
from graphslim.graphdef import serialize
from graphslim.ir import DType, Graph, Port
from graphslim.plans.allocate import Allocation, CostOf
from graphslim.plans.choose import Ranking, rules_of
from graphslim.plans.curves import Curves
from graphslim.plans.plan import Achieved
from graphslim.plans.selection import Selection
from graphslim.scoring import Scores

TOLERANCE = 0.02
"""How far from what was asked a plan may be, as a share of that, without giving a reason."""

ROUNDS = 4
"""How often all groups get their turn when single steps bring a plan nearer."""

WORDS = {
    "ratio": "channels in scope",
    "macs": "multiply-accumulates",
    "params": "parameters",
    "size": "size",
    "latency": "latency",
    "max_loss": "loss",
}


class Choice(NamedTuple):
    """Numbers of channels that go, group by group, and the share that remains."""

    counts: List[int]
    left: float


def meet(
    graph: Graph,
    channels: Channels,
    groups: Sequence[Group],
    scores: Scores,
    selection: Selection,
    cost_of: Optional[CostOf] = None,
) -> Tuple[np.ndarray, Achieved]:
    """What goes so that a budget is met as nearly as the groups' rules allow.

    The share of channels that goes is bisected along the ranking, then single groups lose or get
    back channels, in the order of the ranking, while that brings the result nearer.

    Args:
        graph: the graph, its blocks found.
        channels: its channels.
        groups: the groups in scope.
        scores: theirs.
        selection: the selection; its budget is no threshold.
        cost_of: what a choice costs, as a share of the whole network; needed for latency, and by
            default counted.

    Returns:
        what goes, bool per channel of the graph, and what that achieves.

    Raises:
        PlanError: even if all goes that may, more is left than was asked for.
    """
    if selection.budget is None:
        raise PlanError("there is no budget to meet", "budget", "give macs, params, size or ratio")
    what, asked = selection.budget
    search = _begun(graph, channels, groups, scores, selection, cost_of)
    order = search.order
    if selection.allocate is not None:
        choice = search.allocated(selection.allocate, f"--{what} {asked:g}")
    else:
        choice = search.run(first=int(asked * order.total + 0.5) if what == "ratio" else None)
    achieved = 1 - choice.left if what == "ratio" else choice.left
    reason = None
    if abs(choice.left - search.target) > search.tolerance:
        reason = search.reason(selection, what == "ratio")
    return order.mask(choice.counts), Achieved(what, asked, round(achieved, 6), reason)


def check_possible(
    graph: Graph, channels: Channels, groups: Sequence[Group], selection: Selection
) -> None:
    """Refuses a budget that no scores could meet, before any scores are made.

    Args:
        graph: the graph, its blocks found.
        channels: its channels.
        groups: the groups in scope.
        selection: the selection.

    Raises:
        PlanError: what it counts is not known, or too much is left when all goes that may.
    """
    if selection.budget is None or selection.budget[0] in ("threshold", "max_loss"):
        return
    if selection.latency is not None:
        check_sizes(graph, f"--latency {selection.latency:g}")
        return
    # Scores decide how much goes of groups with a threshold of their own.
    if any(settings.threshold is not None for _, settings in selection.by_name):
        counted(graph, groups, selection.budget[0])
        return
    none = {group.id: np.zeros(len(group)) for group in groups}
    _begun(graph, channels, groups, Scores(none, none), selection, None)


def check_sizes(graph: Graph, option: str) -> None:
    """Refuses a graph of which not all sizes are known that time or MACs depend on.

    Raises:
        PlanError: a size is not known; the message names the input that leaves it open.
    """
    if cost(graph).macs is not None:
        return
    missing = open_input(graph)
    if missing is None:
        raise PlanError(
            "a size inside the network depends on what it is fed",
            option,
            "choose a budget that needs no sizes, such as --params",
        )
    raise PlanError("needs the input's size", option, f"add --input-shape {missing}")


def open_input(graph: Graph) -> Optional[str]:
    """An input with open sizes besides the batch, and a usual shape for it: `image=1,224,224,3`.

    None where there is no such input.
    """
    channels = analyse(graph)
    for name in graph.inputs:
        shape = channels.fact(Port(name)).shape
        kind = graph[name].attrs.get("dtype")
        if shape is None and (not isinstance(kind, DType) or kind.is_floating):
            return f"{name}=1,224,224,3"
        if shape is not None and None in shape[1:]:
            sizes = [1 if shape[0] is None else shape[0], *[size or 224 for size in shape[1:]]]
            return f"{name}={','.join(map(str, sizes))}"
    return None


def _begun(
    graph: Graph,
    channels: Channels,
    groups: Sequence[Group],
    scores: Scores,
    selection: Selection,
    cost_of: Optional[CostOf],
) -> _Search:
    """The search for a budget.

    Raises:
        PlanError: even if all goes that may, more is left than was asked for.
    """
    assert selection.budget is not None
    what, asked = selection.budget
    order = Ranking(graph, channels, groups, scores, selection)
    left_of = cost_of or counted(graph, order.groups, what)
    search = _Search(order, left_of, 1 - asked if what == "ratio" else asked, TOLERANCE * asked)
    all_gone = search.at(order.total)
    if all_gone.left > search.target + search.tolerance:
        raise _impossible(graph, channels, order, selection, left_of, all_gone.left)
    return search


def counted(graph: Graph, groups: Sequence[Group], what: str) -> CostOf:
    """The share that remains of multiply-accumulates, parameters, bytes, or channels in scope.

    Args:
        graph: the graph.
        groups: those in scope.
        what: `macs`, `params`, `size` or `ratio`.

    Raises:
        PlanError: the network has none of it to count.
    """
    if what == "ratio":
        inside = np.concatenate([group.channels for group in groups] or [np.zeros(0, np.int64)])
        return lambda removed: 1 - float(removed[inside].mean()) if len(inside) else 1.0
    if what == "size":
        whole = len(serialize(graph))
        return lambda removed: 1 - bytes_without(graph, removed) / whole
    if what == "latency":
        raise PlanError("latency is measured, not counted", "--latency", "give cost_of")
    if what == "macs":
        check_sizes(graph, "--macs")
    before = getattr(cost(graph), what)
    if not before:
        raise PlanError("the network has none", f"--{what}", "choose another budget")
    return lambda removed: float(getattr(cost_without(graph, removed, what), what)) / before


def per_saving(
    graph: Graph,
    channels: Channels,
    groups: Sequence[Group],
    scores: Mapping[str, np.ndarray],
    selection: Selection,
) -> Dict[str, np.ndarray]:
    """Losses by what they save of a budget: multiply-accumulates, or parameters where it is bytes.

    Args:
        graph: the graph.
        channels: its channels.
        groups: its groups.
        scores: by group id the loss for each channel, float64 of shape (n,).
        selection: the selection; where it counts channels, a loss stays as it is.

    Returns:
        by group id the losses, divided by what the group's first channel saves.
    """
    counts = {"macs": "macs", "latency": "macs", "params": "params", "size": "params"}
    what = counts.get(selection.budget[0] if selection.budget else "")
    if what is None:
        return dict(scores)
    ranks = {}
    before = getattr(cost(graph), what)
    for group in groups:
        if group.id in scores:
            removed = np.zeros(channels.count, bool)
            removed[group.channels[:1]] = True
            left = getattr(cost_without(graph, channels.completed(removed), what), what)
            ranks[group.id] = scores[group.id] * (before / max(1, before - left))
    return ranks


class _Search:
    """A search over one ranking for the choice that leaves a given share."""

    def __init__(self, order: Ranking, cost_of: CostOf, target: float, tolerance: float) -> None:
        self.order, self._cost_of = order, cost_of
        self.target, self.tolerance = target, tolerance
        self._seen: List[float] = []

    def at(self, going: int) -> Choice:
        """The choice where so many go, before any limit."""
        return self._choice(self.order.counts(going))

    def _choice(self, counts: List[int]) -> Choice:
        return Choice(counts, self._left_of(self.order.mask(counts)))

    def _left_of(self, removed: np.ndarray) -> float:
        """The share that remains, noted as one that was seen."""
        self._seen.append(self._cost_of(removed))
        return self._seen[-1]

    def _gap(self, choice: Choice) -> float:
        return abs(choice.left - self.target)

    def run(self, first: Optional[int]) -> Choice:
        """The nearest choice; `first`, if it is near enough and the ranking local, as it is."""
        even = self.order.local
        if even and first is not None:
            choice = self.at(first)
            if self._gap(choice) <= self.tolerance:
                return choice
        above, below = 0, self.order.total
        while below - above > 1:
            middle = (above + below) // 2
            if self.at(middle).left >= self.target:
                above = middle
            else:
                below = middle
        # Single steps would make shares uneven that the reader wants even.
        near = self.tolerance if even else self.tolerance / 4
        sides = sorted([self.at(above), self.at(below)], key=self._gap)
        nearest = self._refined(sides[0], near)
        if self._gap(nearest) > near:
            nearest = min(nearest, self._refined(sides[1], near), key=self._gap)
        return nearest

    def allocated(self, curves: Curves, where: str) -> Choice:
        """The choice that loses least, by what was measured, of those that reach the target.

        Raises:
            PlanError: what was measured does not reach so far.
        """
        allocation = Allocation(self.order, curves, self._left_of)
        step = allocation.within(self.target + self.tolerance / 4)
        if step is None:
            raise PlanError(
                f"what was measured leaves {allocation.narrowest.left:.3g} at least",
                where,
                "measure larger --ratios, without --stop-at, or more groups",
            )
        return Choice(list(step.counts), step.left)

    def _refined(self, choice: Choice, near: float) -> Choice:
        """Lets single groups lose or get back channels while that brings the result nearer.

        Steps that stay on this side of the target are taken as their turn comes; of those that
        cross it, the best is taken once no other is left.
        """
        for _ in range(ROUNDS):
            before = across = choice
            more = choice.left > self.target
            for index in self.order.by_turn(choice.counts, more):
                if self._gap(choice) <= near:
                    return choice
                count = self.order.next_count(index, choice.counts[index], more)
                if count is None:
                    continue
                step = self._choice([*choice.counts[:index], count, *choice.counts[index + 1 :]])
                if (step.left > self.target) != more:
                    across = min(across, step, key=self._gap)
                elif self._gap(step) < self._gap(choice):
                    choice = step
            choice = min(choice, across, key=self._gap)
            if choice is before:
                break
        return choice

    def reason(self, selection: Selection, gone: bool) -> str:
        """Why the nearest choice is not near: what the next ones on either side come to."""
        over = [left for left in self._seen if left >= self.target]
        under = [left for left in self._seen if left < self.target]
        if not over:
            return "what is fixed for single groups removes more by itself"
        sides = " and ".join(
            [f"{1 - left if gone else left:.3g}" for left in (min(over), max(under))]
        )
        step = f"multiples of {selection.step}" if selection.step > 1 else "single channels"
        return f"{step} are too coarse here: the nearest are {sides}"


def _impossible(
    graph: Graph,
    channels: Channels,
    order: Ranking,
    selection: Selection,
    left_of: CostOf,
    least: float,
) -> PlanError:
    """What to say where even the most that may go is not enough, and what forbids more."""
    assert selection.budget is not None
    what, asked = selection.budget
    where, noun = f"--{what} {asked:g}", WORDS[what]
    if what == "ratio":
        told = f"at most {1 - least:.3g} of the {noun} may go"
    else:
        told = f"at least {least:.3g} of the {noun} is left when all goes that may"

    def floor(groups: Sequence[Group], other: Selection) -> float:
        """What is left when all goes that may by another selection."""
        rules = rules_of(graph, channels, groups, other)
        removed = np.zeros(channels.count, bool)
        for group in groups:
            count = rules[group.id].allowed(len(group), len(group))
            removed[group.channels[:count]] = True
        return left_of(channels.completed(removed))

    # The same selection without its limits, then everywhere, tells what stands in the way.
    free = replace(selection, multiple_of=1, min_channels=1, max_ratio=1.0, by_name=())
    alone = floor([group for group in channels.groups if group.prunable], free)
    if what != "ratio" and alone > asked:
        hint = f"the part that is pinned, and one channel of each group, alone is {alone:.2g}"
        return PlanError(told, where, hint)
    if what != "ratio" and floor(order.groups, free) > asked:
        return PlanError(told, where, "the rest is out of scope: see --scope, --only, --exclude")
    binding = [
        option
        for option, other in (
            ("--max-ratio", replace(selection, max_ratio=1.0)),
            ("--multiple-of", replace(selection, multiple_of=1)),
            ("--min-channels", replace(selection, min_channels=1)),
            ("--settings", replace(selection, by_name=())),
        )
        if floor(order.groups, other) < least
    ]
    keep = "keep" if len(binding) > 1 else "keeps"
    return PlanError(told, where, f"{' and '.join(binding) or 'each group'} {keep} the rest")
