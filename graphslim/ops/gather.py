"""Ops that pick, sort or search positions: gathering, sorting, one-hot vectors, coordinates."""

from __future__ import annotations

import math
from typing import Any, List, Optional, Sequence

import numpy as np

from graphslim.channels.facts import LAID_OUT, UNKNOWN, Fact, Ids, fact, fits, known
from graphslim.channels.reasons import AcrossChannels, OpenSize
from graphslim.channels.rules import ValueVisit, channel_rule, value_rule
from graphslim.channels.visit import OpVisit


@channel_rule("GatherV2", "Gather")
def gather(op: OpVisit) -> Fact:
    """Picks ids by a constant vector, whose entries go with the channels that they pick."""
    data, indices = op[0], op[1]
    axes = op.literal(2) if len(op) > 2 else [0]
    batch = int(op.node.attrs.get("batch_dims", 0))
    if data.rank is None or indices.shape is None or axes is None:
        op.pin_all("it is gathered in a way that is not followed")
        return UNKNOWN
    if batch:
        return _gather_each(op, axes[0] % data.rank, batch)
    axis = axes[0] % data.rank if data.rank else 0
    array = data.ids[axis]
    before, behind = slice(0, axis), slice(axis + 1, None)
    picked = _picked(op, array)
    shape = (*(data.shape or ())[before], *indices.shape, *(data.shape or ())[behind])
    return Fact(shape, (*data.ids[before], *picked, *data.ids[behind]))


def _gather_each(op: OpVisit, axis: int, batch: int) -> Fact:
    """Picks for each example by itself: the axes behind the picked one and before it are kept."""
    data, indices = op[0], op[1]
    shared = batch if batch >= 0 else batch + (indices.rank or 0)
    for ids in (*data.ids[:shared], *indices.ids):
        op.pin(ids, "it is gathered for each example by itself")
    op.pin(data.channels(axis), "it is gathered by positions that are not a constant vector")
    picked = (indices.shape or ())[shared:]
    shape = (*(data.shape or ())[:axis], *picked, *(data.shape or ())[axis + 1 :])
    return Fact(shape, (*data.ids[:axis], *[None] * len(picked), *data.ids[axis + 1 :]))


def _picked(op: OpVisit, array: Ids) -> List[Ids]:
    """The ids along the axes of the indices, which take the place of the axis picked from."""
    indices = op[1]
    numbers = known(indices.value)
    if array is not None and numbers is not None and indices.rank == 1:
        op.renumber(1, array)
        return [array[numbers.astype(np.int64)]]
    op.literal(1)
    op.pin(array, "it is gathered by positions that are not a constant vector")
    op.pin_others(1, (), "it says what is gathered")
    return [None] * (indices.rank or 0)


@value_rule("GatherV2", "Gather", structural=True)
def gather_value(op: ValueVisit) -> Any:
    """Picks known values; an axis along which they do not vary may be picked from at will."""
    data, indices = op.facts[0], op.facts[1]
    axes = op.facts[2].value if len(op.facts) > 2 else np.zeros(1)
    if op[0] is None or axes is None or indices.shape is None:
        return None
    axis, batch = int(np.ravel(axes)[0]) % op[0].ndim, int(op.node.attrs.get("batch_dims", 0))
    if op[0].shape[axis] == 1 and data.size(axis) != 1:
        picked = len(indices.shape) - batch if batch >= 0 else -batch
        shape = (*op[0].shape[:axis], *[1] * picked, *op[0].shape[axis + 1 :])
        return op[0].reshape(shape)
    numbers = None if batch else known(indices.value)
    lanes = op[0].size // max(op[0].shape[axis], 1)
    if numbers is None or not fits(max(LAID_OUT, op[0].size), lanes, numbers.size):
        return None
    return np.take(op[0], numbers.astype(np.int64), axis)


@channel_rule("GatherNd")
def gather_nd(op: OpVisit) -> Fact:
    """Pins the axes that are picked from, and keeps the others."""
    data, indices = op[0], op[1]
    depth = indices.size(-1)
    op.pin_others(1, (), "it says what is gathered")
    if data.shape is None or indices.shape is None or depth is None:
        op.pin_all("it is gathered in a way that is not followed")
        return UNKNOWN
    for ids in data.ids[:depth]:
        op.pin(ids, "it is gathered by positions that are not a constant vector")
    picked = indices.shape[:-1]
    return Fact((*picked, *data.shape[depth:]), (*[None] * len(picked), *data.ids[depth:]))


@value_rule("GatherNd")
def gather_nd_value(op: ValueVisit) -> Any:
    """What does not vary over the axes that are picked from is the same wherever that is."""
    indices, depth = op.facts[1], op.facts[1].size(-1)
    if op[0] is None or indices.shape is None or depth is None:
        return None
    if any(size != 1 for size in op[0].shape[:depth]):
        return None
    return op[0].reshape((1,) * (len(indices.shape) - 1) + op[0].shape[depth:])


@channel_rule("ReverseV2")
def reverse(op: OpVisit) -> Fact:
    """Reverses the ids."""
    axes, data = op.literal(1), op[0]
    if data.rank is None or axes is None:
        op.pin_all(OpenSize("it is reversed over an axis that is not known"))
        return UNKNOWN
    changes = {axis: data.channels(axis) for axis in axes}
    return data.without_value().with_ids(
        {axis: None if ids is None else ids[::-1] for axis, ids in changes.items()}
    )


@value_rule("ReverseV2", structural=True)
def reverse_value(op: ValueVisit) -> Any:
    """Reverses the values."""
    axes = known(op.facts[1].value)
    if op[0] is None or axes is None:
        return None
    return np.flip(op[0], tuple([int(axis) for axis in axes.ravel()]))


@channel_rule("Roll")
def roll(op: OpVisit) -> Fact:
    """Pins the axes that are rolled."""
    return _along(op, op[0], op.literal(2), "its positions are shifted by a fixed number")


@channel_rule("Cumsum", "Cumprod", "CumulativeLogsumexp")
def cumulate(op: OpVisit) -> Fact:
    """Pins the axis that is summed along."""
    return _along(op, op[0], op.literal(1), AcrossChannels(f"a {op.node.op} adds up over channels"))


def _along(op: OpVisit, data: Fact, axes: Optional[List[int]], why: str) -> Fact:
    """Keeps shape and ids, but for some axes that are pinned."""
    if data.rank is None or axes is None:
        op.pin_all(why)
        return data.without_value()
    for axis in axes:
        op.pin(data.channels(axis), why)
    return data.without_value()


@value_rule("Cumsum", "Roll")
def along_value(op: ValueVisit) -> Any:
    """What varies over no axis that it works along stays when it is rolled; sums of zeros too."""
    axes = known(op.facts[2 if op.node.op == "Roll" else 1].value)
    if op[0] is None or axes is None:
        return None
    if any(op[0].shape[int(axis)] != 1 for axis in axes.ravel()):
        return None
    return op[0] if op.node.op == "Roll" else np.where(op[0] == 0, 0.0, np.nan)


@channel_rule("ArgMax", "ArgMin")
def arg_max(op: OpVisit) -> Fact:
    """Pins the axis that is searched."""
    data, axes = op[0], op.literal(1)
    if data.shape is None or axes is None:
        op.pin_all(AcrossChannels("its index among all channels is asked for"))
        return UNKNOWN
    axis = axes[0] % len(data.shape)
    op.pin(data.ids[axis], AcrossChannels("its index among all channels is asked for"))
    axes = [place for place in range(len(data.shape)) if place != axis]
    return Fact(
        tuple([data.shape[place] for place in axes]), tuple([data.ids[place] for place in axes])
    )


@channel_rule("TopK", "TopKV2")
def top_k(op: OpVisit) -> List[Fact]:
    """Pins the last axis, of which it gives the largest."""
    data = op[0]
    count = op.literal(1) if len(op) > 1 else [int(op.node.attrs.get("k", 1))]
    for ids in data.ids[-1:]:
        op.pin(ids, "its largest channels are asked for")
    if data.shape is None:
        return [UNKNOWN] * 2
    shape = (*data.shape[:-1], None if count is None else count[0])
    return [Fact(shape, (*data.ids[:-1], None))] * 2


@channel_rule("Where")
def where(op: OpVisit) -> Fact:
    """Coordinates of what is true."""
    op.pin_all("the positions at which it is true are asked for")
    return fact((None, op[0].rank))


@channel_rule("OneHot")
def one_hot(op: OpVisit) -> Fact:
    """A new axis, whose positions are numbers."""
    op.pin_all("it is made into one-hot vectors")
    depth = op.literal(1)
    shape, at = op[0].shape, int(op.node.attrs.get("axis", -1))
    if shape is None:
        return UNKNOWN
    at = at % (len(shape) + 1)
    return fact((*shape[:at], None if depth is None else depth[0], *shape[at:]))


@channel_rule("Range")
def numbers_in_a_row(op: OpVisit) -> Fact:
    """A vector of numbers."""
    values = [known(given.value) for given in op.facts]
    if any(value is None for value in values):
        return fact((None,))
    return fact((_steps(values),))


@value_rule("Range")
def numbers_in_a_row_value(op: ValueVisit) -> Any:
    """The numbers."""
    values = [known(value) for value in op.values]
    if any(value is None for value in values):
        return None
    if _steps(values) > LAID_OUT:
        return None
    return np.arange(*[float(value) for value in values])  # type: ignore[arg-type]


def _steps(values: Sequence[Any]) -> int:
    """How many numbers a Range from start to limit has."""
    start, limit, step = [float(value) for value in values]
    return max(0, math.ceil((limit - start) / step))


@channel_rule("LinSpace")
def even_steps(op: OpVisit) -> Fact:
    """A vector of as many numbers as the last input says."""
    count = op.literal(2)
    return fact((None if count is None else count[0],))


@value_rule("LinSpace")
def even_steps_value(op: ValueVisit) -> Any:
    """The numbers."""
    values = [known(value) for value in op.values]
    if any(value is None for value in values):
        return None
    start, stop, count = [float(np.ravel(value)[0]) for value in values]  # type: ignore[arg-type]
    return np.linspace(start, stop, int(count)) if count <= LAID_OUT else None


@channel_rule("InvertPermutation")
def invert(op: OpVisit) -> Fact:
    """A vector of the same size."""
    op.pin_all("it is an order")
    return fact((op[0].size(0),))


@value_rule("InvertPermutation")
def invert_value(op: ValueVisit) -> Any:
    """The opposite order."""
    order = known(op[0])
    return None if order is None else np.argsort(order)


_SCATTERING = {
    "ScatterNd": "it is scattered into another tensor",
    "TensorScatterUpdate": "it is scattered into another tensor",
    "TensorScatterAdd": "it is scattered into another tensor",
    "Unique": "its different values are asked for",
    "UniqueV2": "its different values are asked for",
    "SearchSorted": AcrossChannels("its place among others is asked for"),
    "DynamicPartition": "it is dealt out by another tensor",
    "DynamicStitch": "it is dealt out by another tensor",
    "MatrixDiag": "it is made into a matrix or taken from one",
    "MatrixDiagV2": "it is made into a matrix or taken from one",
    "MatrixDiagV3": "it is made into a matrix or taken from one",
    "MatrixDiagPart": "it is made into a matrix or taken from one",
    "MatrixDiagPartV2": "it is made into a matrix or taken from one",
    "MatrixDiagPartV3": "it is made into a matrix or taken from one",
    "MatrixSetDiag": "it is made into a matrix or taken from one",
    "MatrixBandPart": "it is made into a matrix or taken from one",
}


@channel_rule(*_SCATTERING)
def scatter(op: OpVisit) -> List[Fact]:
    """Pins everything."""
    op.pin_all(_SCATTERING[op.node.op])
    return [UNKNOWN] * 3
