"""Rules of training graphs: variables, optimizers, gradients and losses."""

from __future__ import annotations

from typing import List, Optional

import numpy as np

from graphslim.channels.facts import UNKNOWN, Fact, Ids, channel_axis, fact
from graphslim.checkpoint.training_walk import (
    TrainingVisit,
    alike,
    along,
    spread,
    training_rule,
)
from graphslim.ir.families import VARIABLES
from graphslim.ops.slice import bounds_of, follow_bounds


@training_rule(*sorted(VARIABLES))
def variable(op: TrainingVisit) -> Fact:
    """New ids on every axis, as a constant has."""
    shape = op.shape_attr("shape")
    if shape is None or None in shape:
        return fact(shape)
    return op.walk.parameter(op.node, [size or 0 for size in shape])


@training_rule("ReadVariableOp", "RefIdentity", "Print", "RefEnter", "Enter")
def read_variable(op: TrainingVisit) -> Fact:
    """The value of the variable."""
    return op[0].without_value()


@training_rule("IsVariableInitialized", "VarIsInitializedOp")
def is_initialized(op: TrainingVisit) -> Fact:
    """The result is one truth value."""
    return fact(())


@training_rule("Assign", "AssignAdd", "AssignSub")
def assigned(op: TrainingVisit) -> Fact:
    """The variable is like what is assigned."""
    return alike(op, op.facts[:2]).without_value()


@training_rule("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")
def assigned_by_handle(op: TrainingVisit) -> List[Fact]:
    """The variable is like what is assigned."""
    alike(op, op.facts[:2])
    return []


@training_rule("Apply", "ResourceApply", family=True)
def applied(op: TrainingVisit) -> List[Fact]:
    """An optimizer's step: the slots and the gradient are like the variable, the rest scalars."""
    alike(op, [op[0], *(known for known in op.facts[1:] if known.rank and _fits(op[0], known))])
    return [] if op.node.op.startswith("Resource") else [op[0]]


def _fits(first: Fact, second: Fact) -> bool:
    """Whether two tensors may have one shape."""
    return first.rank == second.rank and all(
        size == expected or None in (size, expected)
        for size, expected in zip(first.shape or (), second.shape or ())
    )


@training_rule("SparseApply", "ResourceSparseApply", family=True)
def applied_to_rows(op: TrainingVisit) -> List[Fact]:
    """A step for some rows: slots are like the variable, the gradient in all axes but the first."""
    for known in op.facts[1:]:
        if known.rank and known.rank == op[0].rank:
            if known.shape == op[0].shape:
                alike(op, [op[0], known])
            else:
                _tie_behind(op, known)
    return [] if op.node.op.startswith("Resource") else [op[0]]


@training_rule("Scatter", "ResourceScatter", family=True)
def scattered(op: TrainingVisit) -> List[Fact]:
    """Some rows are written; their axes but the first are those of the variable."""
    if len(op) > 2 and "ScatterNd" not in op.node.op:
        _tie_behind(op, op[2])
    return [] if op.node.op.startswith("Resource") else [op[0]]


@training_rule("ResourceGather")
def gathered(op: TrainingVisit) -> Fact:
    """Some rows are read."""
    data, places = op[0], op[1]
    if not data.rank or places.shape is None:
        return Fact()
    return Fact(
        (*places.shape, *(data.shape or ())[1:]), ((None,) * len(places.shape) + data.ids[1:])
    )


def _tie_behind(op: TrainingVisit, rows: Fact) -> None:
    """Ties the axes of the variable after the first with the last axes of some rows."""
    for axis in range(-(op[0].rank or 1) + 1, 0):
        op.tie(op[0].channels(axis), rows.channels(axis))


# ------------------------------------------------------------------ gradients
_FUNCTION_GRADIENTS = """
    EluGrad InvGrad LeakyReluGrad ReciprocalGrad Relu6Grad ReluGrad RsqrtGrad SeluGrad SigmoidGrad
    SoftplusGrad SoftsignGrad SqrtGrad TanhGrad LRNGrad
"""


@training_rule(*_FUNCTION_GRADIENTS.split())
def function_gradient(op: TrainingVisit) -> Fact:
    """All inputs and the output are alike."""
    return alike(op, op.facts).without_value()


# ------------------------------------------------------------------ convolutions


@training_rule("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def convolution_input_gradient(op: TrainingVisit) -> Fact:
    """Inputs are the sizes of the result, the filter and the incoming gradient."""
    rank, channel = _rank(op), channel_axis(op.node)
    filters, data = op[1], op[2]
    result = _sized(op, 0, rank, filters.size(rank - 2))
    op.tie(data.channels(channel), filters.channels(rank - 1))
    return _entering(op, result, channel, filters.channels(rank - 2), filters.channels(rank - 1))


@training_rule("Conv2DBackpropFilter", "Conv3DBackpropFilterV2")
def convolution_filter_gradient(op: TrainingVisit) -> Fact:
    """Inputs are the data, the sizes of the filter and the incoming gradient."""
    rank, channel = _rank(op), channel_axis(op.node)
    result = _sized(op, 1, rank)
    result = along(op, result, rank - 1, op[2].channels(channel))
    inside, out = result.channels(rank - 2), result.channels(rank - 1)
    _entering(op, op[0], channel, inside, out)
    return result


def _entering(op: TrainingVisit, data: Fact, channel: int, inside: Ids, out: Ids) -> Fact:
    """Ties what enters a convolution with the filter's axes, group by group."""
    if inside is None or data.shape is None:
        return data
    groups = (data.size(channel) or len(inside)) // len(inside)
    if groups > 1 and len(inside) == 1:
        return data if out is None else along(op, data, channel, out[:: len(out) // groups])
    return along(op, data, channel, np.tile(inside, groups))


@training_rule("DepthwiseConv2dNativeBackpropInput")
def depthwise_input_gradient(op: TrainingVisit) -> Fact:
    """Inputs are the sizes of the result, the filter and the incoming gradient."""
    channel, rows = channel_axis(op.node), op[1].channels(2)
    _tie_rows(op, op[2], rows, op[1].size(3))
    return along(op, _sized(op, 0, 4), channel, rows)


@training_rule("DepthwiseConv2dNativeBackpropFilter")
def depthwise_filter_gradient(op: TrainingVisit) -> Fact:
    """Inputs are the data, the sizes of the filter and the incoming gradient."""
    result = along(op, _sized(op, 1, 4), 2, op[0].channels(channel_axis(op.node)))
    _tie_rows(op, op[2], result.channels(2), result.size(3))
    return result


def _tie_rows(op: TrainingVisit, data: Fact, rows: Ids, multiplier: Optional[int]) -> None:
    if rows is not None and multiplier is not None:
        op.tie(data.channels(channel_axis(op.node)), np.repeat(rows, multiplier))


def _rank(op: TrainingVisit) -> int:
    return 5 if op.node.op.startswith("Conv3D") else 4


def _sized(op: TrainingVisit, index: int, rank: int, width: Optional[int] = None) -> Fact:
    """The fact of a tensor whose shape an input states, maybe only along the axes of space."""
    if op[index].size(0) == rank:
        return op.sized(index)
    shape: List[Optional[int]] = [None] * rank
    shape[channel_axis(op.node)] = width
    return fact(tuple(shape))


# ------------------------------------------------------------------ normalisation, bias, space


@training_rule("FusedBatchNormGrad", "FusedBatchNormGradV2", "FusedBatchNormGradV3")
def batch_norm_gradient(op: TrainingVisit) -> List[Fact]:
    """Inputs are the incoming gradient, the data, and vectors; all share the channels."""
    axis, result = channel_axis(op.node), alike(op, op.facts[:2])
    for vector in op.facts[2:]:
        if vector.rank == 1 and vector.size(0) == result.size(axis):
            result = along(op, result, axis, vector.channels(0))
    ids = result.channels(axis)
    vector = fact((result.size(axis),), {0: ids})
    return [result, vector, vector, UNKNOWN, UNKNOWN]


@training_rule("BiasAddGrad")
def bias_gradient(op: TrainingVisit) -> Fact:
    """The sum over all but the channels."""
    axis = channel_axis(op.node)
    return fact((op[0].size(axis),), {0: op[0].channels(axis)})


@training_rule("MaxPoolGrad", "MaxPool3DGrad", "MaxPoolGradV2")
def max_pool_gradient(op: TrainingVisit) -> Fact:
    """Inputs are the data, what was pooled and the incoming gradient."""
    axis, result = channel_axis(op.node), op[0]
    for pooled in op.facts[1:3]:
        result = along(op, result, axis, pooled.channels(axis))
    return result.without_value()


@training_rule("AvgPoolGrad", "AvgPool3DGrad")
def mean_pool_gradient(op: TrainingVisit) -> Fact:
    """Inputs are the shape of the data and the incoming gradient."""
    axis = channel_axis(op.node)
    return along(op, op.sized(0), axis, op[1].channels(axis))


@training_rule("ResizeBilinearGrad", "ResizeBicubicGrad")
def resize_gradient(op: TrainingVisit) -> Fact:
    """Inputs are the incoming gradient and the image."""
    return along(op, op[1].without_value(), 3, op[0].channels(3))


@training_rule("ResizeNearestNeighborGrad")
def nearest_gradient(op: TrainingVisit) -> Fact:
    """Inputs are the incoming gradient and the height and width of the image."""
    shape = (op[0].size(0), None, None, op[0].size(3))
    return fact(shape, {0: op[0].channels(0), 3: op[0].channels(3)})


@training_rule("StridedSliceGrad")
def strided_slice_gradient(op: TrainingVisit) -> Fact:
    """Inputs are the shape of what was sliced, the bounds, and the incoming gradient."""
    result = op.sized(0)
    chosen = None if result.rank is None else bounds_of(op.facts, op.node, result.rank)
    if chosen is None:
        return result
    axis = place = 0
    for bound in chosen:
        if bound.index is None:
            place += 1
            continue
        sliced = follow_bounds(op, bound, result.ids[axis])
        axis += 1
        if isinstance(bound.index, slice):
            op.tie(sliced, op[4].channels(place))
            place += 1
    return result


# ------------------------------------------------------------------ losses


@training_rule("L2Loss")
def half_square(op: TrainingVisit) -> Fact:
    """The result is one number."""
    return fact(())


@training_rule("SoftmaxCrossEntropyWithLogits")
def cross_entropy(op: TrainingVisit) -> List[Fact]:
    """A loss for each example, and the gradient by the logits."""
    both = spread(op, op.facts[:2])
    return [fact((both.size(0),)), both]


@training_rule("SparseSoftmaxCrossEntropyWithLogits")
def sparse_cross_entropy(op: TrainingVisit) -> List[Fact]:
    """A loss for each example, and the gradient by the logits."""
    return [fact((op[0].size(0),)), op[0].without_value()]


# ------------------------------------------------------------------ quantisation-aware training


@training_rule("FakeQuantWithMinMaxArgsGradient")
def fake_quant_gradient(op: TrainingVisit) -> Fact:
    """The incoming gradient, and the data."""
    return alike(op, op.facts).without_value()


@training_rule("FakeQuantWithMinMaxVarsGradient", "FakeQuantWithMinMaxVarsPerChannelGradient")
def learned_fake_quant_gradient(op: TrainingVisit) -> List[Fact]:
    """Inputs are the incoming gradient, the data and two bounds, numbers or vectors of channels."""
    result = alike(op, op.facts[:2]).without_value()
    for bound in op.facts[2:]:
        result = along(op, result, -1, bound.channels(0))
    return [result, op[2], op[3]]
