"""Sensitivity: what a network loses as single groups lose channels; see `sweep.run`."""

from __future__ import annotations

from graphslim.sweep.evaluate import IMAGES, Conditions, Evaluator
from graphslim.sweep.metric import NAMES, find_metric, read_labels
from graphslim.sweep.plan import by_curves, losses_of, within_loss
from graphslim.sweep.run import RATIOS, Sweep, sweep

__all__ = [
    "IMAGES",
    "NAMES",
    "RATIOS",
    "Evaluator",
    "Conditions",
    "Sweep",
    "by_curves",
    "find_metric",
    "losses_of",
    "read_labels",
    "sweep",
    "within_loss",
]
