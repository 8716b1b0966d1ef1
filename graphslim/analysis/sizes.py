"""Sizes that are computed in the graph: where each number comes from, and what it forces.

Beside the numbers of a small integer tensor (`Fact.value`) go their origins (`Fact.atoms`): 0 and
up for an element of a constant, which can be rewritten when a width changes; the negative marks
below; and from `COUNTED` down, the size of an axis that has ids, which changes with them.
"""

from __future__ import annotations

import bisect
from fractions import Fraction
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.ir import Node
from graphslim.ops.table import BATCH, STRUCTURAL, VALUE_RULES, Fact, Ids, ValueVisit

COMPUTED, FIXED = -1, -2
"""Origins of numbers that never change: computed from constants, and sizes without ids."""
COUNTED = BATCH - 1
_PRODUCTS = frozenset(("Mul", "Prod", "FloorDiv", "Div", "RealDiv"))
_CONSUMERS = frozenset(("Reshape", "Conv2DBackpropInput"))
"""Ops whose rules call `resize` for each number that they take."""


class Resize(NamedTuple):
    """Element `element` of the constant `param` counts `ids`, for input `slot` of `node`."""

    node: str
    slot: int
    param: str
    element: int
    ids: np.ndarray


class Counted(NamedTuple):
    """A number that changes with channels: `share` times how many there are of `ids`.

    Without a share it is some other function of them.
    """

    ids: np.ndarray
    share: Optional[Fraction]


class Sizes:
    """Follows the numbers of small integer tensors through shape arithmetic.

    Args:
        walk: what `tie` and `pin` are called on.

    Attributes:
        resizes: the constants that state how many channels there are, and where.
    """

    def __init__(self, walk: Any) -> None:
        self.resizes: List[Resize] = []
        self._walk = walk
        self._starts: List[int] = []
        self._params: List[str] = []
        self._end = 0
        self._counted: List[Counted] = []

    def constant(self, param: str, shape: Sequence[int], count: int) -> np.ndarray:
        """The origins of a constant's elements."""
        self._starts.append(self._end)
        self._params.append(param)
        self._end += count
        return np.arange(self._end - count, self._end, dtype=np.float64).reshape(tuple(shape))

    def follow(self, node: Node, inputs: Sequence[Fact], outs: List[Fact]) -> List[Fact]:
        """The outputs with the numbers that shape arithmetic gives them, and their origins.

        Numbers that leave shape arithmetic for an op that has no use for them as sizes pin what
        they count.
        """
        rule = VALUE_RULES.get(node.op)
        tracked = [known.value for known in inputs]
        result: Any = None
        whole = bool(tracked) and not any(value is None for value in tracked)
        if rule is not None and outs and (whole or node.op == "Shape"):
            result = rule(ValueVisit(node, tracked, inputs, outs, 0.0))
        if result is None or (isinstance(result, tuple) and result[0] is None):
            if node.op not in _CONSUMERS:
                for counted in self._in(inputs):
                    self._walk.pin(node, counted.ids, f"its size is used by a {node.op}")
            return outs
        values = result if isinstance(result, tuple) else (result,)
        origins = self._origins(node, inputs, outs, values)
        for place, (value, atoms) in enumerate(zip(values, origins)):
            known = np.asarray(value, np.float64)
            outs[place] = outs[place]._replace(value=known, atoms=atoms)
        return outs

    def resize(self, node: Node, slot: int, sizes: Fact, element: int, ids: Ids) -> None:
        """Sees to it that a number goes on to be the size of an axis; see `OpVisit.resize`."""
        atom = COMPUTED if sizes.atoms is None else int(np.ravel(sizes.atoms)[element])
        if atom <= COUNTED:
            self._follow_count(node, self._counted[COUNTED - atom], ids)
        elif ids is None:
            return
        elif atom < 0:
            self._walk.pin(node, ids, "its size is computed from numbers that stay")
        else:
            place = bisect.bisect_right(self._starts, atom) - 1
            start, param = self._starts[place], self._params[place]
            self.resizes.append(Resize(node.name, slot, param, atom - start, ids))

    def _follow_count(self, node: Node, counted: Counted, ids: Ids) -> None:
        """Ties channels to those that their number is computed from, or pins both."""
        pair = None if ids is None else _pair(counted, ids)
        if pair is None:
            for some in (ids, counted.ids):
                self._walk.pin(node, some, "its size is computed in a way that is not followed")
        else:
            self._walk.tie(node, *pair)

    def _in(self, inputs: Sequence[Fact]) -> List[Counted]:
        """What the numbers of some tensors count."""
        atoms = {
            int(atom)
            for known in inputs
            if known.atoms is not None
            for atom in np.ravel(known.atoms)[np.ravel(known.atoms) <= COUNTED]
        }
        return [self._counted[COUNTED - atom] for atom in sorted(atoms, reverse=True)]

    def _count(self, counted: Counted) -> float:
        self._counted.append(counted)
        return float(COUNTED - len(self._counted) + 1)

    def _origins(
        self, node: Node, inputs: Sequence[Fact], outs: Sequence[Fact], values: Sequence[Any]
    ) -> Sequence[np.ndarray]:
        if node.op == "Shape":
            return [np.array([self._size(inputs[0], axis) for axis in range(inputs[0].rank or 0)])]
        if node.op in STRUCTURAL:
            moved = VALUE_RULES[node.op](
                ValueVisit(node, [known.atoms for known in inputs], inputs, outs, 0.0)
            )
            return [
                np.asarray(atoms) for atoms in (moved if isinstance(moved, tuple) else (moved,))
            ]
        return [self._computed(node, inputs, np.asarray(value)) for value in values]

    def _size(self, known: Fact, axis: int) -> float:
        ids, size = known.channels(axis), known.size(axis)
        if ids is not None:
            return self._count(Counted(ids, Fraction(1)))
        return float(BATCH if axis == 0 and size is None else FIXED)

    def _computed(self, node: Node, inputs: Sequence[Fact], value: np.ndarray) -> np.ndarray:
        """Origins of computed numbers: fixed, or a share of one count, or more than is followed."""
        counts = self._in(inputs)
        if not counts:
            return np.full(value.shape, float(COMPUTED))
        one = counts[0]
        single = len(counts) == 1 and value.size == 1 and node.op in _PRODUCTS
        if single and one.share is not None and self._is_numerator(node, inputs):
            number = float(value.ravel()[0])
            if not np.isnan(number) and number == int(number) and len(one.ids):
                share = Fraction(int(number), len(one.ids))
                return np.full(value.shape, self._count(Counted(one.ids, share)))
        together = np.concatenate([counted.ids for counted in counts])
        return np.full(value.shape, self._count(Counted(together, None)))

    def _is_numerator(self, node: Node, inputs: Sequence[Fact]) -> bool:
        """Whether a product holds the one count just once, and not as a divisor."""
        held = [
            0 if known.atoms is None else int((known.atoms <= COUNTED).sum()) for known in inputs
        ]
        return sum(held) == 1 and (node.op in ("Mul", "Prod") or held[0] == 1)


def _pair(counted: Counted, ids: np.ndarray) -> Optional[Tuple[np.ndarray, np.ndarray]]:
    """Two arrays that have to be tied for a number to go on to be the size of an axis."""
    source, share = counted.ids, counted.share
    if share is None or share * len(source) != len(ids):
        return None
    if share == 1:
        return source, ids
    few, many = (source, ids) if share > 1 else (ids, source)
    if len(many) % len(few):
        return None
    times = len(many) // len(few)
    tiled, repeated = np.tile(few, times), np.repeat(few, times)
    if (repeated == many).all() or (many.reshape(-1, times)[:, 0] == few).all():
        return repeated, many
    if (tiled == many).all() or (many[: len(few)] == few).all():
        return tiled, many
    return None
