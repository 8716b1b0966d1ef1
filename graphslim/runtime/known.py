"""Ops that the installed TensorFlow does not know, such as those that only TensorFlow Lite runs."""

from __future__ import annotations

from typing import List

from graphslim.errors import VerifyError
from graphslim.graphdef.functions import Library
from graphslim.ir import Graph
from graphslim.ir.query import downstream
from graphslim.runtime.library import has_op


def unknown_ops(graph: Graph) -> List[str]:
    """The types of the ops of a graph that are neither TensorFlow's nor functions of the graph.

    Raises:
        RuntimeUnavailable: TensorFlow is not there.
    """
    library = Library(graph.origin.extras) if graph.origin is not None else Library(())
    types = sorted({node.op for node in graph})
    return [op for op in types if op not in library and not has_op(op)]


def known_part(graph: Graph) -> Graph:
    """The part of a graph that TensorFlow can run: the graph itself, where it knows every op.

    Outputs that need an op that it does not know give way to what that op reads, as far as it is
    computed from the inputs.

    Raises:
        VerifyError: nothing that is computed is left.
        RuntimeUnavailable: TensorFlow is not there.
    """
    unknown = unknown_ops(graph)
    if not unknown:
        return graph
    lost = downstream(graph, [node.name for node in graph if node.op in unknown])
    computed = downstream(graph, graph.inputs)
    read = [
        port
        for node in graph
        if node.op in unknown
        for port in graph.data_inputs(node)
        if port.node in computed - lost - set(graph.inputs)
    ]
    kept = [port for port in graph.outputs if port.node not in lost]
    if not read and not kept:
        raise VerifyError(
            f"TensorFlow does not know {', '.join(unknown)}, and nothing else is computed",
            graph.name,
            "name --outputs before it, use a TensorFlow that has it, or pass --no-verify",
        )
    part = graph.copy()
    part.outputs = list(dict.fromkeys([*kept, *read]))
    for node in reversed(graph.order()):
        if node.name in lost:
            part.set_inputs(node.name, [])
            part.remove(node.name)
    return part
