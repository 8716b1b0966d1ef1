"""Reshaping, broadcasting and slicing in training graphs, where a stated shape says what it counts.

A gradient is brought to the shape of a tensor that stands elsewhere, by numbers that come from its
`Shape` or that TensorFlow has folded into a constant; they name the channels where the gradient
itself is not followed.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.facts import LONGEST, UNKNOWN, Fact, Ids, channel_axis, fact, integers
from graphslim.channels.origins import FIXED
from graphslim.checkpoint.training_walk import (
    TrainingVisit,
    alike,
    along,
    spread,
    training_rule,
)
from graphslim.ops.elementwise import ELEMENTWISE
from graphslim.ops.reshape import is_first_alike, move, resolved, segments


@training_rule(*ELEMENTWISE)
def elementwise(op: TrainingVisit) -> Fact:
    """Broadcasts as numpy does."""
    if op.node.op == "AddN":
        return alike(op, op.facts).without_value()
    return spread(op, op.facts)


@training_rule("Select")
def select(op: TrainingVisit) -> Fact:
    """A condition of rank 1 chooses along the first axis."""
    if op[0].rank == 1 and (op[1].rank or 0) > 1:
        op.tie(op[0].channels(0), op[1].channels(0))
        return alike(op, op.facts[1:]).without_value()
    return spread(op, op.facts)


@training_rule("BiasAdd", "BiasAddV1")
def bias_add(op: TrainingVisit) -> Fact:
    """Ties the bias with the channel axis."""
    return along(op, op[0], channel_axis(op.node), op[1].channels(0))


@training_rule("Reshape")
def reshape(op: TrainingVisit) -> Fact:
    """Moves the ids; the numbers of the target shape may count channels too."""
    data, target = op[0], op[1].value
    if target is None:
        return fact(None if op[1].size(0) is None else (None,) * (op[1].size(0) or 0))
    stated = [op.counted(1, place) if n != -1 else (None, None) for place, n in enumerate(target)]
    if data.shape is None:
        return Fact(tuple([size for size, _ in stated]), tuple([ids for _, ids in stated]))
    same_first = op.same_batch(0, 1)
    shape = resolved(data.shape, target, same_first)
    ids = _moved(op, data, shape, same_first or is_first_alike(data.shape, shape))
    for place, (_, counted) in enumerate(stated):
        if ids[place] is None:
            ids[place] = counted
        else:
            op.tie(ids[place], counted)
    return Fact(shape, tuple(ids), batch=data.batch if same_first else None)


def _moved(
    op: TrainingVisit, data: Fact, shape: Tuple[Optional[int], ...], same_first: bool
) -> List[Ids]:
    """The ids in the new shape."""
    changes: Dict[int, Ids] = {}
    products: Dict[int, Ids] = {}
    for piece in segments(data.shape or (), shape, same_first) or ():
        wide = [axis for axis in piece.before if data.size(axis) != 1]
        parts = [axis for axis in piece.after if shape[axis] != 1]
        carriers = {axis: ids for axis, ids in enumerate(data.ids) if axis in wide}
        followed = {axis: ids for axis, ids in carriers.items() if ids is not None}
        if len(followed) > 1:
            chosen = _chosen(op, followed)
            changes.update({axis: None for axis in followed if [axis] != chosen})
            sizes = [data.size(axis) for axis in wide]
            if len(chosen) > 1 and len(parts) == 1 and None not in sizes:
                products[parts[0]] = _product(op, [followed.get(axis) for axis in wide], sizes)
        elif len(followed) == 1 and len(parts) > 1:
            ((axis, ids),) = followed.items()
            changes[axis] = None if op.walk.is_product(ids) else op.walk.merged(ids)
    moved = move(op, data.with_ids(changes), shape, same_first)
    placed = [None] * len(shape) if moved is None else list(moved)  # type: List[Ids]
    for axis, flat in products.items():
        placed[axis] = flat
    return placed


def _chosen(op: TrainingVisit, followed: Dict[int, np.ndarray]) -> List[int]:
    """Of axes that are flattened together, those that are followed on.

    These are the axes that lose positions or, before that is known, the only axis that a variable
    has channels along.
    """
    going = [axis for axis, ids in followed.items() if op.walk.going(ids).any()]
    if going:
        return going
    rooted = [axis for axis, ids in followed.items() if op.walk.is_rooted(ids)]
    return rooted if len(rooted) == 1 else []


def _product(op: TrainingVisit, arrays: Sequence[Ids], sizes: Sequence[Any]) -> Ids:
    """The ids of several axes as those of one."""
    if np.prod(sizes, dtype=np.float64) > LONGEST:
        return None
    spread_out = []
    for axis, ids in enumerate(arrays):
        if ids is not None:
            grid = [1] * len(sizes)
            grid[axis] = -1
            spread_out.append(np.broadcast_to(ids.reshape(grid), sizes))
    return op.walk.product(spread_out)


@training_rule("BroadcastTo")
def broadcast_to(op: TrainingVisit) -> Fact:
    """The stated shape may count channels, which are tied with axes that are not broadcast."""
    return spread(op, [op.sized(1), op[0]])


@training_rule("Slice")
def slice_rule(op: TrainingVisit) -> Fact:
    """The begin counts the channels before the slice, the size those in the slice."""
    data, begins, sizes = op[0], op[1].value, op[2].value
    rank = data.rank if data.rank is not None else op[2].size(0)
    counts: List[Tuple[Optional[int], Ids]] = []
    for axis in range(rank or 0):
        array = data.channels(axis)
        begin = None if begins is None or np.isnan(begins[axis]) else int(begins[axis])
        if sizes is not None and sizes[axis] != -1:
            size, counted = op.counted(2, axis)
        else:
            full = data.size(axis) if sizes is not None else None
            size, counted = None if full is None or begin is None else full - begin, None
        if array is not None and begin is not None and size is not None:
            piece = array[begin : begin + size]
            op.resize(1, axis, array[:begin])
            op.tie(piece, counted)
            counted = piece
        counts.append((size, counted))
    if rank is None:
        return UNKNOWN
    return Fact(tuple([size for size, _ in counts]), tuple([ids for _, ids in counts]))


# ------------------------------------------------------------------ numbers of shapes


@training_rule("BroadcastGradientArgs")
def broadcast_axes(op: TrainingVisit) -> List[Fact]:
    """For each of two shapes, the axes that its gradient is summed over; equal sizes are tied."""
    left, right = op[0].value, op[1].value
    if left is None or right is None:
        return [UNKNOWN, UNKNOWN]
    shapes, rank = (left, right), max(len(left), len(right))
    # Axes of size 1 on both sides are summed over too, but where the shapes are the same.
    same = len(left) == len(right) and np.allclose(left, right, equal_nan=True)
    axes: List[List[int]] = [[], []]
    for axis in range(-rank, 0):
        pair = [1.0 if len(sizes) < -axis else float(sizes[axis]) for sizes in shapes]
        for operand in (0, 1):
            if pair[operand] == 1 and not same:
                axes[operand].append(axis + rank)
        if pair[0] == pair[1] != 1:
            first, second = [op.counted(i, len(shapes[i]) + axis)[1] for i in (0, 1)]
            op.tie(first, second)
    return [_numbers(summed) for summed in axes]


@training_rule("DynamicStitch")
def stitched(op: TrainingVisit) -> Fact:
    """Numbers put at stated places of one vector."""
    half = len(op) // 2
    places, data = [integers(piece) for piece in op.facts[:half]], op.facts[half:]
    if any(spots is None for spots in places) or any(piece.value is None for piece in data):
        return UNKNOWN
    size = 1 + max([place for spots in places for place in spots or ()], default=-1)
    values, origins = np.full(size, np.nan), np.full(size, FIXED)
    for slot, (spots, piece) in enumerate(zip(places, data), half):
        values[spots] = np.ravel(np.asarray(piece.value))
        for element, place in enumerate(spots or ()):
            # `counted` binds a constant at this reader; readers of the result count the same.
            ids = op.counted(slot, element)[1]
            origins[place] = FIXED if ids is None else op.walk.sizes.number(ids)
    return fact((size,))._replace(value=values, origins=origins)


@training_rule("ConcatOffset")
def offsets(op: TrainingVisit) -> List[Fact]:
    """The offset of each part of a concatenation, from the axis and the shapes of the parts."""
    axes, shapes = integers(op[0]), op.facts[1:]
    if not axes or any(start_fact.value is None for start_fact in shapes):
        return [UNKNOWN] * len(shapes)
    rank = len(shapes[0].value)  # type: ignore[arg-type]
    at = axes[0] % rank
    counted = [[op.counted(index, place) for place in range(rank)] for index in range(1, len(op))]
    facts = []
    start, before = 0.0, np.zeros(0, np.int64)  # type: float, Ids
    for part in counted:
        for place in range(rank):
            if place != at:
                op.tie(counted[0][place][1], part[place][1])
        numbers = np.zeros(rank)
        numbers[at] = start
        start_fact = _numbers(numbers)
        if before is not None and len(before) and start_fact.origins is not None:
            start_fact.origins[at] = op.walk.sizes.number(before)
        facts.append(start_fact)
        size, ids = part[at]
        start = np.nan if size is None else start + size
        before = None if before is None or ids is None else np.concatenate([before, ids])
    return facts


def _numbers(numbers: Any) -> Fact:
    values = np.asarray(numbers, np.float64)
    return fact((len(values),))._replace(value=values, origins=np.full(len(values), FIXED))


# ------------------------------------------------------------------ initial values


@training_rule("Qr")
def orthogonal(op: TrainingVisit) -> Any:
    """Orthogonal initial values: a tall matrix gives one of its shape and a square one."""
    data = op[0]
    if data.rank != 2:
        return [UNKNOWN, UNKNOWN]
    return [data.without_value(), Fact((data.size(1),) * 2, (data.channels(1),) * 2)]


@training_rule("MatrixDiagPart", "MatrixDiagPartV2", "MatrixDiagPartV3", "DiagPart")
def diagonal(op: TrainingVisit) -> Fact:
    """The diagonal of a square matrix has the ids of its rows."""
    data = op[0]
    if data.rank is None or data.rank < 2 or data.size(-1) != data.size(-2):
        return UNKNOWN
    return Fact((data.shape or ())[:-1], data.ids[:-1])
