"""What needs TensorFlow: running graphs, and the variables of SavedModels and checkpoints."""

from __future__ import annotations

from graphslim.runtime.checkpoint import Checkpoint, checkpoint_files, write_checkpoint
from graphslim.runtime.known import known_part, unknown_ops
from graphslim.runtime.library import (
    INSTALL,
    available,
    plain_tensorflow,
    run_as_shipped,
    tensorflow,
    unoptimized,
    version,
    without_onednn,
)
from graphslim.runtime.saved import saved_variables
from graphslim.runtime.session import Session

__all__ = [
    "INSTALL",
    "Checkpoint",
    "Session",
    "available",
    "checkpoint_files",
    "known_part",
    "plain_tensorflow",
    "run_as_shipped",
    "saved_variables",
    "tensorflow",
    "unknown_ops",
    "unoptimized",
    "version",
    "without_onednn",
    "write_checkpoint",
]
