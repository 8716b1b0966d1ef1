"""Element types as TensorFlow numbers them, and constants: lazy, read-only, cut when read."""

from __future__ import annotations

import builtins
import enum
from typing import Any, Callable, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from graphslim.errors import IRError
from graphslim.ir.fixed import FixedFields


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

    storage: np.dtype
    """The little-endian numpy type that holds the raw elements (bfloat16 as its 16 bits)."""

    __hash__ = int.__hash__  # that of an Enum runs in Python, and types are looked up a lot

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


_STORAGE = {
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
}
for _member in DType:
    _member.storage = np.dtype(_STORAGE.get(_member, object))
_INTEGERS = frozenset(
    [member for member in DType if member.storage.kind in "iu" and not member.is_real]
)


Elements = Union[bytes, memoryview, Callable[[], np.ndarray]]


class _Fields:
    """The fields of a tensor, as yet open; see `node._Fields`."""

    __slots__ = ("shape", "dtype", "_read", "_array")
    shape: Tuple[int, ...]
    dtype: DType
    _read: Optional[Elements]
    _array: Optional[np.ndarray]


class Tensor(FixedFields, _Fields):
    """A constant of known shape and element type whose elements are read on demand.

    Args:
        shape: the dimensions.
        dtype: the element type.
        read: the elements in `dtype.storage`: their bytes, or what gives an array of that shape,
            called once.
    """

    __slots__ = ()
    FIXED = dict.fromkeys(("shape", "dtype"), "make another tensor, such as Tensor.of(array)")

    def __new__(cls, shape: Sequence[int], dtype: DType, read: Elements) -> Tensor:
        """A tensor; see the class."""
        tensor: Any = _Fields()
        tensor.shape = tuple(map(int, shape))
        tensor.dtype, tensor._read, tensor._array = dtype, read, None
        tensor.__class__ = cls
        made: Tensor = tensor
        return made

    @classmethod
    def of(cls, array: np.ndarray, dtype: Optional[DType] = None) -> Tensor:
        """A tensor over an array that is in memory; the element type defaults to the array's.

        Raises:
            IRError: no element type is given, and numpy's is none of TensorFlow's.
        """
        values = np.asarray(array)
        if dtype is None and values.dtype.name not in DType.__members__:
            raise IRError(f"no element type for a numpy {values.dtype.name}", hint="name a dtype")
        kind = dtype or DType[values.dtype.name]
        stored = np.ascontiguousarray(values, dtype=kind.storage).reshape(values.shape)
        return cls(stored.shape, kind, lambda: stored)

    @property
    def size(self) -> int:
        """How many elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def nbytes(self) -> int:
        """How many bytes the elements take."""
        return self.size * self.dtype.storage.itemsize

    @property
    def array(self) -> np.ndarray:
        """The raw elements, read-only: shape `shape`, dtype `dtype.storage`.

        Raises:
            IRError: what was read does not have the shape that was promised.
        """
        if self._array is None:
            read = self._read
            assert read is not None
            if callable(read):
                array = np.asarray(read())
            else:
                array = np.frombuffer(read, self.dtype.storage).reshape(self.shape)
            if array.shape != self.shape:
                raise IRError(
                    f"a tensor of shape {self.shape} holds elements of shape {array.shape}"
                )
            array = array.view()
            array.flags.writeable = False
            self._array, self._read = array, None
        return self._array

    def numbers(self) -> np.ndarray:
        """The elements as numbers to calculate with: bfloat16 as float32, others as stored."""
        if self.dtype is DType.bfloat16:
            bits = np.left_shift(self.array.astype(np.uint32), np.uint32(16), dtype=np.uint32)
            return np.asarray(bits).view(np.float32)
        return self.array

    @classmethod
    def from_numbers(cls, numbers: np.ndarray, dtype: DType) -> Tensor:
        """A tensor of an element type from numbers of any, rounded to it."""
        if dtype is DType.bfloat16:
            floats = np.ascontiguousarray(numbers, dtype=np.float32)
            bits = floats.view(np.uint32)
            rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> 16
            # The carry of a NaN's bits would run into its sign.
            rounded = np.where(np.isnan(floats), 0x7FC0, rounded)
            return cls.of(rounded.astype(np.uint16).reshape(np.shape(numbers)), dtype)
        values = np.asarray(numbers)
        if values.dtype.kind == "f" and dtype.storage.kind in "iu":
            values = np.rint(values)
        return cls.of(values.astype(dtype.storage), dtype)

    def with_numbers(self, numbers: np.ndarray) -> Tensor:
        """A tensor of this element type holding other numbers, rounded to it."""
        return Tensor.from_numbers(numbers, self.dtype)

    def take(self, axis: int, keep: np.ndarray) -> Tensor:
        """This tensor without the positions along `axis` where the mask `keep` is False.

        Raises:
            IRError: there is no such axis, or the mask is not of its size.
        """
        mask = np.asarray(keep, bool)
        if not 0 <= axis < len(self.shape) or mask.shape != (self.shape[axis],):
            raise IRError(f"a mask of shape {mask.shape} does not fit axis {axis} of {self.shape}")
        return self.at({axis: np.flatnonzero(mask)})

    def at(self, kept: Mapping[int, np.ndarray]) -> Tensor:
        """This tensor at some positions alone.

        Args:
            kept: along some of its axes the positions, int64 of shape (n,), each inside the axis;
                they must not be changed later, since the cut is made when the elements are read.
        """
        shape = [len(kept[axis]) if axis in kept else size for axis, size in enumerate(self.shape)]
        return Tensor(shape, self.dtype, lambda: _cut(self.array, kept))

    def __repr__(self) -> str:
        return f"Tensor({self.dtype.name}{list(self.shape)})"


def _cut(array: np.ndarray, kept: Mapping[int, np.ndarray]) -> np.ndarray:
    """An array at some positions along some axes."""
    first = min(kept)
    if len(kept) == 1 or first == 0 or max(array.shape[:first]) == 1 or not array.size:
        for axis in sorted(kept):
            array = array.take(kept[axis], axis, mode="clip")  # which is not checked once more
        return array
    # All axes at once, since the same places are read again and again: for each pixel of a filter.
    block, places, shape = array.shape[first:], np.zeros(1, np.intp), list(array.shape[:first])
    for axis, size in enumerate(block, first):
        along = kept.get(axis, np.arange(size))
        places = np.add.outer(places * size, along).ravel()
        shape.append(len(along))
    flat = array.reshape(-1, int(np.prod(block)))
    return flat.take(places, 1, mode="clip").reshape(shape)
