"""Functions position by position: arithmetic, choices and bias, activations and mathematics."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.facts import UNKNOWN, Fact, Ids, channel_axis, fit_together
from graphslim.channels.reasons import OpenSize
from graphslim.channels.rules import ValueVisit, channel_rule, value_rule
from graphslim.channels.visit import OpVisit
from graphslim.errors import AnalysisError
from graphslim.ir import DType
from graphslim.ir.families import BIASES
from graphslim.ops.numeric import apart, noise, on_axis, settled, stepwise

Function = Callable[..., Any]

_SMOOTH: Dict[str, Function] = {
    "Add": np.add,
    "AddV2": np.add,
    "Sub": np.subtract,
    "RealDiv": np.divide,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Pow": np.power,
    "Atan2": np.arctan2,
    "SquaredDifference": lambda x, y: np.square(x - y),
}
"""Known where both operands are."""
_QUOTIENTS: Dict[str, Callable[[Any], Any]] = {
    "FloorDiv": np.floor,
    "FloorMod": np.floor,
    "TruncateDiv": np.trunc,
    "TruncateMod": np.trunc,
    "Mod": np.trunc,
}
"""How each rounds the quotient that it gives, or of which it gives the remainder."""
_COMPARISONS: Dict[str, Function] = {
    "Equal": np.equal,
    "NotEqual": np.not_equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Less": np.less,
    "LessEqual": np.less_equal,
}
_DECIDED: Dict[str, Function] = {
    "Mul": lambda x, y: (x == 0) | (y == 0),
    "MulNoNan": lambda x, y: (x == 0) | (y == 0),
    "DivNoNan": lambda x, y: (x == 0) | (y == 0),
    "Xdivy": lambda x, y: x == 0,
    "Xlogy": lambda x, y: x == 0,
    "Xlog1py": lambda x, y: x == 0,
    "LogicalAnd": lambda x, y: (x == 0) | (y == 0),
    "LogicalOr": lambda x, y: (x == 1) | (y == 1),
}
"""Where one operand decides, whatever the other is: the result is 0 there (1 for LogicalOr)."""
_OTHERWISE: Dict[str, Function] = {
    "Mul": np.multiply,
    "MulNoNan": np.multiply,
    "DivNoNan": np.divide,
    "Xdivy": np.divide,
    "Xlogy": lambda x, y: x * np.log(y),
    "Xlog1py": lambda x, y: x * np.log1p(y),
    "LogicalAnd": np.multiply,
    "LogicalOr": np.maximum,
}
ELEMENTWISE = (
    *(*_SMOOTH, *_QUOTIENTS, *_COMPARISONS, *_DECIDED),
    # Of these only the shape is known.
    *("BitwiseAnd", "BitwiseOr", "BitwiseXor", "LeftShift", "RightShift"),
    *("ApproximateEqual", "NextAfter", "Complex", "Polygamma", "Zeta", "Igamma", "Igammac"),
    *("Betainc", "AccumulateNV2"),
    *("Div", "AddN", "SelectV2", "ClipByValue"),
)
"""Ops that broadcast their operands."""


# ------------------------------------------------------------------ shapes and channels


@channel_rule(*ELEMENTWISE)
def elementwise(op: OpVisit) -> Fact:
    """Broadcasts as numpy does."""
    return broadcast(op, op.facts)


@channel_rule("Select")
def select(op: OpVisit) -> Fact:
    """A condition of rank 1 chooses along the first axis, unlike in other elementwise ops."""
    if op[0].rank == 1 and (op[1].rank or 0) > 1:
        op.tie(op[0].channels(0), op[1].channels(0))
        return broadcast(op, op.facts[1:])
    return broadcast(op, op.facts)


def broadcast(op: OpVisit, facts: Sequence[Fact]) -> Fact:
    """Aligns trailing axes: sizes above 1 are tied; a size of 1 that is spread is pinned.

    Raises:
        AnalysisError: two sizes above 1 differ.
    """
    if any(known.shape is None for known in facts):
        for known in facts:
            for ids in known.ids:
                op.pin(ids, OpenSize("it is combined with a tensor of unknown rank"))
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
    for known in facts:
        if wide and known.size(axis) == 1:
            op.pin(known.channels(axis), "it is spread over all positions of an axis")
    sizes = {known.size(axis) for known in wide} - {None}
    if len(sizes) > 1:
        shapes = " and ".join([str(list(known.shape or ())) for known in facts])
        raise AnalysisError(f"a {op.node.op} of shapes {shapes}, which do not fit", op.node.name)
    arrays = [known.channels(axis) for known in wide or facts]
    return (sizes.pop() if sizes else None) if wide else 1, op.tie_all(arrays)


@channel_rule(*BIASES)
def bias_add(op: OpVisit) -> Fact:
    """Ties the bias with the channel axis."""
    axis = channel_axis(op.node)
    if op[0].shape is None:
        op.tie(None, op[1].channels(0))
        return UNKNOWN
    op.tie(op[0].channels(axis), op[1].channels(0))
    return op[0].with_size(axis, op[1].size(0))


# ------------------------------------------------------------------ values


def _operands(op: ValueVisit) -> Optional[List[np.ndarray]]:
    """What is known of each operand, with the rank of the result; None if that is nothing."""
    rank = op.outs[0].rank
    if rank is None or all(value is None for value in op.values):
        return None
    given = [np.asarray(np.nan if value is None else value, np.float64) for value in op.values]
    operands = [value.reshape((1,) * (rank - value.ndim) + value.shape) for value in given]
    return operands if fit_together(*operands) else None


@value_rule(*_SMOOTH, "Div")
def smooth_value(op: ValueVisit) -> Any:
    """Known where both operands are."""
    operands = _operands(op)
    if operands is None or op[0] is None or op[1] is None:
        return None
    kind = op.node.attrs.get("T")
    with np.errstate(all="ignore"):
        result = _SMOOTH.get(op.node.op, np.divide)(*operands)
        if op.node.op in ("Div", "RealDiv") and isinstance(kind, DType) and kind.is_integral:
            result = np.trunc(result)
        return settled(op, result)


@value_rule(*_QUOTIENTS)
def quotient_value(op: ValueVisit) -> Any:
    """Known where both operands are, and where the quotient is not too near a whole number."""
    operands = _operands(op)
    if operands is None or op[0] is None or op[1] is None:
        return None
    x, y = operands
    with np.errstate(all="ignore"):
        whole = stepwise(_QUOTIENTS[op.node.op], x / y, noise(op))
        return settled(op, whole if op.node.op.endswith("Div") else x - whole * y)


@value_rule(*_COMPARISONS)
def comparison_value(op: ValueVisit) -> Any:
    """1 or 0 where both operands are known and not so near that rounding decides."""
    operands = _operands(op)
    if operands is None or op[0] is None or op[1] is None:
        return None
    x, y = operands
    with np.errstate(all="ignore"):
        sure = apart(x, y, noise(op)) & ~np.isnan(x) & ~np.isnan(y)
        return np.where(sure, _COMPARISONS[op.node.op](x, y), np.nan)


@value_rule(*_DECIDED)
def decided_value(op: ValueVisit) -> Any:
    """A zero on one side wins over an unknown on the other."""
    operands = _operands(op)
    if operands is None:
        return None
    name = op.node.op
    x, y = operands
    with np.errstate(all="ignore"):
        decided = _DECIDED[name](op.snap(x), op.snap(y))
        known = ~np.isnan(x) & ~np.isnan(y)
        if name in ("Mul", "MulNoNan"):
            # Where both are known, the product is right whether or not a factor is snapped.
            decided &= ~known | (x == 0) | (y == 0)
        decider = 1.0 if name == "LogicalOr" else 0.0
        return settled(op, np.where(decided, decider, _OTHERWISE[name](x, y)))


@value_rule("AddN")
def add_n_value(op: ValueVisit) -> Any:
    """Known where all operands are."""
    operands = _operands(op)
    if operands is None or any(value is None for value in op.values):
        return None
    return settled(op, np.asarray(sum(operands[1:], operands[0])))


@value_rule("ClipByValue")
def clip_value(op: ValueVisit) -> Any:
    """Known where the value and both bounds are."""
    operands = _operands(op)
    if operands is None:
        return None
    x, low, high = operands
    return np.minimum(np.maximum(x, low), high)


@value_rule("SelectV2", "Select")
def select_value(op: ValueVisit) -> Any:
    """Known where the choice is, or where both alternatives are the same."""
    operands = _operands(op)
    if operands is None:
        return None
    choice, yes, no = operands
    if op.node.op == "Select" and op.facts[0].rank != 0:
        if op.facts[0].rank is None:
            choice = np.full_like(choice, np.nan)
        elif op.facts[0].rank == 1:
            choice = choice.reshape((-1,) + (1,) * (choice.ndim - 1))  # along the first axis
        if not fit_together(choice, yes, no):
            return None
    either = np.where(yes == no, yes, np.nan)
    return np.where(np.isnan(choice), either, np.where(choice != 0, yes, no))


@value_rule(*BIASES)
def bias_add_value(op: ValueVisit) -> Any:
    """Known where tensor and bias are."""
    bias, rank = op[1], op.outs[0].rank
    if op[0] is None or bias is None or rank is None:
        return None
    offset = on_axis(np.asarray(bias, np.float64).ravel(), channel_axis(op.node), rank)
    return settled(op, op[0] + offset) if fit_together(op[0], offset) else None


_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805  # Klambauer et al. 2017, arXiv 1706.02515


def _each(function: Callable[[float], float]) -> Function:
    """A function of single numbers, for arrays; NaN where it has no value."""

    def value_at(number: float) -> float:
        try:
            return function(number)
        except (ValueError, OverflowError):
            return math.nan

    def every(x: np.ndarray) -> np.ndarray:
        distinct, where = np.unique(x, return_inverse=True)
        results = np.array([value_at(number) for number in distinct.tolist()], np.float64)
        return results[where].reshape(x.shape)

    return every


def _where_known(test: Function) -> Function:
    """A test as 0 or 1, NaN where what is tested is unknown."""
    return lambda x: np.where(np.isnan(x), np.nan, test(x))


SMOOTH: Dict[str, Function] = {
    "Relu": lambda x: np.maximum(x, 0),
    "Relu6": lambda x: np.clip(x, 0, 6),
    "Elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "Selu": lambda x: _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(np.minimum(x, 0))),
    "Softplus": lambda x: np.logaddexp(x, 0),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Neg": np.negative,
    "Abs": np.abs,
    "Square": np.square,
    "Sqrt": np.sqrt,
    "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Reciprocal": lambda x: 1 / x,
    "Inv": lambda x: 1 / x,
    "Exp": np.exp,
    "Expm1": np.expm1,
    "Log": np.log,
    "Log1p": np.log1p,
    "Sin": np.sin,
    "Cos": np.cos,
    "Tan": np.tan,
    "Asin": np.arcsin,
    "Acos": np.arccos,
    "Atan": np.arctan,
    "Sinh": np.sinh,
    "Cosh": np.cosh,
    "Tanh": np.tanh,
    "Asinh": np.arcsinh,
    "Acosh": np.arccosh,
    "Atanh": np.arctanh,
    "Erf": _each(math.erf),
    "Erfc": _each(math.erfc),
    "Lgamma": _each(math.lgamma),
    "LogicalNot": lambda x: 1 - x,
}
"""Functions that rounding barely moves."""
_CONSTANT = {"ZerosLike": 0.0, "OnesLike": 1.0}
"""Ops that ask a tensor for its shape alone."""
STEPS: Dict[str, Function] = {
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.round,
    "Rint": np.round,
    "Sign": np.sign,
    "IsNan": _where_known(lambda x: np.zeros_like(x)),
    "IsInf": _where_known(np.isinf),
    "IsFinite": _where_known(np.isfinite),
}
"""Functions that jump."""


@channel_rule(
    *(*SMOOTH, *STEPS, *_CONSTANT),
    # Of these only the shape is known.
    *("Bucketize", "Invert", "PopulationCount", "Digamma", "Erfinv", "Ndtri", "CheckNumericsV2"),
    *("BesselI0", "BesselI1", "BesselI0e", "BesselI1e", "BesselJ0", "BesselJ1", "BesselK0"),
    *("BesselK1", "BesselK0e", "BesselK1e", "BesselY0", "BesselY1", "Dawsn", "Expint", "Spence"),
    *("FresnelCos", "FresnelSin", "Real", "Imag", "Conj", "Angle", "ComplexAbs"),
    *("LeakyRelu", "_UnaryOpsComposition"),
)
def unary(op: OpVisit) -> Fact:
    """Keeps shape and channels."""
    return op[0].without_value()


def _apply(name: str, op: ValueVisit, x: np.ndarray) -> Optional[np.ndarray]:
    with np.errstate(all="ignore"):
        if name in STEPS:
            return stepwise(STEPS[name], x, noise(op))
        if name in SMOOTH:
            return settled(op, np.asarray(SMOOTH[name](x)))
    return None


@value_rule(*SMOOTH, *STEPS)
def unary_value(op: ValueVisit) -> Any:
    """Computes it in double precision."""
    return None if op[0] is None else _apply(op.node.op, op, np.asarray(op[0], np.float64))


@value_rule(*_CONSTANT)
def constant_like_value(op: ValueVisit) -> Any:
    """Known whatever it reads."""
    rank, numbers = op.outs[0].rank, op.facts[0].value
    if rank is None:
        return None
    return np.full((1,) * rank if numbers is None else numbers.shape, _CONSTANT[op.node.op])


@value_rule("_UnaryOpsComposition")
def composition_value(op: ValueVisit) -> Any:
    """Several functions, one after the other, as grappler joins them."""
    x = None if op[0] is None else np.asarray(op[0], np.float64)
    for name in op.node.attrs["op_names"]:
        if x is None:
            return None
        x = _apply(name.decode() if isinstance(name, bytes) else str(name), op, x)
    return x


@value_rule("LeakyRelu")
def leaky_relu_value(op: ValueVisit) -> Any:
    """Its slope below zero is an attribute, 0.2 by default."""
    x = op[0]
    return None if x is None else np.where(x > 0, x, x * op.node.attrs.get("alpha", 0.2))


@value_rule("CheckNumericsV2")
def checked_value(op: ValueVisit) -> Any:
    """Passes its input on, or stops the run."""
    return op[0]
