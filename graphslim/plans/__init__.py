"""Plans: what goes and why, before anything is changed."""

from __future__ import annotations

from graphslim.plans.make import DEAD_BELOW, plan_dead, plan_given
from graphslim.plans.plan import Cut, Fold, GroupPlan, Plan
from graphslim.plans.select import Selection, block_of, why_not

__all__ = [
    "DEAD_BELOW",
    "Cut",
    "Fold",
    "GroupPlan",
    "Plan",
    "Selection",
    "block_of",
    "plan_dead",
    "plan_given",
    "why_not",
]
