"""Which outputs are decisions: classes behind an ArgMax, probabilities behind a softmax, masks.

They are found by structure alone. Logits without a softmax stay numbers: nothing in the graph tells
whether the largest of them is what matters.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional

import numpy as np

from graphslim.analysis.channels import analyse
from graphslim.ir import IDENTITIES, Graph, Node, Port

CLASSES, PROBABILITIES, MASK = "classes", "probabilities", "mask"
"""Kinds of decisions."""
_CHOICES = frozenset((("ArgMax", 0), ("ArgMin", 0), ("TopKV2", 1), ("TopK", 1)))
"""Outputs of ops that are the positions of the best of what the op reads first."""
_MOVES = frozenset(("Reshape", "Squeeze", "ExpandDims", "Transpose", "StridedSlice", "Slice"))
"""Ops that move decisions about, or drop some, and change none."""
_SAME = IDENTITIES | {"Cast", "EnsureShape", "ResizeNearestNeighbor"}
_MIXES = frozenset(("ResizeBilinear", "ResizeBicubic", "ResizeArea"))
"""Ops that mix neighbouring pixels: probabilities give probabilities again, classes nonsense."""


class Decision(NamedTuple):
    """What an output decides.

    Attributes:
        kind: `classes`: the numbers of classes; `probabilities`: one number for each class along
            `axis`, the largest of which is the decision; `mask`: a sigmoid, yes above 0.5.
        axis: of the classes, counted from the end (below 0); -1 where there is no such axis.
        source: for `classes`, the tensor whose best entries they are. Two graphs that compute the
            same may differ in a class where two entries are nearly equal, so that they are held
            against each other there.
    """

    kind: str
    axis: int = -1
    source: Optional[Port] = None

    def made(self, values: np.ndarray) -> np.ndarray:
        """The decisions that values of the output stand for: integers, one for each position."""
        if self.kind == PROBABILITIES:
            return np.asarray(values.argmax(self.axis))
        return values > 0.5 if self.kind == MASK else values


def decision_of(graph: Graph, output: Port) -> Optional[Decision]:
    """What an output of a graph decides; None where it is no decision that is known."""
    port = output
    moves: List[Node] = []
    while True:
        node = graph[port.node]
        inputs = graph.data_inputs(node)
        if (node.op, port.port) in _CHOICES:
            if any(move.op in _MIXES for move in moves):
                return None
            return Decision(CLASSES, source=inputs[0] if inputs else None)
        if node.op == "Sigmoid":
            return Decision(MASK)
        if _is_softmax(graph, node):
            axis = _axis_behind(graph, Port(node.name), moves)
            return None if axis is None else Decision(PROBABILITIES, axis)
        if not inputs or port.port or node.op not in _SAME | _MOVES | _MIXES:
            return None
        moves.append(node)
        port = inputs[0]


def _is_softmax(graph: Graph, node: Node) -> bool:
    """Whether a node is a softmax, written as an op or as exponentials over their sum."""
    if node.op in ("Softmax", "LogSoftmax"):
        return True
    inputs = graph.data_inputs(node)
    if node.op not in ("RealDiv", "Div") or len(inputs) != 2:
        return False
    whole, part = graph[inputs[1].node], graph[inputs[0].node]
    sums = whole.op == "Sum" and graph.data_inputs(whole)[:1] == inputs[:1]
    axes = graph[graph.data_inputs(whole)[1].node] if sums else None
    if not sums or part.op != "Exp" or axes is None or axes.op != "Const":
        return False
    rank = analyse(graph).fact(inputs[0]).rank
    return rank is not None and axes.attrs["value"].numbers().ravel().tolist() in ([-1], [rank - 1])


def _axis_behind(graph: Graph, softmax: Port, moves: List[Node]) -> Optional[int]:
    """Where the classes, on the last axis behind a softmax, stand behind the ops that follow it.

    Args:
        graph: the graph.
        softmax: what the softmax gives.
        moves: what stands between it and the output, from the output back.
    """
    facts = analyse(graph)
    shape, axis = facts.fact(softmax).shape, -1
    classes = shape[-1] if shape else None
    for node in reversed(moves):
        if node.op == "Transpose":
            order = graph[graph.data_inputs(node)[1].node]
            if order.op != "Const":
                return None
            places = [int(place) for place in order.attrs["value"].numbers().ravel()]
            axis = places.index(axis % len(places)) - len(places)
        elif node.op in _MOVES and axis != -1:
            return None
        shape = facts.fact(Port(node.name)).shape
        if shape and shape[axis] not in (None, classes):
            return None
    # Where a size is open on the way, it has to be there again in the end.
    return axis if shape and classes is not None and shape[axis] == classes else None
