"""Tables of a flatbuffer, read with every offset held to the bytes of its file.

The layout is that of https://flatbuffers.dev/internals: a table begins with the distance back to
its vtable, which says where in the table each of its fields stands.
"""

from __future__ import annotations

import struct
from typing import Any, List, Optional, Tuple

_VTABLE_HEADER, _FIELD = 4, 2
"""Bytes of a vtable's two sizes, and of what it says of each field."""
_SHARED = 16
_LEAST = 1 << 20
"""Times the size of its file, and at least how many bytes, a flatbuffer is read in all."""


class Damaged(ValueError):
    """An offset or a length leads out of the file."""


class _File:
    """The bytes of a file. Tables may be shared; a file that makes much of little is damaged."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data, self._left = data, _SHARED * len(data) + _LEAST

    def row(self, form: str, at: int, length: int) -> Tuple[Any, ...]:
        """Numbers of one type that stand in a row."""
        size = length * struct.calcsize(f"<{form}")
        self._left -= size
        if at < 0 or at + size > self.size or self._left < 0:
            raise Damaged
        return struct.unpack_from(f"<{length}{form}", self._data, at)


class Table:
    """A table of a flatbuffer; all of its methods raise `Damaged`.

    Args:
        file: the bytes of the file.
        at: where the table stands in them.

    Raises:
        Damaged: the table, or the vtable that it names, is not within the file.
    """

    def __init__(self, file: _File, at: int) -> None:
        self._file, self._at = file, at
        vtable = at - self._read("i", at)
        size, self._inline = self._read("H", vtable), self._read("H", vtable + 2)
        if size < _VTABLE_HEADER or size % _FIELD or at + self._inline > file.size:
            raise Damaged
        fields = (size - _VTABLE_HEADER) // _FIELD
        self._fields = file.row("H", vtable + _VTABLE_HEADER, fields)

    @classmethod
    def root(cls, data: bytes) -> Table:
        """The table that the file begins with."""
        file = _File(data)
        return cls(file, file.row("I", 0, 1)[0])

    def number(self, field: int, form: str, default: int = 0) -> int:
        """A number, or its default where the table leaves it out.

        Args:
            field: the place of the field in the schema.
            form: the type of the number, as the module `struct` writes it.
            default: that of the schema.
        """
        place = self._place(field, struct.calcsize(f"<{form}"))
        return default if place is None else self._read(form, place)

    def numbers(self, field: int, form: str) -> Tuple[Any, ...]:
        """The numbers of a vector, none where the table leaves it out."""
        vector = self._vector(field)
        return () if vector is None else self._file.row(form, *vector)

    def length(self, field: int) -> int:
        """How many bytes a string or a vector of bytes has."""
        vector = self._vector(field)
        if vector is None:
            return 0
        start, length = vector
        if start + length > self._file.size:
            raise Damaged
        return length

    def table(self, field: int) -> Optional[Table]:
        """A table that this table leads to."""
        place = self._place(field, 4)
        return None if place is None else Table(self._file, self._follow(place))

    def tables(self, field: int) -> List[Table]:
        """The tables of a vector."""
        vector = self._vector(field)
        if vector is None:
            return []
        start, length = vector
        offsets = self._file.row("I", start, length)
        return [Table(self._file, start + 4 * k + offset) for k, offset in enumerate(offsets)]

    def _place(self, field: int, size: int) -> Optional[int]:
        """Where a field of a size in bytes stands; None where the table leaves it out."""
        offset = self._fields[field] if field < len(self._fields) else 0
        if offset and offset + size > self._inline:
            raise Damaged
        return self._at + offset if offset else None

    def _vector(self, field: int) -> Optional[Tuple[int, int]]:
        """Where the elements of a vector begin, and how many they are."""
        place = self._place(field, 4)
        if place is None:
            return None
        vector = self._follow(place)
        return vector + 4, self._read("I", vector)

    def _follow(self, place: int) -> int:
        return place + self._read("I", place)

    def _read(self, form: str, at: int) -> int:
        return int(self._file.row(form, at, 1)[0])
