"""Reads arrays that numpy saved: no more of them than their file can hold."""

from __future__ import annotations

import io
import zipfile
from typing import IO, Dict, Tuple

import numpy as np
from numpy.lib import format as npy

from graphslim.errors import GraphslimError
from graphslim.reading import require_regular

_HINT = "give an .npz, an .npy, an image or a folder of images"
_LONGEST_HEADER = 1 << 16
_FREE, _TIMES = 1 << 28, 16
"""Bytes that a compressed file may come to whatever its size, and times its size beyond."""
_START_OF_ZIP = b"PK"


class _Refused(Exception):
    """What is wrong with a file of arrays."""


def read_arrays(path: str) -> Dict[str, np.ndarray]:
    """The arrays of an `.npz` by name, or that of an `.npy`, which stays on disk, by the name "".

    Raises:
        GraphslimError: it cannot be read, is damaged, or states more than it holds.
    """
    size = require_regular(path, _HINT, GraphslimError)
    try:
        with open(path, "rb") as file:
            is_zip = file.read(2) == _START_OF_ZIP
        if is_zip:
            found = _zipped(path, size)
        else:
            with open(path, "rb") as file:
                _header(file, size)
            found = {"": np.load(path, mmap_mode="r", allow_pickle=False)}
    except _Refused as error:
        raise GraphslimError(str(error), path, _HINT) from None
    except OSError as error:
        raise GraphslimError(f"cannot be read: {error.strerror or error}", path, _HINT) from None
    except Exception:  # numpy and its decompressors raise whatever damaged bytes lead them to
        raise GraphslimError("not an array of numbers that numpy saved", path, _HINT) from None
    if not found:
        raise GraphslimError("holds no array", path, _HINT)
    return found


def _zipped(path: str, size: int) -> Dict[str, np.ndarray]:
    """The arrays of an `.npz`, if they do not come to far more than its size."""
    with zipfile.ZipFile(path) as archive:
        entries = [one for one in archive.infolist() if one.filename.endswith(".npy")]
        total = sum([one.file_size for one in entries])
        if total > _FREE + _TIMES * size:
            raise _Refused(f"states {total:,} bytes of arrays, in a file of {size:,}")
        found = {}
        for one in entries:
            with archive.open(one) as stream:
                found[one.filename[: -len(".npy")]] = _array(stream, one.file_size)
    return found


def _array(stream: IO[bytes], size: int) -> np.ndarray:
    """An array from a stream of so many bytes, if it states no other size."""
    shape, by_columns, dtype, stated, head = _header(stream, size)
    data = bytearray(head.read(stated))
    data += stream.read(stated - len(data))
    array = np.frombuffer(data, dtype)
    return array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)


def _header(stream: IO[bytes], size: int) -> Tuple[Tuple[int, ...], bool, np.dtype, int, IO[bytes]]:
    """What the header of an array states, and what was read of the stream, behind the header.

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
    stated, there = dtype.itemsize, size - head.tell()
    for length in shape:  # as Python's integers, which do not wrap around
        stated *= length
    if min(shape, default=0) < 0 or stated > there:
        raise _Refused(f"states {stated:,} bytes of elements, and holds {there:,}")
    return shape, by_columns, dtype, stated, head
