"""Ops that begin, fill, pass on, choose or end a tensor: constants, inputs, fills, switches."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

import numpy as np

from graphslim.channels.facts import LONGEST, UNKNOWN, Fact, Ids, axes_of, fact
from graphslim.channels.reasons import IsInput, OpenSize
from graphslim.channels.rules import ValueVisit, channel_rule, value_rule
from graphslim.channels.visit import OpVisit
from graphslim.ir.families import IDENTITIES, MERGES, PLACEHOLDERS, SWITCHES
from graphslim.ops.numeric import agreed

_TRACKED = 1024
"""Integer constants up to this many elements are followed through shape arithmetic."""


@channel_rule("Const")
def const(op: OpVisit) -> Fact:
    """New ids on every axis."""
    tensor = op.node.attrs["value"]
    return op.constant(tensor, tensor.dtype.is_integral and tensor.size <= _TRACKED)


@value_rule("Const")
def const_value(op: ValueVisit) -> Any:
    """Its elements; half precision is widened."""
    tensor = op.node.attrs["value"]
    if tensor.dtype.storage.kind not in "fiub":
        return None
    if tensor.size > 1 << 16 and not any(tensor.array.strides):
        # One value that is stated for many places.
        return tensor.numbers()[(slice(1),) * len(tensor.shape)].astype(np.float64)
    numbers = tensor.numbers()
    return numbers.astype(np.float64) if tensor.size <= 1 << 16 else numbers


@channel_rule(*PLACEHOLDERS)
def placeholder(op: OpVisit) -> Fact:
    """A graph input: its ids belong to no parameter."""
    given = op.given_shape()
    shape = given if given is not None else op.shape_attr("shape")
    if op.node.op == "PlaceholderWithDefault":
        op.pin_all(IsInput("it is the default of a graph input"))
    if shape is None or (shape == () and op.node.op == "Placeholder"):
        return UNKNOWN
    followed = [(axis, size) for axis, size in enumerate(shape) if size and size <= LONGEST]
    return fact(shape, {axis: op.fresh(size) for axis, size in followed})


@channel_rule(*IDENTITIES)
def identity(op: OpVisit) -> Fact:
    """Passes everything on."""
    return op[0]


@value_rule(*IDENTITIES, structural=True)
def identity_value(op: ValueVisit) -> Any:
    """Passes everything on."""
    return op[0]


@channel_rule("EnsureShape")
def ensured(op: OpVisit) -> Fact:
    """Passes everything on; the sizes that its attribute states are cut with the channels."""
    data, stated = op[0], op.shape_attr("shape")
    if stated is None:
        return data
    passed = data if data.rank == len(stated) else axes_of(len(stated))
    for axis, size in enumerate(stated):
        passed = passed.with_size(axis, size)
    return passed


@value_rule("EnsureShape", structural=True)
def ensured_value(op: ValueVisit) -> Any:
    """Passes everything on."""
    return op[0]


@channel_rule("Print")
def printed(op: OpVisit) -> Fact:
    """Passes its first input on; what is printed beside it stays."""
    op.pin_inputs(1, "it is printed")
    return op[0]


@value_rule("Print")
def printed_value(op: ValueVisit) -> Any:
    """Passes its first input on."""
    return op[0]


@channel_rule("IdentityN")
def identity_n(op: OpVisit) -> List[Fact]:
    """Passes everything on."""
    return list(op.facts)


@value_rule("IdentityN", structural=True)
def identity_n_value(op: ValueVisit) -> Any:
    """Passes everything on."""
    return tuple(op.values)


@channel_rule("NoOp", "Assert", "ControlTrigger", "Abort")
def nothing(op: OpVisit) -> List[Fact]:
    """Ops without outputs."""
    return []


@channel_rule("Shape")
def shape(op: OpVisit) -> Fact:
    """A vector of sizes."""
    return fact((op[0].rank,))


@channel_rule("ShapeN")
def shapes(op: OpVisit) -> List[Fact]:
    """A vector of sizes for each input."""
    return [fact((known.rank,)) for known in op.facts]


@channel_rule("Size", "Rank")
def measure(op: OpVisit) -> Fact:
    """One number."""
    return fact(())


def _sizes(known: Fact) -> Optional[np.ndarray]:
    """The sizes, NaN where they are open."""
    if known.shape is None:
        return None
    return np.array([np.nan if size is None else size for size in known.shape], np.float64)


@value_rule("Shape", "ShapeN")
def shape_value(op: ValueVisit) -> Any:
    """The sizes, NaN where they are open."""
    sizes = tuple([_sizes(known) for known in op.facts])
    return sizes[0] if op.node.op == "Shape" else sizes


@value_rule("Size")
def size_value(op: ValueVisit) -> Any:
    """The product of the sizes."""
    sizes = _sizes(op.facts[0])
    return None if sizes is None else np.prod(sizes)


@value_rule("Rank")
def rank_value(op: ValueVisit) -> Any:
    """How many axes there are."""
    rank = op.facts[0].rank
    return None if rank is None else np.array(float(rank))


@channel_rule(
    "Fill",
    *("RandomUniform", "RandomStandardNormal", "TruncatedNormal", "RandomUniformInt"),
    *("StatelessRandomUniform", "StatelessRandomNormal", "StatelessTruncatedNormal"),
    *("StatelessRandomUniformV2", "StatelessRandomNormalV2", "StatelessTruncatedNormalV2"),
    *("StatelessRandomUniformInt", "StatelessRandomUniformIntV2"),
)
def filled(op: OpVisit) -> Fact:
    """Numbers of the shape count the channels that they make."""
    op.pin_inputs(1, "random numbers are drawn by it")
    return op.sized(0)


@value_rule("Fill")
def fill_value(op: ValueVisit) -> Any:
    """One value everywhere."""
    rank = op.outs[0].rank
    return None if op[1] is None or rank is None else np.reshape(op[1], (1,) * rank)


def stated_alone(op: OpVisit, index: int) -> Fact:
    """The fact of a tensor of the shape that input `index` holds, -1 being open, without ids.

    For what has that shape whatever else is read. The numbers may not change.
    """
    numbers = op[index].value
    if numbers is None:
        return axes_of(op[index].size(0))
    for element in range(numbers.size):
        op.resize(index, element, None)
    return fact(tuple([int(n) if n >= 0 else None for n in numbers.ravel()]))


@channel_rule("BroadcastTo")
def broadcast_to(op: OpVisit) -> Fact:
    """Keeps the ids of what is wide; what becomes wide has as many as the number counts."""
    data, wanted = op[0], op[1].value
    if data.shape is None or wanted is None:
        op.pin_all(OpenSize("it is broadcast to a shape that is not known"))
        return stated_alone(op, 1)
    shape: List[Optional[int]] = []
    ids: List[Ids] = []
    for element in range(wanted.size):
        axis = element - wanted.size
        size, array = data.size(axis), data.channels(axis)
        if size == 1 or -axis > len(data.shape):
            if wanted[element] == 1:
                op.resize(1, element, None)
                shape.append(1)
                ids.append(array)
                continue
            op.pin(array, "it is broadcast")
            size, array = op.counted(1, element)
        else:
            op.resize(1, element, array)
            if size is None and not np.isnan(wanted[element]):
                size = int(wanted[element])
        shape.append(size)
        ids.append(array)
    return Fact(tuple(shape), tuple(ids))


@value_rule("BroadcastTo")
def broadcast_to_value(op: ValueVisit) -> Any:
    """The value, with more axes."""
    rank = op.outs[0].rank
    if op[0] is None or rank is None:
        return None
    return op[0].reshape((1,) * (rank - op[0].ndim) + op[0].shape)


@channel_rule("BroadcastArgs", "BroadcastDynamicShape")
def broadcast_shapes(op: OpVisit) -> Fact:
    """The shape that two shapes are broadcast to."""
    sizes = [known.size(0) for known in op.facts]
    return fact((None,)) if None in sizes else fact((max([size or 0 for size in sizes]),))


@value_rule("BroadcastArgs", "BroadcastDynamicShape")
def broadcast_shapes_value(op: ValueVisit) -> Any:
    """The larger size of each axis."""
    left, right = op[0], op[1]
    if left is None or right is None:
        return None
    rank = max(left.size, right.size)
    both = [np.concatenate([np.ones(rank - side.size), side.ravel()]) for side in (left, right)]
    return np.where(both[0] == 1, both[1], both[0])


_MEETS = OpenSize("it meets a tensor of unknown shape in a Merge")
_DIFFERS = "the branches that meet in a Merge give it different sizes"


@channel_rule(*SWITCHES)
def switch(op: OpVisit) -> List[Fact]:
    """Passes its data on at both outputs; the condition may be anything.

    Numbers are passed on without their origin: a constant is not rewritten through a Switch.
    """
    op.pin_inputs(1, "it is the condition of a Switch")
    return [op[0]._replace(origins=None)] * 2


@value_rule(*SWITCHES)
def switch_value(op: ValueVisit) -> Any:
    """Passes its data on."""
    return op[0], op[0]


@channel_rule(*MERGES)
def merge(op: OpVisit) -> List[Fact]:
    """Ties all its inputs axis by axis: whichever branch ran, the readers are the same."""
    index = fact(())
    facts = op.facts
    ranks = {known.rank for known in facts}
    if len(ranks) != 1 or None in ranks:
        op.pin_all(_MEETS if None in ranks else _DIFFERS)
        return [UNKNOWN, index]
    merged = [_merge_axis(op, axis) for axis in range(len(facts[0].ids))]
    return [Fact(tuple([size for size, _ in merged]), tuple([ids for _, ids in merged])), index]


def _merge_axis(op: OpVisit, axis: int) -> Tuple[Optional[int], Ids]:
    """Size and ids of one axis of what a Merge gives."""
    sizes = {known.size(axis) for known in op.facts}
    arrays = [known.channels(axis) for known in op.facts]
    if len(sizes - {None}) > 1:
        for ids in arrays:
            op.pin(ids, _DIFFERS)
        return None, None
    return None if None in sizes else sizes.pop(), op.tie_all(arrays)


@value_rule(*MERGES)
def merge_value(op: ValueVisit) -> Any:
    """Known where all branches agree."""
    values = [value for value in op.values if value is not None and value.dtype.kind in "fiub"]
    if not values or len(values) < len(op):
        return None
    return agreed([np.asarray(value, np.float64) for value in values]), None
