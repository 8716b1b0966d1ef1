"""The result of a rule for one op, kept for every other op of the same kind.

The layers of a network repeat: ops of one type, with the same attributes, read tensors of the same
shapes, and only the channels are others. The rule is applied to the first of them alone.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.facts import Fact
from graphslim.channels.origins import FIRST
from graphslim.channels.pieces import Ranges
from graphslim.channels.sizes import Sizes
from graphslim.ir import Node
from graphslim.ir.families import POSITIONWISE

_NEW = -1
"""Stands for an open size that no input has."""


class Reading:
    """What an op reads, as far as its rule can see it.

    Attributes:
        key: the same for all ops of one kind: everything but names and channels. None where one
            of the numbers that are read counts channels, since that is like no other.
        arrays: the different arrays of ids.
        places: where each of them stands in `arrays`, by `id`.
        batches: the origins of open first axes, each with its place among them.
        sizes: the same for sizes, where these matter to the op only as far as they are equal.
    """

    __slots__ = ("key", "arrays", "places", "batches", "sizes")

    def __init__(
        self, node: Node, facts: Sequence[Fact], is_constant: Sequence[bool], ranges: Ranges
    ) -> None:
        key: List[Any] = [node.op, id(node.attrs), *is_constant]
        arrays: List[np.ndarray] = []
        places: Dict[int, int] = {}
        batches: Dict[float, int] = {}
        sizes: Dict[Optional[int], int] = {None: 0, 0: 1, 1: 2}
        counts, by_equality = False, node.op in POSITIONWISE
        for shape, ids, value, origins, batch in facts:
            if by_equality and shape is not None:
                shape = tuple([sizes.setdefault(size, len(sizes)) for size in shape])
            key += (shape, len(ids))
            for array in ids:
                place = None if array is None else places.get(id(array))
                if place is None and array is not None:
                    places[id(array)] = len(arrays)
                    arrays.append(array)
                    key.append(ranges.index(array) is None)
                    length = len(array)
                    place = -1 - (sizes.setdefault(length, len(sizes)) if by_equality else length)
                key.append(place)
            if value is not None:
                from_what = None
                if origins is not None:
                    from_what = tuple([min(origin, 0.0) for origin in origins.ravel().tolist()])
                    counts = counts or min(from_what, default=0.0) <= FIRST
                key += (value.shape, value.tobytes(), from_what)
            key.append(batch and batches.setdefault(batch, len(batches)))
        self.key = None if counts else tuple(key)
        self.arrays, self.places, self.batches = arrays, places, batches
        self.sizes = sizes if by_equality else None


class RuleResult(NamedTuple):
    """What the rule of an op gave, with arrays of ids by their places among those that it reads.

    Attributes:
        outs: for each output the place among the inputs of one that is the same, or its shape, the
            places of its ids, and that of its batch, which is `_NEW` if it is no input's.
        ties, pins, contractions, marks, resizes: as in a walk, but for the names of nodes.
    """

    outs: Sequence[Tuple[Optional[int], Any, Tuple[Any, ...], Optional[int]]]
    ties: Sequence[Tuple[int, int]]
    pins: Sequence[Tuple[int, str]]
    contractions: Sequence[Tuple[Any, ...]]
    marks: Sequence[Tuple[int, str]]
    resizes: Sequence[Tuple[int, int, int, int]]

    @classmethod
    def of(
        cls, reading: Reading, facts: Sequence[Fact], outs: Sequence[Fact], noted: Sequence[Any]
    ) -> RuleResult:
        """What the rule of an op gave.

        Args:
            reading, facts: what it reads.
            outs: its outputs.
            noted: the ties, pins, contractions, marks and resizes, as in a walk.

        Raises:
            KeyError: it is not of the channels alone that the op reads.
        """
        places: Dict[int, Any] = {id(None): None, **reading.places}
        ties, pins, contractions, marks, resizes = noted
        return cls(
            [_output(out, facts, places, reading) for out in outs],
            [(places[id(first)], places[id(second)]) for first, second in ties],
            [(places[id(pin.ids)], pin.why) for pin in pins],
            [
                (*about, places[id(into)], places[id(out)], matrix, uniform)
                for _, *about, into, out, matrix, uniform in contractions
            ],
            [(places[id(ids)], role) for ids, role, _ in marks],
            [(each.slot, each.place, places[id(each.ids)], each.sign) for each in resizes],
        )

    def outputs(self, reading: Reading, facts: Sequence[Fact], origins: Sizes) -> List[Fact]:
        """The outputs of another op of the kind, which reads `facts`."""
        outs: List[Fact] = []
        for same, shape, places, batch in self.outs:
            if same is not None:
                outs.append(facts[same])
                continue
            if batch is not None:
                origin = origins.source(None) if batch == _NEW else [*reading.batches][batch]
            ids = tuple([None if place is None else reading.arrays[place] for place in places])
            if shape is not None and reading.sizes is not None:
                sizes = [*reading.sizes]
                shape = tuple([sizes[size] for size in shape])
            outs.append(Fact(shape, ids, None, None, None if batch is None else origin))
        return outs


def _output(
    out: Fact, facts: Sequence[Fact], places: Dict[int, Any], reading: Reading
) -> Tuple[Optional[int], Any, Tuple[Any, ...], Optional[int]]:
    ids, shape = [*map(id, out.ids)], out.shape  # type: Any, Any
    for place, known in enumerate(facts):
        if out is known or (
            (out.value is None and known.value is None)
            and (shape, out.batch, ids) == (known.shape, known.batch, [*map(id, known.ids)])
        ):
            return place, None, (), None
    if out.value is not None:
        raise KeyError("numbers of its own")
    if shape is not None and reading.sizes is not None:
        shape = tuple([reading.sizes[size] for size in shape])
    batch = None if out.batch is None else reading.batches.get(out.batch, _NEW)
    return None, shape, tuple([places[key] for key in ids]), batch
