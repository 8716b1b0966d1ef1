"""Ops that cut tensors: slices by constant bounds, splits, unstacking."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.facts import UNKNOWN, Fact, Ids, known
from graphslim.channels.reasons import AcrossChannels, OpenSize
from graphslim.channels.rules import ValueVisit, channel_rule, value_rule
from graphslim.channels.visit import OpVisit
from graphslim.ir import Node
from graphslim.ops.sources import stated_alone

_MOST_PARTS = 1 << 16
"""An op that states more outputs than these is pinned, and not followed."""


@channel_rule("Split")
def split(op: OpVisit) -> List[Fact]:
    """Cuts the ids into equal parts; the parts lose the same positions, so that they stay equal."""
    axes, data, parts = op.literal(0), op[1], int(op.node.attrs["num_split"])
    if axes is None or data.shape is None or parts > _MOST_PARTS:
        op.pin_all(OpenSize("it is split over an axis that is not known"))
        return [UNKNOWN] * min(parts, _MOST_PARTS)
    axis = axes[0] % len(data.shape)
    size, ids = data.size(axis), data.channels(axis)
    shape = list(data.shape)
    shape[axis] = None if size is None else size // parts
    if ids is None:
        return [Fact(tuple(shape), data.ids)] * parts
    pieces = np.split(ids, parts)
    for piece in pieces[1:]:
        op.tie(pieces[0], piece)
    return [Fact(tuple(shape), data.ids).with_ids({axis: piece}) for piece in pieces]


@value_rule("Split", structural=True)
def split_value(op: ValueVisit) -> Any:
    """Cuts known values as the ids are cut."""
    where, value, data = known(op.facts[0].value), op[1], op.facts[1]
    if where is None or value is None or data.rank is None:
        return None
    axis, parts = int(np.ravel(where)[0]) % data.rank, len(op.outs)
    return (value,) * parts if value.shape[axis] == 1 else tuple(np.split(value, parts, axis))


@channel_rule("SplitV")
def split_v(op: OpVisit) -> List[Fact]:
    """Cuts the ids into parts of stated sizes, each of which counts its part; one may be -1."""
    data, axes, parts = op[0], op.literal(2), int(op.node.attrs["num_split"])
    if axes is None or data.shape is None or parts > _MOST_PARTS:
        op.pin_all(OpenSize("it is split over an axis that is not known"))
        return [UNKNOWN] * min(parts, _MOST_PARTS)
    axis = axes[0] % len(data.shape)
    ids, sizes = data.channels(axis), _part_sizes(op[1].value, data.size(axis), parts)
    parts_made = []
    start = 0
    for place, size in enumerate(sizes):
        shape = (*data.shape[:axis], size, *data.shape[axis + 1 :])
        piece = None if ids is None or None in sizes else ids[start : start + (size or 0)]
        if op[1].value is not None and op[1].value[place] != -1:
            op.resize(1, place, piece)
        start += size or 0
        parts_made.append(Fact(shape, data.ids).with_ids({axis: piece}))
    if None in sizes:
        op.pin(ids, OpenSize("it is split into parts of unknown sizes"))
    return parts_made


def _part_sizes(
    stated: Optional[np.ndarray], total: Optional[int], parts: int
) -> List[Optional[int]]:
    """The sizes of the parts of a split, -1 filled in; None where unknown."""
    if stated is None:
        return [None] * parts
    sizes = [None if np.isnan(size) or size == -1 else int(size) for size in stated]
    if sizes.count(None) == 1 and total is not None:
        rest = total - sum([size for size in sizes if size is not None])
        return [rest if size is None else size for size in sizes]
    return sizes


@value_rule("SplitV", structural=True)
def split_v_value(op: ValueVisit) -> Any:
    """Cuts known values as the ids are cut."""
    where, value, data = known(op.facts[2].value), op[0], op.facts[0]
    if where is None or value is None or data.rank is None:
        return None
    axis, parts = int(np.ravel(where)[0]) % data.rank, len(op.outs)
    if value.shape[axis] == 1 and data.size(axis) != 1:
        return (value,) * parts
    sizes = [out.size(axis) for out in op.outs]
    if None in sizes:
        return None
    return tuple(np.split(value, np.cumsum([size or 0 for size in sizes])[:-1], axis))


@channel_rule("Unpack")
def unpack(op: OpVisit) -> List[Fact]:
    """Gives every part the ids of the whole."""
    parts, data = int(op.node.attrs["num"]), op[0]
    if data.shape is None or parts > _MOST_PARTS:
        op.pin_all(OpenSize("it is unstacked at an unknown rank"))
        return [UNKNOWN] * min(parts, _MOST_PARTS)
    at = int(op.node.attrs.get("axis", 0)) % len(data.shape)
    op.pin(data.ids[at], AcrossChannels("it is unstacked over channels"))
    return [
        Fact((*data.shape[:at], *data.shape[at + 1 :]), (*data.ids[:at], *data.ids[at + 1 :]))
    ] * parts


@value_rule("Unpack", structural=True)
def unpack_value(op: ValueVisit) -> Any:
    """Takes the values apart."""
    if op[0] is None:
        return None
    pieces = np.moveaxis(op[0], int(op.node.attrs.get("axis", 0)), 0)
    return (pieces[0],) * len(op.outs) if len(pieces) == 1 else tuple(pieces)


class Bounds(NamedTuple):
    """What a slice takes of one axis.

    Attributes:
        index: a slice, an integer, or None for a new axis; bounds that are not known are NaN.
        place: which number of `begin`, `end` and `strides` speaks of it; None for none.
    """

    index: Any
    place: Optional[int]


def bounds_of(op_facts: Sequence[Fact], node: Node, rank: int) -> Optional[List[Bounds]]:
    """What a StridedSlice takes of each axis, new axes among them; None if that is not known."""
    numbers = [fact_of.value for fact_of in op_facts[1:4]]
    sizes = [fact_of.size(0) for fact_of in op_facts[1:4]]
    count = next((size for size in sizes if size is not None), None)
    steps = known(numbers[2])
    if count is None or steps is None:
        return None
    low, high = [
        np.full(count, np.nan) if bound is None else bound.ravel() for bound in numbers[:2]
    ]
    mask = {
        key: int(node.attrs.get(f"{key}_mask", 0))
        for key in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    taken: List[Bounds] = []
    fresh = sum([1 for place in range(count) if mask["new_axis"] >> place & 1])
    for place in range(count):
        bit = 1 << place
        if mask["ellipsis"] & bit:
            spread = rank - (count - 1 - fresh)
            taken.extend([Bounds(slice(None), None)] * spread)
        elif mask["new_axis"] & bit:
            taken.append(Bounds(None, place))
        elif mask["shrink_axis"] & bit:
            taken.append(Bounds(float(low[place]), place))
        else:
            begin = None if mask["begin"] & bit else float(low[place])
            end = None if mask["end"] & bit else float(high[place])
            taken.append(Bounds(slice(begin, end, int(steps.ravel()[place])), place))
    named = len([bounds for bounds in taken if bounds.index is not None])
    return taken + [Bounds(slice(None), None)] * (rank - named)


def _whole(bounds: Bounds) -> Any:
    """The bounds as numpy's own index; None if one is not known (a new axis is `np.newaxis`)."""
    index = bounds.index
    if not isinstance(index, slice):
        return index if index is None else int(index)
    return slice(
        None if index.start is None else int(index.start),
        None if index.stop is None else int(index.stop),
        index.step,
    )


def _is_known(bounds: Bounds) -> bool:
    index = bounds.index
    numbers = (index.start, index.stop) if isinstance(index, slice) else (index,)
    return not any(number is not None and np.isnan(number) for number in numbers)


@channel_rule("StridedSlice")
def strided_slice(op: OpVisit) -> Fact:
    """Cuts the ids; a bound counts the channels before it, or from there to the end."""
    data = op[0]
    chosen = None if data.rank is None else bounds_of(op.facts, op.node, data.rank)
    if data.shape is None or chosen is None:
        op.pin_all(OpenSize("it is sliced at places that are not constant"))
        return UNKNOWN
    shape: List[Optional[int]] = []
    ids: List[Ids] = []
    axis = 0
    for bounds in chosen:
        if bounds.index is None:
            shape.append(1)
            ids.append(None)
            continue
        size, array = data.shape[axis], data.ids[axis]
        axis += 1
        array = follow_bounds(op, bounds, array)
        if isinstance(bounds.index, slice):
            taken = _whole(bounds) if _is_known(bounds) else None
            everything = taken in (slice(None), slice(None, None, 1))
            length = size if everything else None
            if size is not None and taken is not None:
                length = len(range(*taken.indices(size)))
            shape.append(length)
            ids.append(array)
    return Fact(tuple(shape), tuple(ids))


def follow_bounds(op: OpVisit, bounds: Bounds, array: Ids) -> Ids:
    """What is left of the ids of an axis, its bounds being bound to them; None if pinned."""
    index, place = bounds.index, bounds.place
    if place is None:
        return array
    if array is None:
        op.resize(1, place, None)
        op.resize(2, place, None)
        return None
    if not _is_known(bounds):
        op.pin(array, OpenSize("it is sliced at places that are not constant"))
        return None
    size = len(array)
    if not isinstance(index, slice):
        at = int(index) % size
        op.pin(array[at : at + 1], "it is picked by its number")
        _bind(op, 1, place, int(index), array)
        return None
    if index.step == 1:
        for slot, bound in ((1, index.start), (2, index.stop)):
            if bound is not None:
                _bind(op, slot, place, int(bound), array)
    elif not (index.step == -1 and index.start is None and index.stop is None):
        op.pin(array, AcrossChannels("it is sliced in steps over channels"))
    return array[_whole(bounds)]


def _bind(op: OpVisit, slot: int, place: int, bound: int, array: np.ndarray) -> None:
    """Lets a bound count the channels before it or, if negative, those from there to the end."""
    if bound >= len(array) and not op.counts(slot, place):
        return  # What lies at the end or beyond it does so for fewer channels too.
    if bound < -len(array):
        op.pin(array, "it is sliced by constant bounds")
    elif bound < 0:
        op.resize(slot, place, array[bound:], -1)
    else:
        op.resize(slot, place, array[:bound])


@value_rule("StridedSlice", structural=True)
def strided_slice_value(op: ValueVisit) -> Any:
    """Slices known values; an axis along which they do not vary may be cut at will."""
    rank = op.facts[0].rank
    chosen = None if rank is None else bounds_of(op.facts, op.node, rank)
    if op[0] is None or chosen is None:
        return None
    return _cut(op[0], op.facts[0], chosen)


def _cut(value: np.ndarray, data: Fact, chosen: Sequence[Bounds]) -> Any:
    places: List[Any] = []
    axis = 0
    for bounds in chosen:
        if bounds.index is None:
            places.append(None)
            continue
        if value.shape[axis] == 1 and data.size(axis) != 1:
            places.append(slice(None) if isinstance(bounds.index, slice) else 0)
        elif _is_known(bounds):
            places.append(_whole(bounds))
        else:
            return None
        axis += 1
    return value[tuple(places)]


@channel_rule("Slice")
def slice_rule(op: OpVisit) -> Fact:
    """Cuts the ids; the begin counts the channels before the piece, the size those in it."""
    data, begins, sizes = op[0], op[1].value, op[2].value
    if data.shape is None:
        op.pin_all(OpenSize("it is sliced at an unknown rank"))
        return stated_alone(op, 2)
    shape: List[Optional[int]] = []
    ids: List[Ids] = []
    for axis, (full, array) in enumerate(zip(data.shape, data.ids)):
        begin, size = _piece(begins, sizes, axis, full)
        shape.append(size)
        if array is None:
            piece = None
        elif begin is None or size is None:
            op.pin(array, OpenSize("it is sliced at places that are not constant"))
            piece = None
        else:
            piece = array[begin : begin + size]
            op.resize(1, axis, array[:begin])
        ids.append(piece)
        if array is None:
            op.resize(1, axis, None)
        if sizes is not None and sizes[axis] != -1:
            op.resize(2, axis, piece)
    return Fact(tuple(shape), tuple(ids))


def _piece(
    begins: Optional[np.ndarray], sizes: Optional[np.ndarray], axis: int, full: Optional[int]
) -> Tuple[Optional[int], Optional[int]]:
    """Where the piece of a Slice begins along an axis, and its size."""
    begin = None if begins is None or np.isnan(begins[axis]) else int(begins[axis])
    if sizes is None or np.isnan(sizes[axis]):
        return begin, None
    if sizes[axis] != -1:
        return begin, int(sizes[axis])
    return begin, None if full is None or begin is None else full - begin


@value_rule("Slice", structural=True)
def slice_value(op: ValueVisit) -> Any:
    """Slices known values; an axis along which they do not vary may be cut at will."""
    data, begins, sizes = op.facts[0], op.facts[1].value, op.facts[2].value
    if op[0] is None or data.shape is None:
        return None
    chosen = []
    for axis, full in enumerate(data.shape):
        begin, size = _piece(begins, sizes, axis, full)
        unknown = begin is None or size is None
        low, high = (np.nan, np.nan) if unknown else (begin, (begin or 0) + (size or 0))
        chosen.append(Bounds(slice(low, high, 1), axis))
    return _cut(op[0], data, chosen)
