"""Convolutions: plain, in groups, depthwise, in two and three dimensions."""

from __future__ import annotations

from typing import Any, Optional, Sequence

import numpy as np

from graphslim.channels.reasons import OpenSize, OtherAxis
from graphslim.errors import AnalysisError
from graphslim.ir import Node
from graphslim.ops.grouped import grouped, groups_of
from graphslim.ops.guard import LONGEST, fits
from graphslim.ops.sums import on_axis, stacked, summed, tie_weights, whole
from graphslim.ops.table import (
    UNKNOWN,
    Fact,
    Ids,
    OpVisit,
    ValueVisit,
    channel_axis,
    channel_rule,
    cost_rule,
    fact,
    per_channel,
    product,
    value_rule,
)
from graphslim.ops.window import PACKED, is_packed, sees_all, slid, window


def require_rank(op: OpVisit, index: int, rank: int) -> None:
    """Refuses an input of another rank.

    Raises:
        AnalysisError: so.
    """
    if op[index].rank not in (None, rank):
        raise AnalysisError(
            f"input {index} of a {op.node.op} has shape {op[index].shape}", op.node.name
        )


def convolution_output(op: OpVisit, ids: Ids, rank: int = 4) -> Fact:
    """The fact of a convolution's output, spatial sizes included."""
    data, channel = op[0], channel_axis(op.node)
    shape = list(data.shape or [None] * rank)
    shape[channel] = op[1].size(-1)
    if op.node.op.endswith("DepthwiseConv2dNative"):
        shape[channel] = product([op[1].size(2), op[1].size(3)])
    kernel = [op[1].size(place) for place in range(rank - 2)]
    op.pin_others(0, (0, channel), OtherAxis("it is convolved over"))
    return fact(
        tuple(slid(shape, kernel, window(op.node, rank))),
        {0: data.channels(0), channel % rank: ids},
    )


@channel_rule("Conv2D", "Conv3D")
def convolution(op: OpVisit) -> Fact:
    """Input channels are the last axis but one of the filter (times groups), outputs the last."""
    rank = 5 if op.node.op == "Conv3D" else 4
    if is_packed(op.node):
        op.pin_all(PACKED)
        return UNKNOWN
    for index in (0, 1):
        require_rank(op, index, rank)
    channel = channel_axis(op.node)
    entering, inside, out = op[0].channels(channel), op[1].channels(rank - 2), op[1].channels(-1)
    groups = groups_of(op, rank)
    if groups > 1:
        return convolution_output(op, grouped(op, groups, rank), rank)
    if op[0].size(channel) is None and op[1].size(rank - 2) in (None, 1):
        # It could be a convolution in groups, one for each channel; else it is taken for a plain
        # one, of as many channels as its filters read.
        op.pin(out, OpenSize("how many channels enter its convolution is not known"))
    tie_weights(op, entering, inside)
    op.mark(inside, "consumer")
    op.mark(out, "producer")
    if inside is not None:
        op.contract(
            data=0,
            weights=1,
            axis=channel,
            into=inside,
            out=out,
            matrix=lambda weights: stacked(
                weights, weights.shape[-2], 1 if out is None else weights.shape[-1]
            ),
            uniform=sees_all(op.node, [op[1].size(place) for place in range(rank - 2)]),
        )
    return convolution_output(op, out, rank)


@value_rule("Conv2D", "Conv3D")
def convolution_value(op: ValueVisit) -> Any:
    """Zero filters give zero; known inputs give a sum where no border is seen."""
    weights, channel = whole(op, 1), channel_axis(op.node)
    if weights is None or is_packed(op.node):
        return None
    per_group, c_out = weights.shape[-2:]
    groups = (op.facts[0].size(channel) or per_group) // per_group if per_group else 1
    inside = per_channel(op[0], channel, groups * per_group).reshape(groups, per_group)
    matrix = stacked(weights, per_group, groups, c_out // groups)
    steady = sees_all(op.node, weights.shape[:-2])
    sums = [summed(inside[group], matrix[:, :, group], steady) for group in range(groups)]
    return on_axis(np.concatenate(sums), channel, weights.ndim)


@cost_rule("Conv2D", "Conv3D")
def convolution_cost(node: Node, facts: Sequence[Fact], outs: Sequence[Fact]) -> Optional[int]:
    """One product per tap, input channel of a group and output position."""
    return product([*(outs[0].shape or [None])[1:], *(facts[1].shape or [None])[:-1]])


@channel_rule("DepthwiseConv2dNative")
def depthwise(op: OpVisit) -> Fact:
    """Each input channel gives `multiplier` output channels of its own."""
    if is_packed(op.node):
        op.pin_all(PACKED)
        return UNKNOWN
    for index in (0, 1):
        require_rank(op, index, 4)
    rows, multiplier = op[1].channels(2), op[1].size(3)
    tie_weights(op, op[0].channels(channel_axis(op.node)), rows)
    out = None
    if rows is not None and multiplier is not None and fits(LONGEST, len(rows), multiplier):
        out = np.repeat(rows, multiplier)
    else:
        op.pin(rows, OpenSize("its depthwise multiplier is not known"))
    op.pin(op[1].channels(3), "it is a depthwise multiplier")
    return convolution_output(op, out)


@value_rule("DepthwiseConv2dNative")
def depthwise_value(op: ValueVisit) -> Any:
    """A row of zeros gives zero whatever comes in, and so does a zero channel."""
    weights, channel = whole(op, 1), channel_axis(op.node)
    if weights is None or is_packed(op.node):
        return None
    taps = stacked(weights, weights.shape[2] * weights.shape[3])
    inside = np.repeat(per_channel(op[0], channel, weights.shape[2]), weights.shape[3])
    steady = sees_all(op.node, weights.shape[:2])
    out = inside * taps.sum(axis=0, dtype=np.float64) if steady else np.full(len(inside), np.nan)
    out[(inside == 0) | ~taps.any(axis=0)] = 0.0
    return on_axis(out, channel, 4)


@cost_rule("DepthwiseConv2dNative")
def depthwise_cost(node: Node, facts: Sequence[Fact], outs: Sequence[Fact]) -> Optional[int]:
    """One product per tap and output position."""
    return product([*(outs[0].shape or [None])[1:], *(facts[1].shape or [None])[:2]])


@channel_rule("DepthwiseConv2dNativeBackpropInput")
def transposed_depthwise(op: OpVisit) -> Fact:
    """Rare in inference: pinned as a whole."""
    op.pin_all("it enters a transposed depthwise convolution, which is left as it is")
    sizes = op[0].value
    if sizes is None or sizes.shape != (4,):
        return UNKNOWN
    return fact(tuple([None if np.isnan(size) else int(size) for size in sizes]))
