"""Einsum: products and sums by labels."""

from __future__ import annotations

import re
from typing import Any, List, Optional, Sequence, Tuple

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

Terms = Tuple[List[List[str]], List[str]]


def read_equation(node: Node, ranks: Sequence[Optional[int]]) -> Optional[Terms]:
    """The labels of each operand and of the result.

    The axes that `...` stands for are numbered from their end, as broadcasting aligns them.
    None for an equation that is not followed: with a label twice in one term, a label from
    nowhere, more than two operands, or `...` in an operand of unknown rank.
    """
    before, arrow, after = node.text("equation").replace(" ", "").partition("->")
    parts = before.split(",")
    if not arrow or len(parts) != len(ranks) or len(parts) > 2:
        return None
    terms: List[List[str]] = []
    for part, rank in zip(parts, ranks):
        named = len(re.findall(r"[a-zA-Z]", part))
        if ("..." in part and rank is None) or (rank is not None and rank < named):
            return None
        covered = (rank or 0) - named if "..." in part else 0
        terms.append(_expanded(part, covered))
        if rank not in (None, len(terms[-1])):
            return None
    widest = max([len([label for label in term if label.isdigit()]) for term in terms])
    result = _expanded(after, widest)
    distinct = all(len(set(labels)) == len(labels) for labels in (*terms, result))
    if not distinct or set(result) - {label for term in terms for label in term}:
        return None
    return terms, result


def _expanded(part: str, covered: int) -> List[str]:
    labels: List[str] = []
    for token in re.findall(r"\.\.\.|[a-zA-Z]", part):
        if token == "...":
            labels.extend([str(place) for place in range(covered - 1, -1, -1)])
        else:
            labels.append(token)
    return labels


@channel_rule("Einsum")
def einsum(op: OpVisit) -> Fact:
    """Ties axes with one label; a label that one operand alone has, and not the result, pins."""
    found = read_equation(op.node, [known.rank for known in op.facts])
    if found is None:
        op.pin_all(f"the Einsum {op.node.text('equation')} is not followed")
        return UNKNOWN
    return multiply(op, *found)


@value_rule("Einsum")
def einsum_value(op: ValueVisit) -> Any:
    """Known rows times known weights."""
    found = read_equation(op.node, [known.rank for known in op.facts])
    return None if found is None else multiply_value(op, *found)


@cost_rule("Einsum")
def einsum_cost(node: Node, facts: Sequence[Fact], outs: Sequence[Fact]) -> Optional[int]:
    """The first axis of the result is left out: it is that of the examples."""
    found = read_equation(node, [known.rank for known in facts])
    if found is None:
        return None
    terms, result = found
    return multiply_cost(facts, terms, result, result[:1]) if len(terms) == 2 else 0
