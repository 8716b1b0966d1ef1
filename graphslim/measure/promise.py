"""A latency budget: search with the table's predictions, and check the plan by measuring it."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.groups import Channels, analyse
from graphslim.errors import GraphslimError, PlanError
from graphslim.ir import Graph
from graphslim.measure.bench import Spread
from graphslim.measure.latency_table import Table
from graphslim.measure.timed_layers import layers_of
from graphslim.measure.verify import runnable
from graphslim.plans import Plan
from graphslim.support.text import percent

WITHIN = 0.02
"""How far the measured share may be from the one asked for."""
TRIES = 6
"""The largest number of plans to measure."""


class Promise(NamedTuple):
    """How well a latency budget was met, in shares of the time of the whole network.

    Attributes:
        asked: the share that was asked for.
        predicted: the share that the table predicts for the plan.
        measured: the share that was measured.
        tries: how many plans were measured.
        noise: how far a measured share may be off by chance.
        below: the largest measured share below the one asked for; None if there is none.
    """

    asked: float
    predicted: float
    measured: Spread
    tries: int
    noise: float = 0.0
    below: Optional[float] = None

    @property
    def kept(self) -> bool:
        """Whether the measured share is near enough to the share asked for."""
        return abs(self.measured.median - self.asked) <= max(WITHIN, self.noise)

    @property
    def reason(self) -> Optional[str]:
        """Why the measured share is not near the share asked for; None if it is."""
        if self.kept:
            return None
        if self.measured.median < self.asked:
            return "every plan that was tried is faster"
        if self.below is None:
            return "no plan that was tried is faster on this machine"
        return f"the next plan that cuts more comes to {self.below:.3g}, more than was asked for"

    def as_dict(self) -> Dict[str, Any]:
        """A tree for plans and `--json`."""
        return {
            "what": "latency",
            "asked": self.asked,
            "predicted": self.predicted,
            "measured": dict(self.measured._asdict()),
            "tries": self.tries,
            "noise": round(self.noise, 6),
        }


class Predictor:
    """Predicts the time of a graph without some channels by its latency table.

    Args:
        graph: the graph that plans are made for; the table may be of its NHWC twin.
        table: the latency table.

    Raises:
        PlanError: the NHWC twin has other groups than the graph.
    """

    def __init__(self, graph: Graph, table: Table) -> None:
        self._table, self._channels = table, analyse(graph)
        twin = runnable(graph)
        self._twin = analyse(twin)
        self._layers = layers_of(twin, self._twin)
        self._moved = None if twin is graph else _moved(graph, self._channels, self._twin)

    def cost_of(self, gone: Optional[np.ndarray] = None) -> float:
        """Milliseconds without some channels; `gone` is bool of shape (channels of the graph,)."""
        removed = np.zeros(self._twin.count, bool)
        if gone is not None and self._moved is None:
            removed = gone
        elif gone is not None and self._moved is not None:
            labels, twin_labels = self._moved
            removed[twin_labels] = gone[labels]
            self._twin.completed(removed)
        return self._table.predict(self._layers, removed)

    def share(self, gone: np.ndarray) -> float:
        """The share of the time that remains; `gone` is bool of shape (channels of the graph,)."""
        return self.cost_of(gone) / self.cost_of()


def _moved(
    graph: Graph, channels: Channels, twin_channels: Channels
) -> Tuple[np.ndarray, np.ndarray]:
    """Labels of the prunable channels of a graph, and those of its twin, in the same order."""
    twins = {group.id: group for group in twin_channels.groups}
    pairs = []
    for group in channels.groups:
        if group.prunable:
            twin = twins.get(group.id)
            if twin is None or len(twin) != len(group):
                raise PlanError(
                    f"its channels of {group.id} are grouped otherwise in NHWC",
                    graph.name,
                    "run it through --pass to-nhwc first",
                )
            pairs.append((group.channels, twin.channels))
    labels = zip(*pairs) if pairs else [[np.zeros(0, np.int64)]] * 2
    first, second = [np.concatenate(parts) for parts in labels]
    return first, second


def noise_of(alone: Spread, runs: int) -> float:
    """How far a measured share may be off by chance.

    Args:
        alone: the measured share of the graph beside itself, which would be 1 on a quiet machine.
        runs: how often each of the two was timed.

    Returns:
        the difference of the median from 1, or twice its standard error if that is more.
    """
    error = 0.93 * (alone.high - alone.low) / np.sqrt(runs)  # of a median, from its quartiles
    return float(max(abs(alone.median - 1), 2 * error))


def quiet_enough(asked: float, measure_noise: Callable[[], float]) -> float:
    """The noise of this machine, measured a second time if it is too large.

    Args:
        asked: the share of the time that is to remain.
        measure_noise: measures the noise, such as by `noise_of`.

    Raises:
        PlanError: the noise is half of the time to be gained, or more.
    """
    refuse_impossible(asked)
    noise = measure_noise()
    if 2 * noise >= 1 - asked:
        noise = min(noise, measure_noise())
    if 2 * noise >= 1 - asked and asked < 1:
        raise PlanError(
            f"{percent(1 - asked)} less time is wanted, and here the very same network differs "
            f"from itself by {percent(noise)}",
            f"--latency {asked:g}",
            "measure where nothing else runs, or ask for a share that is counted, such as --macs",
        )
    return noise


def refuse_impossible(asked: float) -> None:
    """Refuses a share of the time that is out of range.

    Raises:
        PlanError: the share is 0 or less, or more than 1.
    """
    if not 0 < asked <= 1:
        raise PlanError("must be above 0 and at most 1", "--latency", "0.5 is half the time")


class _Try(NamedTuple):
    """A plan that was measured."""

    plan: Plan
    predicted: float
    measured: Spread


def reach(
    asked: float,
    plan_for: Callable[[float], Tuple[Plan, float]],
    measure: Callable[[Plan], Spread],
    tries: int = TRIES,
    noise: float = 0.0,
) -> Tuple[Plan, Promise]:
    """Searches for a plan whose measured latency is the share asked for.

    A wrong prediction is corrected for: if half was asked for and predicted, and 0.55 was measured,
    the next search aims at 0.45 of the table's time. Once one plan is too slow and another too
    fast, the search goes on between the two. A plan within the tolerance is measured again, since
    the best of several measurements is the best partly by chance. If no plan is within the
    tolerance, the fastest of those that are slower than asked for is taken.

    Args:
        asked: the share of the time that is to remain.
        plan_for: returns the plan for a share of the table's time, and the share predicted for it.
        measure: returns the measured share of a plan.
        tries: the largest number of plans to measure.
        noise: how far a measured share may be off by chance.

    Raises:
        GraphslimError: `plan_for` finds no plan for the share asked for, or a plan does not run.
    """
    refuse_impossible(asked)
    tried: List[_Try] = []
    right: List[_Try] = []
    target, within = asked, max(WITHIN, noise)
    for _ in range(2 * tries):
        try:
            plan, predicted = plan_for(target)
        except GraphslimError:
            if not tried:
                raise
            break
        # Plans change in steps, and one that was measured need not be measured again.
        fresh = plan.groups not in [attempt.plan.groups for attempt in tried]
        if fresh:
            measured = measure(plan)
            if abs(measured.median - asked) <= within:
                pairs = zip(measured, measure(plan))
                measured = Spread(*[(first + second) / 2 for first, second in pairs])
            tried.append(_Try(plan, predicted, measured))
            if abs(measured.median - asked) <= within:
                right = tried[-1:]
            if right or len(tried) == tries:
                break
        target = min(1.0, _next(asked, tried, target, fresh))
    tried.sort(key=lambda attempt: attempt.measured.median)
    medians = [attempt.measured.median for attempt in tried]
    enough = [attempt for attempt in tried if attempt.measured.median >= asked - within]
    best = (right or enough or tried[-1:])[0]
    below = max([median for median in medians if median < asked], default=None)
    return best.plan, Promise(asked, best.predicted, best.measured, len(tried), noise, below)


def _next(asked: float, tried: Sequence[_Try], target: float, fresh: bool) -> float:
    """The share of the table's time to aim at next."""
    fast = [attempt for attempt in tried if attempt.measured.median <= asked]
    slow = [attempt for attempt in tried if attempt.measured.median > asked]
    if fast and slow:
        below = max(fast, key=lambda attempt: attempt.predicted)
        above = min(slow, key=lambda attempt: attempt.predicted)
        if below.predicted < above.predicted:
            if not fresh:
                # Interpolation led to a plan measured before: go half the way to the other side.
                near = min((below, above), key=lambda end: abs(end.predicted - target))
                far = above if near is below else below
                return (target + far.predicted) / 2
            part = (asked - below.measured.median) / (above.measured.median - below.measured.median)
            return below.predicted + part * (above.predicted - below.predicted)
    return target * asked / tried[-1].measured.median
