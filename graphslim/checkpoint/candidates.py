"""What the graph of a training is probably run for: what its losses compare with labels."""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional, Set

from graphslim.checkpoint.averages import after_gradients
from graphslim.checkpoint.entries import PLACEHOLDERS, is_pipeline
from graphslim.checkpoint.variables import KINDS, behind
from graphslim.ir import DType, Graph, Node, Port
from graphslim.ir.families import VARIABLES

_CROSS_ENTROPY = frozenset(
    ("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits", "CTCLoss", "CTCLossV2")
)
_DISTANCES = {"Square", "Abs", "L2Loss"}
_RESHAPES = frozenset(("Reshape", "Squeeze", "ExpandDims", "Cast"))
_ENDS = frozenset(("Softmax", "Sigmoid", "Tanh", "LogSoftmax"))
_MOST = 5


def output_candidates(whole: Graph) -> List[str]:
    """Names of tensors that may be the outputs of a training's network, best first, at most five.

    They are what cross entropies and squared or absolute differences compare with labels, before
    it was reshaped, and then their softmax or sigmoid; what nobody reads, where there is no loss.
    """
    network = _downstream(whole, [node.name for node in whole if node.op in VARIABLES])
    late = after_gradients(whole)
    network &= _downstream(whole, [node.name for node in whole if _brings_data(node)])
    found: Dict[Port, None] = {}
    for kind in (_of_cross_entropy, _of_sigmoid, _of_difference):
        for node in whole:
            port = None if node.name in late else kind(whole, node, network)
            if port is not None and port.node in network:
                found.setdefault(_unshaped(whole, port, network))
    for port in list(found):
        for use in whole.uses_of(port):
            if whole[use.node].op in _ENDS and use.node not in late:
                found.setdefault(Port(use.node))
    if not found:
        found.update({Port(name): None for name in _unread(whole, network - late)})
    return [str(port) for port in found][:_MOST]


def _brings_data(node: Node) -> bool:
    is_phase = node.attrs.get("dtype") == DType.bool
    return is_pipeline(node) or (node.op in PLACEHOLDERS and not is_phase)


def _downstream(graph: Graph, names: Iterable[str]) -> Set[str]:
    """What is computed from nodes, but for changes of variables and what follows them."""
    found = set(names)
    for node in graph.order():
        if node.op not in KINDS and any(port.node in found for port in graph.data_inputs(node)):
            found.add(node.name)
    return found


def _of_cross_entropy(graph: Graph, node: Node, network: Set[str]) -> Optional[Port]:
    return graph.data_inputs(node)[0] if node.op in _CROSS_ENTROPY else None


def _of_sigmoid(graph: Graph, node: Node, network: Set[str]) -> Optional[Port]:
    """The logits of a sigmoid cross entropy, which is log(1 + exp(-|x|)) and more."""
    names = [node.name]
    for op in ("Log1p", "Exp"):
        if graph[names[-1]].op != op:
            return None
        names.append(behind(graph, graph.data_inputs(names[-1])[0]).node)
    inner = graph[names[-1]]
    if inner.op == "Neg":  # -|x|
        inner = graph[graph.data_inputs(inner)[0].node]
        return graph.data_inputs(inner)[0] if inner.op == "Abs" else None
    if inner.op not in ("Select", "SelectV2"):  # -x where x >= 0, else x
        return None
    return graph.data_inputs(inner)[2]


def _of_difference(graph: Graph, node: Node, network: Set[str]) -> Optional[Port]:
    """The side of a difference that the network computes, where the other is data."""
    if node.op in _DISTANCES:
        node = graph[behind(graph, graph.data_inputs(node)[0]).node]
        if node.op != "Sub":
            return None
    elif node.op != "SquaredDifference":
        return None
    sides = [port for port in graph.data_inputs(node) if port.node in network]
    return sides[0] if len(sides) == 1 else None


def _unshaped(graph: Graph, port: Port, network: Set[str]) -> Port:
    """A tensor before it was reshaped."""
    while True:
        before = behind(graph, port)
        if graph[before.node].op not in _RESHAPES:
            # The name that people gave is often that of an identity.
            return port if graph[port.node].op not in _RESHAPES else before
        port = graph.data_inputs(before.node)[0]


def _unread(graph: Graph, network: Set[str]) -> List[str]:
    return [
        node.name
        for node in graph
        if node.name in network and not any(u.node in network for u in graph.uses_of(node))
    ]
