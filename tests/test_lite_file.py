"""What is refused of a TensorFlow Lite file before a runtime follows it: files made by hand."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any, Dict, List, Union

import pytest

from graphslim.engines.lite_file import check_lite
from graphslim.errors import LoadError

Fields = Dict[int, Any]
"""A table, by the place of a field: a number with its form, a row of numbers with its form, bytes,
a table, or a list of tables, which may be one and the same."""


class Flatbuffer:
    """Tables written to bytes.

    Attributes:
        data: the bytes.
        offsets, lengths: where in them an offset stands, and where the length of a vector.
    """

    def __init__(self, root: Fields) -> None:
        self.data = bytearray(b"\0\0\0\0TFL3")
        self.offsets: List[int] = []
        self.lengths: List[int] = []
        self._lead(0, self._table(root))

    def _lead(self, place: int, to: int) -> None:
        self.offsets.append(place)
        struct.pack_into("<I", self.data, place, to - place)

    def _table(self, fields: Fields) -> int:
        offsets, inline, later = [0] * (max(fields, default=-1) + 1), b"\0\0\0\0", []
        for field, value in fields.items():
            offsets[field] = len(inline)
            if isinstance(value, tuple) and not isinstance(value[1], list):
                inline += struct.pack(f"<{value[0]}", value[1])
            else:
                later.append((len(inline), value))
                inline += b"\0\0\0\0"
        sizes = 4 + 2 * len(offsets), len(inline)
        vtable = struct.pack(f"<{2 + len(offsets)}H", *sizes, *offsets)
        at = len(self.data) + len(vtable)
        self.data += vtable + struct.pack("<i", len(vtable)) + inline[4:]
        for place, value in later:
            if isinstance(value, dict):
                self._lead(at + place, self._table(value))
            else:
                self._lead(at + place, len(self.data))
                self._vector(value)
        return at

    def _vector(self, value: Any) -> None:
        if isinstance(value, tuple):
            form, numbers = value
            value, rest = numbers, struct.pack(f"<{len(numbers)}{form}", *numbers)
        else:
            rest = value if isinstance(value, bytes) else bytes(4 * len(value))
        self.lengths.append(len(self.data))
        self.data += struct.pack("<I", len(value))
        start = len(self.data)
        self.data += rest
        tables: Dict[int, int] = {}
        for number, fields in enumerate(value):
            if isinstance(fields, dict):
                if id(fields) not in tables:
                    tables[id(fields)] = self._table(fields)
                self._lead(start + 4 * number, tables[id(fields)])


FLOAT32, STRING, INT4 = 0, 5, 17


def model(**changes: Fields) -> Flatbuffer:
    """A reshape of a constant of two numbers and an input of six, with what is changed in it."""
    constant = {0: ("i", [2]), 1: ("b", FLOAT32), 2: ("I", 1), 3: b"shape", 4: {2: ("f", [0.5])}}
    image = {0: ("i", [1, 6]), 3: b"image", 7: ("i", [-1, 6])}
    reshape = {1: ("i", [1, 0]), 2: ("i", [1]), 3: ("B", 17), 4: {0: ("i", [2, 3])}}
    whole = {
        0: [{**constant, **changes.get("tensor", {})}, image],
        1: ("i", [1]),
        2: ("i", [1]),
        3: [{**reshape, **changes.get("operator", {})}],
        4: b"main",
        **changes.get("subgraph", {}),
    }
    return Flatbuffer(
        {1: [{0: ("b", 22)}], 2: [whole], 4: [{}, {0: b"\0" * 8, **changes.get("buffer", {})}]}
    )


def refused(tmp_path: Path, data: Union[bytes, bytearray]) -> bool:
    path = tmp_path / "m.tflite"
    path.write_bytes(data)
    try:
        check_lite(str(path))
    except LoadError as error:
        assert str(error).startswith(f"{path}: no TensorFlow Lite model, or a damaged one")
        return True
    return False


WHOLE: Dict[str, Dict[str, Fields]] = {
    "as it is": {},
    "an optional input": {"operator": {1: ("i", [1, -1])}},
    "text has no size of its own": {"tensor": {1: ("b", STRING)}},
    "two numbers in a byte": {"tensor": {0: ("i", [16]), 1: ("b", INT4)}},
    "what is sparse has fewer numbers": {"tensor": {0: ("i", [64]), 6: {}}},
    "an empty buffer is no constant": {"tensor": {0: ("i", [9]), 2: ("I", 0)}},
    "a scalar": {"tensor": {0: ("i", []), 1: ("b", 4)}},
    "bytes behind the flatbuffer": {"buffer": {0: b"", 1: ("Q", 1), 2: ("Q", 8)}},
}
DAMAGED: Dict[str, Dict[str, Fields]] = {
    "a constant with too few numbers": {"tensor": {0: ("i", [3])}},
    "a constant with a size below zero": {"tensor": {0: ("i", [-2, -1])}},
    "a buffer that is not there": {"tensor": {2: ("I", 2)}},
    "an op that is not there": {"operator": {0: ("I", 1)}},
    "an input that is not there": {"operator": {1: ("i", [2])}},
    "an output below none": {"operator": {2: ("i", [-2])}},
    "a model's input that is not there": {"subgraph": {1: ("i", [2])}},
    "a model's output that is none": {"subgraph": {2: ("i", [-1])}},
    "bytes behind the file": {"buffer": {1: ("Q", 1), 2: ("Q", 1 << 20)}},
}


@pytest.mark.parametrize("case", WHOLE)
def test_what_is_whole_is_not_refused(case: str, tmp_path: Path) -> None:
    assert not refused(tmp_path, model(**WHOLE[case]).data)


@pytest.mark.parametrize("case", DAMAGED)
def test_what_would_be_read_outside_is_refused(case: str, tmp_path: Path) -> None:
    assert refused(tmp_path, model(**DAMAGED[case]).data)


def test_every_offset_and_length_is_held_to_the_file(tmp_path: Path) -> None:
    written = model()
    assert len(written.offsets) > 25 and len(written.lengths) > 15
    for place in written.offsets + written.lengths:
        for number in (len(written.data), 0xFFFFFFF0):
            changed = bytearray(written.data)
            struct.pack_into("<I", changed, place, number)
            assert refused(tmp_path, changed), (place, number)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    data = model().data
    assert all(refused(tmp_path, data[:size]) for size in range(len(data)))


def test_bytes_at_random_end_in_no_other_error(tmp_path: Path) -> None:
    data, rng = model().data, random.Random(0)
    ends: List[bool] = []
    for _ in range(500):
        changed = bytearray(data)
        for _ in range(rng.choice([1, 2, 4])):
            changed[rng.randrange(8, len(data))] = rng.randrange(256)
        ends.append(refused(tmp_path, bytes(changed)))
    assert 250 < sum(ends) < 500


def test_much_made_of_little_is_refused(tmp_path: Path) -> None:
    """A thousand subgraphs that are one table, of a thousand tensors that are one table."""
    subgraph = {0: [{2: ("I", 0)}] * 1000}
    for count in (1, 1000):
        written = Flatbuffer({2: [subgraph] * count, 4: [{}]})
        assert refused(tmp_path, written.data) == (count > 1)
