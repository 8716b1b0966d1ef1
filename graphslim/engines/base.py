"""What every runtime has in common: tensors, runners, and errors told in one line."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import warnings
from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim import runtime
from graphslim.errors import GraphslimError, LoadError, RuntimeUnavailable, VerifyError
from graphslim.graphdef.signature import misfit

Dims = Optional[Tuple[Optional[int], ...]]
Shapes = Mapping[str, Sequence[Optional[int]]]

TITLES = {
    "tf": "TensorFlow",
    "tflite": "TensorFlow Lite",
    "ort": "ONNX Runtime",
    "openvino": "OpenVINO",
}
"""What the runtimes are called."""
INSTALL = {
    "tf": runtime.INSTALL,
    # There is none for older Pythons, where TensorFlow brings an interpreter.
    "tflite": "pip install ai-edge-litert" if sys.version_info >= (3, 10) else runtime.INSTALL,
    "ort": "pip install onnxruntime",
    "openvino": "pip install openvino",
}
"""The commands that install them."""


class Tensor(NamedTuple):
    """An input or output of a model.

    Attributes:
        name: that of the graph, as far as the file has kept it.
        shape: the sizes of its axes, None for those that are open; None if the rank is open.
        dtype: the element type that the runtime takes or gives.
        scale, zero_point: for an integer tensor that stands for real numbers, which are
            (integer - zero_point) * scale; else None.
    """

    name: str
    shape: Dims
    dtype: np.dtype
    scale: Optional[float] = None
    zero_point: Optional[int] = None

    def stored(self, values: np.ndarray) -> np.ndarray:
        """Values in the element type of this tensor.

        Floats for an integer tensor with a scale are quantised; all else is converted as it is.
        """
        values = np.asarray(values)
        if self.scale is not None and values.dtype.kind == "f":
            info = np.iinfo(self.dtype)
            values = np.round(values / self.scale) + (self.zero_point or 0)
            values = np.clip(values, info.min, info.max)
        return np.ascontiguousarray(values.astype(self.dtype, copy=False)).reshape(values.shape)

    def real(self, values: np.ndarray) -> np.ndarray:
        """The numbers that elements stand for: float32 for an integer tensor with a scale."""
        if self.scale is None:
            return values
        numbers = (values.astype(np.float32) - (self.zero_point or 0)) * self.scale
        return np.asarray(numbers, np.float32)


class Runner:
    """A model that a runtime has opened; a context manager, which ends its threads.

    Attributes:
        path: the file or folder.
        runtime: one of `RUNTIMES`.
        version: the runtime's name and version.
        inputs, outputs: the tensors, in the order of the file.
        own_threads: whether the runtime chooses the number of its threads, whatever is asked for.
    """

    path: str
    runtime: str
    version: str
    inputs: Tuple[Tensor, ...]
    outputs: Tuple[Tensor, ...]
    own_threads: bool = False

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives back memory and threads; the runner cannot be used after that."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """What the model computes, in real numbers.

        Args:
            feeds: by input name, an array of the input's shape. For an integer input with a scale,
                floats are quantised, and integers are fed as they are.

        Returns:
            by output name the values; those of an integer output with a scale as float32.

        Raises:
            GraphslimError: an input has no array, or one of another shape.
            VerifyError: the runtime fails.
        """
        with self.failures("does not run", "does the model given run at all?"):
            values = self.prepare(feeds)()
        return {
            tensor.name: tensor.real(np.asarray(value))
            for tensor, value in zip(self.outputs, values)
        }

    def prepare(self, feeds: Mapping[str, np.ndarray]) -> Callable[[], Sequence[Any]]:
        """A function that runs the model once with little around it, to be timed.

        It takes the inputs in, runs, and gives the outputs as the runtime has them, in the order of
        `outputs`.

        Args:
            feeds: as for `run`.

        Raises:
            GraphslimError: as `run`.
        """
        raise NotImplementedError

    def arrays(self, feeds: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """The arrays to be fed, in the order and element types of `inputs`.

        Raises:
            GraphslimError: an input has no array, or one of another shape.
        """
        arrays = {}
        for tensor in self.inputs:
            if tensor.name not in feeds:
                given = ", ".join(sorted(feeds)) or "none"
                raise GraphslimError(
                    f"nothing is given for its input {tensor.name!r}", self.path, f"given: {given}"
                )
            array = tensor.stored(feeds[tensor.name])
            if not fits(tensor.shape, array.shape):
                raise GraphslimError(
                    f"its input {tensor.name} takes the shape [{sizes_of(tensor.shape)}], not "
                    f"[{sizes_of(array.shape)}]",
                    self.path,
                    "convert the model again with that shape, or give inputs of the model's",
                )
            arrays[tensor.name] = array
        return arrays

    @contextlib.contextmanager
    def failures(self, what: str, hint: str) -> Iterator[None]:
        """Tells what a runtime raises as a VerifyError of one line.

        Args:
            what: what it did not do.
            hint: what the reader can do about it.
        """
        try:
            with hushed():
                yield
        except (GraphslimError, MemoryError):
            raise
        except Exception as error:  # each runtime has its own classes
            raise VerifyError(
                f"{TITLES[self.runtime]} {what}: {first_line(error)}", self.path, hint
            ) from error

    def refusals(self) -> Any:
        """A context in which what a runtime raises means that it refuses the file."""
        return self.failures(
            "refuses it", "convert it again, or choose another runtime with --runtime"
        )


def fits(expected: Dims, shape: Sequence[Optional[int]]) -> bool:
    """Whether an array of a shape may be fed where a shape, with open sizes, is expected."""
    return expected is None or (
        len(expected) == len(shape)
        and all(size is None or size == other for size, other in zip(expected, shape))
    )


def sizes_of(shape: Optional[Sequence[Optional[int]]]) -> str:
    """A shape as text, such as `?,224,224,3`."""
    if shape is None:
        return "..."
    return ",".join(["?" if size is None else str(size) for size in shape])


def plain_name(name: str) -> str:
    """The name of a tensor without what converters add to that of the graph."""
    for prefix in ("serving_default_", "StatefulPartitionedCall:", "PartitionedCall:"):
        if name.startswith(prefix) and len(name) > len(prefix):
            name = name[len(prefix) :]
    return name[:-2] if name.endswith(":0") else name


def asked_shapes(
    path: str, tensors: Sequence[Tensor], shapes: Optional[Shapes]
) -> Dict[str, Tuple[int, ...]]:
    """By input, the shape that it is to have, where one was given for it.

    Args:
        path: the model, for messages.
        tensors: its inputs.
        shapes: the shapes given, by name; by the empty name for the only input.

    Raises:
        LoadError: a name is not one of an input, a shape leaves a size open that the input leaves
            open too, or states another than the input's.
    """
    asked = {}
    by_name = {tensor.name: tensor for tensor in tensors}
    for text, shape in (shapes or {}).items():
        name = plain_name(text) if text or len(tensors) != 1 else tensors[0].name
        if name not in by_name:
            raise LoadError(
                f"{text or sizes_of(shape)!r} is not an input of {path}",
                "--input-shape",
                f"the inputs are: {', '.join(by_name)}",
            )
        stated = by_name[name].shape or (None,) * len(shape)
        pairs = list(zip(stated, shape))
        sizes = [size if other is None else other for other, size in pairs]
        if (
            len(stated) != len(shape)
            or any(None not in pair and pair[0] != pair[1] for pair in pairs)
            or None in sizes
        ):
            raise LoadError(
                f"the input {name} has the shape {sizes_of(by_name[name].shape)}",
                "--input-shape",
                misfit(stated, shape),
            )
        asked[name] = tuple([size for size in sizes if size is not None])
    return asked


def package(name: str, runtime: str) -> Any:
    """Imports a runtime's package.

    Raises:
        RuntimeUnavailable: it is not installed, or does not load.
    """
    try:
        with hushed():
            return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] == name.partition(".")[0]:
            raise RuntimeUnavailable(
                f"{TITLES[runtime]} is not installed",
                f"the package {name.partition('.')[0]}",
                INSTALL[runtime],
            ) from None
        raise _broken(error, runtime) from error
    except Exception as error:  # a broken install may raise anything
        raise _broken(error, runtime) from error


def _broken(error: Exception, runtime: str) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        f"{TITLES[runtime]} does not load: {first_line(error)}", sys.executable, INSTALL[runtime]
    )


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Drops warnings, and what runtimes write to stderr past Python; what matters they raise."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        with contextlib.suppress(OSError, AttributeError):  # stderr may have been closed
            sys.stderr.flush()
            standard_error = os.dup(2)
            stack.callback(os.close, standard_error)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, nowhere)
            stack.callback(os.dup2, standard_error, 2)
            os.dup2(nowhere, 2)
        yield


_AROUND = re.compile(
    r"(Exception from |Check '|FrontEnd API failed|Model wasn't fully converted|Summary:).*"
    r"|-- |\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed:)?"
)
"""What OpenVINO and ONNX Runtime say around what is the matter."""


def first_line(error: Exception) -> str:
    """What an error says first of what is the matter."""
    lines = [_AROUND.sub("", line.strip(), 1) for line in str(error).splitlines()]
    return next((line[:300].rstrip(" :") for line in lines if line), type(error).__name__)


def cores() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
