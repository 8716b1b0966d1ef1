"""Batch normalisation in one op: a scale and an offset for each channel."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence

import numpy as np

from graphslim.channels.facts import UNKNOWN, Fact, axes_of, channel_axis, fit_together
from graphslim.channels.reasons import InNorm
from graphslim.channels.rules import VALUE_RULES, ValueVisit, channel_rule, value_rule
from graphslim.channels.visit import OpVisit
from graphslim.ir import Attrs, Node
from graphslim.ir.families import BATCH_NORMS, NORM_INPUTS
from graphslim.ops.elementwise import broadcast
from graphslim.ops.numeric import on_axis

FUSED_NORMS = (*sorted(BATCH_NORMS), "_FusedBatchNormEx")
_OLD = "BatchNormWithGlobalNormalization"


def epsilon_of(node: Node) -> float:
    """What a batch norm in one op adds to the variance, 1e-4 where it does not say."""
    key = "variance_epsilon" if node.op == _OLD else "epsilon"
    epsilon: float = node.attrs.get(key, 1e-4)
    return epsilon


@channel_rule(*FUSED_NORMS)
def fused_batch_norm(op: OpVisit) -> List[Fact]:
    """Ties the four vectors with the channel axis, and a side input with the tensor."""
    axis, result = channel_axis(op.node), op[0]
    if result.rank is None and op.node.op in ("FusedBatchNorm", "FusedBatchNormV2"):
        result = axes_of(4)  # the later ones take three dimensions of space as well
    result = result.with_size(axis, op[1].size(0) or None)
    for index in NORM_INPUTS[op.node.op]:
        vector = op[index].channels(0)
        if vector is not None and len(vector):
            op.tie(op[0].channels(axis), vector)
    if op.node.attrs.get("is_training", True):
        _normalise_batch(op, axis)
    if len(op) > 5:
        result = broadcast(op, [result, op[5]])
    if op.node.op == "_FusedBatchNormEx":
        op.pin(
            op[0].channels(axis),
            "a _FusedBatchNormEx takes multiples of 4 channels only; export the graph without "
            "TensorFlow's remapping",
        )
    return [result, *[op[1]] * 4, UNKNOWN]


def _normalise_batch(op: OpVisit, channel: int) -> None:
    """In training all other axes are normalised over: a layer norm in one op has channels there."""
    rank = op[0].rank or 0
    others = [axis for axis in range(rank) if axis != channel % rank]
    others = [axis for axis in others if op[0].channels(axis) is not None]
    # Mean and variance that are read elsewhere are more than a part of the norm.
    passes = bool(others) and op.through_norms and not any(map(op.is_read, (1, 2)))
    for axis in others:
        if passes:
            op.normalise(axis, keeps=True)
        else:
            why = InNorm("it is normalised over channels (a batch norm in training)")
            op.pin(op[0].channels(axis), why)


@value_rule(*FUSED_NORMS)
def fused_batch_norm_value(op: ValueVisit) -> Any:
    """A zero scale leaves the offset; a known channel is normalised, unless by its own batch."""
    rank = op.outs[0].rank
    if rank is None:
        return None
    given, vectors = op[0], [op[index] for index in NORM_INPUTS[op.node.op]]
    if op.node.attrs.get("is_training", True):
        given = None
        vectors[2:] = [np.zeros(1), np.ones(1)]
    value = normalised(op, given, vectors, channel_axis(op.node), rank)
    if value is not None and len(op) > 5:
        value = None if op[5] is None else value + op[5]
    mode = op.node.text("activation_mode", "Identity")
    if value is not None and mode != "Identity":
        alone = Node(op.node.name, mode, Attrs({}))
        value = (
            VALUE_RULES[mode](ValueVisit(alone, [value], op.outs, op.outs, op.zero_below))
            if mode in VALUE_RULES
            else None
        )
    return (value,)


def normalised(
    op: ValueVisit,
    value: Optional[np.ndarray],
    vectors: Sequence[Optional[np.ndarray]],
    axis: int,
    rank: int,
) -> Optional[np.ndarray]:
    """What batch norm makes of a value.

    Args:
        op: the op, which states what is added to the variance.
        value: what is known of the tensor.
        vectors: scale, offset, mean and variance.
        axis: the channel axis.
        rank: of the tensor.

    Returns:
        what is known of the result, or None.
    """
    if any(vector is None or not vector.size for vector in vectors):
        return None
    scale, offset, mean, variance = [np.asarray(vector, np.float64).ravel() for vector in vectors]
    data = np.asarray(np.nan if value is None else value, np.float64)
    with np.errstate(all="ignore"):
        slope = op.snap(scale) / np.sqrt(variance + epsilon_of(op.node))
    factor = on_axis(slope, axis, rank)
    if not fit_together(data, factor):
        return None
    shifted = np.where(factor == 0, 0.0, data - on_axis(mean, axis, rank))
    return shifted * factor + on_axis(offset, axis, rank)


@channel_rule(_OLD)
def global_batch_norm(op: OpVisit) -> Fact:
    """Ties the four vectors with the last axis."""
    for index in NORM_INPUTS[op.node.op]:
        op.tie(op[0].channels(-1), op[index].channels(0))
    return (axes_of(4) if op[0].rank is None else op[0]).with_size(-1, op[1].size(0))


@value_rule(_OLD)
def global_batch_norm_value(op: ValueVisit) -> Any:
    """A zero scale leaves the offset; a known channel is normalised."""
    scale, offset, mean, variance = [op[index] for index in NORM_INPUTS[op.node.op]]
    rank = op.outs[0].rank
    if rank is None or variance is None:
        return None
    if not op.node.attrs.get("scale_after_normalization", True):
        scale = np.ones(np.size(variance))
    return normalised(op, op[0], [scale, offset, mean, variance], -1, rank)
