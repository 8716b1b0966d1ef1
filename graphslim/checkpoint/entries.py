"""Where data comes in: input pipelines and tensors that are given as inputs become placeholders."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Set

from graphslim.checkpoint.edits import put
from graphslim.errors import LoadError
from graphslim.ir import Attrs, DType, Graph, Node, Port, Shape

_PIPELINES = (
    *("IteratorGetNext", "IteratorGetNextSync", "IteratorGetNextAsOptional", "OptionalGetValue"),
    *("QueueDequeue", "ReaderRead", "ReaderReadUpTo", "Unstage", "MapUnstage", "OutfeedDequeue"),
    *("InfeedDequeue", "ReadFile", "WholeFileRead"),
)
"""Beginnings of the names of ops that fetch data from outside."""
_DECODERS = (
    *("Decode", "ParseExample", "ParseSingleExample", "ParseSequenceExample", "PyFunc"),
    *("EagerPyFunc", "ParseSingleSequenceExample", "ParseTensor"),
)
"""Beginnings of the names of ops that make tensors of what was fetched."""
PLACEHOLDERS = frozenset(("Placeholder", "PlaceholderV2", "PlaceholderWithDefault"))
_LISTED = ("output_types", "component_types", "Tout", "dtypes", "Tdense", "out_type")
_SINGLE = ("DstT", "dtype", "out_type", "output_type", "T", "Tparams", "Tdim")
"""Attributes that say the element types of outputs: of each, and of the one."""


def is_pipeline(node: Node) -> bool:
    """Whether an op fetches data from outside the graph."""
    return node.op.startswith(_PIPELINES)


def open_inputs(graph: Graph, inputs: Optional[Sequence[str]]) -> List[str]:
    """Makes placeholders, in place, of given tensors or of what comes from input pipelines.

    Args:
        graph: its outputs are known; it is changed.
        inputs: names (`node` or `node:port`) of tensors to feed; None for what the outputs need.

    Returns:
        the names of the placeholders of given inputs, or of those that pipelines became.

    Raises:
        LoadError: a given name is not in the graph, or the element type of a port is not known.
    """
    given = [known_port(graph, text, "--inputs") for text in inputs or ()]
    names = [_open(graph, port) for port in given]
    for port in _pipelines(graph, set(names)):
        names.append(_open(graph, port))
    return list(dict.fromkeys(names))


def known_port(graph: Graph, text: str, option: str) -> Port:
    """The port of a name that was given by an option.

    Raises:
        LoadError: there is no such node.
    """
    port = Port.parse(text)
    if port.node not in graph:
        raise LoadError(f"no node {port.node!r} in {graph.name}", option, "give its full name")
    return port


def _pipelines(graph: Graph, fed: Set[str]) -> List[Port]:
    """The ports of pipelines that the outputs depend on, first come first."""
    fed = fed | {node.name for node in graph if node.op in PLACEHOLDERS}
    served: Set[str] = set()
    for node in graph.order():
        if node.name in fed or any(port.node in served for port in graph.data_inputs(node)):
            served.add(node.name)
    found: Dict[Port, None] = {}
    waiting, seen = list(graph.outputs), set()  # type: List[Port], Set[Port]
    while waiting:
        port = waiting.pop(0)
        if port in seen:
            continue
        seen.add(port)
        node = graph[port.node]
        if is_pipeline(node) or (
            # What decodes a string that is fed is a part of the network, as it is served.
            node.op.startswith(_DECODERS) and node.name not in served
        ):
            found[port] = None
        else:
            waiting.extend(graph.data_inputs(node))
    return list(found)


def _open(graph: Graph, port: Port) -> str:
    """Makes a placeholder of a port; gives its name."""
    node = graph[port.node]
    if node.op in PLACEHOLDERS:
        return node.name
    attrs: Dict[str, Any] = {"dtype": _dtype(graph, node, port.port)}
    attrs["shape"] = _shape(graph, node, port.port)
    if port.port == 0:
        _move_others(graph, node)
        put(graph, node.name, "Placeholder", **attrs)
        return node.name
    name = graph.fresh_name(f"{node.name}_{port.port}")
    graph.add(Node(name, "Placeholder", Attrs(attrs)))
    graph.replace_uses(port, Port(name))
    graph.outputs = [Port(name) if one == port else one for one in graph.outputs]
    return name


def _move_others(graph: Graph, node: Node) -> None:
    """Gives a second node the further ports of one that becomes a placeholder."""
    ports = {graph.inputs_of(use.node)[use.index] for use in graph.uses_of(node)}
    others = sorted(port.port for port in {*ports, *graph.outputs} if port.node == node.name)
    if not others or others[-1] <= 0:
        return
    name = graph.fresh_name(f"{node.name}_further")
    graph.add(Node(name, node.op, node.attrs.copy(), node.device), graph.inputs_of(node))
    for index in others:
        if index > 0:
            graph.replace_uses(Port(node.name, index), Port(name, index))
    graph.outputs = [
        Port(name, one.port) if one.node == node.name and one.port > 0 else one
        for one in graph.outputs
    ]


def _dtype(graph: Graph, node: Node, index: int) -> DType:
    for key in _LISTED:
        kinds = node.attrs.get(key)
        if isinstance(kinds, list) and index < len(kinds) and isinstance(kinds[index], DType):
            return kinds[index]
    for key in _SINGLE:
        kind = node.attrs.get(key)
        if isinstance(kind, DType):
            return kind
    if node.op.startswith("Decode"):
        return DType.uint8
    raise LoadError(
        f"the element type of output {index} of this {node.op} is not known",
        f"{graph.name}: node {node.name}",
        "give a tensor behind it with --inputs",
    )


def _shape(graph: Graph, node: Node, index: int) -> Shape:
    """The shape that a port states."""
    for key in ("_output_shapes", "output_shapes"):
        shapes = node.attrs.get(key)
        if isinstance(shapes, list) and index < len(shapes) and isinstance(shapes[index], Shape):
            return shapes[index]
    return Shape(None)
