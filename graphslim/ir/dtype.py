"""Element types: TensorFlow's numbering, names, and how numpy stores each."""

from __future__ import annotations

import builtins
import enum
from typing import Dict

import numpy as np


class DType(enum.IntEnum):
    """A TensorFlow element type; the value is its number in `types.proto`."""

    invalid = 0
    float32 = 1
    float64 = 2
    int32 = 3
    uint8 = 4
    int16 = 5
    int8 = 6
    string = 7
    complex64 = 8
    int64 = 9
    bool = 10
    qint8 = 11
    quint8 = 12
    qint32 = 13
    bfloat16 = 14
    qint16 = 15
    quint16 = 16
    uint16 = 17
    complex128 = 18
    float16 = 19
    resource = 20
    variant = 21
    uint32 = 22
    uint64 = 23

    @property
    def storage(self) -> np.dtype:
        """The little-endian numpy type that holds the raw elements (bfloat16 as its 16 bits)."""
        return _STORAGE.get(self, np.dtype(object))

    @property
    def is_floating(self) -> builtins.bool:
        """Whether its elements are real numbers with a fraction."""
        return self in (DType.float32, DType.float64, DType.float16, DType.bfloat16)

    @property
    def is_real(self) -> builtins.bool:
        """Whether its elements are or stand for real numbers, as those of parameters do."""
        return self.is_floating or self.name.startswith("q")

    @property
    def is_integral(self) -> builtins.bool:
        """Whether its elements are integers that stand for themselves (no quantised ones)."""
        return self in _INTEGERS


_STORAGE: Dict[DType, np.dtype] = {
    member: np.dtype(code)
    for member, code in {
        DType.float32: "<f4",
        DType.float64: "<f8",
        DType.int32: "<i4",
        DType.uint8: "u1",
        DType.int16: "<i2",
        DType.int8: "i1",
        DType.complex64: "<c8",
        DType.int64: "<i8",
        DType.bool: "?",
        DType.qint8: "i1",
        DType.quint8: "u1",
        DType.qint32: "<i4",
        DType.bfloat16: "<u2",
        DType.qint16: "<i2",
        DType.quint16: "<u2",
        DType.uint16: "<u2",
        DType.complex128: "<c16",
        DType.float16: "<f2",
        DType.uint32: "<u4",
        DType.uint64: "<u8",
    }.items()
}
_INTEGERS = frozenset(
    (
        DType.int32,
        DType.uint8,
        DType.int16,
        DType.int8,
        DType.int64,
        DType.uint16,
        DType.uint32,
        DType.uint64,
    )
)
