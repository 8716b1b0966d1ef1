"""Variables in training graphs: reading, assigning, and what optimizers do to them.

A handle of a variable carries the ids of its value, so that both flavours of variables are alike.
"""

from __future__ import annotations

from typing import List

from graphslim.ops.table import Fact, fact
from graphslim.ops.training import TrainingVisit, alike, plain, training_rule

VARIABLE_OPS = frozenset(("Variable", "VariableV2", "VarHandleOp", "AutoReloadVariable"))


@training_rule(*sorted(VARIABLE_OPS))
def variable(op: TrainingVisit) -> Fact:
    """New ids on every axis, as a constant has."""
    shape = op.shape_attr("shape")
    if shape is None or None in shape:
        return fact(shape)
    return op.parameter([size or 0 for size in shape])


@training_rule("ReadVariableOp", "RefIdentity", "Print", "RefEnter", "Enter")
def passed_on(op: TrainingVisit) -> Fact:
    """The value of the variable."""
    return plain(op[0])


@training_rule("IsVariableInitialized", "VarIsInitializedOp")
def asked(op: TrainingVisit) -> Fact:
    """One truth value."""
    return fact(())


@training_rule("Assign", "AssignAdd", "AssignSub")
def assigned(op: TrainingVisit) -> Fact:
    """The variable is like what is assigned."""
    return plain(alike(op, op.facts[:2]))


@training_rule("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")
def assigned_by_handle(op: TrainingVisit) -> List[Fact]:
    """The variable is like what is assigned."""
    alike(op, op.facts[:2])
    return []


@training_rule("Apply", "ResourceApply", family=True)
def applied(op: TrainingVisit) -> List[Fact]:
    """An optimizer's step: the slots and the gradient are like the variable, the rest scalars."""
    alike(op, [op[0], *(known for known in op.facts[1:] if known.rank and _fits(op[0], known))])
    return [] if op.node.op.startswith("Resource") else [op[0]]


def _fits(first: Fact, second: Fact) -> bool:
    """Whether two tensors may have one shape."""
    return first.rank == second.rank and all(
        one == other or None in (one, other)
        for one, other in zip(first.shape or (), second.shape or ())
    )


@training_rule("SparseApply", "ResourceSparseApply", family=True)
def applied_to_rows(op: TrainingVisit) -> List[Fact]:
    """A step for some rows: slots are like the variable, the gradient along all axes but one."""
    for known in op.facts[1:]:
        if known.rank and known.rank == op[0].rank:
            if known.shape == op[0].shape:
                alike(op, [op[0], known])
            else:
                _tie_behind(op, known)
    return [] if op.node.op.startswith("Resource") else [op[0]]


@training_rule("Scatter", "ResourceScatter", family=True)
def scattered(op: TrainingVisit) -> List[Fact]:
    """Some rows are written: the last axes are those of the variable."""
    if len(op) > 2 and "ScatterNd" not in op.node.op:
        _tie_behind(op, op[2])
    return [] if op.node.op.startswith("Resource") else [op[0]]


@training_rule("ResourceGather")
def gathered(op: TrainingVisit) -> Fact:
    """Some rows are read."""
    data, places = op[0], op[1]
    if not data.rank or places.shape is None:
        return Fact()
    return Fact(
        (*places.shape, *(data.shape or ())[1:]), ((None,) * len(places.shape) + data.ids[1:])
    )


def _tie_behind(op: TrainingVisit, rows: Fact) -> None:
    """Ties the axes behind the first one of the variable with the last ones of some rows."""
    for axis in range(-(op[0].rank or 1) + 1, 0):
        op.tie(op[0].channels(axis), rows.channels(axis))
