"""The checkpoint route: a checkpoint with its MetaGraph, softly pruned, summed up and stripped."""

from __future__ import annotations

from graphslim.checkpoint.locate import files_of, prefix_of
from graphslim.checkpoint.model import Trained, open_checkpoint

__all__ = ["Trained", "files_of", "open_checkpoint", "prefix_of"]
