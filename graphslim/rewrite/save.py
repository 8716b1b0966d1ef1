"""Writing a graph, once it is certain that it does not contradict its own attributes."""

from __future__ import annotations

from typing import Any

from graphslim import graphdef
from graphslim.analysis.statements import check_counts, check_shapes, is_stated
from graphslim.channels.groups import analyse
from graphslim.errors import AnalysisError, EmitError
from graphslim.ir import Graph


def save(graph: Graph, path: Any) -> None:
    """Writes a `.pb`, or a `.pbtxt` if the path ends so; the file appears whole or not at all.

    A graph that was changed is checked first; an unchanged graph is written as it was read.

    Raises:
        EmitError: the graph contradicts itself, or the target cannot be written.
    """
    check_consistent(graph)
    graphdef.save(graph, path)


def check_consistent(graph: Graph) -> None:
    """Checks without TensorFlow that a changed graph is one that TensorFlow would import.

    Raises:
        EmitError: tensors contradict each other, or an attribute what the node is.
    """
    if not any(node.touched for node in graph):
        return
    check_counts(graph)
    # A walk over the graph takes longer than writing it, and most graphs state no shapes.
    if is_stated(graph):
        try:
            channels = analyse(graph)
        except AnalysisError as error:
            raise EmitError(error.what, error.where, error.hint) from error
        check_shapes(graph, channels)
