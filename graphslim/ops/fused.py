"""Convolutions and products that TensorFlow fused with what stands before or behind them."""

from __future__ import annotations

import math
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.facts import UNKNOWN, Fact, channel_axis, fit_together
from graphslim.channels.rules import VALUE_RULES, ValueVisit, channel_rule, cost_rule, value_rule
from graphslim.channels.visit import OpVisit
from graphslim.ir import Attrs, Node
from graphslim.ir.families import FUSED_ACTIVATIONS, PADDED_CONVOLUTIONS, NormInputs
from graphslim.ops.conv import (
    convolution,
    convolution_cost,
    convolution_value,
    depthwise,
    depthwise_cost,
    depthwise_value,
)
from graphslim.ops.elementwise import broadcast
from graphslim.ops.join import mirrored, mirrored_value
from graphslim.ops.matmul import matmul, matmul_cost, matmul_value
from graphslim.ops.norm import normalised
from graphslim.ops.numeric import on_axis
from graphslim.ops.pool import even_map, resized


@channel_rule(*sorted(PADDED_CONVOLUTIONS))
def padded_convolution(op: OpVisit) -> Any:
    """The rules of its steps; the padding mirrors what is there, as in a MirrorPad."""
    filters = len(op) - 1
    data = resized(op) if filters == 3 else op[0]
    return convolution(op.part([mirrored(op, data, filters - 1), op[filters]], [0, filters]))


@value_rule(*sorted(PADDED_CONVOLUTIONS))
def padded_convolution_value(op: ValueVisit) -> Any:
    """What the steps make of a map that is the same everywhere."""
    filters = len(op) - 1
    data = even_map(op[0]) if filters == 3 else op[0]
    facts = [op.facts[0], op.facts[filters]]
    values = [mirrored_value(data, op[filters - 1]), op[filters]]
    return convolution_value(ValueVisit(op.node, values, facts, op.outs, op.zero_below))


@cost_rule(*sorted(PADDED_CONVOLUTIONS))
def padded_convolution_cost(
    node: Node, facts: Sequence[Fact], outs: Sequence[Fact]
) -> Optional[int]:
    """That of the convolution alone."""
    return convolution_cost(node, [facts[0], facts[-1]], outs)


def operands(node: Node, inputs: Sequence[Any]) -> Tuple[Any, ...]:
    """The inputs of a node without sizes and padding: a convolution's data and its filter."""
    if node.op in PADDED_CONVOLUTIONS and len(inputs) > 1:
        return (inputs[0], inputs[-1])
    return tuple(inputs)


_TAKES = {"BiasAdd": 1, "FusedBatchNorm": 4, "Add": 1, "Mul": 1}
"""How many of the further inputs a step takes; activations take none."""
_OWN_OFFSETS = {"BiasAdd": (2, 1.0), "FusedBatchNorm": (NormInputs(2, 3, 4, 5).mean, -1.0)}
"""By the first step, the input that shifts the sums and the sign with which it does."""
_KERNELS = {
    "_FusedConv2D": (convolution, convolution_value, convolution_cost),
    "_FusedDepthwiseConv2dNative": (depthwise, depthwise_value, depthwise_cost),
    "_FusedMatMul": (matmul, matmul_value, matmul_cost),
    "_FusedBatchMatMulV2": (matmul, matmul_value, matmul_cost),
}


def steps_of(node: Node, inputs: int) -> Optional[List[Tuple[str, Sequence[int]]]]:
    """The steps after the product, each with the inputs that it takes.

    None where a step is not known, or the inputs are not as many as the steps take.
    """
    steps: List[Tuple[str, Sequence[int]]] = []
    at = 2
    for text in node.attrs.get("fused_ops", []):
        name = text.decode("utf-8", "replace")
        if name not in _TAKES and name not in FUSED_ACTIVATIONS:
            return None
        taken = range(at, at + _TAKES.get(name, 0))
        steps.append((name, taken))
        at += len(taken)
    return steps if at == inputs else None


def own_offset(node: Node) -> Optional[Tuple[int, float]]:
    """The input of a fused op that shifts its sums: its bias, or with sign -1 its mean.

    None where it has none, or is not a fused op.
    """
    if node.op not in _KERNELS:
        return None
    first = [text.decode("utf-8", "replace") for text in node.attrs.get("fused_ops", [])][:1]
    return _OWN_OFFSETS.get(first[0]) if first else None


def takes_offset(node: Node) -> bool:
    """Whether a constant can be added to the sums that a node computes."""
    return node.op not in _KERNELS or own_offset(node) is not None


@channel_rule(*_KERNELS)
def fused(op: OpVisit) -> Fact:
    """The rule of the product, then vectors tied with its channels and tensors added to it."""
    steps = steps_of(op.node, len(op))
    if steps is None:
        op.pin_all(f"a {op.node.op} computes more than is followed")
        return UNKNOWN
    given = _KERNELS[op.node.op][0](op)
    result = given if isinstance(given, Fact) else given[0]
    for name, taken in steps:
        if name in ("BiasAdd", "FusedBatchNorm"):
            for index in taken:
                op.tie(result.channels(_axis(op.node)), op[index].channels(0))
        elif name in _TAKES:
            result = broadcast(op, [result, *[op[index] for index in taken]])
    return result


def _axis(node: Node) -> int:
    return -1 if "MatMul" in node.op else channel_axis(node)


@value_rule(*_KERNELS)
def fused_value(op: ValueVisit) -> Any:
    """Step by step what the parts compute."""
    steps, rank = steps_of(op.node, len(op)), op.outs[0].rank
    if steps is None or rank is None:
        return None
    value = _KERNELS[op.node.op][1](op)
    for name, taken in steps:
        vectors = [op[index] for index in taken]
        value = _step(op, name, value, vectors, rank)
    return value


def _step(
    op: ValueVisit, name: str, value: Any, vectors: Sequence[Optional[np.ndarray]], rank: int
) -> Any:
    axis = _axis(op.node)
    if name == "FusedBatchNorm":
        return normalised(op, value, vectors, axis, rank)
    if value is None or any(vector is None for vector in vectors):
        return None
    if name not in _TAKES:
        return activated(op, name, value)
    other: Any = vectors[0]
    if name == "BiasAdd":
        other = on_axis(other.ravel(), axis, rank)
    if not fit_together(value, other):
        return None
    return value * other if name == "Mul" else value + other


def activated(op: ValueVisit, name: str, value: np.ndarray) -> Any:
    """What a fused activation makes of a value; None for those of the CPU library alone."""
    if name.startswith("Gelu"):
        return _gelu(value, name == "GeluApproximate")
    if name not in VALUE_RULES:
        return None
    attrs = {"alpha": op.node.attrs.get("leakyrelu_alpha", 0.2)} if name == "LeakyRelu" else {}
    alone = Node(op.node.name, name, Attrs(attrs))
    return VALUE_RULES[name](ValueVisit(alone, [value], op.outs, op.outs, op.zero_below))


def _gelu(x: np.ndarray, approximate: bool) -> np.ndarray:
    """The Gaussian error linear unit (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""
    x = np.asarray(x, np.float64)
    if approximate:
        share = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    else:
        share = np.vectorize(math.erf, otypes=[float])(x / np.sqrt(2))
    return 0.5 * x * (1 + share)


@cost_rule(*_KERNELS)
def fused_cost(node: Node, facts: Sequence[Fact], outs: Sequence[Fact]) -> Optional[int]:
    """That of the product alone."""
    return _KERNELS[node.op][2](node, facts, outs)
