"""Ops that make tensors longer: concatenation, stacking, tiling, padding."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence

import numpy as np

from graphslim.channels.facts import (
    LAID_OUT,
    LONGEST,
    UNKNOWN,
    Axis,
    Fact,
    axes_of,
    fits,
    laid_behind,
    product,
)
from graphslim.channels.reasons import AcrossChannels, ComputedSize, OpenSize, Unfollowed
from graphslim.channels.rules import ValueVisit, channel_rule, value_rule
from graphslim.channels.visit import OpVisit
from graphslim.ops.numeric import agreed


@channel_rule("ConcatV2", "Concat")
def concat(op: OpVisit) -> Fact:
    """Concatenates the ids along the axis; ties them along the others."""
    late = op.node.op == "ConcatV2"
    parts = op.facts[:-1] if late else op.facts[1:]
    axes = op.literal(len(op) - 1 if late else 0)
    rank = max([part.rank or 0 for part in parts])
    if axes is None or not rank:
        op.pin_all(OpenSize("it is concatenated over an axis that is not known"))
        return axes_of(rank or None)
    joined = axes[0] % rank
    return Fact.of(
        [(_joined if axis == joined else _tied)(op, parts, axis) for axis in range(rank)]
    )


def _tied(op: OpVisit, parts: Sequence[Fact], axis: int) -> Axis:
    """Size and ids of an axis that is the same in all parts."""
    sizes = [part.size(axis) for part in parts if part.size(axis) is not None]
    return sizes[0] if sizes else None, op.tie_all([part.channels(axis) for part in parts])


def _joined(op: OpVisit, parts: Sequence[Fact], axis: int) -> Axis:
    """Size and ids of the axis of all parts one after another; a part without ids gets some."""
    arrays: List[np.ndarray] = []
    sizes = [part.size(axis) for part in parts]
    whole = None if None in sizes else sum([size or 0 for size in sizes])
    known = [part.channels(axis) is not None for part in parts]
    for part in parts:
        ids, size = part.channels(axis), part.size(axis)
        if ids is None and any(known) and size is not None and size <= LONGEST:
            ids = op.fresh(size)
            op.pin(ids, "it is concatenated, and where it comes from is not followed")
        if ids is not None:
            arrays.append(ids)
    if len(arrays) == len(parts):
        return whole, np.concatenate(arrays)
    for ids in arrays:
        op.pin(ids, Unfollowed("it is concatenated with an axis that is not followed"))
    return whole, None


def _beside(parts: Sequence[Any], rank: int) -> List[np.ndarray]:
    """Known parts and NaN for unknown ones, all of one rank."""
    return [
        np.full((1,) * rank, np.nan) if part is None else np.asarray(part, np.float64)
        for part in parts
    ]


def _agreed(values: Sequence[np.ndarray], axis: int) -> Optional[np.ndarray]:
    """What holds all along an axis that parts are joined on: what each holds all along its own."""
    return None if any(value.shape[axis] != 1 for value in values) else agreed(values)


def _uniform(values: Sequence[np.ndarray], axis: int) -> Optional[np.ndarray]:
    """`_agreed` where that is all that is known of any part, else None."""
    common = _agreed(values, axis)
    if common is None:
        return None
    settled = ~np.isnan(common)
    is_uniform = all(
        (np.broadcast_to(~np.isnan(value), settled.shape) == settled).all() for value in values
    )
    return common if is_uniform else None


def _side_by_side(
    values: Sequence[np.ndarray], widths: Sequence[int], axis: int
) -> Optional[np.ndarray]:
    """Values one behind another along an axis; None where they would be much larger there.

    Args:
        values: of one rank; of size 1 along axes over which they do not vary.
        widths: how many positions each takes along the axis.
        axis: the axis.
    """
    common = [max(sizes) for sizes in zip(*[value.shape for value in values])]
    if not fits(
        max(LAID_OUT, sum([value.size for value in values])),
        *(*common[:axis], sum(widths), *common[axis + 1 :]),
    ):
        return None
    shapes = [(*common[:axis], width, *common[axis + 1 :]) for width in widths]
    return np.concatenate(list(map(np.broadcast_to, values, shapes)), axis)


@value_rule("ConcatV2", "Concat", structural=True)
def concat_value(op: ValueVisit) -> Any:
    """Lays known parts beside unknown ones."""
    late = op.node.op == "ConcatV2"
    parts, facts = (op.values[:-1], op.facts[:-1]) if late else (op.values[1:], op.facts[1:])
    where = op.facts[-1 if late else 0].value
    rank = op.outs[0].rank
    if where is None or rank is None or all(part is None for part in parts):
        return None
    axis = int(np.ravel(where)[0]) % rank
    values = _beside(parts, rank)
    # Numbers of shapes are laid out in full, since each has an origin of its own.
    numbers = any(known_fact.value is not None for known_fact in facts)
    uniform = None if numbers else _uniform(values, axis)
    if uniform is not None:
        return uniform
    widths = [known_fact.size(axis) for known_fact in facts]
    known_widths = [width for width in widths if width is not None]
    if len(known_widths) < len(widths):
        return None if numbers else _agreed(values, axis)
    return _side_by_side(values, known_widths, axis)


@channel_rule("Pack")
def pack(op: OpVisit) -> Fact:
    """Ties what is stacked, position by position."""
    facts = op.facts
    ranks = [part.rank for part in facts if part.rank is not None]
    if not ranks:
        op.pin_all(OpenSize("it is stacked at an unknown rank"))
        return UNKNOWN
    at = int(op.node.attrs.get("axis", 0)) % (ranks[0] + 1)
    axes = [_tied(op, facts, axis) for axis in range(ranks[0])]
    return Fact.of([*axes[:at], (len(facts), None), *axes[at:]])


@value_rule("Pack", structural=True)
def pack_value(op: ValueVisit) -> Any:
    """Stacks known values beside unknown ones."""
    rank = op.outs[0].rank
    if rank is None or all(value is None for value in op.values):
        return None
    at = int(op.node.attrs.get("axis", 0)) % rank
    parts = [np.expand_dims(value, at) for value in _beside(op.values, rank - 1)]
    numbers = any(known_fact.value is not None for known_fact in op.facts)
    uniform = None if numbers else _uniform(parts, at)
    return _side_by_side(parts, [1] * len(parts), at) if uniform is None else uniform


@channel_rule("Tile")
def tile(op: OpVisit) -> Fact:
    """Repeats the ids; an axis of size 1 gets those that the number of its copies counts."""
    data, counts = op[0], op[1].value
    if data.shape is None or counts is None:
        op.pin_all(OpenSize("it is repeated a number of times that is not known"))
        return axes_of(op[1].size(0))
    return Fact.of([_repeated(op, axis, float(counts[axis])) for axis in range(len(data.shape))])


def _repeated(op: OpVisit, axis: int, count: float) -> Axis:
    """Size and ids of an axis that is repeated so many times, NaN for an unknown number."""
    size, array = op[0].size(axis), op[0].channels(axis)
    if size == 1 and count != 1:
        op.pin(array, "it is repeated")
        return op.counted(1, axis)
    op.resize(1, axis, None)
    if count == 1:
        return size, array
    if np.isnan(count):
        op.pin(array, OpenSize("it is repeated a number of times that is not known"))
        return None, None
    if array is not None and not fits(LONGEST, len(array), int(count)):
        op.pin(array, "it is repeated more often than is followed")
        array = None
    return product([size, int(count)]), None if array is None else np.tile(array, int(count))


@value_rule("Tile", structural=True)
def tile_value(op: ValueVisit) -> Any:
    """Repeats what varies along an axis."""
    counts = op.facts[1].value
    if op[0] is None:
        return None
    # Along an axis over which it does not vary all copies are alike, which size 1 says as well.
    wide = [axis for axis, size in enumerate(op[0].shape) if size != 1]
    if not wide:
        return op[0]
    if counts is None or np.isnan(counts[wide]).any():
        return None
    if not fits(LAID_OUT, op[0].size, *[int(counts[axis]) for axis in wide]):
        return None
    return np.tile(op[0], [int(counts[axis]) if axis in wide else 1 for axis in range(op[0].ndim)])


@channel_rule("Pad", "PadV2")
def pad(op: OpVisit) -> Fact:
    """Puts new channels before and behind, which the amounts count."""
    data = op[0]
    if data.shape is None:
        op.pin_all(OpenSize("it is padded at an unknown rank"))
        return axes_of(op[1].size(0))
    return Fact.of([_padded(op, axis) for axis in range(len(data.shape))])


def _padded(op: OpVisit, axis: int) -> Axis:
    """The size and ids of one axis."""
    size, array = op[0].size(axis), op[0].channels(axis)
    amounts = op[1].value
    if amounts is None:
        op.pin(array, OpenSize("it is padded by amounts that are not known"))
        return None, None
    total = float(amounts.reshape(-1, 2)[axis].sum())
    padded = None if size is None or np.isnan(total) else size + int(total)
    if array is None:
        for element in (2 * axis, 2 * axis + 1):
            op.resize(1, element, None)
        return padded, None
    edges: List[np.ndarray] = []
    for element in (2 * axis, 2 * axis + 1):
        amount, ids = op.counted(1, element)
        if amount is None:
            op.pin(array, OpenSize("it is padded by amounts that are not known"))
            return None, None
        if ids is None and amount > LONGEST:
            op.pin(array, "it is padded to an axis that is too long to follow")
            return padded, None
        if ids is None:
            ids = op.fresh(amount)
            op.pin(ids, ComputedSize("it is padded by computed amounts"))
        edges.append(ids)
    return len(array) + len(edges[0]) + len(edges[1]), laid_behind([edges[0], array, edges[1]])


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
    axes: List[Axis] = []
    for axis, (size, array) in enumerate(zip(data.shape, data.ids)):
        total = np.nan if amounts is None else amounts.reshape(-1, 2)[axis].sum()
        if total != 0:
            op.pin(array, AcrossChannels("it is padded with its own mirror image over channels"))
        grown = None if size is None or np.isnan(total) else size + int(total)
        axes.append((grown, array if total == 0 else None))
    return Fact.of(axes)


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
