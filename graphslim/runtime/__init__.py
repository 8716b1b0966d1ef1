"""What needs TensorFlow: running graphs, and the variables of models and of checkpoints."""

from __future__ import annotations

from graphslim.runtime.checkpoint import (
    Checkpoint,
    checkpoint_files,
    saved_variables,
    write_checkpoint,
)
from graphslim.runtime.keras import CustomObjects, traced
from graphslim.runtime.library import (
    INSTALL,
    available,
    import_for_command,
    plain_tensorflow,
    run_as_shipped,
    runs_as_shipped,
    tensorflow,
    train_on_gpus,
    unoptimized,
    version,
    without_onednn,
)
from graphslim.runtime.session import Session, known_part, unknown_ops

__all__ = [
    "INSTALL",
    "Checkpoint",
    "CustomObjects",
    "Session",
    "available",
    "checkpoint_files",
    "import_for_command",
    "known_part",
    "plain_tensorflow",
    "run_as_shipped",
    "runs_as_shipped",
    "saved_variables",
    "tensorflow",
    "traced",
    "train_on_gpus",
    "unknown_ops",
    "unoptimized",
    "version",
    "without_onednn",
    "write_checkpoint",
]
