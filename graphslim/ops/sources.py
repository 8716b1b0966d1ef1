"""Ops that begin, pass on or end a tensor: constants, inputs, identities, debris."""

from __future__ import annotations

from typing import Any, List, Optional

import numpy as np

from graphslim.channels.reasons import IsInput
from graphslim.ir import IDENTITIES
from graphslim.ops.guard import LONGEST
from graphslim.ops.table import (
    UNKNOWN,
    Fact,
    OpVisit,
    ValueVisit,
    axes_of,
    channel_rule,
    fact,
    value_rule,
)

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


@channel_rule("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")
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


@channel_rule(*sorted(IDENTITIES))
def identity(op: OpVisit) -> Fact:
    """Passes everything on."""
    return op[0]


@value_rule(*sorted(IDENTITIES), structural=True)
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
    for known in op.facts[1:]:
        for ids in known.ids:
            op.pin(ids, "it is printed")
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


@channel_rule("NoOp", "Assert")
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
    found = tuple([_sizes(known) for known in op.facts])
    return found[0] if op.node.op == "Shape" else found


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
