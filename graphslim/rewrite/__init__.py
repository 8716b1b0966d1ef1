"""Carrying out plans."""

from __future__ import annotations

from graphslim.rewrite.apply import apply, apply_in_place
from graphslim.rewrite.mask import zero_consumers

__all__ = ["apply", "apply_in_place", "zero_consumers"]
