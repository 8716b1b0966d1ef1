"""Ops over space: pools, resizing, moves between space and depth or batch."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence

import numpy as np

from graphslim.channels.facts import (
    LONGEST,
    UNKNOWN,
    Fact,
    axes_of,
    channel_axis,
    fact,
    fits,
    integers,
    sizes_of,
    spatial_axes,
)
from graphslim.channels.reasons import AcrossChannels, OpenSize, OtherAxis
from graphslim.channels.rules import ValueVisit, channel_rule, value_rule
from graphslim.channels.visit import OpVisit
from graphslim.ir import Node
from graphslim.ir.families import FROM_BATCH, RESIZES, TO_BATCH
from graphslim.ops.conv import PACKED, is_packed, slid, window


@channel_rule("AvgPool", "MaxPool", "AvgPool3D", "MaxPool3D")
def pool(op: OpVisit) -> Fact:
    """Keeps the channels; a window over the channel axis pins them."""
    return _pooled(op, op.node.ints("ksize"))


def _pooled(op: OpVisit, sizes: Sequence[int], strides: Sequence[int] = ()) -> Fact:
    data, channel = op[0], channel_axis(op.node)
    rank = 5 if op.node.op.endswith("3D") else 4
    if data.rank != rank or len(sizes) != rank or is_packed(op.node):
        op.pin_all(PACKED if is_packed(op.node) else OpenSize("it is pooled at an unknown rank"))
        return UNKNOWN if data.rank not in (None, rank) or is_packed(op.node) else axes_of(rank)
    how = window(op.node, rank)
    if strides:
        how = how._replace(strides=[strides[axis] for axis in how.axes])
    shape = slid(data.shape or (), [sizes[axis] for axis in how.axes], how)
    ids = data.channels(channel)
    op.pin_others(0, (0, channel), OtherAxis("it is pooled over"))
    if sizes[channel] != 1:
        op.pin(ids, AcrossChannels("it is pooled over channels"))
    return fact(tuple(shape), {0: data.channels(0), channel % rank: ids})


@channel_rule("MaxPoolV2")
def pool_by_inputs(op: OpVisit) -> Fact:
    """A pool whose window and strides are inputs."""
    sizes, strides = integers(op[1]), integers(op[2])
    if op[0].rank != 4 or not sizes or not strides or is_packed(op.node):
        op.pin_all(OpenSize("it is pooled by a window that is not constant"))
        return UNKNOWN
    return _pooled(op, sizes, strides)


@channel_rule("MaxPoolWithArgmax")
def pool_with_argmax(op: OpVisit) -> List[Fact]:
    """Its second output counts positions over all channels; where it is read, channels stay."""
    pooled = _pooled(op, op.node.ints("ksize"))
    if op.is_read(1):
        op.pin_all("it is pooled with the index of the largest, which counts over all channels")
    return [pooled, pooled._replace(ids=(None,) * len(pooled.ids))]


@value_rule("AvgPool", "MaxPool", "AvgPool3D", "MaxPool3D", "MaxPoolWithArgmax", "MaxPoolV2")
def pool_value(op: ValueVisit) -> Any:
    """A constant map stays what it is: no pool counts the padding."""
    channel = channel_axis(op.node)
    sizes = integers(op.facts[1]) if op.node.op == "MaxPoolV2" else op.node.ints("ksize")
    if op[0] is None or is_packed(op.node) or not sizes:
        return None
    windows = [size for size, width in zip(sizes, op[0].shape) if size != 1 and width != 1]
    varies = [op[0].shape[axis] for axis in range(1, op[0].ndim) if axis != channel % op[0].ndim]
    value = op[0] if not windows and all(size == 1 for size in varies) else None
    return (value, None) if op.node.op == "MaxPoolWithArgmax" else value


@channel_rule("Dilation2D")
def dilation(op: OpVisit) -> Fact:
    """A largest sum in a window, channel by channel: the filter's last axis is the channels."""
    data, shifts = op[0], op[1]
    if data.rank != 4 or shifts.rank != 3:
        op.pin_all(OpenSize("it is dilated at an unknown rank"))
        return UNKNOWN
    how = window(op.node)._replace(dilations=op.node.ints("rates")[1:3])
    shape = slid(data.shape or (), [shifts.size(0), shifts.size(1)], how)
    op.tie(data.channels(3), shifts.channels(2))
    op.pin_others(0, (0, 3), "it is dilated over")
    return fact(tuple(shape), {0: data.channels(0), 3: data.channels(3)})


@channel_rule(*RESIZES)
def resize(op: OpVisit) -> Fact:
    """Keeps the channels; the size may be a constant."""
    return resized(op)


def resized(op: OpVisit) -> Fact:
    """Input 0 at the height and width that input 1 states."""
    data = op[0]
    op.pin_others(0, (0, 3), OtherAxis("it is resized"))
    return fact(
        (data.size(0), *stated_sizes(op, 1), data.size(3)),
        {0: data.channels(0), 3: data.channels(3)},
    )


def stated_sizes(op: OpVisit, index: int) -> List[Optional[int]]:
    """The height and width that an input states; None where they are open."""
    numbers = op[index].value
    return [None, None] if numbers is None or numbers.shape != (2,) else sizes_of(numbers)


@value_rule(*RESIZES)
def resize_value(op: ValueVisit) -> Any:
    """A constant map stays constant: what weighs its neighbours adds up to one."""
    return even_map(op[0])


def even_map(value: Optional[np.ndarray]) -> Optional[np.ndarray]:
    """A value that is the same all over space; None where it may vary there."""
    return value if value is not None and value.shape[1:3] == (1, 1) else None


@channel_rule("DepthToSpace", "SpaceToDepth")
def depth_and_space(op: OpVisit) -> Fact:
    """Ties the block_size squared channels that share one position."""
    data, block, channel = op[0], int(op.node.attrs["block_size"]), channel_axis(op.node)
    if data.rank != 4 or is_packed(op.node):
        op.pin_all(OtherAxis("it moves between depth and space in a layout without a rule"))
        return UNKNOWN if data.shape is not None or is_packed(op.node) else axes_of(4)
    shape, ids, cells = list(data.shape or ()), data.channels(channel), block * block
    down = op.node.op == "DepthToSpace"
    for axis in spatial_axes(op.node):
        size = shape[axis]
        shape[axis] = None if size is None else size * block if down else size // block
    if ids is not None:
        if down:
            stacked = ids.reshape(cells, -1)
            for row in stacked[1:]:
                op.tie(stacked[0], row)
            ids = stacked[0]
        elif fits(LONGEST, len(ids), cells):
            ids = np.tile(ids, cells)
        else:
            op.pin(ids, "it moves to an axis that is too long to follow")
            ids = None
    op.pin_others(0, (0, channel), OtherAxis("it moves between depth and space"))
    width = shape[channel]
    shape[channel] = None if width is None else width // cells if down else width * cells
    return fact(tuple(shape), {0: data.channels(0), channel % 4: ids})


@value_rule("DepthToSpace", "SpaceToDepth")
def depth_and_space_value(op: ValueVisit) -> Any:
    """Moves known values as the ids are moved."""
    channel, cells = channel_axis(op.node), int(op.node.attrs["block_size"]) ** 2
    if op[0] is None or op[0].size == 1:
        return op[0]
    if op[0].size != op[0].shape[channel]:
        return None
    if not fits(LONGEST, op[0].size, cells):
        return None
    flat: np.ndarray = op[0].ravel()
    if op.node.op == "SpaceToDepth":
        flat = np.tile(flat, cells)
    else:
        stacked = flat.reshape(cells, -1)
        flat = np.where((stacked == stacked[0]).all(axis=0), stacked[0], np.nan)
    shape = [1] * 4
    shape[channel] = len(flat)
    return flat.reshape(shape)


def blocks_of(node: Node, second: Fact) -> Optional[List[int]]:
    """The sizes of the blocks that move between space and batch, an axis each; None if unknown.

    The old ops state one number for height and width, as an attribute; the others read theirs.
    """
    if node.op.endswith("ND"):
        return integers(second)
    return [int(node.attrs["block_size"])] * 2


@channel_rule(*sorted(TO_BATCH | FROM_BATCH))
def space_and_batch(op: OpVisit) -> Fact:
    """Space moves into the batch and back; the last axis is left as it is."""
    data, blocks = op[0], blocks_of(op.node, op[1])
    if data.shape is None:
        return UNKNOWN
    if blocks is None or len(blocks) > len(data.shape) - 2:
        op.pin_all(OpenSize("it moves between space and batch over an unknown or the channel axis"))
        return UNKNOWN
    amounts = op[2 if op.node.op.endswith("ND") else 1].value
    edges = None if amounts is None else amounts.reshape(-1, 2)
    shape = list(data.shape)
    down = op.node.op in FROM_BATCH
    for place, block in enumerate(blocks):
        size, edge = shape[1 + place], np.nan if edges is None else edges[place].sum()
        if size is None or np.isnan(edge):
            shape[1 + place] = None
        else:
            shape[1 + place] = size * block - int(edge) if down else (size + int(edge)) // block
    cells = int(np.prod(blocks))
    batch = shape[0]
    shape[0] = None if batch is None else batch // cells if down else batch * cells
    last = len(shape) - 1
    op.pin_others(0, (last,), OtherAxis("it moves between space and batch"))
    return fact(tuple(shape), {last: data.channels(last)})


@value_rule(*sorted(TO_BATCH | FROM_BATCH))
def space_and_batch_value(op: ValueVisit) -> Any:
    """Zeros stay zeros; any other constant would meet the zeros of the padding, if there is any."""
    if op[0] is None or op[0].size != op[0].shape[-1]:
        return None
    down = op.node.op in FROM_BATCH
    edges = integers(op.facts[-1])
    if down or (edges is not None and not any(edges)):
        return op[0]
    return np.where(op[0] == 0, 0.0, np.nan)
