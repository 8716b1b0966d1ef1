"""Ops that join, cut and pick: concatenation, splitting, slicing, stacking, gathering."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

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
    value_rule,
)


@channel_rule("ConcatV2", "Concat")
def concat(op: OpVisit) -> Fact:
    """Concatenates the ids along the axis; ties them along the others."""
    parts, where = (
        (op.facts[:-1], op.facts[-1]) if op.node.op == "ConcatV2" else (op.facts[1:], op.facts[0])
    )
    axes = integers(where)
    if axes is None or not all(part.rank for part in parts):
        op.pin_all("it is concatenated over an axis that is not known")
        return UNKNOWN
    rank = len(parts[0].shape or ())
    joined = axes[0] % rank
    shape: List[Optional[int]] = []
    ids: List[Ids] = []
    for axis in range(rank):
        sizes = [part.size(axis) for part in parts]
        arrays = [part.channels(axis) for part in parts]
        if axis == joined:
            shape.append(None if None in sizes else sum([size or 0 for size in sizes]))
            ids.append(_joined(op, arrays))
        else:
            shape.append(next((size for size in sizes if size is not None), None))
            ids.append(arrays[0])
            for other in arrays[1:]:
                op.tie(arrays[0], other)
    return Fact(tuple(shape), tuple(ids))


def _joined(op: OpVisit, arrays: Sequence[Ids]) -> Ids:
    if all(ids is not None for ids in arrays):
        return np.concatenate([ids for ids in arrays if ids is not None])
    for ids in arrays:
        op.pin(ids, "it is concatenated with an axis that is not followed")
    return None


@value_rule("ConcatV2", "Concat", structural=True)
def concat_value(op: ValueVisit) -> Any:
    """Lays known parts beside unknown ones."""
    late = op.node.op == "ConcatV2"
    parts, facts = (op.values[:-1], op.facts[:-1]) if late else (op.values[1:], op.facts[1:])
    where = op.facts[-1 if late else 0].value
    out = op.outs[0]
    if where is None or out.rank is None or all(part is None for part in parts):
        return None
    axis = int(np.ravel(where)[0]) % out.rank
    widths = [known_fact.size(axis) for known_fact in facts]
    if None in widths:
        return None
    spread = []
    for part, width in zip(parts, widths):
        value = np.full((1,) * out.rank, np.nan) if part is None else np.asarray(part, np.float64)
        shape = list(value.shape)
        shape[axis] = width or 0
        spread.append(np.broadcast_to(value, shape))
    common = [max(sizes) for sizes in zip(*[value.shape for value in spread])]
    for place, value in enumerate(spread):
        shape = list(common)
        shape[axis] = value.shape[axis]
        spread[place] = np.broadcast_to(value, shape)
    return np.concatenate(spread, axis)


@channel_rule("Split")
def split(op: OpVisit) -> List[Fact]:
    """Cuts the ids into equal parts; the parts lose the same positions, so that they stay equal."""
    axes, data, parts = integers(op[0]), op[1], int(op.node.attrs["num_split"])
    if axes is None or data.shape is None:
        op.pin_all("it is split over an axis that is not known")
        return [UNKNOWN] * parts
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
    axis, parts = int(np.ravel(where)[0]) % data.rank, int(op.node.attrs["num_split"])
    return (value,) * parts if value.shape[axis] == 1 else tuple(np.split(value, parts, axis))


@channel_rule("Pack")
def pack(op: OpVisit) -> Fact:
    """Ties what is stacked, position by position."""
    facts = op.facts
    if any(part.shape is None for part in facts):
        op.pin_all("it is stacked at an unknown rank")
        return UNKNOWN
    rank = len(facts[0].shape or ())
    at = int(op.node.attrs.get("axis", 0)) % (rank + 1)
    shape, ids = list(facts[0].shape or ()), list(facts[0].ids)
    for other in facts[1:]:
        for axis in range(rank):
            if other.size(axis) != 1:
                op.tie(ids[axis], other.ids[axis])
    return Fact((*shape[:at], len(facts), *shape[at:]), (*ids[:at], None, *ids[at:]))


@value_rule("Pack", structural=True)
def pack_value(op: ValueVisit) -> Any:
    """Stacks scalars, as shapes are put together."""
    if any(known_fact.shape != () for known_fact in op.facts):
        return None
    return np.array([np.nan if value is None else float(value) for value in op.values])


@channel_rule("Unpack")
def unpack(op: OpVisit) -> List[Fact]:
    """Gives every part the ids of the whole."""
    parts, data = int(op.node.attrs["num"]), op[0]
    if data.shape is None:
        op.pin_all("it is unstacked at an unknown rank")
        return [UNKNOWN] * parts
    at = int(op.node.attrs.get("axis", 0)) % len(data.shape)
    op.pin(data.ids[at], "it is unstacked over channels")
    return [
        Fact((*data.shape[:at], *data.shape[at + 1 :]), (*data.ids[:at], *data.ids[at + 1 :]))
    ] * parts


def _slices(op_facts: Sequence[Fact], node: Any) -> Optional[Tuple[Any, ...]]:
    """What a StridedSlice selects, as numpy's own indices; None where it is not constant."""
    bounds = [integers(known_fact) for known_fact in op_facts[1:4]]
    if any(bound is None for bound in bounds):
        return None
    begin, end, stride = bounds
    mask = {
        key: int(node.attrs.get(f"{key}_mask", 0))
        for key in ("begin", "end", "ellipsis", "new_axis")
    }
    shrink = int(node.attrs.get("shrink_axis_mask", 0))
    found: List[Any] = []
    for place, (low, high, step) in enumerate(zip(begin or (), end or (), stride or ())):
        bit = 1 << place
        if mask["ellipsis"] & bit:
            found.append(Ellipsis)
        elif mask["new_axis"] & bit:
            found.append(None)
        elif shrink & bit:
            found.append(low)
        else:
            found.append(
                slice(
                    None if mask["begin"] & bit else low, None if mask["end"] & bit else high, step
                )
            )
    return tuple(found)


def _takes_all(index: Any, size: Optional[int]) -> bool:
    """Whether a slice takes a whole axis, and would of a shorter one too."""
    if not isinstance(index, slice):
        return False
    if size is None:
        return index in (slice(None), slice(None, None, 1))
    return index.indices(size) == (0, size, 1)


@channel_rule("StridedSlice")
def strided_slice(op: OpVisit) -> Fact:
    """Picks ids along each axis; constant bounds pin the axis that they cut."""
    data, chosen = op[0], _slices(op.facts, op.node)
    if data.shape is None or chosen is None:
        op.pin_all("it is sliced at places that are not constant")
        return UNKNOWN
    if Ellipsis in chosen:
        at = chosen.index(Ellipsis)
        named = len([index for index in chosen if index is not None]) - 1
        chosen = (*chosen[:at], *[slice(None)] * (len(data.shape) - named), *chosen[at + 1 :])
    shape: List[Optional[int]] = []
    ids: List[Ids] = []
    axis = 0
    for index in (*chosen, *[slice(None)] * len(data.shape)):
        if index is None:
            shape.append(1)
            ids.append(None)
            continue
        if axis >= len(data.shape):
            break
        size, array = data.shape[axis], data.ids[axis]
        if not _takes_all(index, size):
            op.pin(array, "it is sliced by constant bounds")
        if isinstance(index, slice):
            shape.append(None if size is None else len(range(*index.indices(size))))
            ids.append(None if array is None else array[index])
        axis += 1
    return Fact(tuple(shape), tuple(ids))


@value_rule("StridedSlice", structural=True)
def strided_slice_value(op: ValueVisit) -> Any:
    """Slices values that are known in full."""
    chosen = _slices(op.facts, op.node)
    if op[0] is None or chosen is None or op[0].shape != op.facts[0].shape:
        return None
    return op[0][chosen]


@channel_rule("ArgMax", "ArgMin")
def arg_max(op: OpVisit) -> Fact:
    """Pins the axis that is searched."""
    data, axes = op[0], integers(op[1])
    if data.shape is None or axes is None:
        op.pin_all("its index among all channels is asked for")
        return UNKNOWN
    axis = axes[0] % len(data.shape)
    op.pin(data.ids[axis], "its index among all channels is asked for")
    kept = [place for place in range(len(data.shape)) if place != axis]
    return Fact(
        tuple([data.shape[place] for place in kept]), tuple([data.ids[place] for place in kept])
    )
