"""Transposed convolutions, which TensorFlow calls by the gradient that they compute."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence

import numpy as np

from graphslim.channels.reasons import ComputedSize, OpenSize, OtherAxis
from graphslim.ir import Node
from graphslim.ops.sums import on_axis, stacked, summed, tie_weights, whole
from graphslim.ops.table import (
    Fact,
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
from graphslim.ops.window import is_packed, window


def swapped(weights: np.ndarray) -> np.ndarray:
    """Filters that end in (c_out, c_in) as (taps, c_in, c_out)."""
    return stacked(weights, *weights.shape[-2:]).swapaxes(1, 2)


@channel_rule("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def transposed(op: OpVisit) -> Fact:
    """The filter ends in (out, in); `input_sizes` (input 0) states the output's channel count."""
    rank = 5 if op.node.op.startswith("Conv3D") else 4
    filters, data, channel = op[1], op[2], channel_axis(op.node)
    out, inside = filters.channels(rank - 2), filters.channels(rank - 1)
    stated = _stated(op, rank)
    width = stated[channel]
    if is_packed(op.node) or (width is not None and width != filters.size(rank - 2)):
        op.pin_all("it enters a transposed convolution in groups")
        return fact(tuple(stated))
    if width is None:
        for ids in (inside, out):  # it could be any number of groups
            op.pin(ids, OpenSize("how many channels leave its transposed convolution is not known"))
    tie_weights(op, data.channels(channel), inside)
    op.mark(inside, "consumer")
    op.mark(out, "producer")
    op.pin_others(2, (0, channel), OtherAxis("it is convolved over"))
    counted = {0: data.channels(0), channel % rank: out}
    length = op[0].size(0)
    if length is None:
        for ids in counted.values():
            op.pin(ids, ComputedSize("its size is computed in a way that is not followed"))
    for place in range(length or 0):
        op.resize(0, place, counted.get(place) if length == rank else None)
    if inside is not None and out is not None:
        op.contract(
            data=2,
            weights=1,
            axis=channel,
            into=inside,
            out=out,
            matrix=swapped,
            uniform=False,
        )
    return fact(tuple(stated), counted)


def _stated(op: OpVisit, rank: int) -> List[Optional[int]]:
    """The output's shape as `input_sizes` states it, which may be the axes of space alone."""
    sizes = op[0].value
    if sizes is None or sizes.shape not in ((rank,), (rank - 2,)):
        return [None] * rank
    numbers = [None if np.isnan(size) else int(size) for size in sizes]
    if len(numbers) == rank:
        return numbers
    shape: List[Optional[int]] = [op[2].size(0), *[None] * (rank - 1)]
    for axis, number in zip(window(op.node, rank).axes, numbers):
        shape[axis] = number
    shape[channel_axis(op.node)] = op[1].size(rank - 2)
    return shape


@value_rule("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def transposed_value(op: ValueVisit) -> Any:
    """Zero filters and zero inputs give zero; other constants leave a pattern."""
    weights, channel, out = whole(op, 1), channel_axis(op.node), op.outs[0]
    if weights is None or out.size(channel) != weights.shape[-2]:
        return None
    inside = per_channel(op[2], channel, weights.shape[-1])
    return on_axis(summed(inside, swapped(weights), False), channel, weights.ndim)


@cost_rule("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def transposed_cost(node: Node, facts: Sequence[Fact], outs: Sequence[Fact]) -> Optional[int]:
    """One product per tap, output channel and input position."""
    return product([*(facts[2].shape or [None])[1:], *(facts[1].shape or [None])[:-1]])
