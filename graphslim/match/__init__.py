"""Declarative patterns of blocks and the search for them."""

from __future__ import annotations

from graphslim.match.blocks import find_blocks
from graphslim.match.matcher import Match, Matcher, NearMiss
from graphslim.match.pattern import PATTERNS, BlockPattern, block_pattern

__all__ = [
    "PATTERNS",
    "BlockPattern",
    "Match",
    "Matcher",
    "NearMiss",
    "block_pattern",
    "find_blocks",
]
