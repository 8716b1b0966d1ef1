"""Ops that sum over channels: convolutions and matrix products."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from graphslim.errors import AnalysisError
from graphslim.ir import Node
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
    spatial_axes,
    value_rule,
)


def conv_size(
    size: Optional[int], kernel: int, stride: int, dilation: int, pad: Any
) -> Optional[int]:
    """Output size along one axis; `pad` is `SAME`, `VALID` or the total explicit padding."""
    if size is None:
        return None
    if pad == "SAME":
        return -(-size // stride)
    total = 0 if pad == "VALID" else pad
    return (size + total - (kernel - 1) * dilation - 1) // stride + 1


def window(node: Node) -> Tuple[List[int], List[int], List[Any]]:
    """Strides, dilations and padding along height and width."""
    axes = spatial_axes(node)
    strides, dilations = node.ints("strides"), node.ints("dilations") or [1, 1, 1, 1]
    if len(dilations) == 1:
        dilations = dilations * 4
    padding = node.text("padding")
    explicit = node.ints("explicit_paddings")
    pads: List[Any] = [padding, padding]
    if padding == "EXPLICIT":
        pads = [explicit[2 * axis] + explicit[2 * axis + 1] for axis in axes]
    return [strides[axis] for axis in axes], [dilations[axis] for axis in axes], pads


def _sees_all(node: Node, kernel: Sequence[Optional[int]]) -> bool:
    """Whether every output position sees every tap on real data, never on padding."""
    if node.text("padding") == "EXPLICIT":
        return not any(node.ints("explicit_paddings"))
    return list(kernel) == [1, 1] or node.text("padding") == "VALID"


def _require_rank(op: OpVisit, index: int, rank: int) -> None:
    if op[index].rank not in (None, rank):
        raise AnalysisError(
            f"input {index} of a {op.node.op} has shape {op[index].shape}", op.node.name
        )


def _conv_output(op: OpVisit, ids: Any) -> Fact:
    """The fact of a convolution's output, spatial sizes included."""
    data, filters = op[0], op[1]
    axes, channel = spatial_axes(op.node), channel_axis(op.node)
    shape: List[Optional[int]] = [data.size(0), None, None, None]
    strides, dilations, pads = window(op.node)
    for place, axis in enumerate(axes):
        kernel = filters.size(place)
        if kernel is not None:
            shape[axis] = conv_size(
                data.size(axis), kernel, strides[place], dilations[place], pads[place]
            )
    op.pin_others(0, (0, channel), "it is convolved over")
    return fact(tuple(shape), {0: data.channels(0), channel % 4: ids})


@channel_rule("Conv2D")
def conv2d(op: OpVisit) -> Fact:
    """Input channels are filter axis 2 (times groups), output channels filter axis 3."""
    _require_rank(op, 0, 4)
    _require_rank(op, 1, 4)
    data, filters, channel = op[0], op[1], channel_axis(op.node)
    inside, out = filters.channels(2), filters.channels(3)
    width, per_group = data.size(channel), filters.size(2)
    if width is not None and per_group is not None and width != per_group:
        return _grouped(op, width, per_group)
    op.tie(data.channels(channel), inside)
    op.mark(inside, "consumer")
    op.mark(out, "producer")
    if inside is not None and out is not None:
        op.contract(
            data=0,
            weights=1,
            axis=channel,
            into=inside,
            out=out,
            matrix=lambda weights: weights.reshape(-1, weights.shape[2], weights.shape[3]),
            uniform=_sees_all(op.node, [filters.size(0), filters.size(1)]),
        )
    return _conv_output(op, out)


def _grouped(op: OpVisit, width: int, per_group: int) -> Fact:
    """A grouped convolution: pinned on both sides, whatever the groups."""
    if width % per_group:
        raise AnalysisError(f"{width} channels meet a filter for {per_group}", op.node.name)
    groups, out = width // per_group, op[1].channels(3)
    for ids in (op[0].channels(channel_axis(op.node)), op[1].channels(2)):
        op.pin(ids, f"it enters a convolution in {groups} groups")
    op.pin(out, f"it leaves a convolution in {groups} groups")
    op.mark(out, "producer")
    return _conv_output(op, out)


@value_rule("Conv2D")
def conv2d_value(op: ValueVisit) -> Any:
    """Zero filters give zero; known inputs give a sum where no border is seen."""
    if op[1] is None or op.facts[1].channels(2) is None:
        return None
    channel = channel_axis(op.node)
    weights = op.snap(op[1])
    if op.facts[0].size(channel) != weights.shape[2]:
        return None
    matrix = weights.reshape(-1, weights.shape[2], weights.shape[3])
    inside = per_channel(op[0], channel, weights.shape[2])
    steady = _sees_all(op.node, weights.shape[:2])
    return _on_axis(_contract(inside, matrix, steady), channel, 4)


def _contract(inside: np.ndarray, matrix: np.ndarray, steady: bool) -> np.ndarray:
    """Sums (c_in,) with (taps, c_in, c_out), where a zero on either side beats an unknown."""
    usable = inside if steady else np.where(inside == 0, 0.0, np.nan)
    unknown = np.isnan(usable)
    total = np.zeros(matrix.shape[2])
    if (usable[~unknown] != 0).any():
        rows = ~unknown & (usable != 0)
        total = np.einsum("c,tco->o", usable[rows], matrix[:, rows, :].astype(np.float64))
    total[matrix[:, unknown, :].any(axis=(0, 1))] = np.nan
    return total


def _on_axis(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    shape = [1] * rank
    shape[axis] = len(values)
    return values.reshape(shape)


@cost_rule("Conv2D")
def conv2d_cost(node: Node, facts: Sequence[Fact], outs: Sequence[Fact]) -> Optional[int]:
    """One product per tap, input channel and output position."""
    return product([*(outs[0].shape or [None])[1:], *(facts[1].shape or [None])[:3]])


@channel_rule("DepthwiseConv2dNative")
def depthwise(op: OpVisit) -> Fact:
    """Each input channel gives `multiplier` output channels of its own."""
    _require_rank(op, 0, 4)
    _require_rank(op, 1, 4)
    data, filters, channel = op[0], op[1], channel_axis(op.node)
    rows, multiplier = filters.channels(2), filters.size(3)
    op.tie(data.channels(channel), rows)
    out = None
    if rows is not None and multiplier is not None:
        out = np.repeat(rows, multiplier)
    op.pin(filters.channels(3), "it is a depthwise multiplier")
    return _conv_output(op, out)


@value_rule("DepthwiseConv2dNative")
def depthwise_value(op: ValueVisit) -> Any:
    """A row of zeros gives zero whatever comes in, and so does a zero channel."""
    if op[1] is None:
        return None
    channel = channel_axis(op.node)
    weights = op.snap(op[1])
    taps = weights.reshape(-1, weights.shape[2] * weights.shape[3])
    inside = np.repeat(per_channel(op[0], channel, weights.shape[2]), weights.shape[3])
    steady = _sees_all(op.node, weights.shape[:2])
    out = inside * taps.sum(axis=0, dtype=np.float64) if steady else np.full(len(inside), np.nan)
    out[(inside == 0) | ~taps.any(axis=0)] = 0.0
    return _on_axis(out, channel, 4)


@cost_rule("DepthwiseConv2dNative")
def depthwise_cost(node: Node, facts: Sequence[Fact], outs: Sequence[Fact]) -> Optional[int]:
    """One product per tap and output position."""
    return product([*(outs[0].shape or [None])[1:], *(facts[1].shape or [None])[:2]])


@channel_rule("Conv2DBackpropInput")
def transposed_conv2d(op: OpVisit) -> Fact:
    """The filter is HWOI; `input_sizes` (input 0) states the output's channel count."""
    sizes, filters, data, channel = op[0], op[1], op[2], channel_axis(op.node)
    out, inside = filters.channels(2), filters.channels(3)
    op.tie(data.channels(channel), inside)
    op.mark(inside, "consumer")
    op.mark(out, "producer")
    op.pin_others(2, (0, channel), "it is convolved over")
    for place in range(4):
        op.resize(0, place, out if place == channel % 4 else None)
    shape: List[Optional[int]] = [None] * 4
    if sizes.value is not None and sizes.value.shape == (4,):
        shape = [None if np.isnan(size) else int(size) for size in sizes.value]
    if inside is not None and out is not None:
        op.contract(
            data=2,
            weights=1,
            axis=channel,
            into=inside,
            out=out,
            matrix=lambda weights: weights.reshape(-1, *weights.shape[2:]).swapaxes(1, 2),
            uniform=False,
        )
    return fact(tuple(shape), {0: data.channels(0), channel % 4: out})


@value_rule("Conv2DBackpropInput")
def transposed_value(op: ValueVisit) -> Any:
    """Zero filters and zero inputs give zero; other constants leave a pattern."""
    if op[1] is None:
        return None
    weights, channel = op.snap(op[1]), channel_axis(op.node)
    matrix = weights.reshape(-1, *weights.shape[2:]).swapaxes(1, 2)
    return _on_axis(
        _contract(per_channel(op[2], channel, matrix.shape[1]), matrix, False), channel, 4
    )


@cost_rule("Conv2DBackpropInput")
def transposed_cost(node: Node, facts: Sequence[Fact], outs: Sequence[Fact]) -> Optional[int]:
    """One product per tap, output channel and input position."""
    return product([*(facts[2].shape or [None])[1:], *(facts[1].shape or [None])[:3]])


@channel_rule("MatMul")
def matmul(op: OpVisit) -> Fact:
    """Ties the contracted axes and keeps the others."""
    flip_a, flip_b = bool(op.node.attrs.get("transpose_a")), bool(op.node.attrs.get("transpose_b"))
    left, right = op[0], op[1]
    inner_a, outer_a = (0, 1) if flip_a else (1, 0)
    inner_b, outer_b = (1, 0) if flip_b else (0, 1)
    inside, out = right.channels(inner_b), right.channels(outer_b)
    op.tie(left.channels(inner_a), inside)
    op.mark(inside, "consumer")
    op.mark(out, "producer")
    if inside is not None and out is not None:
        op.contract(
            data=0,
            weights=1,
            axis=inner_a,
            into=inside,
            out=out,
            matrix=lambda weights: (weights.T if flip_b else weights)[None],
            uniform=True,
        )
    return fact((left.size(outer_a), right.size(outer_b)), {0: left.channels(outer_a), 1: out})


@value_rule("MatMul")
def matmul_value(op: ValueVisit) -> Any:
    """Known rows times constant weights."""
    if op[1] is None or op.node.attrs.get("transpose_a"):
        return None
    weights = op.snap(op[1])
    matrix = (weights.T if op.node.attrs.get("transpose_b") else weights)[None]
    inside = per_channel(op[0], 1, matrix.shape[1])
    return _contract(inside, matrix, True)[None]


@cost_rule("MatMul")
def matmul_cost(node: Node, facts: Sequence[Fact], outs: Sequence[Fact]) -> Optional[int]:
    """One row is one example: the batch is not counted."""
    inner = facts[1].size(1 if node.attrs.get("transpose_b") else 0)
    return product([inner, outs[0].size(1)])
