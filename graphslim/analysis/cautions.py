"""What a user should know before trusting a result: training left in a graph, and its precision."""

from __future__ import annotations

from typing import List, NamedTuple, Optional

from graphslim.analysis.probe import silent_noise
from graphslim.ir import IDENTITIES, DType, Graph, Node
from graphslim.ir.families import OPAQUE_OPS, STATEFUL_DRAWS
from graphslim.ir.query import in_branch, needed
from graphslim.support.text import plural

TOLERANCE = 1e-4
"""Largest difference between two graphs that compute the same in float32, as a share of an
output's range."""
TRAINING = 1e-2
"""The same where batch norms go by the statistics of the batch: on maps of a few pixels they
magnify rounding. A published pose network moves by 3e-4 of its range if its input moves by one
rounding."""
_ROUNDINGS = 4
"""So many roundings may a sum of another length, or with a constant folded into it, be off."""
_EPSILON = {DType.float16: 2.0**-10, DType.bfloat16: 2.0**-7}


class Caution(NamedTuple):
    """Something about a graph that is not wrong, but that a reader would not expect.

    Attributes:
        what: the fact, in one clause that names the first node.
        hint: what the reader can do about it.
        node: that first node.
    """

    what: str
    hint: str
    node: str

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})"


def cautions(graph: Graph) -> List[Caution]:
    """What is to be said of a graph, as far as its outputs depend on it."""
    training, used = training_norms(graph), needed(graph)
    opaque = [node for node in graph if node.op in OPAQUE_OPS and node.name in used]
    cautions = []
    if training:
        cautions.append(
            Caution(
                f"{plural(len(training), 'batch norm')} frozen in the training phase, such as "
                f"{training[0].name}: the outputs depend on what else is in the batch",
                "freeze the graph for inference, is_training=False, if it is to be deployed",
                training[0].name,
            )
        )
    random = random_node(graph)
    if random is not None:
        cautions.append(
            Caution(
                f"dropout or noise left on at {random}: the outputs differ from run to run",
                "freeze the graph for inference; until then its outputs cannot be compared",
                random,
            )
        )
    if opaque:
        cautions.append(
            Caution(
                f"{plural(len(opaque), 'opaque op')}, such as {opaque[0].name} "
                f"({opaque[0].op}): what is inside cannot be seen or pruned",
                "start from the graph before it was converted",
                opaque[0].name,
            )
        )
    return cautions


def training_norms(graph: Graph) -> List[Node]:
    """The batch norms that the outputs depend on and that go by the batch's own statistics."""
    always = needed(graph) - in_branch(graph)
    return [node for node in graph if node.attrs.get("is_training") is True and node.name in always]


def random_node(graph: Graph) -> Optional[str]:
    """The first node, if any, that makes the outputs differ from run to run."""
    always = needed(graph) - in_branch(graph)
    draws = [node.name for node in graph if node.op in STATEFUL_DRAWS and node.name in always]
    return next((name for name in draws if name not in silent_noise(graph)), None)


def tolerance_of(graph: Graph) -> float:
    """How far two graphs that compute the same may be apart, as a share of an output's range.

    That is 0.0001; four roundings where a graph computes in 16 bits, 0.004 in float16 and 0.03 in
    bfloat16 (weights that are stored in 16 bits and cast are no such computation); and 0.01 where
    batch norms were frozen in the training phase.
    """
    # Ops of many inputs, such as Assert, have a list of types, and compute nothing.
    stated = [node.attrs.get("T") for node in graph if node.op not in IDENTITIES]
    rounding = [_ROUNDINGS * size for dtype, size in _EPSILON.items() if dtype in stated]
    return max([TOLERANCE, *rounding, *([TRAINING] if training_norms(graph) else [])])
