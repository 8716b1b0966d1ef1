"""Ops that let a value pass or choose between values: Switch, Merge and what goes with them."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.reasons import OpenSize
from graphslim.ops.table import (
    UNKNOWN,
    Fact,
    Ids,
    OpVisit,
    ValueVisit,
    channel_rule,
    fact,
    value_rule,
)

_MEETS = OpenSize("it meets a tensor of unknown shape in a Merge")
_DIFFERS = "the branches that meet in a Merge give it different sizes"


@channel_rule("Switch", "RefSwitch")
def switch(op: OpVisit) -> List[Fact]:
    """Passes its data on at both outputs; the condition may be anything.

    Numbers are passed on without their origin: a constant is not rewritten through a Switch.
    """
    for ids in op[1].ids:
        op.pin(ids, "it is the condition of a Switch")
    return [op[0]._replace(atoms=None)] * 2


@value_rule("Switch", "RefSwitch")
def switch_value(op: ValueVisit) -> Any:
    """Passes its data on."""
    return op[0], op[0]


@channel_rule("Merge", "RefMerge")
def merge(op: OpVisit) -> List[Fact]:
    """Ties all its inputs axis by axis: whichever branch ran, the readers are the same."""
    index = fact(())
    facts = op.facts
    ranks = {known.rank for known in facts}
    if len(ranks) != 1 or None in ranks:
        op.pin_all(_MEETS if None in ranks else _DIFFERS)
        return [UNKNOWN, index]
    merged = [_merge_axis(op, axis) for axis in range(len(facts[0].ids))]
    return [Fact(tuple([size for size, _ in merged]), tuple([ids for _, ids in merged])), index]


def _merge_axis(op: OpVisit, axis: int) -> Tuple[Optional[int], Ids]:
    """Size and ids of one axis of what a Merge gives."""
    sizes = {known.size(axis) for known in op.facts}
    arrays = [known.channels(axis) for known in op.facts]
    if len(sizes - {None}) > 1:
        for ids in arrays:
            op.pin(ids, _DIFFERS)
        return None, None
    for ids in arrays[1:]:
        if ids is not None or arrays[0] is not None:
            op.tie(arrays[0], ids)
    size = None if None in sizes else sizes.pop()
    return size, None if any(ids is None for ids in arrays) else arrays[0]


@value_rule("Merge", "RefMerge")
def merge_value(op: ValueVisit) -> Any:
    """Known where all branches agree."""
    return _agreed(op.values), None


def _agreed(values: Sequence[Optional[np.ndarray]]) -> Optional[np.ndarray]:
    agreed: Optional[np.ndarray] = None
    for value in values:
        if value is None or value.dtype.kind not in "fiub":
            return None
        number = np.asarray(value, np.float64)
        agreed = number if agreed is None else np.where(agreed == number, agreed, np.nan)
    return agreed


@channel_rule("ControlTrigger", "Abort")
def nothing(op: OpVisit) -> List[Fact]:
    """Ops without outputs."""
    return []
