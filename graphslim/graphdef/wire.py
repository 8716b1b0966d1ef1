"""Protobuf's wire format, as far as it takes to find a field's bytes without copying them.

The encoding is described in protobuf's documentation ("Encoding"): a varint tag of field number
and wire type, then a varint, 4 or 8 bytes, or a length and that many bytes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Iterator, List, NamedTuple, Optional, Tuple, Union

from graphslim.graphdef.fields import MapEntry

Data = Union[bytes, memoryview]
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class Truncated(Exception):
    """The bytes end inside a field; `number` is the field's, 0 where not even that is whole."""

    def __init__(self, number: int = 0) -> None:
        super().__init__(number)
        self.number = number


class Malformed(Exception):
    """The bytes are no protobuf message."""


class Span(NamedTuple):
    """The bytes of a message, `data[start:end]`."""

    data: bytes
    start: int
    end: int

    def __bytes__(self) -> bytes:
        return self.data[self.start : self.end]


class Field(NamedTuple):
    """One field of a message: where its tag starts, and where its payload starts and ends."""

    number: int
    wire_type: int
    tag: int
    start: int
    end: int


def varint(data: Data, at: int, end: int) -> Tuple[int, int]:
    """The varint at `at` and the position after it."""
    if at < end and data[at] < 0x80:
        return data[at], at + 1
    value = shift = 0
    while True:
        if at >= end:
            raise Truncated
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise Malformed


def encode_varint(value: int) -> bytes:
    """A non-negative integer as a varint."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


@lru_cache(maxsize=4096)
def header(number: int, length: int) -> bytes:
    """The tag and the length that stand before a payload of so many bytes."""
    return encode_varint(number << 3 | LENGTH) + encode_varint(length)


def fields(data: Data, start: int = 0, end: Optional[int] = None) -> Iterator[Field]:
    """The fields of the message that stands at `data[start:end]`, in order.

    Raises:
        Truncated: the last field is not whole.
        Malformed: a tag that no message has.
    """
    stop = len(data) if end is None else end
    at = start
    while at < stop:
        tag_at, tag = at, data[at]
        at += 1
        if tag >= 0x80:
            tag, at = varint(data, tag_at, stop)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise Malformed
        if wire_type == LENGTH:
            length, at = varint(data, at, stop)
        elif wire_type == VARINT:
            length = varint(data, at, stop)[1] - at
        elif wire_type == FIXED32:
            length = 4
        elif wire_type == FIXED64:
            length = 8
        else:
            raise Malformed
        if at + length > stop:
            raise Truncated(number)
        yield Field(number, wire_type, tag_at, at, at + length)
        at += length


def payloads(data: memoryview, number: int) -> List[memoryview]:
    """The payloads of all fields of that number that have a length, in order."""
    return [
        data[field.start : field.end]
        for field in fields(data)
        if field.number == number and field.wire_type == LENGTH
    ]


def find(data: memoryview, *path: int) -> Optional[memoryview]:
    """The payload of the last field `path[0]`, inside it of the last `path[1]`, and so on."""
    for number in path:
        matches = payloads(data, number)
        if not matches:
            return None
        data = matches[-1]
    return data


def entries(data: memoryview, number: int) -> Iterator[Tuple[str, memoryview]]:
    """The keys and the values of a map from strings to messages, which field `number` is.

    Raises:
        UnicodeDecodeError: a key is no UTF-8.
    """
    for entry in payloads(data, number):
        key, value = find(entry, MapEntry.key), find(entry, MapEntry.value)
        yield bytes(key or b"").decode(), value or memoryview(b"")
