"""Latency as it is on this machine: measured layer by layer, predicted for plans, and checked."""

from __future__ import annotations

from graphslim.latency.measure import MULTIPLE, Setting, build, table_of
from graphslim.latency.promise import (
    WITHIN,
    Predictor,
    Promise,
    noise_of,
    quiet_enough,
    reach,
)
from graphslim.latency.table import Row, Table

__all__ = [
    "MULTIPLE",
    "WITHIN",
    "Predictor",
    "Promise",
    "Row",
    "Setting",
    "Table",
    "build",
    "noise_of",
    "quiet_enough",
    "reach",
    "table_of",
]
