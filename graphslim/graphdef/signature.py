"""What a graph is fed and what is read from it: inferred, or given by the user and checked."""

from __future__ import annotations

import difflib
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

from graphslim.errors import LoadError
from graphslim.ir import CONTROL, Graph, Node, Port

ShapesLike = Mapping[str, Sequence[Optional[int]]]

_PLACEHOLDERS = frozenset(("Placeholder", "PlaceholderV2"))
_DEBRIS = frozenset(("NoOp", "Assert", "Const", "Print", "PrintV2", "SaveV2", "RestoreV2", "MergeV2Checkpoints"))
"""Ops that may be left at the end of a graph without being a result."""


def settle(
    graph: Graph,
    inputs: Optional[Sequence[str]],
    outputs: Optional[Sequence[str]],
    shapes: Optional[ShapesLike],
) -> None:
    """Sets `graph.inputs`, `graph.outputs` and `graph.input_shapes`.

    Raises:
        LoadError: a given name is not in the graph, or no output can be inferred.
    """
    if inputs:
        graph.inputs = [_known(graph, name, "--inputs").node for name in inputs]
    else:
        graph.inputs = [node.name for node in graph if node.op in _PLACEHOLDERS]
    if outputs:
        graph.outputs = [_known(graph, name, "--outputs") for name in outputs]
    else:
        graph.outputs = infer_outputs(graph)
    if not graph.outputs:
        raise LoadError("no output can be inferred", graph.name, "name it with --outputs")
    given = {name: tuple(shape) for name, shape in (shapes or {}).items()}
    for name in given:
        if name not in graph.inputs:
            raise LoadError(
                f"{name!r} is not an input", "--input-shape", f"the inputs are: {', '.join(graph.inputs)}"
            )
    graph.input_shapes = given


def infer_outputs(graph: Graph) -> List[Port]:
    """Nodes that nobody reads, that depend on an input, and that are not debris."""
    fed = _downstream(graph, graph.inputs)
    summaries: Set[str] = {node.name for node in graph if node.op.endswith(("Summary", "SummaryV2"))}

    def is_result(node: Node) -> bool:
        if node.op in _DEBRIS or node.name in summaries or (fed and node.name not in fed):
            return False
        readers = {use.node for use in graph.uses_of(node)}
        return not readers - summaries and node.name not in graph.inputs

    return [Port(node.name, 0) for node in graph if is_result(node)]


def _downstream(graph: Graph, names: Sequence[str]) -> Set[str]:
    reached: Set[str] = set(names)
    for node in graph.order():
        if any(port.node in reached and port.port != CONTROL for port in graph.inputs_of(node)):
            reached.add(node.name)
    return reached


def _known(graph: Graph, text: str, option: str) -> Port:
    port = Port.parse(text)
    if port.node not in graph:
        close = difflib.get_close_matches(port.node, list(graph.nx), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "`graphslim inspect` lists the outputs"
        raise LoadError(f"no node {port.node!r} in {graph.name}", option, hint)
    return port


def describe(graph: Graph) -> Dict[str, Tuple[str, ...]]:
    """The signature as names, for messages and JSON."""
    return {"inputs": tuple(graph.inputs), "outputs": tuple(str(port) for port in graph.outputs)}
