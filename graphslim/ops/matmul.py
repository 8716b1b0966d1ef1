"""Products of two tensors whose axes have labels: matrix products, in batches too, and Einsum."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from graphslim.channels.facts import LAID_OUT, UNKNOWN, Axis, Fact, fits, per_channel, product
from graphslim.channels.reasons import OpenSize, OtherAxis
from graphslim.channels.rules import ValueVisit, channel_rule, cost_rule, value_rule
from graphslim.channels.visit import OpVisit
from graphslim.errors import AnalysisError
from graphslim.ir import Node
from graphslim.ir.families import MATRIX_PRODUCTS
from graphslim.ops.numeric import on_axis, stacked, summed, tie_weights, whole

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


@channel_rule("SparseMatMul", *MATRIX_PRODUCTS)
def matmul(op: OpVisit) -> Fact:
    """Ties the contracted axes, keeps rows and columns, aligns the batch."""
    labelled = labels_of(op.node, [op[0].rank, op[1].rank])
    if labelled is None:
        op.pin_all(OpenSize("it enters a matrix product at an unknown rank"))
        return UNKNOWN
    return multiply(op, *labelled)


@value_rule("SparseMatMul", *MATRIX_PRODUCTS)
def matmul_value(op: ValueVisit) -> Any:
    """Known rows times known weights."""
    labelled = labels_of(op.node, [known.rank for known in op.facts])
    return None if labelled is None else multiply_value(op, *labelled)


@cost_rule("SparseMatMul", *MATRIX_PRODUCTS)
def matmul_cost(node: Node, facts: Sequence[Fact], outs: Sequence[Fact]) -> Optional[int]:
    """The first axis of the result is left out: it is that of the examples."""
    labelled = labels_of(node, [known.rank for known in facts])
    if labelled is None:
        return None
    terms, result = labelled
    return multiply_cost(facts, terms, result, result[:1])


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
    """Ties axes with one label; one that an operand alone has, and not the result, is summed."""
    labelled = read_equation(op.node, [known.rank for known in op.facts])
    if labelled is None:
        op.pin_all(f"the Einsum {op.node.text('equation')} is not followed")
        return UNKNOWN
    return multiply(op, *labelled)


@value_rule("Einsum")
def einsum_value(op: ValueVisit) -> Any:
    """Known rows times known weights."""
    labelled = read_equation(op.node, [known.rank for known in op.facts])
    return None if labelled is None else multiply_value(op, *labelled)


@cost_rule("Einsum")
def einsum_cost(node: Node, facts: Sequence[Fact], outs: Sequence[Fact]) -> Optional[int]:
    """The first axis of the result is left out: it is that of the examples."""
    labelled = read_equation(node, [known.rank for known in facts])
    if labelled is None:
        return None
    terms, result = labelled
    return multiply_cost(facts, terms, result, result[:1]) if len(terms) == 2 else 0


_LARGEST = 1 << 26
"""How many numbers a product of constants may have that is computed."""
Labels = Sequence[str]
"""One label per axis; axes with the same label are multiplied position by position."""


def multiply(op: OpVisit, terms: Sequence[Labels], result: Labels) -> Fact:
    """The product of one or two tensors: labels that `result` lacks are summed over.

    Labels of both terms and of the result are batch axes, where size 1 broadcasts.
    """
    places: Dict[str, List[Tuple[int, int]]] = {}
    for index, labels in enumerate(terms):
        for axis, label in enumerate(labels):
            places.setdefault(label, []).append((index, axis))
    weights = 0 if len(terms) == 2 and op.is_constant(0) and not op.is_constant(1) else -1
    weights %= len(terms)
    merged = [_merged(op, places[label]) for label in result]
    _sum_over(op, terms, result, places, weights)
    if len(terms) == 2 and not op.is_constant(weights):
        for label, (_, ids) in zip(result, merged):
            op.note_heads(ids if len(places[label]) == 2 else None)
    if len(terms) == 2 and op.is_constant(weights):
        for axis, label in enumerate(terms[weights]):
            alone = label in result and len(places[label]) == 1
            op.mark(op[weights].channels(axis) if alone else None, "producer")
    return Fact.of(merged)


def _merged(op: OpVisit, places: Sequence[Tuple[int, int]]) -> Axis:
    """Size and ids of an axis that is kept, from the axes that share its label."""
    sizes = [op[index].size(axis) for index, axis in places]
    arrays = [op[index].channels(axis) for index, axis in places]
    wide = [place for place, size in enumerate(sizes) if size != 1] or [*range(len(places))]
    for place, ids in enumerate(arrays):
        if place not in wide:
            op.pin(ids, OtherAxis(f"a {op.node.op} broadcasts it over another axis"))
    stated = {sizes[place] for place in wide} - {None}
    if len(stated) > 1:
        raise AnalysisError(f"axes of sizes {sorted(stated)} meet", op.node.name)  # type: ignore
    axes = [arrays[place] for place in wide]
    op.tie_all(axes)
    return (stated.pop() if stated else None), next((ids for ids in axes if ids is not None), None)


def _sum_over(
    op: OpVisit,
    terms: Sequence[Labels],
    result: Labels,
    places: Dict[str, List[Tuple[int, int]]],
    weights: int,
) -> None:
    """Ties, and notes as contractions, the axes that are summed over."""
    gone = [label for label in places if label not in result]
    alone = [label for label in gone if len(places[label]) == 1]
    for label in alone:
        ((index, axis),) = places[label]
        op.sum_over(index, axis)
    both = [label for label in gone if len(places[label]) == 2]
    if not both:
        return
    data = 1 - weights
    target = _target(op, terms, result, weights)
    for label in both:
        axis, inner = terms[data].index(label), terms[weights].index(label)
        entering, inside = op[data].channels(axis), op[weights].channels(inner)
        if op.is_constant(weights):
            tie_weights(op, entering, inside)
        else:
            op.tie(entering, inside)
        if inside is None or (entering is None and not op.is_constant(weights)):
            continue
        if op.is_constant(weights):
            op.mark(inside, "consumer")
        out = None if target is None else terms[weights].index(target)
        op.contract(
            data=data,
            weights=weights,
            axis=axis,
            into=inside,
            out=None if out is None else op[weights].channels(out),
            matrix=_matrix(inner, out),
            uniform=len(both) == 1 and _is_even(op, terms, result, weights, target),
        )


def _target(op: OpVisit, terms: Sequence[Labels], result: Labels, weights: int) -> Optional[str]:
    """The label of the weights that stands for the channels produced: the last in the result."""
    produced = [
        label
        for label in result
        if label in terms[weights]
        and label not in terms[1 - weights]
        and op[weights].channels(terms[weights].index(label)) is not None
    ]
    return produced[-1] if produced else None


def _is_even(
    op: OpVisit, terms: Sequence[Labels], result: Labels, weights: int, target: Optional[str]
) -> bool:
    """Whether each channel of the last axis gets the same from a constant everywhere."""
    others = [
        label
        for axis, label in enumerate(terms[weights])
        if label in result and label != target and op[weights].size(axis) != 1
    ]
    shape = op[1 - weights].shape or ()
    counted = _sums_alone(terms[1 - weights], terms[weights], result, shape)
    return len(result) > 1 and target == result[-1] and not others and not counted


def _sums_alone(
    labels: Labels, others: Labels, result: Labels, shape: Sequence[Optional[int]]
) -> bool:
    """Whether an axis that the other operand lacks is summed over, once for each position."""
    return any(
        size != 1 and label not in others and label not in result
        for label, size in zip(labels, shape)
    )


def _matrix(inner: int, out: Optional[int]) -> Callable[[np.ndarray], np.ndarray]:
    """Turns weights into (taps, c_in, c_out)."""

    def turn(weights: np.ndarray) -> np.ndarray:
        if out is None:
            return stacked(np.moveaxis(weights, inner, -1), weights.shape[inner], 1)
        turned = np.moveaxis(weights, (inner, out), (-2, -1))
        return stacked(turned, weights.shape[inner], weights.shape[out])

    return turn


def multiply_value(op: ValueVisit, terms: Sequence[Labels], result: Labels) -> Any:
    """A product of constants, or a channel of the result that is the same at all other positions.

    That is so where one label is summed over, and one operand has just it and one of the result.
    """
    constant = _constant_product(op, terms, result)
    if constant is not None:
        return constant
    both = [label for label in terms[0] if label in terms[-1] and label not in result]
    if len(terms) != 2 or len(both) != 1:
        return _zeros(op, terms, result)
    for weights in (1, 0):
        full = whole(op, weights)
        varying = [
            axis
            for axis, label in enumerate(terms[weights])
            if full is not None and (label in result) and full.shape[axis] != 1
        ]
        data = op.facts[1 - weights]
        axis, inner = terms[1 - weights].index(both[0]), terms[weights].index(both[0])
        if full is None or len(varying) > 1 or data.shape is None:
            continue
        if _sums_alone(terms[1 - weights], terms[weights], result, data.shape):
            continue
        out = varying[0] if varying else None
        if out is not None and terms[weights][out] in terms[1 - weights]:
            continue
        inside = per_channel(op[1 - weights], axis, full.shape[inner])
        total = summed(inside, _matrix(inner, out)(full), True)
        place = 0 if out is None else result.index(terms[weights][out])
        if not np.isnan(total).all():
            value = on_axis(total, place, len(result)) if result else total.reshape(())
            zeros = _zeros(op, terms, result)  # of the other operand too
            return value if zeros is None else np.where(np.isnan(value), zeros, value)
    return _zeros(op, terms, result)


def _zeros(op: ValueVisit, terms: Sequence[Labels], result: Labels) -> Any:
    """0 where either operand is zero at all positions that are summed over, else unknown."""
    if not fits(LAID_OUT, *(op.outs[0].shape or ())):
        return None
    zero = np.zeros((1,) * len(result), bool)
    for value, labels in zip(op.values, terms):
        if value is not None:
            gone = tuple([axis for axis, label in enumerate(labels) if label not in result])
            labels_left = [label for label in labels if label in result]
            order = sorted(
                range(len(labels_left)), key=lambda place: result.index(labels_left[place])
            )
            rows = np.all(value == 0, axis=gone).transpose(order)
            sizes = iter(rows.shape)
            zero = zero | rows.reshape(
                [next(sizes) if label in labels_left else 1 for label in result]
            )
    return np.where(zero, 0.0, np.nan) if zero.any() else None


def _constant_product(
    op: ValueVisit, terms: Sequence[Labels], result: Labels
) -> Optional[np.ndarray]:
    """The whole product where all of both operands is known and nothing broadcasts."""
    operands = [whole(op, index) for index in range(len(terms))]
    if any(operand is None or np.isnan(operand).any() for operand in operands):
        return None
    sizes: Dict[str, Set[int]] = {}
    for operand, labels in zip(operands, terms):
        for size, label in zip(np.shape(operand), labels):  # type: ignore[arg-type]
            sizes.setdefault(label, set()).add(size)
    if any(len(widths) > 1 for widths in sizes.values()):
        return None
    made = [size for label in result for size in sizes[label]]
    if np.prod(made, dtype=float) > _LARGEST:
        return None
    numbers = {label: place for place, label in enumerate(sizes)}
    given: List[Any] = []
    for operand, labels in zip(operands, terms):
        given += [np.asarray(operand, np.float64), [numbers[label] for label in labels]]
    product: np.ndarray = np.einsum(*given, [numbers[label] for label in result], optimize=True)
    return product


def multiply_cost(
    facts: Sequence[Fact], terms: Sequence[Labels], result: Labels, examples: Labels
) -> Optional[int]:
    """One product for each position along each label but those of `examples`."""
    sizes: Dict[str, Optional[int]] = {}
    for known, labels in zip(facts, terms):
        for axis, label in enumerate(labels):
            size = known.size(axis)
            if label not in sizes or sizes[label] in (None, 1):
                sizes[label] = size if size is not None else sizes.get(label)
    return product([size for label, size in sizes.items() if label not in examples])
