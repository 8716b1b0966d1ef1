"""What a graph is fed and what is read from it: inferred, or given by the user and checked."""

from __future__ import annotations

import difflib
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

from graphslim.errors import LoadError
from graphslim.ir import CONTROL, DType, Graph, Node, Port, Shape
from graphslim.ir.families import EXITS, OPEN_PLACEHOLDERS
from graphslim.ir.query import upstream
from graphslim.support.text import plural

ShapesLike = Mapping[str, Sequence[Optional[int]]]

_DEBRIS = frozenset(
    ("NoOp", "Assert", "Const", "Print", "PrintV2", "SaveV2", "RestoreV2", "MergeV2Checkpoints")
)
"""Ops that may be left at the end of a graph without being a result."""
_COUNTED = {"Split": "num_split", "SplitV": "num_split", "Unpack": "num"}
"""Ops with as many outputs as an attribute says, and that attribute."""
_SEVERAL = {"TopK": 2, "TopKV2": 2, "Unique": 2, "NonMaxSuppressionV4": 2, "NonMaxSuppressionV5": 3}
"""Ops with more than one output."""


def settle(
    graph: Graph,
    inputs: Optional[Sequence[str]],
    outputs: Optional[Sequence[str]],
    shapes: Optional[ShapesLike],
) -> None:
    """Sets `graph.inputs`, `graph.outputs` and `graph.input_shapes`.

    Where no inputs are given, they are the placeholders that an output needs.

    Raises:
        LoadError: a given name or shape does not fit the graph, or no output can be inferred.
    """
    if inputs:
        names = [known_port(graph, text, "--inputs").node for text in inputs]
        graph.inputs = list(dict.fromkeys(names))
    else:
        graph.inputs = [node.name for node in graph if node.op in OPEN_PLACEHOLDERS]
    if outputs:
        ports = [known_port(graph, text, "--outputs") for text in outputs]
        graph.outputs = list(dict.fromkeys(ports))
    else:
        graph.outputs = infer_outputs(graph)
    if not graph.outputs:
        raise LoadError("no output can be inferred", graph.name, "name it with --outputs")
    # A single one is needed by every output that was inferred from it.
    if not inputs and (outputs or len(graph.inputs) > 1):
        needed = upstream(graph, [port.node for port in graph.outputs])
        graph.inputs = [name for name in graph.inputs if name in needed]
    agreed: Dict[str, Tuple[Optional[int], ...]] = {}
    for text, shape in (shapes or {}).items():
        name = Port.parse(text).node if text else _only_input(graph, tuple(shape))
        if name not in graph.inputs:
            listing = (
                f"the inputs are: {', '.join(graph.inputs)}" if graph.inputs else "it has none"
            )
            raise LoadError(f"{text!r} is not an input of {graph.name}", "--input-shape", listing)
        agreed[name] = _agreed(graph[name], tuple(shape))
    graph.input_shapes = agreed


def _only_input(graph: Graph, shape: Tuple[Optional[int], ...]) -> str:
    """The input that a shape without a name is for.

    Raises:
        LoadError: the graph has no input, or more than one.
    """
    # A switch for training, say, is no input that one would give the shape of.
    names = [name for name in graph.inputs if graph[name].attrs.get("dtype") is not DType.bool]
    if len(names) != 1:
        sizes = ",".join(["?" if size is None else str(size) for size in shape])
        listing = f"write {names[0]}={sizes}; the inputs are: {', '.join(names)}" if names else None
        raise LoadError(
            f"{graph.name} has {plural(len(names), 'input')}, and {sizes} names none of them",
            "--input-shape",
            listing or "leave it out",
        )
    return names[0]


def _agreed(node: Node, given: Tuple[Optional[int], ...]) -> Tuple[Optional[int], ...]:
    """A given shape, if it only fills in what the input itself leaves open."""
    stated = node.attrs.get("shape")
    # Old TensorFlow wrote an unknown rank as rank 0.
    if node.op not in OPEN_PLACEHOLDERS or not isinstance(stated, Shape) or not stated.dims:
        return given
    pairs = list(zip(stated.dims, given))
    if len(stated.dims) != len(given) or any(
        None not in pair and pair[0] != pair[1] for pair in pairs
    ):
        sizes = ",".join(["?" if size is None else str(size) for size in stated.dims])
        hint = misfit(stated.dims, given)
        raise LoadError(f"the input {node.name} has the shape {sizes}", "--input-shape", hint)
    return tuple([size if other is None else other for size, other in pairs])


def misfit(stated: Sequence[Optional[int]], given: Sequence[Optional[int]]) -> str:
    """What to do about a given shape that is not the one that an input states, open sizes filled.

    Args:
        stated: the input's sizes, None for those that are open.
        given: the shape.
    """
    if len(stated) != len(given):
        return f"give a size for each of its {len(stated)} axes, not {plural(len(given), 'size')}"
    if None not in stated:
        return "all of it is fixed in the file: leave the option out"
    return "give what is open in it"


def infer_outputs(graph: Graph) -> List[Port]:
    """What nobody reads, depends on an input, and is not debris; all outputs of such nodes.

    A node that only summaries and unread `NoOp`s wait for counts as unread. A TF1 loop has an
    `Exit` for each of its variables, read or not: they count only where there is nothing else.
    """
    fed = _downstream(graph, graph.inputs)
    ops = {node.op for node in graph}
    summaries = {op for op in ops if op.endswith(("Summary", "SummaryV2"))}
    idle: Set[str] = {node.name for node in graph if node.op in summaries}
    for node in [node for node in reversed(graph.order()) if node.op == "NoOp"]:
        if all(use.node in idle for use in graph.uses_of(node)):
            idle.add(node.name)
    read = {port.node for node in graph if node.name not in idle for port in graph.inputs_of(node)}
    unread_ports: List[Port] = []
    for node in graph:
        if node.name in read or node.op in _DEBRIS or node.name in idle:
            continue
        if (not fed or node.name in fed) and node.name not in graph.inputs:
            unread_ports.extend([Port(node.name, index) for index in range(_outputs_of(node))])
    return [port for port in unread_ports if graph[port.node].op not in EXITS] or unread_ports


def _outputs_of(node: Node) -> int:
    """How many outputs a node has, for the ops that often end a graph with more than one."""
    # The latter is how TensorFlow Lite's converter is told of the outputs of an op of its own.
    kinds = node.attrs.get("T" if node.op == "IdentityN" else "_output_types")
    if isinstance(kinds, list):
        return len(kinds)
    number = node.attrs.get(_COUNTED.get(node.op, ""), _SEVERAL.get(node.op, 1))
    return number if isinstance(number, int) else 1


def _downstream(graph: Graph, names: Sequence[str]) -> Set[str]:
    """The nodes that data of some nodes reaches, over the back edges of loops too.

    What an RNN is fed reaches the end of its loop from the second turn on, and no other way.
    """
    reached = set(names)
    waiting = list(names)
    while waiting:
        for name, index in graph.uses_of(waiting.pop()):
            if name not in reached and graph.inputs_of(name)[index].port != CONTROL:
                reached.add(name)
                waiting.append(name)
    return reached


def check_node(graph: Graph, name: str, option: str) -> None:
    """Makes sure that a graph has a node.

    Raises:
        LoadError: the graph has no node of that name; the message tells similar names.
    """
    if name not in graph:
        close = difflib.get_close_matches(name, [node.name for node in graph], n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "give the full name of a node"
        raise LoadError(f"no node {name!r} in {graph.name}", option, hint)


def known_port(graph: Graph, text: str, option: str) -> Port:
    """The port of a name (`node` or `node:port`) that was given by an option.

    Raises:
        LoadError: the graph has no such node, or the name is that of a control edge.
    """
    port = Port.parse(text)
    if port.port == CONTROL:
        raise LoadError(
            f"{text!r} is a control edge and carries no data", option, "leave the ^ out"
        )
    check_node(graph, port.node, option)
    return port
