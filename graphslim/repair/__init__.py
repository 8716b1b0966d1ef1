"""Repair of what removing channels destroys, by images without labels; see `repair.run`."""

from __future__ import annotations

from graphslim.repair.run import STAGES, Repaired, Stage, repair

__all__ = ["STAGES", "Repaired", "Stage", "repair"]
