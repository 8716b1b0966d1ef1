"""The built-in passes, installed as `graphslim.passes`; written with the public API alone."""

from __future__ import annotations

if __name__ != "graphslim.passes":
    raise ImportError(
        "the built-in passes are imported as graphslim.passes, not as "
        f"{__name__}: under a second name each would be registered twice"
    )

from graphslim.passes.drop_unused import DropUnused
from graphslim.passes.find_inverted_residual import FindInvertedResidual
from graphslim.passes.find_squeeze_excite import FindSqueezeExcite
from graphslim.passes.fold_conditionals import FoldConditionals
from graphslim.passes.fold_identity import FoldIdentity
from graphslim.passes.remove_dead_channels import RemoveDeadChannels
from graphslim.passes.to_nhwc import ToNhwc

FIND = ("find-inverted-residual", "find-squeeze-excite")
"""The passes that recognise blocks."""

PRUNE = (*FIND, "remove-dead-channels")
"""What `graphslim prune` runs."""

__all__ = [
    "FIND",
    "PRUNE",
    "DropUnused",
    "FindInvertedResidual",
    "FindSqueezeExcite",
    "FoldConditionals",
    "FoldIdentity",
    "RemoveDeadChannels",
    "ToNhwc",
]
