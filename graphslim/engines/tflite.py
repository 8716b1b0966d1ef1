"""TensorFlow Lite models, run by the interpreter of ai-edge-litert, else by TensorFlow's own."""

from __future__ import annotations

import importlib.util
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
from graphslim.engines.lite_file import try_in_copy
from graphslim.errors import RuntimeUnavailable

_LITERT = "ai_edge_litert"


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
        LoadError: a shape does not fit, or the interpreter of TensorFlow 1.15 crashes on the file.
        RuntimeUnavailable: no interpreter is installed.
        VerifyError: the interpreter refuses the model.
    """

    runtime = "tflite"

    def __init__(self, path: str, threads: int = 1, shapes: Optional[Shapes] = None) -> None:
        self.path = path
        interpreter, self.version, options = _interpreter(threads)
        self.own_threads = not options
        if self.own_threads:  # that of TensorFlow 1.15
            with hushed():
                try_in_copy(path, lambda: _allocated(interpreter(model_path=path)))
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


def _allocated(interpreter: Any) -> Any:
    interpreter.allocate_tensors()
    return interpreter


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
