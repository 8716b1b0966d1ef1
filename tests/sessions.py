"""How the tests run small graphs by TensorFlow: as they stand."""

from __future__ import annotations

from typing import Any

from graphslim import runtime


def plain_config(tf: Any) -> Any:
    """One thread, so that sums have one order; no rewriting, which takes longer than what is run.

    Args:
        tf: the `compat.v1` module.
    """
    return runtime.unoptimized(tf, intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
