"""TensorFlow Lite models, run by the interpreter of ai-edge-litert, else by TensorFlow's own."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.util
import os
import signal
import struct
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphslim import runtime
from graphslim.engines.base import (
    INSTALL,
    Runner,
    Shapes,
    Tensor,
    asked_shapes,
    cores,
    hushed,
    package,
    plain_name,
)
from graphslim.errors import LoadError, RuntimeUnavailable
from graphslim.support.reading import read_bytes

_LITERT = "ai_edge_litert"
_IDENTIFIER = slice(4, 8), b"TFL3"
_CODES, _SUBGRAPHS, _BUFFERS = 1, 2, 4
_TENSORS, _OPERATORS = 0, 3
"""Fields of a model and of its subgraphs that hold tables, as schema.fbs counts them."""
_DATA, _NAME = 0, 3
"""The bytes of a buffer, and the name of a tensor."""


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


def try_in_copy(path: str, opening: Callable[[], object], seconds: float = 20.0) -> None:
    """Opens a file in a copy of this process first, for a runtime that does not check it.

    Runtimes that follow what a damaged file says end the process by a signal, or never return.

    Args:
        path: the file.
        opening: opens it.
        seconds: how long that may take.

    Raises:
        LoadError: the copy did not survive it.
    """
    if not hasattr(os, "fork"):
        return
    copy = os.fork()
    if copy == 0:
        faulthandler.disable()
        with contextlib.suppress(BaseException):  # what it raises, it raises here again
            opening()
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


class LiteRunner(Runner):
    """A TensorFlow Lite model in an interpreter.

    Its tensors are named as its signature names them, else as the file does, without what the
    converter adds.

    Args:
        path: the file.
        threads: threads within an op; 0 for as many as there are cores. The interpreter of
            TensorFlow 1.15 chooses their number itself.
        shapes: of inputs that the file leaves open, by name.

    Raises:
        LoadError: the file is damaged, or a shape does not fit.
        RuntimeUnavailable: no interpreter is installed.
        VerifyError: the interpreter refuses the model.
    """

    runtime = "tflite"

    def __init__(self, path: str, threads: int = 1, shapes: Optional[Shapes] = None) -> None:
        self.path = path
        check_lite(path)
        interpreter, self.version, options = _interpreter(threads)
        self.own_threads = not options
        if self.own_threads:  # that of TensorFlow 1.15
            with hushed():
                try_in_copy(path, lambda: interpreter(model_path=path).allocate_tensors())
        with self.refusals():
            self._interpreter = interpreter(model_path=path, **options)
            self.inputs, self.outputs = self._described()
        for name, shape in asked_shapes(path, self.inputs, shapes).items():
            self._resize(name, shape)
        with self.refusals():
            self._interpreter.allocate_tensors()
            self.inputs, self.outputs = self._described()

    def _described(self) -> Tuple[Tuple[Tensor, ...], Tuple[Tensor, ...]]:
        """The inputs and the outputs as the file states them now."""
        sides = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._indices = [[int(tensor["index"]) for tensor in tensors] for tensors in sides]
        names = _signature(self._interpreter)
        inputs, outputs = [
            tuple([_tensor(tensor, names[number]) for tensor in tensors])
            for number, tensors in enumerate(sides)
        ]
        return inputs, outputs

    def _resize(self, name: str, shape: Sequence[int]) -> None:
        index = [tensor.name for tensor in self.inputs].index(name)
        with self.refusals():
            self._interpreter.resize_tensor_input(self._indices[0][index], list(shape))

    def close(self) -> None:
        """Lets go of the interpreter, which ends its threads."""
        self._interpreter = None

    def prepare(self, feeds: Mapping[str, np.ndarray]) -> Callable[[], Sequence[Any]]:
        """A function that runs the model once; see `Runner.prepare`."""
        arrays = self.arrays(feeds)
        interpreter, (inputs, outputs) = self._interpreter, self._indices
        details = interpreter.get_input_details()
        changed = [
            (name, array.shape)
            for (name, array), detail in zip(arrays.items(), details)
            if tuple(detail["shape"]) != array.shape
        ]
        for name, shape in changed:
            self._resize(name, shape)
        if changed:
            with self.refusals():
                interpreter.allocate_tensors()
        fed = list(zip(inputs, arrays.values()))

        def once() -> List[np.ndarray]:
            for index, array in fed:
                interpreter.set_tensor(index, array)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in outputs]

        return once


def _interpreter(threads: int) -> Tuple[Any, str, Dict[str, Any]]:
    """The class of interpreters, what it is called, and the options that it is made with.

    Raises:
        RuntimeUnavailable: there is none.
    """
    options = {"num_threads": threads or cores()}
    if importlib.util.find_spec(_LITERT) is not None:
        module = package(f"{_LITERT}.interpreter", "tflite")
        version = getattr(package(_LITERT, "tflite"), "__version__", "")
        return module.Interpreter, f"LiteRT {version}".strip(), options
    if not runtime.available():
        raise RuntimeUnavailable(
            "TensorFlow Lite is not installed", "the package ai_edge_litert", INSTALL["tflite"]
        )
    tf = runtime.tensorflow("TensorFlow Lite models are run with it")
    version = f"TensorFlow Lite of TensorFlow {tf.__version__}"
    return tf.lite.Interpreter, version, {} if tf.__version__.startswith("1.") else options


def _signature(interpreter: Any) -> Tuple[Dict[int, str], Dict[int, str]]:
    """By index, the names that the model's signature has for its inputs and for its outputs."""
    signatures: Mapping[str, Any] = getattr(interpreter, "get_signature_list", dict)() or {}
    if not signatures:
        return {}, {}
    key = "serving_default" if "serving_default" in signatures else next(iter(signatures))
    signature = interpreter.get_signature_runner(key)
    inputs, outputs = [
        {int(tensor["index"]): name for name, tensor in details.items()}
        for details in (signature.get_input_details(), signature.get_output_details())
    ]
    return inputs, outputs


def _tensor(details: Mapping[str, Any], names: Mapping[int, str]) -> Tensor:
    """A tensor from what an interpreter says of it."""
    dtype = np.dtype(details["dtype"])
    shape = details.get("shape_signature", details["shape"])
    scale, zero_point = details["quantization"]
    quantised = scale > 0 and dtype.kind in "iu"
    return Tensor(
        names.get(int(details["index"]), plain_name(details["name"])),
        tuple([None if size < 0 else int(size) for size in shape]),
        dtype,
        float(scale) if quantised else None,
        int(zero_point) if quantised else None,
    )
