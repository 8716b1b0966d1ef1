"""The formats that graphslim delivers, by the name of the file, and the options that each takes."""

from __future__ import annotations

import contextlib
import os
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from graphslim.errors import EmitError, GraphslimError
from graphslim.graphdef import saved_model
from graphslim.graphdef.kinds import TENSORFLOW_LITE
from graphslim.support.writing import check_folder, check_target, replacing, replacing_folder

GRAPH, TFLITE, ONNX, SAVED_MODEL = "graph", "tflite", "onnx", "saved model"
"""The formats; a graph is a GraphDef, binary or as text."""
TITLES = {
    TFLITE: "TensorFlow Lite model",
    ONNX: "ONNX model",
    SAVED_MODEL: "SavedModel",
}
"""What the formats are called that a converter writes."""
QUANTISATIONS = ("dynamic", "float16", "int8")
"""The ways in which a TensorFlow Lite model may be quantised."""
EDGES = ("float", "int8")
"""The element types that the inputs and outputs of an int8 model may have."""
_OWN = ("saved_model.pb", "saved_model.pbtxt", "fingerprint.pb", "keras_metadata.pb", "variables")
"""What an old SavedModel leaves to no new one in its place."""


class Wish(NamedTuple):
    """How a model is converted.

    Attributes:
        quantize: one of `QUANTISATIONS`; None to keep float32.
        io: one of `EDGES`: the element type of the inputs and outputs of an int8 model.
        random_calibration: whether int8 may be calibrated on random inputs.
        select_tf_ops: whether ops that TensorFlow Lite does not have are left to TensorFlow.
    """

    quantize: Optional[str] = None
    io: str = "float"
    random_calibration: bool = False
    select_tf_ops: bool = False

    @property
    def title(self) -> str:
        """What the numbers are, in words."""
        if self.quantize is None:
            return "float32"
        edges = f" with {self.io} inputs and outputs" if self.quantize == "int8" else ""
        return {"dynamic": "int8 weights"}.get(self.quantize, self.quantize) + edges


class Package(NamedTuple):
    """A converted model that is not written yet.

    Attributes:
        path: where it is to be written.
        kind: its format.
        files: the content by path within the folder; of a single file by the empty path.
        notes: what its user has to know of it, in sentences.
    """

    path: str
    kind: str
    files: Mapping[str, bytes]
    notes: Tuple[str, ...] = ()

    def __repr__(self) -> str:
        """The package without the bytes of its files."""
        return f"Package({self.path!r}, {self.kind!r}, {self.size} bytes)"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))

    def put(self, path: str) -> str:
        """Writes the files as they are under another name; gives it.

        Raises:
            OSError: a file cannot be written.
        """
        for name, content in self.files.items():
            place = os.path.join(path, name) if name else path
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "wb") as file:
                file.write(content)
        return path

    @contextlib.contextmanager
    def placing(self) -> Iterator[None]:
        """Writes the files beside their place, which they take when the block ends well.

        Raises:
            EmitError: they cannot be written; then the place is as it was.
        """
        if self.kind != SAVED_MODEL:
            with replacing(self.path) as file:
                file.write(self.files[""])
                file.flush()
                os.fsync(file.fileno())
                yield
            return
        with replacing_folder(self.path, True, _OWN) as folder:
            self.put(folder)
            yield


def format_of_target(path: str) -> str:
    """The format that a name asks for.

    `.tflite` and `.lite` are TensorFlow Lite models, `.onnx` ONNX models; what ends in a slash, or
    is a folder already, becomes a SavedModel; all else is a GraphDef.
    """
    ending = os.path.splitext(path)[1].lower()
    if path.endswith(("/", os.sep)) or os.path.isdir(path):
        return SAVED_MODEL
    if ending in TENSORFLOW_LITE:
        return TFLITE
    return ONNX if ending == ".onnx" else GRAPH


def _check_saved_model_target(path: str) -> None:
    """Refuses a folder in whose place no SavedModel can be written.

    Raises:
        EmitError: it holds something that is no SavedModel, or cannot be written to.
    """
    check_folder(path, force=True)
    if os.path.isdir(path) and os.listdir(path) and saved_model.folder_of(path) is None:
        raise EmitError(
            "is a folder that holds other things than a SavedModel",
            path,
            "give a folder that is empty, or not there yet, or a file name",
        )


def check_package_target(path: str) -> None:
    """Refuses a place that no model can be written to.

    Raises:
        EmitError: the place cannot be written to; the message says why.
    """
    if format_of_target(path) == SAVED_MODEL:
        _check_saved_model_target(path)
    else:
        check_target(path)


def check_wish(path: str, wish: Wish, has_data: bool) -> None:
    """Refuses options that the format does not take, or that contradict each other.

    Args:
        path: the file or folder to be written.
        wish: how the model is to be converted.
        has_data: whether there are sample inputs.

    Raises:
        GraphslimError: an option does not fit; the message says which.
    """
    given = _given(wish)
    if given and format_of_target(path) != TFLITE:
        raise GraphslimError(
            f"is for TensorFlow Lite models, and {path} is none", given[0], "name it OUT.tflite"
        )
    if wish.quantize not in (None, *QUANTISATIONS):
        raise GraphslimError(
            f"no quantisation {wish.quantize!r}", "--quantize", f"one of {', '.join(QUANTISATIONS)}"
        )
    if wish.io not in EDGES:
        raise GraphslimError(f"no element type {wish.io!r}", "--io", f"one of {', '.join(EDGES)}")
    if wish.quantize != "int8":
        for option in [option for option in given if option in _OF_INT8]:
            raise GraphslimError("is for integer models", option, "add --quantize int8")
    elif not has_data and not wish.random_calibration:
        raise GraphslimError(
            "needs real inputs, from which it takes the ranges of all tensors",
            "--quantize int8",
            "give some 100 typical images with --data, or add --random-calibration to only try it",
        )


_OF_INT8 = ("--io int8", "--random-calibration")


def _given(wish: Wish) -> List[str]:
    """The options that were given, as on a command line."""
    options: Dict[str, bool] = {
        f"--quantize {wish.quantize}": wish.quantize is not None,
        f"--io {wish.io}": wish.io != "float",
        "--random-calibration": wish.random_calibration,
        "--select-tf-ops": wish.select_tf_ops,
    }
    return [option for option, is_given in options.items() if is_given]
