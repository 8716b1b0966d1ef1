"""The runtimes that run a model's file: TensorFlow, TensorFlow Lite, ONNX Runtime, OpenVINO.

None is imported before a file is opened in it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from typing import Any, Optional, Tuple, Union

from graphslim.engines.base import INSTALL, TITLES, Runner, Shapes, Tensor
from graphslim.errors import GraphslimError
from graphslim.graphdef import saved_model
from graphslim.graphdef.kinds import BINARY, foreign
from graphslim.ir import Graph
from graphslim.support.reading import require_regular

__all__ = [
    "INSTALL",
    "RUNTIMES",
    "TITLES",
    "Runner",
    "Tensor",
    "format_of",
    "installed",
    "open_runner",
    "runtimes_of",
]

RUNTIMES = ("tf", "tflite", "ort", "openvino")
"""The names of the runtimes, for `--runtime`."""
_PACKAGES = {
    "tf": ("tensorflow",),
    "tflite": ("ai_edge_litert", "tensorflow"),
    "ort": ("onnxruntime",),
    "openvino": ("openvino",),
}
"""By runtime the packages of which one has to be there."""
_ENDINGS = {".tflite": "tflite", ".lite": "tflite", ".onnx": "onnx"}
_BY_FORMAT = {
    "tflite": ("tflite", "openvino"),
    "onnx": ("ort", "openvino"),
    "graph": ("tf", "openvino"),
    "saved model": ("tf", "openvino"),
    "other": ("tf",),
}
_TITLES_OF_FORMATS = {
    "tflite": "a TensorFlow Lite model",
    "onnx": "an ONNX model",
    "graph": "a frozen graph",
    "saved model": "a SavedModel",
    "other": "a model of this kind",
}


def format_of(path: Union[str, os.PathLike[str]]) -> str:
    """The format of a file: `tflite`, `onnx`, `graph`, or `saved model` for a folder.

    The ending of its name decides, else its first bytes. What TensorFlow alone runs, such as graphs
    as text, Keras models and checkpoints, is `other`.
    """
    name = os.fspath(path)
    if saved_model.folder_of(name) is not None:
        return "saved model"
    ending = os.path.splitext(name)[1].lower()
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    if ending in BINARY:
        return "graph"
    if ending or not os.path.isfile(name):
        return "other"
    what = ""
    # Who opens it as a graph says why it cannot be read.
    with contextlib.suppress(OSError), open(name, "rb") as file:
        what, _ = foreign(file.read(64)) or ("", "")
    return next((key for key, title in _TITLES_OF_FORMATS.items() if title == what), "graph")


def runtimes_of(path: Union[str, os.PathLike[str]]) -> Tuple[str, ...]:
    """The runtimes that run files of such a format, the one that it is made for first."""
    return _BY_FORMAT[format_of(path)]


def installed() -> Tuple[str, ...]:
    """The runtimes whose packages are installed; none is imported to find out."""
    return tuple(
        [
            name
            for name in RUNTIMES
            if any(importlib.util.find_spec(package) is not None for package in _PACKAGES[name])
        ]
    )


def open_runner(
    model: Union[Graph, str, os.PathLike[str]],
    runtime: Optional[str] = None,
    threads: int = 1,
    inputs: Optional[Shapes] = None,
    optimize: bool = True,
) -> Runner:
    """Opens a model in a runtime.

    Args:
        model: a file or folder, or a graph, which TensorFlow runs.
        runtime: one of `RUNTIMES`; by default the one that the file's format is made for.
        threads: threads within an op; 0 for as many as there are cores. TensorFlow Lite in
            TensorFlow 1.15 chooses their number itself.
        inputs: by name, the whole shapes of inputs that the file leaves open; by the empty name
            where there is only one input.
        optimize: whether TensorFlow may rewrite the graph first, which takes longer than one run.

    Raises:
        GraphslimError: the file is not there or is damaged, a shape does not fit, or the runtime
            does not run such files.
        RuntimeUnavailable: the runtime is not installed; the message has the command for that.
        VerifyError: the runtime refuses the file.
    """
    runner: Any
    if isinstance(model, Graph):
        from graphslim.engines.tf import TensorFlowRunner

        return TensorFlowRunner(model, threads, optimize)
    path = os.fspath(model)
    name = _chosen(path, runtime)
    if name == "tf":
        from graphslim.engines.tf import read_graph

        return open_runner(read_graph(path, inputs), threads=threads, optimize=optimize)
    if format_of(path) != "saved model":
        require_regular(path)
    if name == "tflite":
        from graphslim.engines.tflite import LiteRunner as runner
    elif name == "ort":
        from graphslim.engines.ort import OnnxRunner as runner
    else:
        from graphslim.engines.openvino import OpenVinoRunner as runner
    if format_of(path) == "tflite":
        from graphslim.engines.lite_file import check_lite

        check_lite(path)
    opened: Runner = runner(path, threads, inputs)
    return opened


def _chosen(path: str, runtime: Optional[str]) -> str:
    """The runtime for a file.

    Raises:
        GraphslimError: there is no such runtime, or it does not run files of that format.
    """
    able = runtimes_of(path)
    if runtime is None:
        return able[0]
    if runtime not in RUNTIMES:
        raise GraphslimError(
            f"no runtime {runtime!r}", "--runtime", f"one of {', '.join(RUNTIMES)}"
        )
    if runtime not in able:
        raise GraphslimError(
            f"{TITLES[runtime]} does not run {_TITLES_OF_FORMATS[format_of(path)]}",
            path,
            f"what does: --runtime {' or '.join(able)}",
        )
    return runtime
