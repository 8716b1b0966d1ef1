"""Plans: what goes and why, before anything is changed."""

from __future__ import annotations

from graphslim.plans.budget import (
    CostOf,
    check_possible,
    check_sizes,
    counted,
    meet,
    open_input,
    per_saving,
)
from graphslim.plans.choose import (
    Ranking,
    Rule,
    block_of,
    in_scope,
    rules_of,
    scores_beyond,
    why_not,
)
from graphslim.plans.compose import compose
from graphslim.plans.fit import Fitted, fit
from graphslim.plans.make import model_of, plan_dead, plan_given, plan_scored
from graphslim.plans.plan import Achieved, Cut, Fold, GroupPlan, Layer, Plan, read_plan
from graphslim.plans.selection import (
    BUDGETS,
    DEAD_BELOW,
    MEASURED_BY,
    RANKED,
    TARGETS,
    Selection,
)
from graphslim.plans.settings import GroupSettings, read_settings, settings_of

__all__ = [
    "BUDGETS",
    "DEAD_BELOW",
    "MEASURED_BY",
    "RANKED",
    "TARGETS",
    "Achieved",
    "CostOf",
    "Cut",
    "Fitted",
    "Fold",
    "GroupPlan",
    "GroupSettings",
    "Layer",
    "Plan",
    "Ranking",
    "Rule",
    "Selection",
    "block_of",
    "check_possible",
    "check_sizes",
    "compose",
    "counted",
    "fit",
    "in_scope",
    "meet",
    "model_of",
    "open_input",
    "per_saving",
    "plan_dead",
    "plan_given",
    "plan_scored",
    "read_plan",
    "read_settings",
    "rules_of",
    "scores_beyond",
    "settings_of",
    "why_not",
]
