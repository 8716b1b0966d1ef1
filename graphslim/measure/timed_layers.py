"""A network in layers that can be timed alone, and small graphs of one layer at several widths.

A layer is a sum over channels and what follows it. Layer-wise tables of measured latency are those
of NetAdapt (Yang et al. 2018, arXiv 1804.03230).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.groups import Channels, Removal
from graphslim.channels.rules import COST_RULES
from graphslim.channels.walk import ParamAxis
from graphslim.ir import Attrs, DType, Graph, Node, Port, Shape, Tensor, Use
from graphslim.ir.families import (
    BATCH_NORMS,
    BIASES,
    BROADCASTING,
    IDENTITIES,
    RESIZES,
    TRANSPOSED_CONVOLUTIONS,
    UNARY,
)
from graphslim.ir.query import behind, constant_nodes, needed

FOLLOWERS = (BIASES | BATCH_NORMS | UNARY | BROADCASTING | RESIZES | IDENTITIES) | {
    *("AvgPool", "MaxPool", "Mean", "Pad", "ConcatV2", "SpaceToBatchND", "BatchToSpaceND")
}
"""Ops that take time by how many channels reach them."""
NOTHING = "nothing"
"""A node that does nothing, to time what a run costs that does nothing."""
_PRIVATE = ("_class", "_output_shapes")
"""Attributes that speak of other nodes, or of the widths before."""


class TimedLayer(NamedTuple):
    """A convolution or matrix product, and the ops behind it up to the next.

    Attributes:
        name: the node of the sum.
        nodes: all its nodes, in topological order.
        reads: labels of the channels that are summed over, each once; int, shape (n,).
        makes: labels of the channels that it produces, each once; int, shape (m,).
    """

    name: str
    nodes: Tuple[str, ...]
    reads: np.ndarray
    makes: np.ndarray

    @property
    def tied(self) -> bool:
        """Whether it reads and makes the same channels, as a depthwise convolution does."""
        return bool(np.isin(self.reads, self.makes).any())

    @property
    def sides(self) -> List[np.ndarray]:
        """What it reads and what it makes, each as `reads` is; one array where these are tied."""
        return [np.union1d(self.reads, self.makes)] if self.tied else [self.reads, self.makes]


def layers_of(graph: Graph, channels: Channels) -> List[TimedLayer]:
    """The layers of a graph; what is in none of them takes as long whatever goes.

    Args:
        graph: the graph, which a CPU can run.
        channels: its channels.
    """
    used, folded = needed(graph), constant_nodes(graph)
    counting = {size.param for size in channels.resizes}
    counting |= {renumber.param for renumber in channels.renumbers}
    layer_of: Dict[str, int] = {}
    members: List[List[str]] = []
    for node in graph.order():
        if node.name not in used or node.name in folded or not _is_sized(channels, node):
            continue
        inputs = graph.data_inputs(node)
        if any(behind(graph, port).node in counting for port in inputs):
            continue
        before = [layer_of[port.node] for port in inputs if port.node in layer_of]
        if node.op in COST_RULES:
            layer_of[node.name] = len(members)
            members.append([node.name])
        elif node.op in FOLLOWERS and before:
            layer_of[node.name] = max(before)
            members[max(before)].append(node.name)
    return [_layer(graph, channels, nodes) for nodes in members]


def _is_sized(channels: Channels, node: Node) -> bool:
    """Whether the sizes of a node's first output are known, but for the batch."""
    facts = channels.facts[node.name]
    return bool(facts) and facts[0].shape is not None and None not in facts[0].shape[1:]


def _layer(graph: Graph, channels: Channels, nodes: List[str]) -> TimedLayer:
    # The data of a transposed convolution is its last input.
    index = 2 if graph[nodes[0]].op in TRANSPOSED_CONVOLUTIONS else 0
    sides = []
    for port in (graph.data_inputs(nodes[0])[index], Port(nodes[0])):
        labels: Optional[np.ndarray] = channels.channels_at(port)
        sides.append(np.unique(np.zeros(0, np.int64) if labels is None else labels))
    return TimedLayer(nodes[0], tuple(nodes), *sides)


# --- Small graphs of one layer.


class Lab(NamedTuple):
    """A graph that holds copies of a layer.

    Attributes:
        graph: all of them, each with random numbers in place of what reaches it.
        targets: per copy, the nodes to run.
    """

    graph: Graph
    targets: Sequence[Sequence[str]]


def cut_out(
    channels: Channels, layer: TimedLayer, gone: Sequence[np.ndarray], batch: int
) -> Optional[Lab]:
    """Copies of one layer, each without other channels.

    Args:
        channels: the channels of the graph.
        layer: one of its layers.
        gone: per copy, the channels that go; bool of shape (channels.count,).
        batch: stands in for an open batch.

    Returns:
        None where the layer reads something whose size or element type is not known.
    """
    lab = Graph(f"{channels.graph.name}: {layer.name}")
    lab.add(Node(NOTHING, "NoOp"))
    own: Dict[Optional[Use], ParamAxis] = {axis.use: axis for axis in channels.axes if axis.use}
    targets = []
    for number, removed in enumerate(gone):
        copy = _Copy(Removal(channels, removed), layer, batch, own, lab, f"w{number}/")
        if not copy.make():
            return None
        targets.append(copy.ends())
    lab.outputs = [Port(name) for names in targets for name in names]
    return Lab(lab, targets)


@dataclass
class _Copy:
    """One copy of a layer in the making.

    Attributes:
        removal: the channels that go from this copy.
        layer, batch: as for `cut_out`.
        own: the axes of parameters by where they are read.
        lab: the graph that gets the copy.
        prefix: of the names of its nodes.
        ports: what stands there for tensors from outside the layer.
    """

    removal: Removal
    layer: TimedLayer
    batch: int
    own: Mapping[Optional[Use], ParamAxis]
    lab: Graph
    prefix: str
    ports: Dict[Port, Port] = field(default_factory=dict)

    def make(self) -> bool:
        """Adds the nodes; False where one cannot be."""
        graph = self.removal.channels.graph
        for name in self.layer.nodes:
            node, inputs = graph[name], []
            for index, port in enumerate(graph.data_inputs(node)):
                source = self._source(name, index, port)
                if source is None:
                    return False
                inputs.append(source)
            attrs = {key: value for key, value in node.attrs.items() if key not in _PRIVATE}
            self.lab.add(Node(self.prefix + name, node.op, Attrs(attrs)), inputs)
        return True

    def ends(self) -> List[str]:
        """The nodes that something outside the layer reads, by their names in the copy."""
        graph, inside = self.removal.channels.graph, set(self.layer.nodes)
        outputs = {port.node for port in graph.outputs}
        return [
            self.prefix + name
            for name in self.layer.nodes
            if name in outputs or any(use.node not in inside for use in graph.uses_of(name))
        ]

    def _source(self, reader: str, index: int, port: Port) -> Optional[Port]:
        """What stands in the copy for what an input reads; None where that is not known."""
        if port.node in self.layer.nodes:
            return Port(self.prefix + port.node, port.port)
        graph = self.removal.channels.graph
        # A vector that several ops read has ids for each of them.
        own = self.own.get(Use(reader, index))
        if own is None and port in self.ports:
            return self.ports[port]
        fact = self.removal.channels.fact(port)
        if fact.shape is None or None in fact.shape[1:]:
            return None
        keep = [None if ids is None else ~self.removal.of(ids) for ids in fact.ids]
        if own is not None:
            keep[own.axis] = ~self.removal.along(own)
        name = self.lab.fresh_name(self.prefix + port.node)
        origin = graph[behind(graph, port).node]
        if origin.op == "Const":
            tensor: Tensor = origin.attrs["value"]
            for axis, kept in enumerate(keep):
                tensor = tensor if kept is None else tensor.take(axis, kept)
            self._constant(name, tensor)
        elif graph[reader].attrs.get("T") is not DType.float32:
            return None
        else:
            self._stand_in(
                name,
                [
                    self.batch if size is None else int(size if kept is None else kept.sum())
                    for size, kept in zip(fact.shape, keep)
                ],
            )
        if own is None:
            self.ports[port] = Port(name)
        return Port(name)

    def _constant(self, name: str, tensor: Tensor) -> None:
        self.lab.add(Node(name, "Const", Attrs({"dtype": tensor.dtype, "value": tensor})))

    def _stand_in(self, name: str, sizes: Sequence[int]) -> None:
        """Random numbers that TensorFlow does not take for a constant that it could fold."""
        numbers = np.random.RandomState(0).uniform(-1, 1, tuple(sizes)).astype(np.float32)
        self._constant(f"{name}/numbers", Tensor.of(numbers))
        attrs = Attrs({"dtype": DType.float32, "shape": Shape(tuple(sizes))})
        self.lab.add(Node(name, "PlaceholderWithDefault", attrs), [Port(f"{name}/numbers")])
