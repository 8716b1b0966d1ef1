"""Criteria: rules that score channels."""

from __future__ import annotations

from graphslim.scoring import functions  # noqa: F401  (registers the built-in criteria)
from graphslim.scoring.registry import Criterion, criteria, criterion, find_criterion
from graphslim.scoring.scores import AGGREGATES, Scores, check_aggregate, score

__all__ = [
    "AGGREGATES",
    "Criterion",
    "Scores",
    "check_aggregate",
    "criteria",
    "criterion",
    "find_criterion",
    "score",
]
