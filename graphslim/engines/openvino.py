"""ONNX and TensorFlow Lite models, frozen graphs and SavedModels, run by OpenVINO on the CPU."""

from __future__ import annotations

from typing import Any, Callable, List, Mapping, Optional, Sequence

import numpy as np

from graphslim.engines.base import (
    Runner,
    Shapes,
    Tensor,
    asked_shapes,
    hushed,
    package,
    plain_name,
)
from graphslim.engines.lite_file import try_in_copy
from graphslim.graphdef.kinds import TENSORFLOW_LITE

_CHECKS = "2024"
"""Older versions follow what a TensorFlow Lite model says, and crash where it is damaged."""


class OpenVinoRunner(Runner):
    """A model compiled by OpenVINO.

    Of a frozen graph OpenVINO computes what nothing reads, whatever `--outputs` names. Of integer
    tensors it does not tell the scales.

    Args:
        path: the file, or the folder of a SavedModel.
        threads: threads within an op; 0 for as many as there are cores.
        shapes: of inputs that the file leaves open, by name.

    Raises:
        LoadError: a shape does not fit.
        RuntimeUnavailable: OpenVINO is not installed.
        VerifyError: OpenVINO refuses the model.
    """

    runtime = "openvino"

    def __init__(self, path: str, threads: int = 1, shapes: Optional[Shapes] = None) -> None:
        self.path = path
        openvino = package("openvino", self.runtime)
        # Until 2023 the classes stood one package deeper.
        api = openvino if hasattr(openvino, "Core") else package("openvino.runtime", self.runtime)
        version = api.get_version() if hasattr(api, "get_version") else ""
        self.version = f"OpenVINO {version.partition('-')[0]}".strip()
        if version < _CHECKS and path.lower().endswith(TENSORFLOW_LITE):
            with hushed():
                try_in_copy(path, lambda: api.Core().read_model(path))
        with self.refusals():
            core = api.Core()
            model = core.read_model(path)
            self.inputs = tuple([_tensor(port) for port in model.inputs])
        asked = asked_shapes(path, self.inputs, shapes)
        with self.refusals():
            if asked:
                model.reshape(
                    {
                        port: list(asked[tensor.name])
                        for port, tensor in zip(model.inputs, self.inputs)
                        if tensor.name in asked
                    }
                )
            options = {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": str(threads),
                # Some processors would compute in 16 bits by default.
                "INFERENCE_PRECISION_HINT": "f32",
            }
            self._compiled = core.compile_model(model, "CPU", options)
            self._request = self._compiled.create_infer_request()
            self.inputs = tuple([_tensor(port) for port in model.inputs])
            self.outputs = tuple([_tensor(port) for port in model.outputs])
        self._wrapped = api.Tensor

    def close(self) -> None:
        """Lets go of the compiled model, which ends its threads."""
        self._request = self._compiled = None

    def prepare(self, feeds: Mapping[str, np.ndarray]) -> Callable[[], Sequence[Any]]:
        """A function that runs the model once; see `Runner.prepare`."""
        arrays, request = self.arrays(feeds), self._request
        tensors = [self._wrapped(array) for array in arrays.values()]
        number = len(self.outputs)

        def once() -> List[np.ndarray]:
            for index, tensor in enumerate(tensors):
                request.set_input_tensor(index, tensor)
            request.infer()
            return [np.array(request.get_output_tensor(index).data) for index in range(number)]

        return once


def _tensor(port: Any) -> Tensor:
    """A tensor from what OpenVINO says of it; the shortest of its names is that of the node."""
    names = sorted(port.get_names(), key=lambda name: (len(name), name))
    dims = port.get_partial_shape()
    shape = None
    if not dims.rank.is_dynamic:
        shape = tuple([None if size.is_dynamic else size.get_length() for size in dims])
    return Tensor(plain_name(names[0]) if names else "", shape, port.get_element_type().to_dtype())
