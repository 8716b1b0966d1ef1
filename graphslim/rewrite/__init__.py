"""Carrying out plans."""

from __future__ import annotations

from graphslim.rewrite.apply import apply, apply_in_place
from graphslim.rewrite.conditionals import fold_conditionals
from graphslim.rewrite.mask import zero_consumers

__all__ = ["apply", "apply_in_place", "fold_conditionals", "zero_consumers"]
