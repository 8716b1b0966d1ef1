"""Sizes that are computed in the graph: where each number comes from, and what it forces.

Beside the numbers of a small integer tensor (`Fact.value`) go their origins (`Fact.atoms`): 0 and
up for an element of a constant, which can be rewritten when a width changes; the negative marks
below; and from `FIRST` down, the size of an axis: of one that has ids, which changes with them,
or the open size of a batch.
"""

from __future__ import annotations

import bisect
from fractions import Fraction
from typing import Any, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from graphslim.analysis.arithmetic import (
    JOINING,
    KEEPS_BATCH,
    MEASURES,
    PASSES_ON,
    Counted,
    as_sizes,
    combined,
    holds,
    is_elementwise,
    pair,
)
from graphslim.analysis.given import with_given_shape
from graphslim.channels.reasons import ComputedSize, OpenSize
from graphslim.ir import IDENTITIES, Node, Port
from graphslim.ops.guard import LONGEST, fits
from graphslim.ops.table import STRUCTURAL, VALUE_RULES, Fact, Ids, ValueVisit

COMPUTED, FIXED = -1, -2
"""Origins of numbers that never change: computed from constants, and sizes without ids."""
FIRST = -3
_TRACKED = 1024
"""Tensors of more elements are not followed."""
_UNFOLLOWED = ComputedSize("its size is computed in a way that is not followed")


class Resize(NamedTuple):
    """A number that counts channels: it is `sign` times how many of `ids` there are.

    Attributes:
        node, slot, place: an element of an input, where the number is read.
        param, element: the element of the constant that it comes from.
        ids: what it counts.
        sign: -1 for a position that is counted from the end.
    """

    node: str
    slot: int
    place: int
    param: str
    element: int
    ids: np.ndarray
    sign: int


class Renumber(NamedTuple):
    """Input `slot` of `node` is the vector `param`: positions along an axis that has `ids`."""

    node: str
    slot: int
    param: str
    ids: np.ndarray


class Count(NamedTuple):
    """A binding of channels to numbers of a constant: see `analysis.channels.Binding`."""

    param: str
    axis: int
    role: str
    ids: np.ndarray


class Sizes:
    """Follows the numbers of small integer tensors through shape arithmetic.

    Args:
        walk: what `tie`, `pin` and `fresh` are called on.

    Attributes:
        resizes: the numbers in constants that state how many channels there are, and where.
        renumbers: the constants that hold positions of channels.
        awaited: numbers that have to go on to be the size of an axis; see `settle`.
    """

    def __init__(self, walk: Any) -> None:
        self.resizes: List[Resize] = []
        self.renumbers: List[Renumber] = []
        self._walk = walk
        self._starts: List[int] = []
        self._params: List[str] = []
        self._end = 0
        self._sources: List[Optional[Counted]] = []
        self._taken: Set[Tuple[int, int]] = set()
        self.awaited: List[Tuple[Node, Counted, np.ndarray]] = []

    def constant(self, param: str, shape: Sequence[int], count: int) -> np.ndarray:
        """The origins of a constant's elements."""
        self._starts.append(self._end)
        self._params.append(param)
        self._end += count
        return np.arange(self._end - count, self._end, dtype=np.float64).reshape(tuple(shape))

    # ---------------------------------------------------------------- what the rules call

    def resize(
        self, node: Node, slot: int, sizes: Fact, element: int, ids: Ids, sign: int = 1
    ) -> None:
        """Sees to it that a number goes on to count channels; see `OpVisit.resize`."""
        self._taken.add((slot, element))
        atom = _atom(sizes, element)
        if atom <= FIRST and self._sources[FIRST - atom] is not None:
            self._follow_count(node, self._sources[FIRST - atom], ids, sign)
        elif ids is None or not len(ids):
            return
        elif atom < 0:
            self._walk.pin(node, ids, ComputedSize("its size is computed from numbers that stay"))
        else:
            start, param = self._constant_at(atom)
            self.resizes.append(Resize(node.name, slot, element, param, atom - start, ids, sign))

    def counted(
        self, node: Node, slot: int, sizes: Fact, element: int
    ) -> Tuple[Optional[int], Ids]:
        """The size that a number states, and the channels that it counts; see `OpVisit.counted`."""
        self._taken.add((slot, element))
        number, atom = float(np.asarray(sizes.value).ravel()[element]), _atom(sizes, element)
        counts = self._sources[FIRST - atom] if atom <= FIRST else None
        if counts is not None:
            followed = fits(LONGEST, len(counts.ids), int(counts.share or 0))
            if counts.share is not None and counts.share.denominator == 1 and followed:
                return int(number), np.tile(counts.ids, int(counts.share))
            self._walk.pin(node, counts.ids, _UNFOLLOWED)
        if np.isnan(number):
            return None, None
        if atom < 0 or not 0 <= number <= LONGEST:
            return int(number), None
        ids = self._walk.fresh(int(number))
        self.resize(node, slot, sizes, element, ids)
        return int(number), ids

    def changes(self, sizes: Fact, element: int) -> bool:
        """Whether a number comes from how many channels there are."""
        return bool(self._counts(_atom(sizes, element)))

    def literal(self, node: Node, slot: int, known: Fact) -> Optional[List[int]]:
        """Numbers that may not change; see `OpVisit.literal`."""
        for element, counts in self._in(known):
            self._taken.add((slot, element))
            self._walk.pin(node, counts.ids, ComputedSize(f"its size is used by a {node.op}"))
        if known.value is None or np.isnan(known.value).any():
            return None
        return [int(number) for number in known.value.ravel()]

    def renumber(self, node: Node, slot: int, numbers: Fact, ids: np.ndarray) -> None:
        """Sees to it that positions go on to be those of channels; see `OpVisit.renumber`."""
        own, param = numbers.channels(0), self._vector(numbers)
        if own is None or numbers.value is None or param is None or not self._is_index(param):
            for some in (own, ids):
                self._walk.pin(
                    node, some, OpenSize("it is picked by positions that are not constant")
                )
            return
        self._walk.tie(node, own, ids[numbers.value.astype(np.int64)])
        self.renumbers.append(Renumber(node.name, slot, param, ids))

    # ---------------------------------------------------------------- what the walk calls

    def counted_by(self, known: Fact) -> List[np.ndarray]:
        """The channels that the numbers of a tensor count."""
        return [counted.ids for _, counted in self._in(known)]

    def counts(self) -> List[Count]:
        """All bindings of channels to numbers."""
        sizes = [Count(one.param, one.element, "shape", one.ids) for one in self.resizes]
        return sizes + [Count(one.param, 0, "index", one.ids) for one in self.renumbers]

    def follow(self, node: Node, inputs: Sequence[Fact], outs: List[Fact]) -> List[Fact]:
        """The outputs with the numbers that shape arithmetic gives them, and their origins.

        Numbers that leave shape arithmetic for an op that has no use for them as sizes pin what
        they count.
        """
        taken, self._taken = self._taken, set()
        outs = [
            self._with_batch(node, inputs, out) for out in with_given_shape(self._walk, node, outs)
        ]
        if node.op in JOINING:
            inputs = as_sizes(node.op, inputs, float(FIXED))
        values = self._values(node, inputs, outs)
        if values is None:
            for slot, known in enumerate(inputs):
                for element, counted in self._in(known):
                    if (slot, element) not in taken:
                        self._walk.pin(
                            node, counted.ids, ComputedSize(f"its size is used by a {node.op}")
                        )
            return [_forgetful(node, out) for out in outs] if inputs else outs
        origins = self._origins(node, inputs, outs, values)
        for place, (value, atoms) in enumerate(zip(values, origins)):
            outs[place] = outs[place]._replace(value=value, atoms=atoms)
        return outs

    def settle(self, label: np.ndarray) -> bool:
        """Ties channels whose number would else cease to be right, or pins them.

        Args:
            label: the channel of each id, as the ties so far have it.

        Returns:
            whether there are new ties.
        """
        before = len(self._walk.ties)
        for node, counted, ids in self.awaited:
            if holds(counted, ids, label):
                continue
            both = pair(counted, ids)
            if both is None:
                for some in (ids, counted.ids):
                    self._walk.pin(node, some, _UNFOLLOWED)
            else:
                self._walk.tie(node, *both)
        self.awaited = []
        return len(self._walk.ties) > before

    def _with_batch(self, node: Node, inputs: Sequence[Fact], out: Fact) -> Fact:
        """An output with the origin of its first axis, if that is open."""
        if out.rank is None or out.rank == 0 or out.size(0) is not None:
            return out._replace(batch=None)
        if out.batch is not None:
            return out
        open_ones = {
            known.batch for known in inputs if known.rank == out.rank and known.size(0) is None
        }
        if node.op in KEEPS_BATCH and len(open_ones) == 1 and None not in open_ones:
            return out._replace(batch=open_ones.pop())
        return out._replace(batch=self._source(None))

    def _values(
        self, node: Node, inputs: Sequence[Fact], outs: Sequence[Fact]
    ) -> Optional[List[np.ndarray]]:
        """The numbers of each output, at their full shape; None where they are not followed."""
        rule = VALUE_RULES.get(node.op)
        tracked = [known.value for known in inputs]
        if rule is None or not outs or not tracked:
            return None
        if node.op not in MEASURES and any(value is None for value in tracked):
            return None
        if any(not fits(_TRACKED, *(out.shape or ())) for out in outs):
            return None
        result = rule(ValueVisit(node, tracked, inputs, outs, 0.0))
        found = []
        for value, out in zip(result if isinstance(result, tuple) else (result,), outs):
            if value is None:
                return None
            full, shape = np.asarray(value, np.float64), out.shape  # type: np.ndarray, Any
            if shape is not None and None not in shape and len(shape) == full.ndim:
                full = np.broadcast_to(full, shape)
            if full.size > _TRACKED:
                return None
            found.append(full)
        return found

    def _origins(
        self,
        node: Node,
        inputs: Sequence[Fact],
        outs: Sequence[Fact],
        values: Sequence[np.ndarray],
    ) -> Sequence[np.ndarray]:
        if node.op in ("Shape", "ShapeN"):
            return [
                np.array([self._size(known, axis) for axis in range(known.rank or 0)])
                for known in inputs
            ]
        if node.op == "Size":
            atoms = [self._size(inputs[0], axis) for axis in range(inputs[0].rank or 0)]
            return [np.full((), self._combined("Prod", atoms, float(values[0])))]
        origins = [_origins_of(known) for known in inputs]
        if node.op in STRUCTURAL:
            moved: Any = VALUE_RULES[node.op](ValueVisit(node, origins, inputs, outs, 0.0))
            found = [
                np.broadcast_to(np.asarray(atoms, np.float64), value.shape)
                for atoms, value in zip(moved if isinstance(moved, tuple) else (moved,), values)
            ]
            return _unrepeated(origins, found)
        return [self._computed(node, origins, value) for value in values]

    def _computed(self, node: Node, origins: Sequence[np.ndarray], value: np.ndarray) -> np.ndarray:
        """Origins of computed numbers: fixed, or a share of one count, or more than is followed."""
        flat = np.concatenate([atoms.ravel() for atoms in origins]) if origins else np.zeros(0)
        if not self._counts(flat):
            return np.full(value.shape, float(COMPUTED))
        if is_elementwise(node.op):
            spread = [np.broadcast_to(atoms, value.shape).ravel() for atoms in origins]
            found = [
                self._combined(node.op, atoms, number)
                for atoms, number in zip(np.stack(spread, 1), value.ravel())
            ]
            return np.array(found).reshape(value.shape)
        op = node.op if value.size == 1 else ""
        return np.full(value.shape, self._combined(op, flat, float(np.ravel(value)[0])))

    def _combined(self, op: str, atoms: Any, number: float) -> float:
        """The origin of one number that is computed from others."""
        counts = self._counts(atoms)
        if not counts:
            return float(COMPUTED)
        first = bool(self._counts(atoms[:1]))
        return self._source(combined(op, counts, number, first))

    def _follow_count(self, node: Node, counted: Any, ids: Ids, sign: int) -> None:
        """Notes that channels have to go on to be as many as their number says, or pins both."""
        if ids is None or sign < 0 or counted.share is None:
            for some in (ids, counted.ids):
                self._walk.pin(node, some, _UNFOLLOWED)
        else:
            self.awaited.append((node, counted, ids))

    # ---------------------------------------------------------------- origins

    def _source(self, counted: Optional[Counted]) -> float:
        """A new origin: of a number that changes with channels, or of a batch that is open."""
        self._sources.append(counted)
        return float(FIRST - len(self._sources) + 1)

    def _counts(self, atoms: Any) -> List[Counted]:
        """What some numbers count."""
        found = [self._sources[FIRST - int(atom)] for atom in np.ravel(atoms) if atom <= FIRST]
        return [counted for counted in found if counted is not None]

    def _in(self, known: Fact) -> List[Tuple[int, Counted]]:
        """The numbers of a tensor that count something, and what."""
        if known.atoms is None:
            return []
        atoms = known.atoms.ravel()
        found = [
            (int(place), self._counts(atoms[place])) for place in np.flatnonzero(atoms <= FIRST)
        ]
        return [(place, counts[0]) for place, counts in found if counts]

    def _size(self, known: Fact, axis: int) -> float:
        ids, size = known.channels(axis), known.size(axis)
        if ids is not None:
            return self._source(Counted(ids, Fraction(1)))
        return known.batch if axis == 0 and size is None and known.batch is not None else FIXED

    def _constant_at(self, atom: int) -> Tuple[int, str]:
        """The first origin and the name of the constant that an origin belongs to."""
        place = bisect.bisect_right(self._starts, atom) - 1
        return self._starts[place], self._params[place]

    def _vector(self, known: Fact) -> Optional[str]:
        """The constant whose elements, all and in order, a vector holds; None if it is not so."""
        atoms = known.atoms
        if atoms is None or atoms.ndim != 1 or not atoms.size or atoms[0] < 0:
            return None
        start, param = self._constant_at(int(atoms[0]))
        size = self._walk.graph[param].attrs["value"].size
        whole = size == atoms.size and (atoms == np.arange(start, start + size)).all()
        return param if whole else None

    def _is_index(self, param: str) -> bool:
        """Whether all that read a constant pick by it."""
        waiting = [param]
        while waiting:
            name = waiting.pop()
            for use in self._walk.graph.uses_of(Port(name)):
                op = self._walk.graph[use.node].op
                if op == "Cast" or op in IDENTITIES:
                    waiting.append(use.node)
                elif op not in ("GatherV2", "Gather") or use.index != 1:
                    return False
        return True


def _forgetful(node: Node, out: Fact) -> Fact:
    """An output whose numbers have no origin, or are not known at all."""
    return out._replace(value=out.value if node.op in PASSES_ON else None, atoms=None)


def _atom(sizes: Fact, element: int) -> int:
    """Where one number of a tensor comes from."""
    return COMPUTED if sizes.atoms is None else int(np.ravel(sizes.atoms)[element])


def _origins_of(known: Fact) -> np.ndarray:
    """Where the numbers of a tensor come from."""
    if known.atoms is not None:
        return known.atoms
    return np.full(np.asarray(known.value).shape, float(COMPUTED))


def _unrepeated(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> List[np.ndarray]:
    """Origins after an op that moves numbers: an element of a constant that it repeats is fixed.

    One element that stands in two places could not be rewritten for one of them alone.
    """
    old = np.concatenate([atoms.ravel() for atoms in before])
    new = np.concatenate([atoms.ravel() for atoms in after])
    kept, more = np.unique(new[new >= 0], return_counts=True)
    repeated = [atom for atom, count in zip(kept, more) if count > (old == atom).sum()]
    return [np.where(np.isin(atoms, repeated), float(COMPUTED), atoms) for atoms in after]
