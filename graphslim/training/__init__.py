"""Help for training loops: hold pruned channels at zero, let channels die, step the threshold.

Everything here works in the process that trains, on TensorFlow's default graph, and sets neither
devices nor log levels.
"""

from __future__ import annotations

from graphslim.training.hook import SoftPruningHook
from graphslim.training.lasso import group_lasso, proximal_step
from graphslim.training.schedule import Schedule, Step, schedule

__all__ = ["Schedule", "SoftPruningHook", "Step", "group_lasso", "proximal_step", "schedule"]
