"""Repair of what removing channels destroys, by images without labels; see `repair.run`."""

from __future__ import annotations

from graphslim.recovery.result import Repaired, Stage, cautions_beforehand
from graphslim.recovery.run import STAGES, repair, require_images
from graphslim.recovery.state import State

__all__ = [
    "STAGES",
    "Repaired",
    "Stage",
    "State",
    "cautions_beforehand",
    "repair",
    "require_images",
]
