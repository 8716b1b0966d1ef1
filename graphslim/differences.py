"""What changed between two graphs, node by node: ops, shapes, parameters, multiply-accumulates."""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from graphslim.analysis.channels import Channels, analyse
from graphslim.analysis.cost import Cost, cost, macs_of
from graphslim.ir import IDENTITIES, Graph, Node, Tensor
from graphslim.ir.query import needed
from graphslim.ops.table import COST_RULES, Dims


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
        return [one for one in self.nodes if one.changed]


def differences(first: Graph, second: Graph) -> Differences:
    """Compares two graphs node by node; nothing is run.

    Raises:
        AnalysisError: a graph contradicts itself.
    """
    seen = [_Reader(graph) for graph in (first, second)]
    found = []
    for name in _order(first, second):
        sides = [one.side(name) for one in seen]
        both = sides[0] is not None and sides[1] is not None
        if both and first[name].op == second[name].op == "Const":
            continue
        same = both and sides[0].weights == sides[1].weights  # type: ignore[union-attr]
        revalued = bool(same) and seen[0].values(name) != seen[1].values(name)
        found.append(NodeDifference(name, sides[0], sides[1], revalued))
    return Differences(tuple(found), (cost(first), cost(second)), (len(first), len(second)))


def _order(first: Graph, second: Graph) -> Iterator[str]:
    """Names in the order of the first graph; what the second alone has, behind what it reads."""
    names = [node.name for node in first.order()]
    known = set(names)
    behind: Dict[str, List[str]] = {}
    last = ""
    for node in second.order():
        if node.name in known:
            last = node.name
        else:
            sources = [port.node for port in second.inputs_of(node) if port.node in known]
            behind.setdefault(sources[0] if sources else last, []).append(node.name)
    waiting = [*reversed(["", *names])]
    while waiting:
        name = waiting.pop()
        if name:
            yield name
        waiting.extend(reversed(behind.pop(name, [])))


class _Reader:
    """Reads off a graph what is compared."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._used = graph, needed(graph)
        self._channels: Channels = analyse(graph)

    def side(self, name: str) -> Optional[Side]:
        """A node of the graph; None if it is not there."""
        if name not in self._graph:
            return None
        node = self._graph[name]
        tensors = self._weights(node)
        facts = self._channels.facts.get(name, ())
        return Side(
            node.op,
            tuple([tuple(tensor.shape) for tensor in tensors]),
            facts[0].shape if facts else None,
            sum([tensor.size for tensor in tensors if tensor.shape]),
            self._macs(node),
        )

    def values(self, name: str) -> List[bytes]:
        """What the constants that a node reads hold."""
        return [
            np.ascontiguousarray(tensor.numbers()).tobytes()
            for tensor in self._weights(self._graph[name])
        ]

    def _weights(self, node: Node) -> List[Tensor]:
        """The constants of real numbers that a node reads, behind identities or not."""
        graph = self._graph
        if node.op in IDENTITIES:
            return []
        sources = [node] if node.op == "Const" else []
        for port in graph.data_inputs(node):
            source = graph[port.node]
            while source.op in IDENTITIES and graph.data_inputs(source):
                source = graph[graph.data_inputs(source)[0].node]
            sources.append(source)
        constants = [source.attrs["value"] for source in sources if source.op == "Const"]
        return [tensor for tensor in constants if tensor.dtype.is_real]

    def _macs(self, node: Node) -> Optional[int]:
        if node.op not in COST_RULES or node.name not in self._used:
            return 0
        inputs = [self._channels.fact(port) for port in self._graph.data_inputs(node)]
        return macs_of(self._graph, node, inputs, self._channels.facts[node.name])
