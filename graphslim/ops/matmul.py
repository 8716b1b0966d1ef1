"""Matrix products, single and in batches."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

from graphslim.channels.reasons import OpenSize
from graphslim.errors import AnalysisError
from graphslim.ir import Node
from graphslim.ops.labels import multiply, multiply_cost, multiply_value
from graphslim.ops.table import (
    UNKNOWN,
    Fact,
    OpVisit,
    ValueVisit,
    channel_rule,
    cost_rule,
    value_rule,
)

_BATCHED = ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
Terms = Tuple[List[List[str]], List[str]]


def labels_of(node: Node, ranks: Sequence[Optional[int]]) -> Optional[Terms]:
    """The axes of both operands and of the result, by label; None at an unknown rank.

    Raises:
        AnalysisError: an operand has fewer than two axes.
    """
    if "BatchMatMul" in node.op:
        known = [rank for rank in ranks[:2] if rank is not None]
        flips = [bool(node.attrs.get(key)) for key in ("adj_x", "adj_y")]
    else:
        known = [2, 2]
        flips = [bool(node.attrs.get(key)) for key in ("transpose_a", "transpose_b")]
        if any(rank not in (None, 2) for rank in ranks[:2]):
            raise AnalysisError(f"a {node.op} of ranks {list(ranks[:2])}", node.name)
    if len(known) < 2:
        return None
    if min(known) < 2:
        raise AnalysisError(f"a {node.op} of ranks {known}", node.name)
    outer = [f"batch{place}" for place in range(max(known) - 2)]
    left, right = ["row", "inner"], ["inner", "column"]
    terms = []
    for labels, rank, flip in zip((left, right), known, flips):
        first = len(outer) - (rank - 2)
        terms.append([*outer[first:], *(labels[::-1] if flip else labels)])
    return terms, [*outer, "row", "column"]


@channel_rule("MatMul", "SparseMatMul", *_BATCHED)
def matmul(op: OpVisit) -> Fact:
    """Ties the contracted axes, keeps rows and columns, aligns the batch."""
    found = labels_of(op.node, [op[0].rank, op[1].rank])
    if found is None:
        op.pin_all(OpenSize("it enters a matrix product at an unknown rank"))
        return UNKNOWN
    return multiply(op, *found)


@value_rule("MatMul", "SparseMatMul", *_BATCHED)
def matmul_value(op: ValueVisit) -> Any:
    """Known rows times known weights."""
    found = labels_of(op.node, [known.rank for known in op.facts])
    return None if found is None else multiply_value(op, *found)


@cost_rule("MatMul", "SparseMatMul", *_BATCHED)
def matmul_cost(node: Node, facts: Sequence[Fact], outs: Sequence[Fact]) -> Optional[int]:
    """The first axis of a batch is left out; rows are positions where their number is known.

    An open number of rows is that of the examples.
    """
    found = labels_of(node, [known.rank for known in facts])
    if found is None:
        return None
    terms, result = found
    examples = result[:1] if len(result) > 2 or outs[0].size(0) is None else []
    return multiply_cost(facts, terms, result, examples)
