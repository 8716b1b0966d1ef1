"""The walk over a training graph, its visit, and the registry of the rules that it goes by."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.facts import LONGEST, UNKNOWN, Fact, Ids, fact
from graphslim.channels.joints import joined
from graphslim.channels.rules import stated
from graphslim.channels.sizes import Sizes
from graphslim.channels.visit import OpVisit
from graphslim.channels.walk import Walk
from graphslim.ir import Graph, Node, Port
from graphslim.ir.families import VARIABLES
from graphslim.ops import CHANNEL_RULES

_FAMILIES: Dict[str, TrainingRule] = {}
TRAINING_RULES: Dict[str, TrainingRule] = {}
STATES_NUMBERS = frozenset(("BroadcastGradientArgs", "DynamicStitch", "ConcatOffset"))
"""Ops whose rules give the numbers of their outputs themselves, with the origins."""


class TrainingVisit(OpVisit):
    """An op of a training graph as a rule sees it."""

    @property
    def walk(self) -> TrainingWalk:
        """The walk, which knows what the ties so far make one channel, and what goes."""
        walk: TrainingWalk = self._walk
        return walk

    def tie(self, first: Ids, second: Ids) -> None:
        """Makes channels one; sides that are not followed, or do not fit, are left as they are."""
        self.walk.tie(self.node, first, second)

    def pin(self, ids: Ids, why: str) -> None:
        """Nothing is pinned in training graphs."""

    def mark(self, ids: Ids, role: str) -> None:
        """Roles do not matter in training graphs."""

    def split(
        self, flat: np.ndarray, sizes: Sequence[int], preferred: Optional[int]
    ) -> Sequence[Ids]:
        """The ids of the axes that an axis is split into; only the axis that is cut has ids."""
        return self.walk.split(self.node, flat, sizes, preferred)

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
        named = [rule for start, rule in _FAMILIES.items() if node.op.startswith(start)]
        rule = named[0] if named else None
    return rule


def alike(op: TrainingVisit, facts: Sequence[Fact]) -> Fact:
    """The fact of tensors that have one shape; ties them axis by axis."""
    known = [data for data in facts if data.shape is not None]
    if not known or any(data.rank != known[0].rank for data in known):
        return known[0] if known else UNKNOWN
    shape: List[Optional[int]] = []
    ids: List[Ids] = []
    for axis in range(len(known[0].ids)):
        sizes = [data.size(axis) for data in known]
        arrays = [data.ids[axis] for data in known if data.ids[axis] is not None]
        for array in arrays[1:]:
            op.tie(arrays[0], array)
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
        operands = [known for known in facts if len(known.ids) >= -axis]
        wide = [known for known in operands if known.size(axis) != 1] or operands
        arrays = [known.ids[axis] for known in wide if known.ids[axis] is not None]
        for array in arrays[1:]:
            op.tie(arrays[0], array)
        sizes = [known.size(axis) for known in wide if known.size(axis) is not None]
        shape.append(sizes[0] if sizes else None)
        first = arrays[0] if arrays else None
        ids.append(first if first is not None and len(first) == shape[-1] else None)
    return Fact(tuple(shape), tuple(ids))


def along(op: TrainingVisit, data: Fact, axis: int, vector: Ids) -> Fact:
    """A tensor whose axis is tied with a vector's ids, which it takes where it has none."""
    if data.shape is None or vector is None:
        return data
    ids = data.channels(axis)
    if ids is None:
        return fact(data.shape, {**dict(enumerate(data.ids)), axis % len(data.ids): vector})
    op.tie(ids, vector)
    return data


# ------------------------------------------------------------------ the walk

Positions = Mapping[str, Mapping[int, np.ndarray]]
"""By variable's node and axis, the positions that go: int64 of shape (n,)."""


class TrainingSizes(Sizes):
    """Shape arithmetic as in inference, and that of gradients."""

    def _values(
        self, node: Node, inputs: Sequence[Fact], outs: Sequence[Fact]
    ) -> Optional[List[np.ndarray]]:
        if node.op not in STATES_NUMBERS:
            return super()._values(node, inputs, outs)
        known = [out.value for out in outs if out.value is not None]
        return known if len(known) == len(outs) else None

    def _origins(
        self,
        node: Node,
        inputs: Sequence[Fact],
        outs: Sequence[Fact],
        values: Sequence[np.ndarray],
    ) -> Sequence[np.ndarray]:
        if node.op not in STATES_NUMBERS:
            return super()._origins(node, inputs, outs, values)
        return [np.asarray(out.origins) for out in outs]


class TrainingWalk(Walk):
    """Collects the ties of a training graph.

    Args:
        graph: the graph.
        going: the positions that go, if an earlier walk has found them. With these, axes that are
            flattened together can be followed: a position of the product goes where either goes.

    Attributes:
        tied_by: for each tie, the node that makes it.
    """

    def __init__(self, graph: Graph, going: Optional[Positions] = None) -> None:
        super().__init__(graph)
        self._going, self._stays = going or {}, self.fresh(1)
        self.sizes: TrainingSizes = TrainingSizes(graph)
        self.tied_by: List[str] = []
        self._first = np.zeros(0, np.int64)
        self._joined = 0
        self._variables: List[np.ndarray] = []
        self._gone: List[np.ndarray] = []

    def visit(self, node: Node) -> None:
        """Applies the rule of an op; where the rule fails, the op is not followed."""
        inputs = self.read(node)
        sources = {port.node for port in self.graph.data_inputs(node)}
        if node.op == "Const" or node.op in VARIABLES or (sources and sources <= self._constants):
            self._constants.add(node.name)
        rule = rule_for(node)
        ties, resizes = len(self.ties), len(self.sizes.resizes)
        visit = TrainingVisit(node, inputs, self)
        outs = stated(node, inputs)
        try:
            if rule is not None:
                result = rule(visit)
                outs = [result] if isinstance(result, Fact) else list(result)
            self.facts[node.name] = self.sizes.follow(visit, outs)
        except Exception:  # a rule may raise anything where a node does not fit it
            del self.ties[ties:], self.tied_by[ties:], self.sizes.resizes[resizes:]
            if self._joined > ties:  # what was joined cannot be parted again
                self._first, self._joined = np.zeros(0, np.int64), 0
            self.facts[node.name] = stated(node, inputs)

    def _shared_vector(self, port: Port) -> Optional[Node]:
        """None: a constant that several ops read, as an initial value, is shared by all of them."""
        return None

    def parameter(self, node: Node, shape: Sequence[int]) -> Fact:
        """The fact of a variable: fresh ids on every axis that is followed."""
        known = super().parameter(node, shape)
        for axis, ids in enumerate(known.ids):
            if ids is not None:
                self._variables.append(ids)
                gone = self._going.get(node.name, {}).get(axis)
                if gone is not None:
                    self._gone.append(ids[gone])
        return known

    def tie(self, node: Node, first: Ids, second: Ids) -> None:
        """Makes channels one; sides that are not followed, or do not fit, are left as they are."""
        if first is None or second is None or first is second or len(first) != len(second):
            return
        self.ties.append((first, second))
        self.tied_by.append(node.name)

    def split(
        self, node: Node, flat: np.ndarray, sizes: Sequence[int], preferred: Optional[int]
    ) -> List[Ids]:
        """The ids of the axes that an axis is split into; only the axis that is cut has ids."""
        best = len(sizes) - 1 if preferred is None else preferred
        gone = self.going(flat).reshape(sizes)
        for place in range(len(sizes)):
            lanes = np.moveaxis(gone, place, 0).reshape(sizes[place], -1)
            if gone.any() and not gone.all() and (lanes == lanes[:, :1]).all():
                best = place
        lanes = np.moveaxis(flat.reshape(sizes), best, 0).reshape(sizes[best], -1)
        self.tie(node, np.repeat(lanes[:, 0], lanes.shape[1] - 1), lanes[:, 1:].ravel())
        parts: List[Ids] = [None] * len(sizes)
        parts[best] = np.ascontiguousarray(lanes[:, 0])
        return parts

    def merged(self, ids: np.ndarray) -> np.ndarray:
        """For each id the first one of its channel, as the ties so far have it."""
        firsts: np.ndarray = self._so_far()[ids]
        return firsts

    def is_rooted(self, ids: np.ndarray) -> bool:
        """Whether an id is of a channel that a variable has, as the ties so far have it."""
        return bool(self._reached(ids, self._variables).any())

    def going(self, ids: np.ndarray) -> np.ndarray:
        """Which ids are of channels that go, as the ties so far have it; bool of shape (n,)."""
        return self._reached(ids, self._gone)

    def product(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The ids of axes that are flattened together: of each position one that goes, if any does.

        Args:
            parts: the ids of each axis, all of the shape of the tensor that is flattened.
        """
        flat = np.broadcast_to(self._stays, parts[0].shape)
        for ids in parts:
            flat = np.where(self.going(ids), ids, flat)
        return flat.ravel()

    def is_product(self, ids: np.ndarray) -> bool:
        """Whether ids are of axes that were flattened together."""
        first = self._so_far()
        return bool((first[ids] == first[self._stays]).any())

    def _reached(self, ids: np.ndarray, starts: Sequence[np.ndarray]) -> np.ndarray:
        first = self._so_far()
        reached = np.zeros(len(first), bool)
        for start_ids in starts:
            reached[first[start_ids]] = True
        mask: np.ndarray = reached[first[ids]]
        return mask

    def _so_far(self) -> np.ndarray:
        """For each id the first id of its channel, by all ties so far; int64 of shape (count,)."""
        fresh = np.arange(len(self._first), self.count)
        if len(fresh) or self._joined < len(self.ties):
            both = np.concatenate([self._first, fresh])
            self._first = joined(both, self.ties[self._joined :])
            self._joined = len(self.ties)
        return self._first
