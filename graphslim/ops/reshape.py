"""Ops that move axes about without computing: reshape, squeeze, transpose, cast of shapes."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.ops.table import (
    UNKNOWN,
    Fact,
    Ids,
    OpVisit,
    ValueVisit,
    channel_rule,
    integers,
    known,
    product,
    value_rule,
)


class Segment(NamedTuple):
    """Axes `before` of a tensor that become axes `after` of its reshaped form."""

    before: Tuple[int, ...]
    after: Tuple[int, ...]


def segments(old: Sequence[Optional[int]], new: Sequence[Optional[int]]) -> Optional[List[Segment]]:
    """Splits a reshape into the smallest independent pieces; None where open sizes forbid it.

    One axis of open size may stand at either end (the batch); it is paired with its like.
    """
    head: List[Segment] = []
    low = 0
    if old and new and (old[0] is None or new[0] is None) and _same_rest(old[1:], new[1:]):
        head, low = [Segment((0,), (0,))], 1
    if any(size is None for size in (*old[low:], *new[low:])):
        return None
    found: List[Segment] = []
    i = j = low
    while i < len(old) or j < len(new):
        first, left, right = (i, j), 1, 1
        if i < len(old):
            left, i = old[i] or 0, i + 1
        if j < len(new):
            right, j = new[j] or 0, j + 1
        while left != right:
            if left < right and i < len(old):
                left, i = left * (old[i] or 0), i + 1
            elif right < left and j < len(new):
                right, j = right * (new[j] or 0), j + 1
            else:
                return None
        found.append(Segment(tuple(range(first[0], i)), tuple(range(first[1], j))))
    return head + found


def _same_rest(old: Sequence[Optional[int]], new: Sequence[Optional[int]]) -> bool:
    first, second = product(old), product(new)
    return first is not None and first == second


def move(op: OpVisit, data: Fact, shape: Tuple[Optional[int], ...]) -> Optional[Tuple[Ids, ...]]:
    """The ids of `data` in its new shape; None, and all pinned, if they cannot be followed."""
    pieces = segments(data.shape or (), shape)
    if pieces is None:
        op.pin_all("it is reshaped in a way that cannot be followed")
        return None
    ids: List[Ids] = [None] * len(shape)
    for piece in pieces:
        _move_segment(op, data, shape, piece, ids)
    return tuple(ids)


def _move_segment(
    op: OpVisit, data: Fact, shape: Tuple[Optional[int], ...], piece: Segment, ids: List[Ids]
) -> None:
    wide = [axis for axis in piece.before if data.size(axis) != 1]
    targets = [axis for axis in piece.after if shape[axis] != 1]
    carriers = [axis for axis in wide if data.ids[axis] is not None]
    if not carriers or not targets:
        return
    if len(carriers) > 1:
        for axis in carriers:
            op.pin(data.ids[axis], "it is flattened together with another axis of channels")
        return
    carrier = carriers[0]
    sizes = [data.shape[axis] or 1 for axis in wide] if data.shape else []
    grid = [1] * len(wide)
    grid[wide.index(carrier)] = -1
    spread = data.ids[carrier].reshape(grid)  # type: ignore[union-attr]
    flat = np.broadcast_to(spread, sizes).ravel() if len(wide) > 1 else spread.ravel()
    if len(targets) == 1:
        ids[targets[0]] = flat
        return
    # Several new axes share the channels: one of them can carry the ids, the rest repeat it.
    stacked = flat.reshape([shape[axis] or 1 for axis in targets])
    best = max(range(len(targets)), key=lambda place: _distinct(stacked, place))
    lanes = np.moveaxis(stacked, best, 0).reshape(stacked.shape[best], -1)
    for lane in lanes.T[1:]:
        op.tie(lanes[:, 0], lane)
    ids[targets[best]] = np.ascontiguousarray(lanes[:, 0])


def _distinct(stacked: np.ndarray, axis: int) -> Tuple[int, int]:
    """How many different ids the first lane along an axis has; the later axis wins a draw."""
    lane = np.moveaxis(stacked, axis, 0).reshape(stacked.shape[axis], -1)[:, 0]
    return len(np.unique(lane)), axis


@channel_rule("Reshape")
def reshape(op: OpVisit) -> Fact:
    """Moves the ids; numbers of the target that count channels follow them."""
    data, target = op[0], op[1]
    wanted = target.value
    if data.shape is None or wanted is None:
        op.pin_all("it is reshaped to a shape that is not known")
        size = target.size(0)
        return Fact((None,) * size, (None,) * size) if size is not None else UNKNOWN
    shape = _resolve(data.shape, wanted, op.keeps_batch(1))
    ids = move(op, data, shape)
    if ids is None:
        return Fact(shape, (None,) * len(shape))
    for place, number in enumerate(wanted):
        if number != -1:
            op.resize(1, place, ids[place])
    return Fact(shape, ids)


def _resolve(
    old: Tuple[Optional[int], ...], wanted: np.ndarray, keeps_batch: bool
) -> Tuple[Optional[int], ...]:
    """The shape that a target with -1 and unknown numbers stands for."""
    if keeps_batch and old and old[0] is None and len(wanted) > 1:
        return (None, *_resolve(old[1:], wanted[1:], False))
    sizes: List[Optional[int]] = [None if np.isnan(n) or n == -1 else int(n) for n in wanted]
    open_places = [place for place, size in enumerate(sizes) if size is None]
    if len(open_places) == 1:
        place = open_places[0]
        total, rest = product(old), product([size for size in sizes if size is not None])
        if total is not None and rest:
            sizes[place] = total // rest
    return tuple(sizes)


@value_rule("Reshape", structural=True)
def reshape_value(op: ValueVisit) -> Any:
    """Follows full arrays, and channel vectors that keep an axis of their own."""
    value, out = op[0], op.outs[0]
    if value is None or out.shape is None:
        return None
    whole = op.facts[0].shape
    target = [size for size in out.shape if size is not None]
    if whole is not None and value.shape == whole and len(target) == len(out.shape):
        return value.reshape(target)
    pieces = segments(whole or (), out.shape)
    if pieces is None:
        return None
    before, after = list(value.shape), [1] * len(out.shape)
    for piece in pieces:
        if all(value.shape[axis] == 1 for axis in piece.before):
            continue
        for sizes, axes, full in ((before, piece.before, whole), (after, piece.after, out.shape)):
            for axis in axes:
                size = (full or ())[axis]
                if size is None:
                    return None
                sizes[axis] = size
    return np.broadcast_to(value, before).reshape(after)


@channel_rule("Squeeze")
def squeeze(op: OpVisit) -> Fact:
    """Drops axes of size 1."""
    data = op[0]
    if data.shape is None:
        op.pin_all("it is squeezed at an unknown rank")
        return UNKNOWN
    axes = op.node.ints("squeeze_dims") or op.node.ints("axis")
    gone = {axis % len(data.shape) for axis in axes}
    if not axes:
        gone = {axis for axis, size in enumerate(data.shape) if size == 1}
    kept = [axis for axis in range(len(data.shape)) if axis not in gone]
    return Fact(
        tuple([data.shape[axis] for axis in kept]),
        tuple([data.ids[axis] for axis in kept]),
        data.value,
        data.atoms,
    )


@value_rule("Squeeze", structural=True)
def squeeze_value(op: ValueVisit) -> Any:
    """Drops the same axes."""
    if op[0] is None or op.outs[0].rank is None or op.facts[0].shape is None:
        return None
    axes = op.node.ints("squeeze_dims") or [i for i, n in enumerate(op.facts[0].shape) if n == 1]
    return np.squeeze(op[0], tuple({axis % op[0].ndim for axis in axes}))


@channel_rule("ExpandDims")
def expand_dims(op: OpVisit) -> Fact:
    """Adds an axis of size 1."""
    data, axes = op[0], integers(op[1])
    if data.shape is None or axes is None:
        op.pin_all("it gains an axis in an unknown place")
        return UNKNOWN
    at = axes[0] % (len(data.shape) + 1)
    shape = (*data.shape[:at], 1, *data.shape[at:])
    return Fact(shape, (*data.ids[:at], None, *data.ids[at:]))


@value_rule("ExpandDims", structural=True)
def expand_dims_value(op: ValueVisit) -> Any:
    """Adds the same axis."""
    axes = integers(op.facts[1])
    return None if op[0] is None or axes is None else np.expand_dims(op[0], axes[0])


@channel_rule("Transpose")
def transpose(op: OpVisit) -> Fact:
    """Permutes the ids."""
    data, order = op[0], integers(op[1])
    if data.shape is None or order is None:
        op.pin_all("it is transposed in an order that is not constant")
        return UNKNOWN
    return Fact(
        tuple([data.shape[axis] for axis in order]), tuple([data.ids[axis] for axis in order])
    )


@value_rule("Transpose", structural=True)
def transpose_value(op: ValueVisit) -> Any:
    """Permutes the values."""
    order = known(op.facts[1].value)
    return (
        None
        if op[0] is None or order is None
        else np.transpose(op[0], [int(axis) for axis in order])
    )
