"""The built-in passes, installed as `graphslim.passes`; written with the public API alone."""

from __future__ import annotations

if __name__ != "graphslim.passes":
    raise ImportError(
        "the built-in passes are imported as graphslim.passes, not as "
        f"{__name__}: under a second name each would be registered twice"
    )

from graphslim.passes.drop_debris import DropDebris
from graphslim.passes.drop_unused import DropUnused
from graphslim.passes.find_inverted_residual import FindInvertedResidual
from graphslim.passes.find_squeeze_excite import FindSqueezeExcite
from graphslim.passes.fold_batch_norm import FoldBatchNorm
from graphslim.passes.fold_conditionals import FoldConditionals
from graphslim.passes.fold_constants import FoldConstants
from graphslim.passes.fold_identity import FoldIdentity
from graphslim.passes.for_tf_1_15 import ForTf115
from graphslim.passes.half_weights import HalfWeights
from graphslim.passes.merge_duplicates import MergeDuplicates
from graphslim.passes.remove_dead_channels import RemoveDeadChannels
from graphslim.passes.to_nhwc import ToNhwc

FIND = ("find-inverted-residual", "find-squeeze-excite")
"""The passes that recognise blocks."""

PRUNE = (*FIND, "remove-dead-channels")
"""What `graphslim prune` runs."""

__all__ = [
    "FIND",
    "PRUNE",
    "DropDebris",
    "DropUnused",
    "FindInvertedResidual",
    "FindSqueezeExcite",
    "FoldBatchNorm",
    "FoldConditionals",
    "FoldConstants",
    "FoldIdentity",
    "ForTf115",
    "HalfWeights",
    "MergeDuplicates",
    "RemoveDeadChannels",
    "ToNhwc",
]
