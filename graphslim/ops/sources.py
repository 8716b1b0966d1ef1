"""Ops that begin, pass on or end a tensor: constants, inputs, identities, debris."""

from __future__ import annotations

from typing import Any, List

import numpy as np

from graphslim.ir import IDENTITY_OPS, DType
from graphslim.ops.table import UNKNOWN, Fact, OpVisit, ValueVisit, channel_rule, fact, value_rule

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
    if not (tensor.dtype.is_floating or tensor.dtype.is_integral or tensor.dtype is DType.bool):
        return None
    numbers = tensor.numbers()
    return numbers.astype(np.float64) if tensor.size <= 1 << 16 else numbers


@channel_rule("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")
def placeholder(op: OpVisit) -> Fact:
    """A graph input: its ids belong to no parameter."""
    given = op.given_shape()
    shape = given if given is not None else op.shape_attr("shape")
    if op.node.op == "PlaceholderWithDefault":
        op.pin_all("it is the default of a graph input")
    if shape is None or (shape == () and op.node.op == "Placeholder"):
        return UNKNOWN
    return fact(shape, {axis: op.fresh(size) for axis, size in enumerate(shape) if size})


@channel_rule(*sorted(IDENTITY_OPS), "Cast", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxArgs")
def identity(op: OpVisit) -> Fact:
    """Passes everything on."""
    return op[0]


@value_rule(*sorted(IDENTITY_OPS), structural=True)
def identity_value(op: ValueVisit) -> Any:
    """Passes everything on."""
    return op[0]


@value_rule("Cast", structural=True)
def cast_value(op: ValueVisit) -> Any:
    """Wide floats keep a number, integers cut its fraction off; other types are not followed."""
    target = op.node.attrs.get("DstT")
    if op[0] is None or target in (DType.float32, DType.float64):
        return op[0]
    whole = isinstance(target, DType) and target.is_integral
    return np.trunc(np.asarray(op[0], np.float64)) if whole else None


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


@value_rule("Shape")
def shape_value(op: ValueVisit) -> Any:
    """The sizes, NaN where they are open."""
    dims = op.facts[0].shape
    if dims is None:
        return None
    return np.array([np.nan if size is None else size for size in dims], np.float64)
