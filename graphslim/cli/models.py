"""Models of any format on the command line: which runtime runs each, and how they are read."""

from __future__ import annotations

from typing import List, Optional, Sequence

import click

from graphslim.cli.options import Reading
from graphslim.engines import RUNTIMES, format_of
from graphslim.errors import GraphslimError
from graphslim.ir import Graph
from graphslim.measure.opened import Model, Opening

runtime_option = click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    help="What runs those models that it can run.  [default: tf for graphs and SavedModels, tflite "
    "for .tflite, ort for .onnx]",
)
"""The option of commands that run models in the runtime of their format."""
_FILES = ("tflite", "onnx")
"""The formats that hold no graph of TensorFlow's."""


def are_graphs(paths: Sequence[str], runtime: Optional[str]) -> bool:
    """Whether models are all graphs, to be run by TensorFlow."""
    formats = [format_of(path) for path in paths]
    return runtime in (None, "tf") and not any(kind in _FILES for kind in formats)


def models_of(paths: Sequence[str], runtime: Optional[str], reading: Reading) -> List[Model]:
    """The models: graphs are read, and paths of what another runtime reads are left as they are.

    Raises:
        GraphslimError: a graph cannot be read, or options name parts of graphs where there is none.
    """
    models: List[Model] = []
    for path in paths:
        kind = format_of(path)
        foreign = kind in _FILES or (runtime == "openvino" and kind != "other")
        models.append(path if foreign else reading.load(path))
    words = [word for word in reading._replace(input_shapes={}).words() if word[:2] == "--"]
    if words and not any(isinstance(model, Graph) for model in models):
        raise GraphslimError(
            "names parts of a graph, and none is read here", words[0], "leave it out"
        )
    return models


def opening_of(runtime: Optional[str], threads: int, reading: Reading) -> Opening:
    """How the models are opened."""
    return Opening(runtime, threads, reading.input_shapes)
