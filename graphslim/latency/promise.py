"""A latency budget: predict with the table, search, and hold the promise against the machine."""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import numpy as np

from graphslim.analysis.channels import Channels, analyse
from graphslim.bench import Spread
from graphslim.compare import runnable
from graphslim.errors import GraphslimError, PlanError
from graphslim.ir import Graph
from graphslim.latency.layers import layers_of
from graphslim.latency.table import Table
from graphslim.plans import Plan

WITHIN = 0.02
"""How far the measured share may be from the one asked for."""
TRIES = 4
"""How often the search is repeated with the error of the last prediction made up for."""


class Promise(NamedTuple):
    """What a latency budget came to, in shares of the time of the whole network.

    Attributes:
        asked: what was asked for.
        predicted: what the table says of the plan.
        measured: what the machine says of it.
        tries: how many plans were measured.
    """

    asked: float
    predicted: float
    measured: Spread
    tries: int

    @property
    def kept(self) -> bool:
        """Whether the measured share is as near to the one asked for as it should be."""
        return abs(self.measured.median - self.asked) <= WITHIN

    def as_dict(self) -> Dict[str, Any]:
        """For plans and `--json`."""
        return {
            "what": "latency",
            "asked": self.asked,
            "predicted": self.predicted,
            "measured": dict(self.measured._asdict()),
            "tries": self.tries,
        }


class Predictor:
    """What a table says of a graph's channels.

    Args:
        graph: the graph that plans are made for; the table may be of its NHWC twin.
        table: its latency table.

    Raises:
        PlanError: the twin has other groups.
    """

    def __init__(self, graph: Graph, table: Table) -> None:
        self._table, self._channels = table, analyse(graph)
        twin = runnable(graph)
        self._twin = analyse(twin)
        self._layers = layers_of(twin, self._twin)
        self._moved = None if twin is graph else _moved(graph, self._channels, self._twin)

    def cost_of(self, gone: Optional[np.ndarray] = None) -> float:
        """Milliseconds without some channels; `gone` is bool per channel of the graph."""
        there = np.zeros(self._twin.count, bool)
        if gone is not None and self._moved is None:
            there = gone
        elif gone is not None and self._moved is not None:
            mine, theirs = self._moved
            there[theirs] = gone[mine]
            self._twin.completed(there)
        return self._table.predict(self._layers, there)

    def share(self, gone: np.ndarray) -> float:
        """The share of the time that remains without some channels."""
        return self.cost_of(gone) / self.cost_of()


def _moved(graph: Graph, mine: Channels, theirs: Channels) -> Tuple[np.ndarray, np.ndarray]:
    """Labels of the prunable channels of a graph, and those of its twin, in the same order."""
    twins = {group.id: group for group in theirs.groups}
    pairs = []
    for group in mine.groups:
        if group.prunable:
            twin = twins.get(group.id)
            if twin is None or len(twin) != len(group):
                raise PlanError(
                    f"its channels of {group.id} are grouped otherwise in NHWC",
                    graph.name,
                    "run it through --pass to-nhwc first",
                )
            pairs.append((group.channels, twin.channels))
    none = np.zeros(0, np.int64)
    return (
        np.concatenate([one for one, _ in pairs] or [none]),
        np.concatenate([other for _, other in pairs] or [none]),
    )


def reach(
    asked: float,
    plan_for: Callable[[float], Tuple[Plan, float]],
    measure: Callable[[Plan], Spread],
    tries: int = TRIES,
) -> Tuple[Plan, Promise]:
    """Searches for a plan whose measured latency is what was asked for.

    A prediction that turns out wrong is made up for: if half was asked for and predicted, and 0.55
    was measured, the next search aims at 0.45 of the table's time. The plan that comes nearest
    to what was asked for wins.

    Args:
        asked: the share of the time that is to remain.
        plan_for: gives the plan for a share by the table, and the share that it predicts.
        measure: gives the measured share of a plan.
        tries: so many plans are measured at most.

    Raises:
        GraphslimError: `plan_for` finds no plan for what was asked for, or one does not run.
    """
    if not 0 < asked <= 1:
        raise PlanError("must be above 0 and at most 1", "--latency", "0.5 is half the time")
    best: Optional[Tuple[Plan, Promise]] = None
    target, seen = asked, []
    factor = 1.0
    for _ in range(2 * tries):
        try:
            plan, predicted = plan_for(target)
        except GraphslimError:
            if best is None:
                raise
            break
        # Plans come in steps, and the same one needs no second look: then aim further yet.
        if plan.groups not in seen:
            seen.append(plan.groups)
            found = Promise(asked, predicted, measure(plan), len(seen))
            if best is None or _off(found) < _off(best[1]):
                best = plan, found
            if found.kept or len(seen) == tries:
                break
            factor = asked / found.measured.median
        target = min(1.0, target * factor)
    assert best is not None
    return best[0], best[1]._replace(tries=len(seen))


def _off(promise: Promise) -> float:
    return abs(promise.measured.median - promise.asked)
