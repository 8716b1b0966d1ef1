"""ONNX models, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import contextlib
import io
from typing import Any, Callable, Mapping, Optional, Sequence

import numpy as np

from graphslim.engines.base import Runner, Shapes, Tensor, asked_shapes, package, plain_name

_TYPES = {"float": np.float32, "double": np.float64, "string": object}
"""The element types whose names are not those of numpy."""


class OnnxRunner(Runner):
    """An ONNX model in a session of ONNX Runtime.

    Args:
        path: the file.
        threads: threads within an op; 0 for as many as there are cores.
        shapes: of inputs that the file leaves open, by name; checked, for any size is taken.

    Raises:
        LoadError: a shape does not fit.
        RuntimeUnavailable: ONNX Runtime is not installed.
        VerifyError: ONNX Runtime refuses the model.
    """

    runtime = "ort"

    def __init__(self, path: str, threads: int = 1, shapes: Optional[Shapes] = None) -> None:
        self.path = path
        ort = package("onnxruntime", self.runtime)
        self.version = f"ONNX Runtime {ort.__version__}"
        # Where it fails, it prints that it tries once more.
        with self.refusals(), contextlib.redirect_stdout(io.StringIO()):
            options = ort.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            options.log_severity_level = 4  # none but fatal errors
            # Threads that wait in a loop would slow down whatever takes its turn next.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            sides = self._session.get_inputs(), self._session.get_outputs()
            self._keys = [[tensor.name for tensor in side] for side in sides]
            self.inputs, self.outputs = [
                tuple([_tensor(tensor) for tensor in side]) for side in sides
            ]
        asked = asked_shapes(path, self.inputs, shapes)
        self.inputs = tuple(
            [tensor._replace(shape=asked.get(tensor.name, tensor.shape)) for tensor in self.inputs]
        )

    def close(self) -> None:
        """Lets go of the session, which ends its threads."""
        self._session = None

    def prepare(self, feeds: Mapping[str, np.ndarray]) -> Callable[[], Sequence[Any]]:
        """A function that runs the model once; see `Runner.prepare`."""
        fed = dict(zip(self._keys[0], self.arrays(feeds).values()))
        run, wanted = self._session.run, self._keys[1]
        return lambda: run(wanted, fed)


def _tensor(told: Any) -> Tensor:
    """A tensor from what ONNX Runtime says of it, whose type is such as `tensor(float)`."""
    kind = told.type[len("tensor(") : -1] if told.type.startswith("tensor(") else "float"
    shape = tuple([size if isinstance(size, int) else None for size in told.shape])
    return Tensor(plain_name(told.name), shape, np.dtype(_TYPES.get(kind, kind)))
