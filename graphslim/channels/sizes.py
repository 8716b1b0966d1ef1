"""Shape arithmetic: follows the numbers of small integer tensors, and what they count, op by op."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.facts import Fact, Ids, fits
from graphslim.channels.notes import Renumber, Resize
from graphslim.channels.origins import (
    FIXED,
    Counted,
    Origins,
    origins_of,
    stays_size,
    tie_for,
    without_repeated,
)
from graphslim.channels.reasons import ComputedSize, IsInput
from graphslim.channels.rules import STRUCTURAL, VALUE_RULES, ValueVisit, value_outputs
from graphslim.channels.visit import UNFOLLOWED, OpVisit
from graphslim.ir import Graph, Node
from graphslim.ir.families import (
    BATCH_NORMS,
    BIASES,
    BROADCASTING,
    CONVOLUTIONS,
    IDENTITIES,
    MEASURES,
    POOLS,
    RESIZES,
    SWITCHES,
    UNARY,
)

_TRACKED = 1024
"""Tensors of more elements are not followed."""
_JOINING: Dict[str, Tuple[int, int]] = {"Pack": (0, 0), "ConcatV2": (0, 1), "Concat": (1, 0)}
"""Ops that join numbers into a shape, of which some may be unknown, and how many inputs before and
after them are none of these."""
_KEEPS_BATCH = UNARY | BROADCASTING | IDENTITIES | BATCH_NORMS | BIASES | CONVOLUTIONS | RESIZES
_KEEPS_BATCH |= {
    *(*POOLS, "DepthwiseConv2dNative", "DepthToSpace", "SpaceToDepth"),
    *("Softmax", "LogSoftmax"),
    *("_FusedBatchNormEx", "_FusedConv2D", "_FusedDepthwiseConv2dNative"),
}
"""Ops whose first axis, where it is open, is that of their input."""


class Sizes(Origins):
    """Follows the numbers of small integer tensors through shape arithmetic.

    Attributes:
        resizes: the numbers in constants that state how many channels there are, and where.
        renumbers: the constants that hold positions of channels.
        awaited: numbers that have to go on to be the size of an axis; see `settle`.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph = graph
        self.resizes: List[Resize] = []
        self.renumbers: List[Renumber] = []
        self.awaited: List[Tuple[OpVisit, Counted, np.ndarray]] = []

    def follow(self, op: OpVisit, outs: List[Fact]) -> List[Fact]:
        """The outputs with the numbers that shape arithmetic gives them, and their origins.

        Numbers that leave shape arithmetic for an op that has no use for them as sizes pin what
        they count. `outs` is what the rule of the op says of its outputs.
        """
        node, inputs = op.node, op.facts
        if node.name in self._graph.input_shapes:
            outs = self._with_given_shape(op, outs)
        outs = [self._with_batch(node, inputs, out) for out in outs]
        if not inputs:
            return outs
        if node.op in _JOINING:
            inputs = _as_sizes(node.op, inputs)
        values = self._values(node, inputs, outs)
        if values is None:
            for slot, known in enumerate(inputs):
                if known.origins is None:
                    continue
                for element, counted in self.counts_in(known):
                    if (slot, element) not in op.taken:
                        op.pin(counted.ids, ComputedSize(f"its size is used by a {node.op}"))
            return [_forgetful(node, out) for out in outs]
        origins = self._origins(node, inputs, outs, values)
        for place, (value, sources) in enumerate(zip(values, origins)):
            outs[place] = outs[place]._replace(value=value, origins=sources)
        return outs

    def settle(self, label: np.ndarray) -> None:
        """Ties channels whose number would else cease to be right, or pins them.

        Args:
            label: the channel of each id, as the ties so far have it; int64 of shape (ids,).
        """
        for op, counted, ids in self.awaited:
            if stays_size(counted, ids, label):
                continue
            sides = tie_for(counted, ids)
            if sides is None:
                op.pin(ids, UNFOLLOWED)
                op.pin(counted.ids, UNFOLLOWED)
            else:
                op.tie(*sides)
        self.awaited = []

    def _with_given_shape(self, op: OpVisit, outs: List[Fact]) -> List[Fact]:
        """The outputs with the sizes that the user gave for a fed tensor inside the graph.

        They fill in what the rule leaves open of the first output, which is what is fed.
        """
        first = outs[0] if outs else Fact()
        given, shape = self._graph.input_shapes[op.node.name], first.shape
        if shape is not None and len(shape) != len(given):
            return outs
        shape = shape or (None,) * len(given)
        sizes = tuple([new if old is None else old for old, new in zip(shape, given)])
        fresh: Dict[int, Ids] = {}
        for axis, (old, size) in enumerate(zip(shape, sizes)):
            if size and old is None:
                fresh[axis] = op.fresh(size)
                op.pin(fresh[axis], IsInput("it is a graph input"))
        ids = first.ids or (None,) * len(sizes)
        return [first._replace(shape=sizes, ids=ids).with_ids(fresh), *outs[1:]]

    def _with_batch(self, node: Node, inputs: Sequence[Fact], out: Fact) -> Fact:
        """An output with the origin of its first axis, if that is open."""
        if not out.shape or out.shape[0] is not None:
            return out if out.batch is None else out._replace(batch=None)
        if out.batch is not None:
            return out
        alike = [known for known in inputs if known.shape and len(known.shape) == len(out.shape)]
        batches = {known.batch for known in alike if known.shape and known.shape[0] is None}
        if node.op in _KEEPS_BATCH and len(batches) == 1 and None not in batches:
            return out._replace(batch=batches.pop())
        return out._replace(batch=self.source(None))

    def _values(
        self, node: Node, inputs: Sequence[Fact], outs: Sequence[Fact]
    ) -> Optional[List[np.ndarray]]:
        """The numbers of each output, at their full shape; None where they are not followed."""
        tracked = [known.value for known in inputs]
        if node.op not in MEASURES and any([value is None for value in tracked]):
            return None
        if node.op not in VALUE_RULES or not outs or not tracked:
            return None
        if any(not fits(_TRACKED, *(out.shape or ())) for out in outs):
            return None
        values = []
        result = value_outputs(self._graph, ValueVisit(node, tracked, inputs, outs, 0.0))
        for value, out in zip(result, outs):
            if value is None:
                return None
            full, shape = np.asarray(value, np.float64), out.shape  # type: np.ndarray, Any
            if shape is not None and None not in shape and len(shape) == full.ndim:
                full = np.broadcast_to(full, shape)
            if full.size > _TRACKED:
                return None
            values.append(full)
        return values

    def _origins(
        self,
        node: Node,
        inputs: Sequence[Fact],
        outs: Sequence[Fact],
        values: Sequence[np.ndarray],
    ) -> Sequence[np.ndarray]:
        """Where the numbers of each output come from, at their full shape."""
        if node.op in ("Shape", "ShapeN", "Size"):
            sizes = [
                np.array([self.size(known, axis) for axis in range(known.rank or 0)])
                for known in inputs
            ]
            if node.op == "Size":
                return [np.full((), self.combined("Prod", sizes[0], float(values[0])))]
            return sizes
        origins = [origins_of(known) for known in inputs]
        if node.op not in STRUCTURAL:
            return [self._computed(node, origins, value) for value in values]
        result = value_outputs(self._graph, ValueVisit(node, origins, inputs, outs, 0.0))
        moved = [
            np.broadcast_to(np.asarray(sources, np.float64), value.shape)
            for sources, value in zip(result, values)
        ]
        return without_repeated(origins, moved)

    def _computed(self, node: Node, origins: Sequence[np.ndarray], value: np.ndarray) -> np.ndarray:
        """Origins of computed numbers: fixed, or a share of one count, or more than is followed."""
        flat = np.concatenate([sources.ravel() for sources in origins]) if origins else np.zeros(0)
        if not self.counts(flat):
            return np.full(value.shape, FIXED)
        if node.op in BROADCASTING:
            rows = [np.broadcast_to(sources, value.shape).ravel() for sources in origins]
            numbers = zip(np.stack(rows, 1), value.ravel())
            combined = [self.combined(node.op, row, number) for row, number in numbers]
            return np.array(combined).reshape(value.shape)
        op = node.op if value.size == 1 else ""
        return np.full(value.shape, self.combined(op, flat, float(np.ravel(value)[0])))


def _as_sizes(op: str, inputs: Sequence[Fact]) -> List[Fact]:
    """Facts in which unknown numbers, joined with known ones, are put down as unknown sizes."""
    first, last = _JOINING[op]
    joined = range(first, len(inputs) - last)
    sizes = list(inputs)
    if all(inputs[place].value is None for place in joined):
        return sizes
    for place in joined:
        shape: Any = inputs[place].shape
        if inputs[place].value is None and shape in ((), (1,), (2,), (3,), (4,)):
            sizes[place] = inputs[place]._replace(
                value=np.full(shape, np.nan), origins=np.full(shape, FIXED)
            )
    return sizes


def _forgetful(node: Node, out: Fact) -> Fact:
    """An output whose numbers have no origin, or are not known at all."""
    if out.value is None and out.origins is None:
        return out
    passes_on = node.op in SWITCHES or node.op == "IdentityN"
    return out._replace(origins=None) if passes_on else out.without_value()
