"""Deploy passes, which make a graph faster or its file smaller, and a function that runs them."""

from __future__ import annotations

from typing import List, Optional

from graphslim.errors import GraphslimError
from graphslim.ir import Graph
from graphslim.pipeline import Pipeline

PASSES = (
    *("fold-conditionals", "drop-debris", "fold-identity", "fold-constants"),
    *("fold-batch-norm", "drop-unused", "merge-duplicates"),
)
"""The passes of `--optimize`, in order, chosen by measurements on TensorFlow 1.15 and 2."""

HALF = "half-weights"
READERS = {"1.15": "for-tf-1.15"}
"""By version of TensorFlow, the pass that makes a file readable for it."""


def steps(*, fp16_weights: bool = False, for_tf: str = "") -> List[str]:
    """The passes of `optimize`, in order.

    Args:
        fp16_weights: whether weights are to be stored as half precision, which rounds them.
        for_tf: the TensorFlow that is to read the file: `1.15`, or empty.

    Raises:
        GraphslimError: there is no pass for that version.
    """
    return [*PASSES, *storage_steps(fp16_weights, for_tf)]


def storage_steps(fp16_weights: bool, for_tf: str) -> List[str]:
    """The passes that change how a graph is stored, not what it computes.

    Raises:
        GraphslimError: there is no pass for that version.
    """
    if for_tf and for_tf not in READERS:
        known = ", ".join(READERS)
        raise GraphslimError(
            f"nothing is known of TensorFlow {for_tf}", "--for-tf", f"give {known}"
        )
    return [*([HALF] if fp16_weights else []), *([READERS[for_tf]] if for_tf else [])]


def optimize(
    graph: Graph,
    *,
    fp16_weights: bool = False,
    for_tf: Optional[str] = None,
) -> Graph:
    """A graph that computes the same, faster or from a smaller file; `graph` stays as it is.

    No channel is removed. Inputs and outputs keep their names.

    Args:
        graph: the graph.
        fp16_weights: store weights as half precision, which rounds them.
        for_tf: `1.15` to leave out attributes that it does not know.

    Raises:
        GraphslimError: there is no pass for that version.
        AnalysisError: the graph contradicts itself.
    """
    twin = graph.copy()
    Pipeline(steps(fp16_weights=fp16_weights, for_tf=for_tf or "")).run(twin)
    return twin
