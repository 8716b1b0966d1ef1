"""What changed between two graphs, node by node: ops, shapes, parameters, multiply-accumulates."""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from graphslim.analysis.cost import NOTHING, Cost, cost, costs_of
from graphslim.channels.facts import Dims
from graphslim.channels.groups import analyse
from graphslim.ir import IDENTITIES, Graph, Node, Tensor
from graphslim.ir.query import behind


class Side(NamedTuple):
    """A node as one of the graphs has it.

    Attributes:
        op: its op.
        weights: the shapes of the floating-point constants that it reads, in order.
        output: the shape of its first output; sizes are None where open, the whole where the rank
            is.
        params: elements of those constants of rank 1 and more; what several nodes read counts for
            each of them.
        macs: multiply-accumulates for one example; None where a size is open.
    """

    op: str
    weights: Tuple[Tuple[int, ...], ...]
    output: Dims
    params: int
    macs: Optional[int]


class NodeDifference(NamedTuple):
    """A node of two graphs.

    Attributes:
        name: its name, which is what nodes are matched by.
        first, second: as each graph has it; None where it is not there.
        revalued: whether its weights have the same shapes and other values.
    """

    name: str
    first: Optional[Side]
    second: Optional[Side]
    revalued: bool

    @property
    def changed(self) -> bool:
        """Whether anything about it differs."""
        return self.first != self.second or self.revalued

    @property
    def is_layer(self) -> bool:
        """Whether it is more than a shape that follows from the nodes before it."""
        sides = [side for side in (self.first, self.second) if side is not None]
        ops = {side.op for side in sides}
        return len(sides) < 2 or len(ops) > 1 or any([side.params or side.macs for side in sides])


class Differences(NamedTuple):
    """Two graphs side by side.

    Attributes:
        nodes: every node of either, in the order of computation; constants only where one graph
            alone has them, for they show in the nodes that read them.
        costs: of the whole graphs.
        counts: how many nodes each has.
    """

    nodes: Tuple[NodeDifference, ...]
    costs: Tuple[Cost, Cost]
    counts: Tuple[int, int]

    @property
    def changed(self) -> List[NodeDifference]:
        """Those that differ in anything."""
        return [node for node in self.nodes if node.changed]


def differences(first: Graph, second: Graph) -> Differences:
    """Compares two graphs node by node; nothing is run.

    Raises:
        AnalysisError: a graph contradicts itself.
    """
    nodes = []
    for name in _order(first, second):
        first_side, second_side = _side(first, name), _side(second, name)
        revalued = False
        if first_side is not None and second_side is not None:
            if first[name].op == second[name].op == "Const":
                continue
            weights_agree = first_side.weights == second_side.weights
            revalued = weights_agree and _values(first, name) != _values(second, name)
        nodes.append(NodeDifference(name, first_side, second_side, revalued))
    return Differences(tuple(nodes), (cost(first), cost(second)), (len(first), len(second)))


def _order(first: Graph, second: Graph) -> Iterator[str]:
    """Names in the order of the first graph; what the second alone has, behind what it reads."""
    names = [node.name for node in first.order()]
    known = set(names)
    after: Dict[str, List[str]] = {}
    last = ""
    for node in second.order():
        if node.name in known:
            last = node.name
        else:
            sources = [port.node for port in second.inputs_of(node) if port.node in known]
            after.setdefault(sources[0] if sources else last, []).append(node.name)
    waiting = [*reversed(["", *names])]
    while waiting:
        name = waiting.pop()
        if name:
            yield name
        waiting.extend(reversed(after.pop(name, [])))


def _side(graph: Graph, name: str) -> Optional[Side]:
    """A node as a graph has it; None if it is not there."""
    if name not in graph:
        return None
    node, facts = graph[name], analyse(graph).facts.get(name, ())
    tensors = _weights(graph, node)
    return Side(
        node.op,
        tuple([tuple(tensor.shape) for tensor in tensors]),
        facts[0].shape if facts else None,
        sum([tensor.size for tensor in tensors if tensor.shape]),
        costs_of(graph).get(name, NOTHING).macs,
    )


def _values(graph: Graph, name: str) -> List[bytes]:
    """What the constants that a node reads hold."""
    tensors = _weights(graph, graph[name])
    return [np.ascontiguousarray(tensor.numbers()).tobytes() for tensor in tensors]


def _weights(graph: Graph, node: Node) -> List[Tensor]:
    """The constants of real numbers that a node reads, behind identities or not."""
    if node.op in IDENTITIES:
        return []
    sources = [graph[behind(graph, port).node] for port in graph.data_inputs(node)]
    constants = [source for source in [node, *sources] if source.op == "Const"]
    tensors = [constant.attrs["value"] for constant in constants]
    return [tensor for tensor in tensors if tensor.dtype.is_real]
