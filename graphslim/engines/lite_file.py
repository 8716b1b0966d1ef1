"""Whether a file is a whole TensorFlow Lite model, before a runtime follows what it says."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import struct
import time
from typing import Callable, List, Optional

from graphslim.errors import LoadError
from graphslim.support.reading import read_bytes

_IDENTIFIER = slice(4, 8), b"TFL3"
_CODES, _SUBGRAPHS, _BUFFERS = 1, 2, 4
_TENSORS, _OPERATORS = 0, 3
"""Fields of a model and of its subgraphs that hold tables, as schema.fbs counts them."""
_DATA, _NAME = 0, 3
"""The bytes of a buffer, and the name of a tensor."""
_OPENINGS = 5
"""How often a file is opened in a copy of the process."""


def check_lite(path: str) -> None:
    """Refuses a file that is no TensorFlow Lite model, or not a whole one.

    Old runtimes do not check what a file says before they follow it, and end the process.

    Raises:
        LoadError: the file is no such model, or its buffers lie outside of it.
    """
    data = read_bytes(path)
    whole = data[_IDENTIFIER[0]] == _IDENTIFIER[1]
    try:
        if whole:
            model = _follow(data, 0)
            parts = [(table, _DATA) for table in _tables(data, model, _BUFFERS)]
            _tables(data, model, _CODES)
            for subgraph in _tables(data, model, _SUBGRAPHS):
                parts += [(table, _NAME) for table in _tables(data, subgraph, _TENSORS)]
                _tables(data, subgraph, _OPERATORS)
            starts = [_field(data, table, field) for table, field in parts]
            ends = [_end(data, _follow(data, start)) for start in starts if start is not None]
            whole = max(ends, default=0) <= len(data)
    except struct.error:
        whole = False
    if not whole:
        raise _damaged(path)


def _damaged(path: str) -> LoadError:
    what = "no TensorFlow Lite model, or a damaged one"
    return LoadError(what, path, "copy or convert it again")


def try_in_copy(path: str, opening: Callable[[], object], seconds: float = 60.0) -> None:
    """Opens a file in a copy of this process first, for a runtime that does not check it.

    Runtimes that follow what a damaged file says end the process by a signal, or never return. What
    lies in memory behind the file decides whether they do: it is opened several times, each time at
    another place.

    Args:
        path: the file.
        opening: opens it, and gives what holds its memory.
        seconds: how long that may take in all.

    Raises:
        LoadError: the copy did not survive it.
    """
    if not hasattr(os, "fork"):
        return
    copy = os.fork()
    if copy == 0:
        faulthandler.disable()
        held = []
        for _ in range(_OPENINGS):
            with contextlib.suppress(BaseException):  # what it raises, it raises here again
                held.append(opening())
        os._exit(0)
    ends = time.monotonic() + seconds
    ended, status = os.waitpid(copy, os.WNOHANG)
    while not ended and time.monotonic() < ends:
        time.sleep(0.005)
        ended, status = os.waitpid(copy, os.WNOHANG)
    if not ended:
        os.kill(copy, signal.SIGKILL)
        _, status = os.waitpid(copy, 0)
    if os.WIFSIGNALED(status):
        raise _damaged(path)


def _follow(data: bytes, at: int) -> int:
    """Where the offset at a place of a flatbuffer leads to."""
    return at + int(struct.unpack_from("<I", data, at)[0])


def _end(data: bytes, vector: int) -> int:
    """Where a vector of bytes ends."""
    return vector + 4 + int(struct.unpack_from("<I", data, vector)[0])


def _field(data: bytes, table: int, number: int) -> Optional[int]:
    """Where a field of a table stands; None where the table leaves it out."""
    index = table - int(struct.unpack_from("<i", data, table)[0])
    size = int(struct.unpack_from("<H", data, index)[0])
    place = 4 + 2 * number
    offset = struct.unpack_from("<H", data, index + place)[0] if place < size else 0
    return table + int(offset) if offset else None


def _tables(data: bytes, table: int, number: int) -> List[int]:
    """The tables in the vector that a field of a table holds."""
    field = _field(data, table, number)
    if field is None:
        return []
    vector = _follow(data, field)
    count = int(struct.unpack_from("<I", data, vector)[0])
    struct.unpack_from(f"<{count}I", data, vector + 4)  # all of it is there
    tables = [_follow(data, vector + 4 + 4 * index) for index in range(count)]
    for table in tables:
        _field(data, table, 0)
    return tables
