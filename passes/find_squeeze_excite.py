"""find-squeeze-excite: squeeze-and-excitation blocks (Hu et al. 2018, arXiv 1709.01507)."""

from __future__ import annotations

import graphslim as gs
from graphslim.pattern import Pattern, block_pattern, squeeze_excite


@block_pattern("squeeze_excite", channels_of="squeeze")
def squeeze_excite_block(x: Pattern) -> Pattern:
    """A tensor times a gate that two dense layers make of its own pooled channels."""
    return squeeze_excite(x)


@gs.register
class FindSqueezeExcite(gs.FindBlocks):
    """Finds squeeze-and-excitation blocks."""

    name = "find-squeeze-excite"
    kind = "squeeze_excite"
