"""From filters to plans and back: which filters of each scope's scoring layer go."""

from __future__ import annotations

from typing import Dict, List, Mapping

import numpy as np

from graphslim.errors import PlanError
from graphslim.ir import Graph
from graphslim.method.dictionaries import Filters
from graphslim.method.scopes import Scope
from graphslim.planner import make_plan
from graphslim.plans import Plan, Selection, plan_given

MULTIPLE = 4
"""The published method removes a multiple of four filters from each block."""


def choose_filters(graph: Graph, scopes: Mapping[str, Scope], threshold: float) -> Filters:
    """The filters whose redundancy exceeds a threshold, rounded to multiples of four per scope.

    The redundancy of a filter is the share of its weights below the layer's mean, by magnitude
    (Liu et al. 2017, arXiv 1705.10748). The most redundant go first, ties in index order; at least
    one filter of a scope stays.

    Args:
        graph: the frozen graph, its blocks found.
        scopes: what may be touched.
        threshold: a share from 0 to 1.

    Returns:
        by scope the filters of its scoring layer that go; scopes that lose none are left out.

    Raises:
        PlanError: the threshold is no finite number.
    """
    if not scopes:
        return {}
    wish = Selection(
        scope="blocks",
        only=tuple([scope.group.id for scope in scopes.values()]),
        criterion="redundancy",
        threshold=threshold,
        multiple_of=MULTIPLE,
        rounding="removed",
    )
    plan = make_plan(graph, wish)
    gone = {group.id: group.removed for group in plan.groups}
    found: Filters = {}
    for name, scope in scopes.items():
        removed = np.isin(scope.places, gone.get(scope.group.id, ()))
        if removed.any():
            found[name] = np.flatnonzero(removed).tolist()
    return found


def plan_filters(graph: Graph, scopes: Mapping[str, Scope], filters: Filters) -> Plan:
    """A plan that removes these filters, and what else their channels touch.

    Args:
        graph: the frozen graph.
        scopes: every scope that `filters` names.
        filters: by scope, the filters of its scoring layer that go.

    Raises:
        PlanError: a filter does not exist, or a scope would lose all that it has.
    """
    removed: Dict[str, List[int]] = {}
    for name, numbers in filters.items():
        scope = scopes[name]
        size = len(scope.places)
        if numbers and numbers[-1] >= size:
            raise PlanError(
                f"has only {size} filters, {numbers[-1]} is none of them",
                name,
                "the list is of another network",
            )
        if len(numbers) == size:
            raise PlanError("would lose all its filters", name, "keep at least one")
        if numbers:
            removed[scope.group.id] = sorted(scope.places[numbers].tolist())
    return plan_given(graph, removed)
