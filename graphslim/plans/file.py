"""Plans as files."""

from __future__ import annotations

from graphslim.errors import PlanError
from graphslim.plans.plan import Plan
from graphslim.support.reading import read_text


def read_plan(path: str) -> Plan:
    """Reads a plan file.

    Raises:
        PlanError: it cannot be read or is no plan.
    """
    return Plan.from_json(read_text(path, "give a plan that graphslim wrote", PlanError), path)
