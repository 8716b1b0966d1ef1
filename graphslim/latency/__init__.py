"""Latency as it is on this machine: measured layer by layer, predicted for plans, and checked."""

from __future__ import annotations

from graphslim.latency.measure import MULTIPLE, Setting, build, table_of
from graphslim.latency.promise import Predictor, Promise, reach
from graphslim.latency.table import Row, Table

__all__ = [
    "MULTIPLE",
    "Predictor",
    "Promise",
    "Row",
    "Setting",
    "Table",
    "build",
    "reach",
    "table_of",
]
