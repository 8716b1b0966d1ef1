"""Carrying out plans, and what ops make of single channels."""

from __future__ import annotations

from graphslim.rewrite.affine import Affine, affine
from graphslim.rewrite.apply import apply, apply_in_place
from graphslim.rewrite.conditionals import fold_conditionals
from graphslim.rewrite.mask import zero_consumers
from graphslim.rewrite.tidy import bypass, remove_unread

__all__ = [
    "Affine",
    "affine",
    "apply",
    "apply_in_place",
    "bypass",
    "fold_conditionals",
    "remove_unread",
    "zero_consumers",
]
