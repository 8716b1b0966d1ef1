"""Convolutions that resize or pad first, as TF1's optimize_for_inference fuses them."""

from __future__ import annotations

from typing import Any, Optional, Sequence, Tuple

from graphslim.ir import Node
from graphslim.ops.conv import convolution, convolution_cost, convolution_value
from graphslim.ops.pad import mirrored, mirrored_value
from graphslim.ops.pool import even_map, resized
from graphslim.ops.table import Fact, OpVisit, ValueVisit, channel_rule, cost_rule, value_rule

PADDED_CONVOLUTIONS = ("FusedPadConv2D", "FusedResizeAndPadConv2D")
"""Their inputs are the data, the size (of the second), the amounts of padding and the filter."""


@channel_rule(*PADDED_CONVOLUTIONS)
def padded_convolution(op: OpVisit) -> Any:
    """The rules of its steps; the padding mirrors what is there, as in a MirrorPad."""
    filters = len(op) - 1
    data = resized(op) if filters == 3 else op[0]
    return convolution(op.part([mirrored(op, data, filters - 1), op[filters]], [0, filters]))


@value_rule(*PADDED_CONVOLUTIONS)
def padded_convolution_value(op: ValueVisit) -> Any:
    """What the steps make of a map that is the same everywhere."""
    filters = len(op) - 1
    data = even_map(op[0]) if filters == 3 else op[0]
    facts = [op.facts[0], op.facts[filters]]
    values = [mirrored_value(data, op[filters - 1]), op[filters]]
    return convolution_value(ValueVisit(op.node, values, facts, op.outs, op.zero_below))


@cost_rule(*PADDED_CONVOLUTIONS)
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
