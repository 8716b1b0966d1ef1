"""The rules of training graphs, which hold beside those of inference and before them.

Where a graph is trained only its sizes matter, not what may go: the rules here carry ids on
through ops that inference stops at, and take those that a stated shape counts where the tensor
itself is not followed. Inference never uses them.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from graphslim.ir import Node
from graphslim.ops.table import CHANNEL_RULES, UNKNOWN, Fact, Ids, OpVisit, fact

_FAMILIES: Dict[str, TrainingRule] = {}
TRAINING_RULES: Dict[str, TrainingRule] = {}
LONGEST = 1 << 22
"""Axes of more positions are not followed: no parameter has such."""


class TrainingVisit(OpVisit):
    """An op of a training graph as a rule sees it; `walk` is a `checkpoint.walk.TrainingWalk`."""

    def tie(self, first: Ids, second: Ids) -> None:
        """Makes channels one; sides that are not followed, or do not fit, are left as they are."""
        self._walk.tie(self.node, first, second)

    def pin(self, ids: Ids, why: str) -> None:
        """Nothing is pinned in training graphs."""

    def mark(self, ids: Ids, role: str) -> None:
        """Roles do not matter in training graphs."""

    def split(
        self, flat: np.ndarray, sizes: Sequence[int], preferred: Optional[int]
    ) -> Sequence[Ids]:
        """The ids of the axes that one is split into: those of the part along which it is cut."""
        parts: Sequence[Ids] = self._walk.split(self.node, flat, sizes, preferred)
        return parts

    def merged(self, ids: np.ndarray) -> np.ndarray:
        """For each id the first one that the ties so far make the same channel; shape (n,)."""
        found: np.ndarray = self._walk.merged(ids)
        return found

    def is_rooted(self, ids: np.ndarray) -> bool:
        """Whether the ties so far lead from one of these ids to a variable."""
        rooted: bool = self._walk.is_rooted(ids)
        return rooted

    def going(self, ids: np.ndarray) -> np.ndarray:
        """Which of these ids the ties so far lead from to one that goes; bool of their shape."""
        going: np.ndarray = self._walk.going(ids)
        return going

    def product(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The ids of axes that are flattened together, each spread to the whole shape."""
        flat: np.ndarray = self._walk.product(parts)
        return flat

    def is_product(self, ids: np.ndarray) -> bool:
        """Whether ids are of axes that were flattened together."""
        mixed: bool = self._walk.is_product(ids)
        return mixed

    def parameter(self, shape: Sequence[int]) -> Fact:
        """The fact of a variable: new ids on every axis."""
        known: Fact = self._walk.parameter(self.node, shape)
        return known

    def number(self, ids: np.ndarray) -> float:
        """An origin (see `analysis.sizes`) of a number that counts these channels."""
        origin: float = self._walk.sizes.number(ids)
        return origin

    def counted(self, index: int, element: int) -> Tuple[Optional[int], Ids]:
        """See `OpVisit.counted`; axes longer than any parameter's are not followed."""
        value = self[index].value
        if value is not None and value.ravel()[element] > LONGEST:
            return int(value.ravel()[element]), None
        return super().counted(index, element)


TrainingRule = Callable[[TrainingVisit], Any]


def training_rule(*ops: str, family: bool = False) -> Callable[[TrainingRule], TrainingRule]:
    """Registers what ops do in training graphs: a fact, or one for each output.

    Args:
        ops: the ops.
        family: whether these are the beginnings of their names.
    """

    def register(function: TrainingRule) -> TrainingRule:
        (_FAMILIES if family else TRAINING_RULES).update(dict.fromkeys(ops, function))
        return function

    return register


def rule_for(node: Node) -> Optional[TrainingRule]:
    """The rule of an op in a training graph; None if it has none."""
    rule = TRAINING_RULES.get(node.op) or CHANNEL_RULES.get(node.op)
    if rule is None:
        families = [start for start in _FAMILIES if node.op.startswith(start)]
        rule = _FAMILIES[families[0]] if families else None
    return rule


def alike(op: TrainingVisit, facts: Sequence[Fact]) -> Fact:
    """The fact of tensors that have one shape; ties them axis by axis."""
    known = [one for one in facts if one.shape is not None]
    if not known or any(one.rank != known[0].rank for one in known):
        return known[0] if known else UNKNOWN
    shape: List[Optional[int]] = []
    ids: List[Ids] = []
    for axis in range(len(known[0].ids)):
        sizes = [one.size(axis) for one in known]
        arrays = [one.ids[axis] for one in known if one.ids[axis] is not None]
        for other in arrays[1:]:
            op.tie(arrays[0], other)
        shape.append(next((size for size in sizes if size is not None), None))
        ids.append(arrays[0] if arrays else None)
    return Fact(tuple(shape), tuple(ids))


def spread(op: TrainingVisit, facts: Sequence[Fact]) -> Fact:
    """Broadcasts as numpy does; an axis has the ids of any operand that is followed there."""
    if any(known.shape is None for known in facts):
        return UNKNOWN
    rank = max(len(known.ids) for known in facts)
    shape: List[Optional[int]] = []
    ids: List[Ids] = []
    for axis in range(-rank, 0):
        there = [known for known in facts if len(known.ids) >= -axis]
        wide = [known for known in there if known.size(axis) != 1] or there
        arrays = [known.ids[axis] for known in wide if known.ids[axis] is not None]
        for other in arrays[1:]:
            op.tie(arrays[0], other)
        sizes = [known.size(axis) for known in wide if known.size(axis) is not None]
        shape.append(sizes[0] if sizes else None)
        first = arrays[0] if arrays else None
        ids.append(first if first is not None and len(first) == shape[-1] else None)
    return Fact(tuple(shape), tuple(ids))


def along(op: TrainingVisit, data: Fact, axis: int, vector: Ids) -> Fact:
    """A tensor whose axis is tied with a vector's ids, which it takes where it has none."""
    if data.shape is None or vector is None:
        return data
    own = data.channels(axis)
    if own is None:
        return fact(data.shape, {**dict(enumerate(data.ids)), axis % len(data.ids): vector})
    op.tie(own, vector)
    return data


def plain(data: Fact) -> Fact:
    """A tensor of that shape with other numbers."""
    return data._replace(value=None, atoms=None)
