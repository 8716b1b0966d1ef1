"""Whether a file is a whole TensorFlow Lite model, before a runtime follows what it says."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import time
from typing import Callable, Iterable, List

from graphslim.engines.flatbuffer import Damaged, Table
from graphslim.errors import LoadError
from graphslim.support.reading import read_bytes

_IDENTIFIER = slice(4, 8), b"TFL3"
_OPENINGS = 5
"""How often a file is opened in a copy of the process."""


# The fields of the tables, by their place in TensorFlow's lite/schema/schema.fbs.


class _Model:
    CODES, SUBGRAPHS, BUFFERS = 1, 2, 4


class _Code:
    CUSTOM = 1


class _Buffer:
    DATA, OFFSET, SIZE = 0, 1, 2


class _Subgraph:
    TENSORS, INPUTS, OUTPUTS, OPERATORS, NAME = range(5)


class _Tensor:
    SHAPE, TYPE, BUFFER, NAME, QUANTIZATION, _, SPARSITY, SIGNATURE = range(8)


class _Operator:
    CODE, INPUTS, OUTPUTS, OPTIONS_TYPE, OPTIONS, CUSTOM = range(6)


_QUANTIZATION = {0: "f", 1: "f", 2: "f", 3: "q"}
"""The vectors of a quantisation (least, largest, scales, zero points), and what they hold."""
_RESHAPE, _SQUEEZE = 17, 30
"""The types of options whose first field is a vector of sizes or axes."""
_ITEM_SIZES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 8: 8, 9: 1, 10: 8, 11: 16, 12: 8, 15: 4}
"""By the type of a tensor, the bytes of an element, where each has its own."""
_NO_TENSOR = -1
"""What stands for an optional input or output that an op does not have."""


def check_lite(path: str) -> None:
    """Refuses a file that is no TensorFlow Lite model, or not a whole one.

    Old runtimes do not check what a file says before they follow it, and end the process.

    Raises:
        LoadError: the file is no such model, a part of it lies outside of the file, an operator
            names a tensor that is not there, or a constant has too few numbers for its shape.
    """
    data = read_bytes(path)
    whole = data[_IDENTIFIER[0]] == _IDENTIFIER[1]
    try:
        if whole:
            _check_model(Table.root(data), len(data))
    except Damaged:
        whole = False
    if not whole:
        raise _damaged(path)


def _check_model(model: Table, size: int) -> None:
    codes = model.tables(_Model.CODES)
    for code in codes:
        code.length(_Code.CUSTOM)
    buffers = [_bytes_of(buffer, size) for buffer in model.tables(_Model.BUFFERS)]
    for subgraph in model.tables(_Model.SUBGRAPHS):
        subgraph.length(_Subgraph.NAME)
        tensors = subgraph.tables(_Subgraph.TENSORS)
        for tensor in tensors:
            _check_tensor(tensor, buffers)
        for field in (_Subgraph.INPUTS, _Subgraph.OUTPUTS):
            _require_within(subgraph.numbers(field, "i"), len(tensors))
        for operator in subgraph.tables(_Subgraph.OPERATORS):
            _check_operator(operator, len(codes), len(tensors))


def _bytes_of(buffer: Table, size: int) -> int:
    """How many bytes a buffer has, in the flatbuffer or behind it."""
    behind = buffer.number(_Buffer.SIZE, "Q")
    if buffer.number(_Buffer.OFFSET, "Q") + behind > size:
        raise Damaged
    return behind or buffer.length(_Buffer.DATA)


def _check_tensor(tensor: Table, buffers: List[int]) -> None:
    shape = tensor.numbers(_Tensor.SHAPE, "i")
    tensor.numbers(_Tensor.SIGNATURE, "i")
    tensor.length(_Tensor.NAME)
    quantization = tensor.table(_Tensor.QUANTIZATION)
    if quantization is not None:
        for field, form in _QUANTIZATION.items():
            quantization.numbers(field, form)
    buffer = tensor.number(_Tensor.BUFFER, "I")
    _require_within([buffer], len(buffers))
    item = _ITEM_SIZES.get(tensor.number(_Tensor.TYPE, "b"))
    if buffers[buffer] and item is not None and tensor.table(_Tensor.SPARSITY) is None:
        for length in shape:
            item *= max(length, 0)
        if item != buffers[buffer]:
            raise Damaged


def _check_operator(operator: Table, codes: int, tensors: int) -> None:
    _require_within([operator.number(_Operator.CODE, "I")], codes)
    for field in (_Operator.INPUTS, _Operator.OUTPUTS):
        _require_within(operator.numbers(field, "i"), tensors, _NO_TENSOR)
    operator.length(_Operator.CUSTOM)
    options = operator.table(_Operator.OPTIONS)
    if options is not None and operator.number(_Operator.OPTIONS_TYPE, "B") in (_RESHAPE, _SQUEEZE):
        options.numbers(0, "i")


def _require_within(indices: Iterable[int], count: int, least: int = 0) -> None:
    if not all(least <= index < count for index in indices):
        raise Damaged


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
