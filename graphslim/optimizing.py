"""Deploy passes: which make a graph faster or smaller on which TensorFlow, and their run."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from graphslim import runtime
from graphslim.errors import GraphslimError
from graphslim.ir import Graph
from graphslim.pipeline import Pipeline

_CLEAN = ("fold-conditionals", "drop-debris", "fold-identity", "fold-constants")
PASSES: Dict[str, Tuple[str, ...]] = {
    "tf1": (*_CLEAN, "fold-batch-norm", "drop-unused", "merge-duplicates"),
    "tf2": (*_CLEAN, "fold-batch-norm", "drop-unused", "merge-duplicates"),
}
"""By target, what `--optimize` runs; what does not help there is left out."""

HALF = "half-weights"
READERS = {"1.15": "for-tf-1.15"}
"""By the TensorFlow that is to read a file, the pass that sees to it."""


def target_of(name: str) -> str:
    """A target, `tf1` or `tf2`; for `auto` that of the installed TensorFlow, or else `tf2`.

    Raises:
        GraphslimError: there is no such target.
    """
    if name == "auto":
        return "tf1" if runtime.installed_version().startswith("1.") else "tf2"
    if name not in PASSES:
        raise GraphslimError(f"no target {name!r}", "--target", "give tf1, tf2 or auto")
    return name


def steps(target: str = "auto", *, fp16_weights: bool = False, for_tf: str = "") -> List[str]:
    """The passes for a target, in order.

    Args:
        target: `tf1`, `tf2` or `auto`.
        fp16_weights: whether weights are to be stored as half precision, which rounds them.
        for_tf: the TensorFlow that is to read the file: `1.15`, or empty.

    Raises:
        GraphslimError: no such target or version.
    """
    found = list(PASSES[target_of(target)])
    return [*found, *storage_steps(fp16_weights, for_tf)]


def storage_steps(fp16_weights: bool, for_tf: str) -> List[str]:
    """The passes that change how a graph is stored, not what it computes.

    Raises:
        GraphslimError: no such version.
    """
    if for_tf and for_tf not in READERS:
        known = ", ".join(READERS)
        raise GraphslimError(
            f"nothing is known of TensorFlow {for_tf}", "--for-tf", f"give {known}"
        )
    return [*([HALF] if fp16_weights else []), *([READERS[for_tf]] if for_tf else [])]


def optimize(
    graph: Graph,
    target: str = "auto",
    *,
    fp16_weights: bool = False,
    for_tf: Optional[str] = None,
) -> Graph:
    """A graph that computes the same, faster or from a smaller file; `graph` stays as it is.

    No channel is removed. Inputs and outputs keep their names.

    Args:
        graph: the graph.
        target: the TensorFlow that is to run it: `tf1`, `tf2`, or `auto` for the installed one.
        fp16_weights: store weights as half precision, which rounds them.
        for_tf: `1.15` to leave out attributes that it does not know.

    Raises:
        GraphslimError: no such target or version.
        AnalysisError: the graph contradicts itself.
    """
    twin = graph.copy()
    Pipeline(steps(target, fp16_weights=fp16_weights, for_tf=for_tf or "")).run(twin)
    return twin
