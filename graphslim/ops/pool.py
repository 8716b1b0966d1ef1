"""Ops over space: pools, reductions, padding, resizing, moves between space and depth or batch."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

import numpy as np

from graphslim.ops.conv import conv_size, window
from graphslim.ops.table import (
    UNKNOWN,
    Fact,
    OpVisit,
    ValueVisit,
    channel_axis,
    channel_rule,
    fact,
    integers,
    spatial_axes,
    value_rule,
)


@channel_rule("AvgPool", "MaxPool")
def pool(op: OpVisit) -> Fact:
    """Keeps the channels; a window over the channel axis pins them."""
    data, channel = op[0], channel_axis(op.node)
    if data.rank != 4:
        op.pin_all("it is pooled at an unknown rank")
        return UNKNOWN
    sizes, shape, ids = op.node.ints("ksize"), list(data.shape or ()), data.channels(channel)
    strides, dilations, pads = window(op.node)
    for place, axis in enumerate(spatial_axes(op.node)):
        shape[axis] = conv_size(
            shape[axis], sizes[axis], strides[place], dilations[place], pads[place]
        )
    op.pin_others(0, (0, channel), "it is pooled over")
    if sizes[channel] != 1:
        op.pin(ids, "it is pooled over channels")
    return fact(tuple(shape), {0: data.channels(0), channel % 4: ids})


@value_rule("AvgPool", "MaxPool")
def pool_value(op: ValueVisit) -> Any:
    """A constant map stays what it is: neither pool counts the padding."""
    channel = channel_axis(op.node)
    if op[0] is None or op.node.ints("ksize")[channel] != 1:
        return None
    varies = [size for axis, size in enumerate(op[0].shape) if axis != channel % 4]
    return op[0] if all(size == 1 for size in varies) else None


@channel_rule("Mean", "Sum", "Max", "Min", "Prod", "Any", "All")
def reduction(op: OpVisit) -> Fact:
    """Reducing over space keeps the channels; over the channels themselves it pins them."""
    data, keep = op[0], bool(op.node.attrs.get("keep_dims"))
    if data.shape is None:
        return UNKNOWN
    axes = integers(op[1])
    if axes is None:
        op.pin_all("it is reduced over axes that are not constant")
        return UNKNOWN
    gone = {axis % len(data.shape) for axis in axes}
    for axis in gone:
        if data.size(axis) != 1:
            op.pin(data.channels(axis), f"it is reduced by a {op.node.op} over channels")
    kept = [axis for axis in range(len(data.shape)) if keep or axis not in gone]
    return Fact(
        tuple([1 if axis in gone else data.shape[axis] for axis in kept]),
        tuple([None if axis in gone else data.ids[axis] for axis in kept]),
    )


_REDUCTIONS: Dict[str, Callable[..., np.ndarray]] = {
    "Mean": np.mean,
    "Max": np.max,
    "Min": np.min,
    "Sum": np.sum,
    "Prod": np.prod,
}


@value_rule(*_REDUCTIONS)
def reduction_value(op: ValueVisit) -> Any:
    """A constant is its own mean and extreme; sums need the sizes."""
    if op[0] is None or op[1] is None or np.isnan(op[1]).any():
        return None
    full = op.facts[0].shape
    axes = tuple(sorted({int(axis) % op[0].ndim for axis in op[1].ravel()}))
    value = np.asarray(op[0], np.float64)
    if op.node.op in ("Sum", "Prod"):
        if full is None or any(full[axis] is None for axis in axes):
            return None
        sizes = [(full[i] or 0) if i in axes else n for i, n in enumerate(value.shape)]
        value = np.broadcast_to(value, sizes)
    return _REDUCTIONS[op.node.op](value, axis=axes, keepdims=bool(op.node.attrs.get("keep_dims")))


@channel_rule("Pad", "PadV2", "MirrorPad")
def pad(op: OpVisit) -> Fact:
    """Keeps the ids of axes that are not padded."""
    data = op[0]
    if data.shape is None:
        return UNKNOWN
    amounts = None if op[1].value is None else op[1].value.reshape(-1, 2)
    sizes: List[Optional[int]] = []
    ids: List[Any] = []
    for axis, size in enumerate(data.shape):
        total = np.nan if amounts is None else amounts[axis].sum()
        if total == 0:
            sizes.append(size)
            ids.append(data.ids[axis])
        else:
            op.pin(data.ids[axis], "it is padded over channels")
            sizes.append(None if size is None or np.isnan(total) else size + int(total))
            ids.append(None)
    return Fact(tuple(sizes), tuple(ids))


@value_rule("Pad", "PadV2", "MirrorPad")
def pad_value(op: ValueVisit) -> Any:
    """Only what equals the padding stays constant."""
    if op[0] is None or op[1] is None:
        return None
    padded = np.asarray(op[1].reshape(-1, 2).any(axis=1))
    if not padded.any() or op.node.op == "MirrorPad":
        return op[0] if not padded[np.array(op[0].shape) > 1].any() else None
    if padded[np.array(op[0].shape) > 1].any():
        return None
    filler = 0.0
    if len(op) > 2:
        filler = np.nan if op[2] is None else float(np.ravel(op[2])[0])
    return np.where(op[0] == filler, filler, np.nan)


@channel_rule("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea")
def resize(op: OpVisit) -> Fact:
    """Keeps the channels; the size may be a constant."""
    data, size = op[0], op[1].value
    spatial: List[Optional[int]] = [None, None]
    if size is not None and size.shape == (2,):
        spatial = [None if np.isnan(number) else int(number) for number in size]
    if data.shape is None:
        return UNKNOWN
    op.pin_others(0, (0, 3), "it is resized")
    return fact((data.size(0), *spatial, data.size(3)), {0: data.channels(0), 3: data.channels(3)})


@value_rule("ResizeBilinear", "ResizeNearestNeighbor")
def resize_value(op: ValueVisit) -> Any:
    """A constant map stays constant."""
    return op[0] if op[0] is not None and op[0].shape[:3] == (1, 1, 1) else None


@channel_rule("DepthToSpace", "SpaceToDepth")
def depth_and_space(op: OpVisit) -> Fact:
    """Ties the block_size squared channels that share one position."""
    data, block, channel = op[0], int(op.node.attrs["block_size"]), channel_axis(op.node)
    if data.rank != 4 or op.node.text("data_format", "NHWC") == "NCHW_VECT_C":
        op.pin_all("it moves between depth and space in a layout without a rule")
        return UNKNOWN
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
        else:
            ids = np.tile(ids, cells)
    op.pin_others(0, (0, channel), "it moves between depth and space")
    width = shape[channel]
    shape[channel] = None if width is None else width // cells if down else width * cells
    return fact(tuple(shape), {0: data.channels(0), channel % 4: ids})


@value_rule("DepthToSpace", "SpaceToDepth")
def depth_and_space_value(op: ValueVisit) -> Any:
    """Moves known values as the ids are moved."""
    channel, cells = channel_axis(op.node), int(op.node.attrs["block_size"]) ** 2
    if op[0] is None or op[0].size != op[0].shape[channel] or op[0].size == 1:
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


@channel_rule("SpaceToBatchND", "BatchToSpaceND")
def space_and_batch(op: OpVisit) -> Fact:
    """Space moves into the batch and back; the last axis is left as it is."""
    data, blocks = op[0], integers(op[1])
    if data.shape is None:
        return UNKNOWN
    if blocks is None or len(blocks) > len(data.shape) - 2:
        op.pin_all("it moves between space and batch over an unknown or the channel axis")
        return UNKNOWN
    edges = None if op[2].value is None else op[2].value.reshape(-1, 2)
    shape = list(data.shape)
    down = op.node.op == "BatchToSpaceND"
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
    op.pin_others(0, (last,), "it moves between space and batch")
    return fact(tuple(shape), {last: data.channels(last)})


@value_rule("SpaceToBatchND", "BatchToSpaceND")
def space_and_batch_value(op: ValueVisit) -> Any:
    """Zeros stay zeros; any other constant would meet the zeros of the padding."""
    if op[0] is None or op[0].size != op[0].shape[-1]:
        return None
    return op[0] if op.node.op == "BatchToSpaceND" else np.where(op[0] == 0, 0.0, np.nan)
