"""Reads whole files: regular files only; time and memory are bounded by the file's size."""

from __future__ import annotations

import io
import json
import math
import os
import stat
import zipfile
from collections import Counter
from typing import IO, Any, Dict, List, Optional, Tuple, Type

import numpy as np
from numpy.lib import format as npy

from graphslim.errors import GraphslimError, LoadError

LONGEST_NUMBER = 300
"""Digits of the longest integer that is read; a float64 can hold such numbers."""
DEEPEST = 100
"""Levels of the deepest tree that is read."""

_KINDS = (
    (stat.S_ISDIR, "a folder", "give a file"),
    (stat.S_ISFIFO, "a pipe", "write what comes out of it to a file first"),
    (stat.S_ISSOCK, "a socket", "give a file"),
)
"""The kinds of path that are no regular file, with the advice of the error."""


def require_regular(
    path: str, hint: str = "check the path", error: Type[GraphslimError] = LoadError
) -> int:
    """Refuses what is no regular file (or a link to one): a device or a pipe may never end.

    Args:
        path: the file.
        hint: what the error advises if the file does not exist.
        error: the class of the errors raised.

    Returns:
        its size in bytes.

    Raises:
        GraphslimError: of the given class: there is no such file, or it is not regular.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if path == "-":
            raise error("no such file", path, "standard input is not read: give a file") from None
        raise error("no such file", path, hint) from None
    except (OSError, ValueError) as failure:
        raise error(f"cannot be read: {reason(failure)}", path, hint) from None
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    for is_kind, kind, remedy in _KINDS:
        if is_kind(status.st_mode):
            raise error(f"{kind}, no regular file", path, remedy)
    raise error("a device, no regular file", path, "give a file")


def read_bytes(
    path: str,
    hint: str = "check the path",
    error: Type[GraphslimError] = LoadError,
    largest: Optional[int] = None,
) -> bytes:
    """The bytes of a regular file.

    Args:
        path: the file.
        hint: what the error advises if the file does not exist or is too large.
        error: the class of the errors raised.
        largest: bytes of the largest file that is read; None for any.

    Raises:
        GraphslimError: of the given class: the file cannot be read, is not regular, or too large.
    """
    size = require_regular(path, hint, error)
    if largest is not None and size > largest:
        raise error(f"larger than {largest >> 10:,} KiB", path, hint)
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as failure:
        raise error(f"cannot be read: {reason(failure)}", path, "check its permissions") from None


def read_text(
    path: str,
    hint: str = "check the path",
    error: Type[GraphslimError] = LoadError,
    largest: Optional[int] = None,
) -> str:
    """The text of a regular file in UTF-8; see `read_bytes`.

    Raises:
        GraphslimError: of the given class: as for `read_bytes`, or the file is not UTF-8.
    """
    try:
        return read_bytes(path, hint, error, largest).decode("utf-8")
    except UnicodeDecodeError:
        raise error("not a text file", path, hint) from None


def parse_json(
    text: str, where: str, hint: Optional[str] = None, error: Type[GraphslimError] = LoadError
) -> Any:
    """The tree of a JSON text: finite numbers, no key twice, and no deeper than `DEEPEST`.

    Args:
        text: the JSON.
        where: the name of the text in messages.
        hint: what the error advises.
        error: the class of the errors raised.

    Raises:
        GraphslimError: of the given class: the text is not such JSON.
    """
    try:
        tree = json.loads(
            text,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_finite,
            object_pairs_hook=_without_doubles,
        )
        require_shallow(tree)
        return tree
    except (ValueError, RecursionError) as failure:
        raise error(f"not JSON: {failure}", where, hint) from None


def require_shallow(tree: Any) -> None:
    """Refuses dicts and lists that are nested deeper than `DEEPEST`, or in themselves.

    Raises:
        ValueError: the tree is nested deeper, or contains itself.
    """
    level = [tree]
    for _ in range(DEEPEST):
        boxes = [item for item in level if isinstance(item, (dict, list))]
        level = [item for box in boxes for item in (box.values() if isinstance(box, dict) else box)]
        if not level:
            return
    raise ValueError(f"nested deeper than {DEEPEST} levels")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is too large a number")
    return number


def _without_doubles(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        twice = Counter([key for key, _ in pairs]).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} is there twice")
    return tree


def reason(error: Exception) -> str:
    """The message of a system error, without its number and path."""
    return str(getattr(error, "strerror", None) or error)


_HINT = "give an .npz, an .npy, an image or a folder of images"
_LONGEST_HEADER = 1 << 16
_FREE, _TIMES = 1 << 28, 16
"""Bytes that any compressed file may unpack to; a larger one, this many times its own size."""
_START_OF_ZIP = b"PK"


class _Refused(Exception):
    """A file of arrays is damaged or not allowed; the message says why."""


def read_arrays(path: str) -> Dict[str, np.ndarray]:
    """The arrays of an `.npz` by name, or that of an `.npy`, which stays on disk, by the name "".

    Raises:
        GraphslimError: the file cannot be read, is damaged, or states more data than it holds.
    """
    size = require_regular(path, _HINT, GraphslimError)
    try:
        with open(path, "rb") as file:
            is_zip = file.read(2) == _START_OF_ZIP
        if is_zip:
            arrays = _zipped(path, size)
        else:
            with open(path, "rb") as file:
                _header(file, size)
            arrays = {"": np.load(path, mmap_mode="r", allow_pickle=False)}
    except _Refused as error:
        raise GraphslimError(str(error), path, _HINT) from None
    except OSError as error:
        raise GraphslimError(f"cannot be read: {error.strerror or error}", path, _HINT) from None
    except Exception:  # numpy and its decompressors raise whatever damaged bytes lead them to
        raise GraphslimError("not an array of numbers that numpy saved", path, _HINT) from None
    if not arrays:
        raise GraphslimError("holds no array", path, _HINT)
    return arrays


def _zipped(path: str, size: int) -> Dict[str, np.ndarray]:
    """The arrays of an `.npz`; refuses one that unpacks to far more than its own size."""
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        total = sum([entry.file_size for entry in entries])
        if total > _FREE + _TIMES * size:
            raise _Refused(f"states {total:,} bytes of arrays, in a file of {size:,}")
        arrays = {}
        for entry in entries:
            with archive.open(entry) as stream:
                arrays[entry.filename[: -len(".npy")]] = _array(stream, entry.file_size)
    return arrays


def _array(stream: IO[bytes], size: int) -> np.ndarray:
    """The array in a stream of `size` bytes; refuses a header that states more bytes."""
    shape, by_columns, dtype, stated, head = _header(stream, size)
    data = bytearray(head.read(stated))
    data += stream.read(stated - len(data))
    array = np.frombuffer(data, dtype)
    return array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)


def _header(stream: IO[bytes], size: int) -> Tuple[Tuple[int, ...], bool, np.dtype, int, IO[bytes]]:
    """The header of an array, and the bytes of the stream that were read beyond it.

    Returns:
        the shape, whether it is stored by columns, the element type, the bytes of all elements,
        and the bytes that were read beyond the header.
    """
    head = io.BytesIO(stream.read(min(size, _LONGEST_HEADER)))
    version = npy.read_magic(head)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = read(head)
    if dtype.hasobject or not dtype.itemsize:
        raise _Refused(f"not an array of numbers, but of {dtype}")
    stated, available = dtype.itemsize, size - head.tell()
    for length in shape:  # as Python's integers, which do not wrap around
        stated *= length
    if min(shape, default=0) < 0 or stated > available:
        raise _Refused(f"states {stated:,} bytes of elements, and holds {available:,}")
    return shape, by_columns, dtype, stated, head
