"""Padding, over space and over channels."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

import numpy as np

from graphslim.channels.reasons import AcrossChannels, ComputedSize, OpenSize
from graphslim.ops.guard import LAID_OUT, LONGEST, fits
from graphslim.ops.table import Fact, Ids, OpVisit, ValueVisit, axes_of, channel_rule, value_rule


@channel_rule("Pad", "PadV2")
def pad(op: OpVisit) -> Fact:
    """Puts new channels before and behind, which the amounts count."""
    data = op[0]
    if data.shape is None:
        op.pin_all(OpenSize("it is padded at an unknown rank"))
        return axes_of(op[1].size(0))
    found = [_padded(op, axis) for axis in range(len(data.shape))]
    return Fact(tuple([size for size, _ in found]), tuple([ids for _, ids in found]))


def _padded(op: OpVisit, axis: int) -> Tuple[Optional[int], Ids]:
    """The size and ids of one axis."""
    size, array = op[0].size(axis), op[0].channels(axis)
    amounts = op[1].value
    if amounts is None:
        op.pin(array, OpenSize("it is padded by amounts that are not known"))
        return None, None
    before, behind = amounts.reshape(-1, 2)[axis]
    if array is None:
        for element in (2 * axis, 2 * axis + 1):
            op.resize(1, element, None)
        total = float(before + behind)
        return (None if size is None or np.isnan(total) else size + int(total)), None
    edges: List[np.ndarray] = []
    for element in (2 * axis, 2 * axis + 1):
        amount, ids = op.counted(1, element)
        if amount is None:
            op.pin(array, OpenSize("it is padded by amounts that are not known"))
            return None, None
        if ids is None and amount > LONGEST:
            op.pin(array, "it is padded to an axis that is too long to follow")
            return size if size is None else size + int(before + behind), None
        if ids is None:
            ids = op.fresh(amount)
            op.pin(ids, ComputedSize("it is padded by computed amounts"))
        edges.append(ids)
    return len(array) + len(edges[0]) + len(edges[1]), np.concatenate([edges[0], array, edges[1]])


@value_rule("Pad", "PadV2")
def pad_value(op: ValueVisit) -> Any:
    """The padding is a constant; beside it, only what equals it stays free of variation."""
    data, amounts = op.facts[0], op[1]
    if amounts is None or data.rank is None:
        return None
    filler = 0.0
    if len(op) > 2:
        filler = np.nan if op[2] is None else float(np.ravel(op[2])[0])
    value = np.full((1,) * data.rank, np.nan) if op[0] is None else np.asarray(op[0], np.float64)
    for axis, edges in enumerate(amounts.reshape(-1, 2)):
        size = data.size(axis)
        if not edges.any():
            continue
        if value.shape[axis] == 1 and data.channels(axis) is None:
            # Along an axis of space one value has to do for the edge and what is inside.
            value = np.where(value == filler, filler, np.nan)
            continue
        if size is None or np.isnan(edges).any():
            return None
        full = list(value.shape)
        full[axis] = size
        if not fits(LAID_OUT, *full, 1 + int(edges.sum()) // max(size, 1)):
            return None
        widths = [(0, 0)] * data.rank
        widths[axis] = (int(edges[0]), int(edges[1]))
        value = np.pad(
            np.broadcast_to(value, full), widths, mode="constant", constant_values=filler
        )
    return value


@channel_rule("MirrorPad")
def mirror_pad(op: OpVisit) -> Fact:
    """Keeps the ids of axes that are not padded."""
    return mirrored(op, op[0], 1)


def mirrored(op: OpVisit, data: Fact, slot: int) -> Fact:
    """A tensor padded with its own mirror image, by the amounts of input `slot`."""
    if data.shape is None:
        op.pin_all(OpenSize("it is padded at an unknown rank"))
        return axes_of(op[slot].size(0))
    amounts = op[slot].value
    for element in range(2 * len(data.shape)):
        op.resize(slot, element, None)
    sizes: List[Optional[int]] = []
    ids: List[Ids] = []
    for axis, (size, array) in enumerate(zip(data.shape, data.ids)):
        total = np.nan if amounts is None else amounts.reshape(-1, 2)[axis].sum()
        if total != 0:
            op.pin(array, AcrossChannels("it is padded with its own mirror image over channels"))
        sizes.append(None if size is None or np.isnan(total) else size + int(total))
        ids.append(array if total == 0 else None)
    return Fact(tuple(sizes), tuple(ids))


@value_rule("MirrorPad")
def mirror_pad_value(op: ValueVisit) -> Any:
    """What does not vary over an axis may be mirrored along it."""
    return mirrored_value(op[0], op[1])


def mirrored_value(value: Optional[np.ndarray], amounts: Optional[np.ndarray]) -> Any:
    """A value padded with its own mirror image; None where it would vary."""
    if value is None or amounts is None:
        return None
    padded: np.ndarray = np.abs(amounts.reshape(-1, 2)).sum(axis=1) != 0
    return None if padded[np.array(value.shape) > 1].any() else value
