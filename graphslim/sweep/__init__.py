"""Sensitivity: what a network loses as single groups lose channels; see `sweep.run`."""

from __future__ import annotations

from graphslim.sweep.evaluate import IMAGES, Evaluator, Setting
from graphslim.sweep.metric import NAMES, find_metric
from graphslim.sweep.run import RATIOS, Sweep, sweep

__all__ = [
    "IMAGES",
    "NAMES",
    "RATIOS",
    "Evaluator",
    "Setting",
    "Sweep",
    "find_metric",
    "sweep",
]
