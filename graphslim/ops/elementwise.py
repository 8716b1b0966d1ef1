"""Ops that work position by position: activations, arithmetic, bias and batch norm."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from graphslim.errors import AnalysisError
from graphslim.ir import DType
from graphslim.ops.table import (
    UNKNOWN,
    Fact,
    Ids,
    OpVisit,
    ValueVisit,
    channel_axis,
    channel_rule,
    value_rule,
)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


_SELU_ALPHA, _SELU_SCALE = (
    1.6732632423543772,
    1.0507009873554805,
)  # Klambauer et al. 2017, arXiv 1706.02515
_UNARY: Dict[str, Optional[Callable[[np.ndarray], np.ndarray]]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "Relu6": lambda x: np.clip(x, 0, 6),
    "Elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "Selu": lambda x: _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(np.minimum(x, 0))),
    "Softplus": lambda x: np.logaddexp(x, 0),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sigmoid": _sigmoid,
    "Tanh": np.tanh,
    "Neg": np.negative,
    "Abs": np.abs,
    "Square": np.square,
    "Sqrt": np.sqrt,
    "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Exp": np.exp,
    "Log": np.log,
    "Log1p": np.log1p,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.round,
    "Sign": np.sign,
    "Reciprocal": lambda x: 1 / x,
    "Inv": lambda x: 1 / x,
    "Sin": np.sin,
    "Cos": np.cos,
    "Erf": None,
    "Erfc": None,
    "LogicalNot": None,
    "IsNan": None,
    "ZerosLike": np.zeros_like,
    "OnesLike": np.ones_like,
}
_BINARY: Dict[str, Optional[Callable[[Any, Any], Any]]] = {
    "Add": np.add,
    "AddV2": np.add,
    "Sub": np.subtract,
    "RealDiv": np.divide,
    "Div": np.divide,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Pow": np.power,
    "FloorDiv": np.floor_divide,
    "FloorMod": np.mod,
    "SquaredDifference": lambda x, y: np.square(x - y),
    "Mul": None,
    **dict.fromkeys(("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual")),
    **dict.fromkeys(("LogicalAnd", "LogicalOr")),
}


@channel_rule(*_UNARY, "LeakyRelu")
def unary(op: OpVisit) -> Fact:
    """Keeps shape and channels."""
    return op[0]._replace(value=None, atoms=None)


@value_rule(*[name for name, function in _UNARY.items() if function])
def unary_value(op: ValueVisit) -> Any:
    """Computes it in double precision."""
    function = _UNARY[op.node.op]
    if op[0] is None or function is None:
        return None
    with np.errstate(all="ignore"):
        return function(np.asarray(op[0], np.float64))


@value_rule("LeakyRelu")
def leaky_relu_value(op: ValueVisit) -> Any:
    """Its slope below zero is an attribute, 0.2 by default."""
    x = op[0]
    return None if x is None else np.where(x > 0, x, x * op.node.attrs.get("alpha", 0.2))


@channel_rule("Select")
def select(op: OpVisit) -> Fact:
    """A condition of rank 1 chooses along the first axis, unlike in other elementwise ops."""
    if op[0].rank == 1 and (op[1].rank or 0) > 1:
        op.tie(op[0].channels(0), op[1].channels(0))
        return broadcast(op, op.facts[1:])
    return broadcast(op, op.facts)


@value_rule("ClipByValue")
def clip_value(op: ValueVisit) -> Any:
    """Known where the value and both bounds are."""
    if any(value is None for value in op.values):
        return None
    return np.minimum(np.maximum(op[0], op[1]), op[2])  # type: ignore[arg-type]


@channel_rule(*_BINARY, "AddN", "SelectV2", "ClipByValue")
def elementwise(op: OpVisit) -> Fact:
    """Broadcasts as numpy does."""
    return broadcast(op, op.facts)


def broadcast(op: OpVisit, facts: Sequence[Fact]) -> Fact:
    """Aligns trailing axes: sizes above 1 are tied, size 1 broadcasts and ties nothing.

    Raises:
        AnalysisError: two sizes above 1 differ.
    """
    if any(known.shape is None for known in facts):
        for known in facts:
            if not all(size == 1 for size in known.shape or ()):
                for ids in known.ids:
                    op.pin(ids, "it is combined with a tensor of unknown rank")
        return UNKNOWN
    rank = max([len(known.shape or ()) for known in facts])
    sizes: List[Optional[int]] = []
    merged: List[Ids] = []
    for axis in range(-rank, 0):
        size, ids = _merge_axis(
            op, [known for known in facts if len(known.shape or ()) >= -axis], axis
        )
        sizes.append(size)
        merged.append(ids)
    return Fact(tuple(sizes), tuple(merged))


def _merge_axis(op: OpVisit, facts: Sequence[Fact], axis: int) -> Tuple[Optional[int], Ids]:
    wide = [known for known in facts if known.size(axis) != 1]
    if not wide:
        return 1, facts[0].channels(axis)
    sizes = {known.size(axis) for known in wide} - {None}
    if len(sizes) > 1:
        shapes = " and ".join([str(list(known.shape or ())) for known in facts])
        raise AnalysisError(f"a {op.node.op} of shapes {shapes}, which do not fit", op.node.name)
    arrays = [known.channels(axis) for known in wide]
    first = next((ids for ids in arrays if ids is not None), None)
    if first is None:
        return (sizes.pop() if sizes else None), None
    for ids in arrays:
        if ids is not first:
            op.tie(first, ids)
    return len(first), (first if all(ids is not None for ids in arrays) else None)


@value_rule(*[name for name, function in _BINARY.items() if function])
def binary_value(op: ValueVisit) -> Any:
    """Known where both operands are."""
    function = _BINARY[op.node.op]
    if op[0] is None or op[1] is None or function is None:
        return None
    with np.errstate(all="ignore"):
        result = function(np.asarray(op[0], np.float64), np.asarray(op[1], np.float64))
    kind = op.node.attrs.get("T")
    whole = op.node.op == "Div" and isinstance(kind, DType) and kind.is_integral
    return np.trunc(result) if whole else result


@value_rule("Mul")
def mul_value(op: ValueVisit) -> Any:
    """A zero on one side wins over an unknown on the other."""
    left, right = op[0], op[1]
    if left is None or right is None:
        one = left if right is None else right
        if one is None:
            return None
        zero = op.snap(np.asarray(one, np.float64)) == 0
        rank = op.outs[0].rank
        if rank is None or not zero.any():
            return None
        return np.where(zero, 0.0, np.nan).reshape((1,) * (rank - zero.ndim) + zero.shape)
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    zero = (op.snap(left) == 0) | (op.snap(right) == 0)
    known = ~np.isnan(left) & ~np.isnan(right)
    return np.where(zero & ~known, 0.0, left * right)


@value_rule("AddN")
def add_n_value(op: ValueVisit) -> Any:
    """Known where all operands are."""
    if any(value is None for value in op.values):
        return None
    total = np.asarray(op[0], np.float64)
    for value in op.values[1:]:
        total = total + np.asarray(value)
    return total


@channel_rule("BiasAdd", "BiasAddV1")
def bias_add(op: OpVisit) -> Fact:
    """Ties the bias with the channel axis."""
    axis = channel_axis(op.node)
    if op[0].shape is None:
        op.tie(None, op[1].channels(0))
        return UNKNOWN
    op.tie(op[0].channels(axis), op[1].channels(0))
    return op[0] if op[0].channels(axis) is not None else op[0].with_ids({axis: None})


def along(axis: int, rank: int, vector: np.ndarray) -> np.ndarray:
    """A vector laid along one axis of a tensor of that rank."""
    shape = [1] * rank
    shape[axis] = -1
    return np.asarray(vector, np.float64).reshape(shape)


@value_rule("BiasAdd", "BiasAddV1")
def bias_add_value(op: ValueVisit) -> Any:
    """Known where tensor and bias are."""
    bias, rank = op[1], op.outs[0].rank
    if op[0] is None or bias is None or rank is None:
        return None
    return np.asarray(op[0]) + along(channel_axis(op.node), rank, bias)


@channel_rule("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def fused_batch_norm(op: OpVisit) -> List[Fact]:
    """Ties the four vectors with the channel axis."""
    axis = channel_axis(op.node)
    for index in range(1, 5):
        vector = op[index].channels(0)
        if vector is not None and len(vector):
            op.tie(op[0].channels(axis), vector)
    vector_fact = op[1]
    return [op[0], *[vector_fact] * 4, UNKNOWN]


@value_rule("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def fused_batch_norm_value(op: ValueVisit) -> Any:
    """A zero scale leaves the offset; a known channel is normalised."""
    scale, offset, mean, variance = op.values[1:5]
    rank = op.outs[0].rank
    if op.node.attrs.get("is_training", True) or rank is None:
        return None
    if scale is None or offset is None or mean is None or variance is None or not variance.size:
        return None
    axis, epsilon = channel_axis(op.node), op.node.attrs.get("epsilon", 1e-4)
    data = np.asarray(np.nan if op[0] is None else op[0], np.float64)
    with np.errstate(all="ignore"):
        factor = along(axis, rank, op.snap(scale) / np.sqrt(variance.astype(np.float64) + epsilon))
    shifted = np.where(factor == 0, 0.0, data - along(axis, rank, mean))
    return (shifted * factor + along(axis, rank, offset),)


@channel_rule("Softmax", "LogSoftmax", "LRN", "L2Normalize")
def across_channels(op: OpVisit) -> Fact:
    """Pins the last axis, whose positions it weighs against each other."""
    for ids in op[0].ids[-1:]:
        op.pin(ids, "its value depends on every channel beside it")
    return op[0]
