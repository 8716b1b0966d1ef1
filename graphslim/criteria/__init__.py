"""Criteria: rules that score channels."""

from __future__ import annotations

from graphslim.criteria import responses, weights  # noqa: F401  (they register theirs)
from graphslim.criteria.registry import Criterion, criteria, criterion, find_criterion
from graphslim.criteria.scores import AGGREGATES, Scores, sampler, score

__all__ = [
    "AGGREGATES",
    "Criterion",
    "Scores",
    "criteria",
    "criterion",
    "find_criterion",
    "sampler",
    "score",
]
