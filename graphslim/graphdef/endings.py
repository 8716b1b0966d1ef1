"""What the ending of a file's name says it holds, and how to get what graphslim does not write."""

from __future__ import annotations

import os
import re
from typing import Sequence

from graphslim.errors import EmitError

TEXT = (".pbtxt", ".pbtext", ".prototxt")
"""Endings of a GraphDef as text."""
BINARY = (".pb",)
"""Endings of a binary GraphDef; a name without an ending is one too."""
_ENDING = re.compile(r"\.[A-Za-z]\w*$")
"""The ending of a name; what stands behind the dot of `slim-0.5` is none."""
_CHECKPOINTS = (".ckpt", ".meta", ".index", ".data")
_KERAS = (".h5", ".hdf5", ".keras")
_TENSORFLOW_LITE = (".tflite", ".lite")


def is_text(path: str) -> bool:
    """Whether a GraphDef is text, by the ending of its file's name."""
    return path.lower().endswith(TEXT)


def check_ending(path: str, endings: Sequence[str], what: str) -> None:
    """Refuses to write a kind of file under a name that says it is of another kind.

    Args:
        path: the file; one without an ending is taken.
        endings: of names that say the kind; the first is advised.
        what: the kind.

    Raises:
        EmitError: the name ends otherwise.
    """
    ending = _ending_of(path)
    if ending and ending not in endings:
        raise EmitError(
            f"{ending} is not how {what} ends", path, f"name it {_named(path, endings[0])}"
        )


def check_graph_ending(path: str, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> None:
    """Refuses to write a GraphDef under a name that says it is something else.

    Args:
        path: the file: binary (`.pb`, or no ending) or text (`.pbtxt`, `.pbtext`, `.prototxt`).
        inputs, outputs: names of tensors, for the command that converts a graph; may be unknown.

    Raises:
        EmitError: the name ends otherwise; the message says how such a file is made of a `.pb`.
    """
    ending, graph = _ending_of(path), _named(path, ".pb")
    fed, wanted = ",".join(inputs) or "INPUTS", ",".join(outputs) or "OUTPUTS"
    if ending in _TENSORFLOW_LITE:
        raise EmitError(
            "graphslim writes no TensorFlow Lite model",
            path,
            f"write {graph}, then: `tflite_convert --graph_def_file={graph} --output_file={path} "
            f"--input_arrays={fed} --output_arrays={wanted}`, in TensorFlow 2 with "
            "`--enable_v1_converter`",
        )
    if ending == ".onnx":
        ports = [",".join([_port(name) for name in text.split(",")]) for text in (fed, wanted)]
        raise EmitError(
            "graphslim writes no ONNX model",
            path,
            f"write {graph}, then: `python -m tf2onnx.convert --graphdef {graph} --output {path} "
            f"--inputs {ports[0]} --outputs {ports[1]}`",
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
    found = _ENDING.search(os.path.basename(path))
    return found[0].lower() if found else ""


def _named(path: str, ending: str) -> str:
    """A path with another ending."""
    bare = _ENDING.sub("", path)
    return bare if _ending_of(bare) == ending else bare + ending


def _port(name: str) -> str:
    """The name of a tensor as converters to ONNX want it, `node:0`."""
    return name if ":" in name or name in ("INPUTS", "OUTPUTS") else f"{name}:0"
