"""fold-constants: what is computed from constants alone becomes a constant."""

from __future__ import annotations

from typing import Dict, List, Optional, Set

import graphslim as gs

LEFT = gs.families.SWITCHES | gs.families.MERGES | gs.families.FAKE_QUANTIZERS | {"Dequantize"}
"""Ops that are left as they are: control flow, and marks of how weights are to be quantised."""
SPARE = 64
"""Bytes by which a constant may be larger than those that it replaces: an op takes as many."""


@gs.register
class FoldConstants(gs.Pass):
    """Computes what depends on constants alone, where that does not make the file larger.

    Known are all ops with a value rule (see `graphslim.value_rule`), so that no TensorFlow is
    needed; floating-point results are computed in double precision and rounded once. A conversion
    that saves space (weights stored as half), quantised weights, control flow and random numbers
    stay.

    Before:
        x = Placeholder() dtype=float32 shape=<1,2>
        var = Const() dtype=float32 value=float32[2]{3 8}
        eps = Const() dtype=float32 value=float32[]{1}
        sum = AddV2(var, eps) T=float32
        root = Sqrt(sum) T=float32
        y = Mul(x, root) T=float32

    After:
        x = Placeholder() dtype=float32 shape=<1,2>
        root = Const() dtype=float32 value=float32[2]{2 3}
        y = Mul(x, root) T=float32
    """

    name = "fold-constants"

    def run(self, graph: gs.Graph) -> gs.Outcome:
        """Goes from where constants meet the rest back to the first that can be replaced."""
        values = gs.Values(graph)
        known = constant_nodes(values)
        waiting = [
            node.name for node in graph if node.name in known and is_read(graph, node, known)
        ]
        folded = 0
        while waiting:
            name = waiting.pop()
            if name not in graph or graph[name].op == "Const" or only_passes(graph, name):
                continue
            tensors = results(values, name)
            if tensors is not None and fits(graph, name, tensors):
                put(graph, name, tensors)
                folded += 1
            else:
                waiting.extend([port.node for port in graph.data_inputs(name)])
        return gs.Outcome(folded > 0, (f"constants computed: {folded}",))


def constant_nodes(values: gs.Values) -> Set[str]:
    """The nodes whose results are known and depend on constants alone."""
    graph, known = values.graph, set()
    for node in graph.order():
        inputs = graph.data_inputs(node)
        if (
            node.op in LEFT
            or node.name in graph.inputs
            or len(inputs) != len(graph.inputs_of(node))
        ):
            continue
        begins = node.op == "Const" or (inputs and all(port.node in known for port in inputs))
        if begins and values.constant(gs.Port(node.name)) is not None:
            known.add(node.name)
    return known


def is_read(graph: gs.Graph, node: gs.Node, known: Set[str]) -> bool:
    """Whether anything that is no constant reads a node, or it is an output of the graph."""
    outputs = [port.node for port in graph.outputs]
    return node.name in outputs or any(use.node not in known for use in graph.uses_of(node))


def only_passes(graph: gs.Graph, name: str) -> bool:
    """Whether a node only passes a constant on, which is for fold-identity to remove."""
    while graph[name].op in gs.IDENTITIES:
        name = graph.data_inputs(name)[0].node
    return graph[name].op == "Const"


def results(values: gs.Values, name: str) -> Optional[Dict[int, gs.Tensor]]:
    """The first result of a node and those that are read, by port; None where one is not known."""
    graph = values.graph
    ports = {graph.inputs_of(use.node)[use.index].port for use in graph.uses_of(name)}
    ports |= {0, *[port.port for port in graph.outputs if port.node == name]}
    tensors: Dict[int, gs.Tensor] = {}
    for port in sorted(ports - {gs.CONTROL}):
        tensor = values.tensor(gs.Port(name, port))
        if tensor is None or (port and gs.Port(name, port) in graph.outputs):
            return None
        tensors[port] = tensor
    return tensors


def fits(graph: gs.Graph, name: str, tensors: Dict[int, gs.Tensor]) -> bool:
    """Whether results take no more space than the constants that nobody would read any more."""
    inside, freed = {name}, 0
    signature = {*graph.inputs, *[port.node for port in graph.outputs]}
    waiting = [port.node for port in graph.inputs_of(name)]
    while waiting:
        source = waiting.pop()
        if source in inside or source in signature:
            continue
        if all(use.node in inside for use in graph.uses_of(source)):
            inside.add(source)
            waiting.extend([port.node for port in graph.inputs_of(source)])
            if graph[source].op == "Const":
                freed += stored(graph[source].attrs["value"])
    taken = sum([tensor.dtype.storage.itemsize * tensor.size for tensor in tensors.values()])
    return taken <= freed + SPARE


def stored(tensor: gs.Tensor) -> int:
    """How many bytes the elements of a constant take, which is one's where all are the same."""
    item = tensor.dtype.storage.itemsize
    flat = tensor.array.ravel()
    is_uniform = (
        flat.size > 0 and tensor.dtype is not gs.DType.string and bool((flat == flat[0]).all())
    )
    return item if is_uniform else item * tensor.size


def put(graph: gs.Graph, name: str, tensors: Dict[int, gs.Tensor]) -> None:
    """Puts constants in the place of a node; the first result keeps its name."""
    sources: List[str] = [port.node for port in graph.inputs_of(name)]
    for port, tensor in tensors.items():
        if port:
            fresh = graph.add_constant(f"{name}/{port}", tensor)
            graph.replace_uses(gs.Port(name, port), gs.Port(fresh.name))
    attrs = gs.Attrs({"dtype": tensors[0].dtype, "value": tensors[0]})
    graph.replace(gs.Node(name, "Const", attrs, graph[name].device), [])
    gs.remove_unread(graph, [name, *sources])
