"""Ops that make a tensor of a given shape: fills, broadcasts, random numbers."""

from __future__ import annotations

from typing import Any, List, Optional

import numpy as np

from graphslim.channels.reasons import OpenSize
from graphslim.ops.table import (
    Fact,
    Ids,
    OpVisit,
    ValueVisit,
    axes_of,
    channel_rule,
    fact,
    value_rule,
)

_RANDOM = (
    *("RandomUniform", "RandomStandardNormal", "TruncatedNormal", "RandomUniformInt"),
    *("StatelessRandomUniform", "StatelessRandomNormal", "StatelessTruncatedNormal"),
    *("StatelessRandomUniformV2", "StatelessRandomNormalV2", "StatelessTruncatedNormalV2"),
    *("StatelessRandomUniformInt", "StatelessRandomUniformIntV2"),
)


@channel_rule("Fill", *_RANDOM)
def filled(op: OpVisit) -> Fact:
    """Numbers of the shape count the channels that they make."""
    for known in op.facts[1:]:
        for ids in known.ids:
            op.pin(ids, "random numbers are drawn by it")
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
    both = [np.concatenate([np.ones(rank - one.size), one.ravel()]) for one in (left, right)]
    return np.where(both[0] == 1, both[1], both[0])
