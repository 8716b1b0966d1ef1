"""Functions of one tensor, position by position: activations and the rest of mathematics."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Optional

import numpy as np

from graphslim.ops.rounding import noise, settled, stepwise
from graphslim.ops.table import Fact, OpVisit, ValueVisit, channel_rule, value_rule

Function = Callable[[np.ndarray], np.ndarray]

_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805  # Klambauer et al. 2017, arXiv 1706.02515


def _each(function: Callable[[float], float]) -> Function:
    """A function of single numbers, for arrays; NaN where it has no value."""

    def one(number: float) -> float:
        try:
            return function(number)
        except (ValueError, OverflowError):
            return math.nan

    def every(x: np.ndarray) -> np.ndarray:
        distinct, where = np.unique(x, return_inverse=True)
        found = np.array([one(number) for number in distinct.tolist()], np.float64)
        return found[where].reshape(x.shape)

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
_UNKNOWN = (
    *("Bucketize", "Invert", "PopulationCount", "Digamma", "Erfinv", "Ndtri", "CheckNumericsV2"),
    *("BesselI0", "BesselI1", "BesselI0e", "BesselI1e", "BesselJ0", "BesselJ1", "BesselK0"),
    *("BesselK1", "BesselK0e", "BesselK1e", "BesselY0", "BesselY1", "Dawsn", "Expint", "Spence"),
    *("FresnelCos", "FresnelSin", "Real", "Imag", "Conj", "Angle", "ComplexAbs"),
)
"""Ops of which only the shape is known."""


@channel_rule(*SMOOTH, *STEPS, *_CONSTANT, *_UNKNOWN, "LeakyRelu", "_UnaryOpsComposition")
def unary(op: OpVisit) -> Fact:
    """Keeps shape and channels."""
    return op[0]._replace(value=None, atoms=None)


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
