"""Passes: small named changes to a graph, their registry and their runner."""

from __future__ import annotations

from graphslim.pipeline.base import (
    CheckInvariants,
    Dump,
    FindBlocks,
    Observer,
    Outcome,
    Pass,
    Timing,
)
from graphslim.pipeline.registry import find_pass, passes, register
from graphslim.pipeline.run import Pipeline

__all__ = [
    "Dump",
    "FindBlocks",
    "Observer",
    "Outcome",
    "Pass",
    "Pipeline",
    "Timing",
    "CheckInvariants",
    "find_pass",
    "passes",
    "register",
]
