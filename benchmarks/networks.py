"""Makes the files of the networks that are measured: frozen graphs with random weights, and ONNX.

python -m benchmarks.networks FOLDER PLATFORM NETWORK...
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.work import POSE, SHARED, Files, load_helper


def make(files: Files) -> None:
    """Makes what is missing of a network's files; nothing where its TensorFlow does not have it."""
    files.folder.mkdir(parents=True, exist_ok=True)
    if not files.frozen.is_file() and not _freeze(files):
        return
    if not files.thin.is_file():
        _thin(files)
    able = all(map(importlib.util.find_spec, ("tf2onnx", "onnxsim")))
    if able and not files.simplified.is_file():
        _convert(files)


def _freeze(files: Files) -> bool:
    if files.name == POSE:
        source = SHARED / "inflated.pb"
        if source.is_file():
            shutil.copyfile(str(source), str(files.frozen))
        return source.is_file()
    import tensorflow as tf

    if not hasattr(tf.keras.applications, files.name):
        return False
    load_helper("freezing").freeze(files.name, files.folder)
    return files.frozen.is_file()


def _thin(files: Files) -> None:
    """By removing nine of ten channels of each group: a hundredth of most weights is left."""
    import graphslim as gs

    graph = gs.load(str(files.frozen))
    plan = gs.plan(graph, criterion="l1", ratio=0.9, rank="local", multiple_of=1)
    gs.save(gs.apply(graph, plan), str(files.thin))


def _convert(files: Files) -> None:
    """By tf2onnx, images as NCHW, which spares a Transpose; and simplified."""
    import onnx
    import onnxsim
    import tf2onnx

    import graphslim as gs

    logging.disable(logging.WARNING)
    graph = gs.load(str(files.frozen))
    inputs = [f"{name}:0" for name in graph.inputs]
    tf2onnx.convert.from_graph_def(
        _graph_def(files),
        input_names=inputs,
        output_names=[f"{port.node}:{port.port}" for port in graph.outputs],
        inputs_as_nchw=inputs,
        output_path=str(files.converted),
    )
    onnx.save(onnxsim.simplify(str(files.converted))[0], str(files.simplified))


def _graph_def(files: Files) -> Any:
    """The graph as TensorFlow's own message."""
    from tensorflow.compat.v1 import GraphDef

    return GraphDef.FromString(files.frozen.read_bytes())


def main() -> None:
    """Makes the files."""
    place, platform, *names = sys.argv[1:]
    for name in names:
        make(Files(name, Path(place) / platform / name))


if __name__ == "__main__":
    main()
