"""The checkpoint route: a checkpoint with its MetaGraph, softly pruned, summed up and stripped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphslim.checkpoint.files import files_of, prefix_of
from graphslim.support.importing import names_of

if TYPE_CHECKING:
    from graphslim.checkpoint.model import Trained, open_checkpoint

# Whoever has a `.pb` need not wait for these.
__getattr__ = names_of(
    __name__,
    {"Trained": "graphslim.checkpoint.model", "open_checkpoint": "graphslim.checkpoint.model"},
)

__all__ = ["Trained", "files_of", "open_checkpoint", "prefix_of"]
