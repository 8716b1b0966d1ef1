"""Kinds of files: what a name or the first bytes say a file holds, and what to do instead."""

from __future__ import annotations

import io
import os
import re
import zipfile
from typing import List, Optional, Sequence, Tuple

from graphslim.errors import EmitError

TEXT = (".pbtxt", ".pbtext", ".prototxt")
"""Endings of a GraphDef as text."""
BINARY = (".pb",)
"""Endings of a binary GraphDef; a name without an ending is one too."""
_ENDING = re.compile(r"\.[A-Za-z]\w*$")
"""The ending of a name; what stands behind the dot of `slim-0.5` is none."""
_CHECKPOINTS = (".ckpt", ".meta", ".index", ".data")
_KERAS = (".h5", ".hdf5", ".keras")
TENSORFLOW_LITE = (".tflite", ".lite")


def is_text(path: str) -> bool:
    """Whether a GraphDef is text, by the ending of its file's name."""
    return path.lower().endswith(TEXT)


def check_ending(path: str, endings: Sequence[str], what: str) -> None:
    """Refuses to write a kind of file under a name that says it is of another kind.

    Args:
        path: the file; a name without an ending is accepted.
        endings: of names that say the kind; the first is advised.
        what: the kind.

    Raises:
        EmitError: the name has another ending.
    """
    ending = _ending_of(path)
    if ending and ending not in endings:
        raise EmitError(
            f"{ending} is not how {what} ends", path, f"name it {_named(path, endings[0])}"
        )


def check_graph_ending(path: str) -> None:
    """Refuses to write a GraphDef under a name that says it is something else.

    Args:
        path: the file: binary (`.pb`, or no ending) or text (`.pbtxt`, `.pbtext`, `.prototxt`).

    Raises:
        EmitError: the name has another ending; the message says how such a file is made of a
            `.pb`.
    """
    ending, graph = _ending_of(path), _named(path, ".pb")
    if ending in (*TENSORFLOW_LITE, ".onnx"):
        what = "an ONNX model" if ending == ".onnx" else "a TensorFlow Lite model"
        raise EmitError(
            f"only a graph is written here, not {what}",
            path,
            f"write {graph}, then: `graphslim export {graph} -o {path}`",
        )
    if ending in _KERAS:
        raise EmitError("a pruned graph is no Keras model any more", path, f"write {graph}")
    if ending in _CHECKPOINTS:
        raise EmitError(
            "graphslim writes a frozen graph here, no checkpoint",
            path,
            f"write {graph}, or cut a checkpoint with `graphslim strip`",
        )
    check_ending(path, (*BINARY, *TEXT), "a GraphDef")


def _ending_of(path: str) -> str:
    match = _ENDING.search(os.path.basename(path))
    return match[0].lower() if match else ""


def _named(path: str, ending: str) -> str:
    """A path with another ending."""
    bare = _ENDING.sub("", path)
    return bare if _ending_of(bare) == ending else bare + ending


_EXPORT = (
    'load it in Keras and give the folder that model.export("folder") writes; before Keras 3 that '
    'is model.save("folder")'
)
_CONVERT = (
    "convert it to TensorFlow (export it to ONNX, and that with onnx2tf), give the SavedModel"
)
_SOURCE = "give the SavedModel or the frozen .pb that it was converted from"

_ZIP, _HDF5 = b"PK\x03\x04", b"\x89HDF"

_KINDS: Tuple[Tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"....TFL3", re.DOTALL), "a TensorFlow Lite model", _SOURCE),
    (re.compile(_HDF5), "a Keras model or weights in HDF5", _EXPORT),
    (re.compile(rb"\x1f\x8b"), "a gzip file", "unpack it and give the model that is in it"),
    (re.compile(rb"\x80[\x02-\x05]"), "a Python pickle, as PyTorch writes them", _CONVERT),
    # The version of the format, then the name of what wrote it, or the graph.
    (
        re.compile(rb"\x08[\x02-\x1f][\x12\x1a\x3a\x42]"),
        "an ONNX model",
        "give the SavedModel that onnx2tf makes of it",
    ),
)


def keras_container(path: str) -> Optional[str]:
    """What the file of a Keras model is, `HDF5` or `zip`; None for any other file."""
    try:
        with open(path, "rb") if os.path.isfile(path) else io.BytesIO() as file:
            head = file.read(4)
            if head == _HDF5:
                return "HDF5"
            if head == _ZIP and _is_keras(zipfile.ZipFile(file).namelist()):
                return "zip"
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        pass
    return None


def is_named_keras(path: str) -> bool:
    """Whether a file's name says that it is a Keras model."""
    return _ending_of(path) in _KERAS


def foreign(data: bytes) -> Optional[Tuple[str, str]]:
    """What a file of another kind is, and what to give instead of it; None for any other file."""
    if data.startswith(_ZIP):
        return _zipped(data)
    return next(((what, hint) for magic, what, hint in _KINDS if magic.match(data)), None)


def _zipped(data: bytes) -> Tuple[str, str]:
    """The same for a zip file, by the names of what is in it."""
    try:
        names: List[str] = zipfile.ZipFile(io.BytesIO(data)).namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return "a zip file, and a damaged one", "download or copy it again"
    if _is_keras(names):
        return "a Keras model", _EXPORT
    if any(name.endswith("/data.pkl") for name in names):
        return "a PyTorch model", _CONVERT
    return "a zip file", "unpack it and give the model that is in it"


def _is_keras(names: Sequence[str]) -> bool:
    return "config.json" in names and "metadata.json" in names
