"""Repair of what removing channels destroys, by images without labels; see `repair.run`."""

from __future__ import annotations

from graphslim.recovery.beforehand import cautions_beforehand
from graphslim.recovery.run import STAGES, Repaired, Stage, repair, require_images

__all__ = ["STAGES", "Repaired", "Stage", "cautions_beforehand", "repair", "require_images"]
