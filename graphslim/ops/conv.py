"""Convolutions: plain, in groups, depthwise and transposed, in two and three dimensions."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.facts import (
    LONGEST,
    UNKNOWN,
    Fact,
    Ids,
    channel_axis,
    fact,
    fits,
    per_channel,
    product,
    sizes_of,
)
from graphslim.channels.reasons import ComputedSize, OpenSize, OtherAxis
from graphslim.channels.rules import ValueVisit, channel_rule, cost_rule, value_rule
from graphslim.channels.visit import OpVisit
from graphslim.errors import AnalysisError
from graphslim.ir import Node
from graphslim.ir.families import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS
from graphslim.ops.numeric import on_axis, stacked, summed, tie_weights, whole

PACKED = "its channels lie in packs of four (NCHW_VECT_C)"


class Window(NamedTuple):
    """How a window slides, per axis of space.

    Attributes:
        axes: the axes of space.
        strides, dilations: along each of them.
        pads: `SAME`, `VALID` or the total explicit padding along each of them.
    """

    axes: Tuple[int, ...]
    strides: List[int]
    dilations: List[int]
    pads: List[Any]


def window(node: Node, rank: int = 4) -> Window:
    """What the attributes of a convolution or pool say; `rank` is that of its data."""
    axes = tuple(range(2, rank)) if channel_axis(node) == 1 else tuple(range(1, rank - 1))
    strides, dilations = node.ints("strides") or [1] * rank, node.ints("dilations") or [1] * rank
    padding, explicit = node.text("padding"), node.ints("explicit_paddings")
    pads: List[Any] = [padding] * len(axes)
    if padding == "EXPLICIT":
        pads = [explicit[2 * axis] + explicit[2 * axis + 1] for axis in axes]
    return Window(axes, [strides[axis] for axis in axes], [dilations[axis] for axis in axes], pads)


def slid(
    shape: Sequence[Optional[int]], kernel: Sequence[Optional[int]], how: Window
) -> List[Optional[int]]:
    """A shape with the sizes that a window leaves along the axes of space; None where open."""
    sizes = list(shape)
    for place, axis in enumerate(how.axes):
        sizes[axis] = conv_size(
            sizes[axis], kernel[place], how.strides[place], how.dilations[place], how.pads[place]
        )
    return sizes


def conv_size(
    size: Optional[int], kernel: Optional[int], stride: int, dilation: int, pad: Any
) -> Optional[int]:
    """Output size along one axis; `pad` is `SAME`, `VALID` or the total explicit padding."""
    if size is None:
        return None
    if pad == "SAME":
        return -(-size // stride)
    if kernel is None:
        return None
    total = 0 if pad == "VALID" else pad
    return int((size + total - (kernel - 1) * dilation - 1) // stride + 1)


def sees_all(node: Node, kernel: Sequence[Optional[int]]) -> bool:
    """Whether every output position sees every tap on real data, never on padding."""
    if node.text("padding") == "EXPLICIT":
        return not any(node.ints("explicit_paddings"))
    return all(size == 1 for size in kernel) or node.text("padding") == "VALID"


def is_packed(node: Node) -> bool:
    """Whether the channels lie in packs of four, NCHW_VECT_C, for which there are no rules."""
    return node.text("data_format").endswith("VECT_C")


_SPREAD = 1 << 28
"""Filters in groups are followed up to so many numbers as filters of one convolution."""


def groups_of(op: OpVisit, rank: int) -> int:
    """How many groups a convolution has: its channels by those that one filter reads.

    Raises:
        AnalysisError: the channels are no multiple of those that one filter reads, or the filters
            cannot be dealt out evenly among the groups.
    """
    width, per_group = op[0].size(channel_axis(op.node)), op[1].size(rank - 2)
    if width is None or not per_group:
        return 1
    groups, rest = divmod(width, per_group)
    if rest or (op[1].size(rank - 1) or 0) % max(groups, 1):
        filters = "" if rest else f" in {groups} groups that make {op[1].size(rank - 1)}"
        raise AnalysisError(
            f"{width} channels meet a filter for {per_group}{filters}", op.node.name
        )
    return groups


def grouped(op: OpVisit, groups: int, rank: int) -> Ids:
    """The ids that leave a convolution in groups.

    All groups have to stay equally wide. Of what goes in, channel j of each goes or whole groups,
    whichever there are more of; of what comes out, either may. Where each group reads a single
    channel, as a depthwise convolution does, whole groups go: a channel with its filters.
    """
    channel = channel_axis(op.node)
    entering, inside, out = op[0].channels(channel), op[1].channels(rank - 2), op[1].channels(-1)
    if inside is None or out is None:
        for ids in (entering, inside, out):
            op.pin(ids, f"it is convolved in {groups} groups with filters that are not followed")
        return out
    if len(inside) == 1:
        op.tie(entering, out[:: len(out) // groups])
        op.tie(np.repeat(out[:: len(out) // groups], len(out) // groups), out)
        op.pin(inside, "each group reads one channel")
        return out
    op.mark(inside, "consumer")
    op.mark(out, "producer")
    taps = [op[1].size(axis) for axis in range(rank - 2)]
    if not fits(_SPREAD, *taps, groups * len(inside), len(out)):
        for ids in (entering, inside, out):
            op.pin(ids, f"it is convolved in {groups} groups, which are too many to follow")
        return out
    group, _ = op.split(out, (groups, len(out) // groups), None)
    if entering is None:
        op.tie(None, inside)
        op.pin(group, "it is convolved in groups of channels that are not followed")
    else:
        longer = 0 if groups > len(inside) else 1
        whole, of_each = op.split(entering, (groups, len(inside)), longer)
        op.tie(whole, group)
        op.tie(of_each, inside)
    # No constant is folded: TensorFlow would fuse a new BiasAdd with the convolution, and its fused
    # kernels take no groups.
    op.contract(
        data=0,
        weights=1,
        axis=channel,
        into=np.tile(inside, groups) if entering is None else entering,
        out=out,
        matrix=lambda weights: spread(weights, groups),
        uniform=False,
    )
    return out


def spread(weights: np.ndarray, groups: int) -> np.ndarray:
    """Filters in groups as those of one convolution: (taps, c_in, c_out), zero between groups."""
    per_group, c_out = weights.shape[-2:]
    filters = stacked(weights, per_group, groups, c_out // groups)
    wide = np.zeros((len(filters), groups, per_group, groups, c_out // groups), weights.dtype)
    for group in range(groups):
        wide[:, group, :, group, :] = filters[:, :, group, :]
    return wide.reshape(len(filters), groups * per_group, c_out)


def require_rank(op: OpVisit, index: int, rank: int) -> None:
    """Refuses an input of another rank.

    Raises:
        AnalysisError: input `index` has a known rank that is not `rank`.
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


@channel_rule(*CONVOLUTIONS)
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


@value_rule(*CONVOLUTIONS)
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
    by_group = [summed(inside[group], matrix[:, :, group], steady) for group in range(groups)]
    return on_axis(np.concatenate(by_group), channel, weights.ndim)


@cost_rule(*CONVOLUTIONS)
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
        out = rows if multiplier == 1 else np.repeat(rows, multiplier)
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
    return fact(tuple(_stated(op, 4)))


def swapped(weights: np.ndarray) -> np.ndarray:
    """Filters that end in (c_out, c_in) as (taps, c_in, c_out)."""
    return stacked(weights, *weights.shape[-2:]).swapaxes(1, 2)


@channel_rule(*TRANSPOSED_CONVOLUTIONS)
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
    numbers = sizes_of(sizes)
    if len(numbers) == rank:
        return numbers
    shape: List[Optional[int]] = [op[2].size(0), *[None] * (rank - 1)]
    for axis, number in zip(window(op.node, rank).axes, numbers):
        shape[axis] = number
    shape[channel_axis(op.node)] = op[1].size(rank - 2)
    return shape


@value_rule(*TRANSPOSED_CONVOLUTIONS)
def transposed_value(op: ValueVisit) -> Any:
    """Zero filters and zero inputs give zero; other constants leave a pattern."""
    weights, channel, out = whole(op, 1), channel_axis(op.node), op.outs[0]
    if weights is None or out.size(channel) != weights.shape[-2]:
        return None
    inside = per_channel(op[2], channel, weights.shape[-1])
    return on_axis(summed(inside, swapped(weights), False), channel, weights.ndim)


@cost_rule(*TRANSPOSED_CONVOLUTIONS)
def transposed_cost(node: Node, facts: Sequence[Fact], outs: Sequence[Fact]) -> Optional[int]:
    """One product per tap, output channel and input position."""
    return product([*(facts[2].shape or [None])[1:], *(facts[1].shape or [None])[:-1]])
