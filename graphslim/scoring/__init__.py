"""Criteria: rules that score channels."""

from __future__ import annotations

from graphslim.scoring import functions  # noqa: F401  (registers the built-in criteria)
from graphslim.scoring.registry import AGGREGATES, Criterion, criteria, criterion, find_criterion
from graphslim.scoring.scores import Scores, score

__all__ = [
    "AGGREGATES",
    "Criterion",
    "Scores",
    "criteria",
    "criterion",
    "find_criterion",
    "score",
]
