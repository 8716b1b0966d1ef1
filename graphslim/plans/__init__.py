"""Plans: what goes and why, before anything is changed."""

from __future__ import annotations

from graphslim.plans.budget import CostOf, counted, meet
from graphslim.plans.choose import choose
from graphslim.plans.file import read_plan
from graphslim.plans.fit import Fitted, fit
from graphslim.plans.make import DEAD_BELOW, plan_dead, plan_given, plan_scored
from graphslim.plans.plan import Achieved, Cut, Fold, GroupPlan, Layer, Plan
from graphslim.plans.select import (
    BUDGETS,
    RANKS,
    ROUNDINGS,
    SCOPES,
    Selection,
    block_of,
    in_scope,
    why_not,
)
from graphslim.plans.settings import GroupSettings, read_settings, settings_of

__all__ = [
    "BUDGETS",
    "DEAD_BELOW",
    "RANKS",
    "ROUNDINGS",
    "SCOPES",
    "Achieved",
    "CostOf",
    "Cut",
    "Fitted",
    "Fold",
    "GroupPlan",
    "GroupSettings",
    "Layer",
    "Plan",
    "Selection",
    "block_of",
    "choose",
    "counted",
    "fit",
    "in_scope",
    "meet",
    "plan_dead",
    "plan_given",
    "plan_scored",
    "read_plan",
    "read_settings",
    "settings_of",
    "why_not",
]
