"""Ops that move axes about without computing: reshape, squeeze, transpose, layout of shapes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import numpy as np

from graphslim.channels.facts import (
    LONGEST,
    UNKNOWN,
    Fact,
    Ids,
    axes_of,
    fits,
    integers,
    laid_out,
    product,
    sizes_of,
    spread,
)
from graphslim.channels.reasons import OpenSize, OtherAxis
from graphslim.channels.rules import ValueVisit, channel_rule, value_rule
from graphslim.channels.visit import OpVisit
from graphslim.ir import Node
from graphslim.ops.sources import stated_alone

Sizes = Tuple[Optional[int], ...]


class Segment(NamedTuple):
    """Axes `before` of a tensor that become axes `after` of its reshaped form."""

    before: Tuple[int, ...]
    after: Tuple[int, ...]


@lru_cache(maxsize=4096)
def segments(old: Sizes, new: Sizes, same_first: bool = False) -> Optional[Sequence[Segment]]:
    """Splits a reshape into the smallest independent pieces; None where the sizes do not fit.

    Pieces of known sizes are split off at both ends; what lies between open sizes is one piece.

    Args:
        old, new: the sizes before and after, None where open.
        same_first: whether the first axes are the same, though their size is open.
    """
    if same_first:
        rest = segments(old[1:], new[1:])
        if rest is None:
            return None
        return [Segment((0,), (0,))] + [
            Segment(tuple([i + 1 for i in piece.before]), tuple([i + 1 for i in piece.after]))
            for piece in rest
        ]
    head, i, j = _matching(old, new)
    if i == len(old) and j == len(new):
        return head
    if None not in old and None not in new:
        return None
    tail, back, forth = _matching(old[i:][::-1], new[j:][::-1])
    last, end = len(old) - back, len(new) - forth
    turned = [
        Segment(
            tuple([len(old) - 1 - axis for axis in reversed(piece.before)]),
            tuple([len(new) - 1 - axis for axis in reversed(piece.after)]),
        )
        for piece in reversed(tail)
    ]
    if not (None in old[i:last] or None in new[j:end]):
        return None
    return [*head, Segment(tuple(range(i, last)), tuple(range(j, end))), *turned]


def _matching(
    old: Sequence[Optional[int]], new: Sequence[Optional[int]]
) -> Tuple[List[Segment], int, int]:
    """The pieces that match from the left on, and how many axes of either side they take."""
    matching: List[Segment] = []
    low, high = 0, 0
    while low < len(old) or high < len(new):
        i, j, left, right = low, high, 1, 1
        if i < len(old):
            left, i = old[i] or 0, i + 1
        if j < len(new):
            right, j = new[j] or 0, j + 1
        while left != right:
            if 0 < left < right and i < len(old):
                left, i = left * (old[i] or 0), i + 1
            elif 0 < right < left and j < len(new):
                right, j = right * (new[j] or 0), j + 1
            else:
                break
        if left != right or not left:
            break
        matching.append(Segment(tuple(range(low, i)), tuple(range(high, j))))
        low, high = i, j
    return matching, low, high


def move(
    op: OpVisit, data: Fact, shape: Tuple[Optional[int], ...], same_first: bool
) -> Optional[Tuple[Ids, ...]]:
    """The ids of `data` in its new shape; None, and all pinned, if they cannot be followed."""
    pieces = segments(data.shape or (), shape, same_first)
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
    if not wide and not targets and piece.before and piece.after:
        ids[piece.after[-1]] = data.ids[piece.before[-1]]
    if not carriers or not targets:
        return
    sizes, widths = [data.size(axis) or 1 for axis in wide], [shape[axis] or 1 for axis in targets]
    is_open = None in [*(data.size(axis) for axis in wide), *(shape[axis] for axis in targets)]
    why: Optional[str] = None
    if is_open and (len(wide) > 1 or len(targets) > 1):
        why = OpenSize("it is reshaped together with an axis of open size")
    elif not fits(LONGEST, *sizes):
        why = "it is reshaped to an axis that is too long to follow"
    elif len(carriers) > 1 and len(targets) > 1:
        why = OtherAxis("it is cut across together with another axis of channels")
    if why is not None:
        for axis in carriers:
            op.pin(data.ids[axis], why)
        return
    if len(carriers) > 1:
        ids[targets[0]] = op.merge([data.ids[axis] for axis in wide], sizes)
        return
    (carrier,) = carriers
    carried: Any = data.ids[carrier]
    flat = carried if len(wide) == 1 else spread(carried, wide.index(carrier), sizes)
    if len(targets) == 1:
        ids[targets[0]] = flat
        return
    joint = op.apart(flat)
    if joint is not None:
        # What was merged here comes apart again, into the same axes or into parts of them.
        apart = Fact(joint.sizes, joint.factors)
        pieces = segments(joint.sizes, tuple(widths)) or [_whole(joint.sizes, widths)]
        parts: List[Ids] = [None] * len(targets)
        for inner in pieces:
            _move_segment(op, apart, tuple(widths), inner, parts)
        for place, axis in enumerate(targets):
            ids[axis] = parts[place]
        return
    for axis, part in zip(targets, _split(op, flat, widths)):
        ids[axis] = part


def _whole(old: Sequence[Optional[int]], new: Sequence[Optional[int]]) -> Segment:
    """A reshape as one piece."""
    return Segment(tuple(range(len(old))), tuple(range(len(new))))


def _split(op: OpVisit, flat: np.ndarray, sizes: Sequence[int]) -> Sequence[Ids]:
    """The ids of the axes that one is split into.

    Where one of them can carry all channels and the others repeat them, nothing is tied.
    """
    stacked = flat.reshape(sizes)
    best = max(range(len(sizes)), key=lambda place: _distinct(stacked, place))
    if op.is_constant(0) and len(np.unique(flat)) == len(flat):
        best = len(sizes) - 1  # Filters have their channels last.
    lanes = np.moveaxis(stacked, best, 0).reshape(sizes[best], -1)
    if (lanes == lanes[:, :1]).all():
        parts: List[Ids] = [None] * len(sizes)
        parts[best] = np.ascontiguousarray(lanes[:, 0])
        return parts
    return op.split(flat, sizes, best)


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
        op.pin_all(OpenSize("it is reshaped to a shape that is not known"))
        return stated_alone(op, 1)
    same_first = op.same_batch(0, 1)
    shape = resolved(data.shape, wanted, same_first)
    ids = move(op, data, shape, same_first or is_first_alike(data.shape, shape))
    if ids is None:
        ids = (None,) * len(shape)
    for place, number in enumerate(wanted):
        if number != -1:
            op.resize(1, place, ids[place])
    return Fact(shape, ids, batch=data.batch if same_first else None)


def is_first_alike(old: Sequence[Optional[int]], new: Sequence[Optional[int]]) -> bool:
    """Whether two first axes of open size must be the same, as all others are."""
    if not old or not new or (old[0] is not None and new[0] is not None):
        return False
    first, second = product(old[1:]), product(new[1:])
    return first is not None and first == second


def resolved(
    old: Tuple[Optional[int], ...], wanted: np.ndarray, same_first: bool
) -> Tuple[Optional[int], ...]:
    """The shape that a target with -1 and unknown numbers stands for."""
    if same_first:
        return (None, *resolved(old[1:], wanted[1:], False))
    sizes = sizes_of(wanted)
    if sizes.count(None) == 1:
        total, rest = product(old), product([size for size in sizes if size is not None])
        if total is not None and rest:
            sizes[sizes.index(None)] = total // rest
    return tuple(sizes)


@value_rule("Reshape", structural=True)
def reshape_value(op: ValueVisit) -> Any:
    """Follows full arrays, and channel vectors that keep an axis of their own."""
    value, out = op[0], op.outs[0]
    if value is None or out.shape is None:
        return None
    if value.size == 1:
        return value.reshape((1,) * len(out.shape))
    whole = op.facts[0].shape
    target = [size for size in out.shape if size is not None]
    if whole is not None and value.shape == whole and len(target) == len(out.shape):
        return value.reshape(target)
    pieces = segments(whole or (), out.shape, is_first_alike(whole or (), out.shape))
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
    spread = laid_out(value, before)
    return None if spread is None else spread.reshape(after)


def _squeezed(op: Union[OpVisit, ValueVisit], data: Fact) -> Set[int]:
    """The axes that a Squeeze drops."""
    axes = op.node.ints("squeeze_dims") or op.node.ints("axis")
    if axes:
        return {axis % (data.rank or 1) for axis in axes}
    return {axis for axis, size in enumerate(data.shape or ()) if size == 1}


@channel_rule("Squeeze")
def squeeze(op: OpVisit) -> Fact:
    """Drops axes of size 1."""
    data = op[0]
    if data.shape is None:
        op.pin_all(OpenSize("it is squeezed at an unknown rank"))
        return UNKNOWN
    dropped = _squeezed(op, data)
    return data.picked([axis for axis in range(len(data.shape)) if axis not in dropped])


@value_rule("Squeeze", structural=True)
def squeeze_value(op: ValueVisit) -> Any:
    """Drops the same axes."""
    if op[0] is None or op.facts[0].shape is None:
        return None
    return np.squeeze(op[0], tuple(_squeezed(op, op.facts[0])))


@channel_rule("ExpandDims")
def expand_dims(op: OpVisit) -> Fact:
    """Adds an axis of size 1."""
    data, axes = op[0], op.literal(1)
    if data.shape is None or axes is None:
        op.pin_all(OpenSize("it gains an axis in an unknown place"))
        return UNKNOWN
    at = axes[0] % (len(data.shape) + 1)
    shape = (*data.shape[:at], 1, *data.shape[at:])
    return Fact(shape, (*data.ids[:at], None, *data.ids[at:]), batch=data.batch if at > 0 else None)


@value_rule("ExpandDims", structural=True)
def expand_dims_value(op: ValueVisit) -> Any:
    """Adds the same axis."""
    axes = integers(op.facts[1])
    return None if op[0] is None or axes is None else np.expand_dims(op[0], axes[0])


@channel_rule("Transpose")
def transpose(op: OpVisit) -> Fact:
    """Permutes the ids."""
    data, order = op[0], op.literal(1)
    if data.shape is None or order is None:
        op.pin_all(OpenSize("it is transposed in an order that is not constant"))
        return axes_of(op[1].size(0))
    return data.picked(order)


@value_rule("Transpose", structural=True)
def transpose_value(op: ValueVisit) -> Any:
    """Permutes the values."""
    order = integers(op.facts[1])
    return None if op[0] is None or order is None else np.transpose(op[0], order)


def _order(node: Node, count: Optional[int]) -> Optional[List[int]]:
    """For each axis of the new format, its place in the old one.

    Args:
        node: the op.
        count: how many numbers there are, of all axes or of those of space alone.

    Returns:
        the places; None where the formats do not have so many axes, or not the same ones.
    """
    source, target = node.text("src_format", "NHWC"), node.text("dst_format", "NCHW")
    if count == len(source) - 2:
        source, target = [text.replace("N", "").replace("C", "") for text in (source, target)]
    if count != len(source) or sorted(source) != sorted(target):
        return None
    return [source.index(axis) for axis in target]


@channel_rule("DataFormatDimMap")
def map_axis(op: OpVisit) -> Fact:
    """Names the same axes in the other format."""
    return op[0].without_value()


@value_rule("DataFormatDimMap")
def map_axis_value(op: ValueVisit) -> Any:
    """The place of each axis in the other format; of no axis, nothing is known."""
    rank = len(op.node.text("src_format", "NHWC"))
    order = _order(op.node, rank)
    if op[0] is None or order is None:
        return None
    axes = np.where(np.abs(op[0] + 0.5) < rank, op[0], np.nan)  # from -rank to rank - 1
    places = np.append(np.argsort(order).astype(np.float64), np.nan)
    return places[np.where(np.isnan(axes), rank, axes % rank).astype(np.int64)]


@channel_rule("DataFormatVecPermute")
def permute_vector(op: OpVisit) -> Fact:
    """Lists what belongs to each axis in the order of the other format."""
    data = op[0]
    order, numbers = _order(op.node, data.size(0)), data.channels(0)
    if order is None or numbers is None:
        return data.without_value()
    return data.without_value().with_ids({0: numbers[order]})


@value_rule("DataFormatVecPermute", structural=True)
def permute_vector_value(op: ValueVisit) -> Any:
    """Moves the numbers in the same way."""
    order = _order(op.node, op.facts[0].size(0))
    if op[0] is None or order is None:
        return None
    return op[0] if op[0].shape[0] == 1 else op[0][order]
