"""Passes: small named changes to a graph, their registry and their runner."""

from __future__ import annotations

from graphslim.pipeline.steps import (
    CheckInvariants,
    Dump,
    FindBlocks,
    Observer,
    Outcome,
    Pass,
    Pipeline,
    Timing,
    find_pass,
    passes,
    register,
)

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
