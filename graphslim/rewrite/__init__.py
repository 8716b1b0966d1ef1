"""Carrying out plans, and what ops make of single channels."""

from __future__ import annotations

from graphslim.match.affine import Affine, affine
from graphslim.rewrite.apply import apply, apply_in_place
from graphslim.rewrite.conditionals import fold_conditionals
from graphslim.rewrite.mask import zero_consumers
from graphslim.rewrite.recover import recover_plan

__all__ = [
    "Affine",
    "affine",
    "apply",
    "apply_in_place",
    "fold_conditionals",
    "recover_plan",
    "zero_consumers",
]
