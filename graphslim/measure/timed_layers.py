"""A network in layers that can be timed alone, and small graphs of one layer at several widths.

A layer is a sum over channels and what follows it. Layer-wise tables of measured latency are those
of NetAdapt (Yang et al. 2018, arXiv 1804.03230).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.groups import Channels, Removal
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
from graphslim.ir.query import behind, constant_nodes, executed
from graphslim.ops import COST_RULES

FOLLOWERS = (BIASES | BATCH_NORMS | UNARY | BROADCASTING | RESIZES | IDENTITIES) | {
    *("AvgPool", "MaxPool", "Mean", "Pad", "ConcatV2", "SpaceToBatchND", "BatchToSpaceND")
}
"""Ops that take time by how many channels reach them."""
NOTHING = "nothing"
"""A node that computes nothing, to time the overhead of a run."""
_PRIVATE = ("_class", "_output_shapes")
"""Attributes that name other nodes, or state shapes before the cut."""


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
        """`[reads, makes]`, or a single array of their union if they are tied."""
        return [np.union1d(self.reads, self.makes)] if self.tied else [self.reads, self.makes]


def layers_of(graph: Graph, channels: Channels) -> List[TimedLayer]:
    """The layers of a graph; the time of nodes in no layer does not depend on the channels.

    Args:
        graph: the graph, which a CPU can run.
        channels: its channels.
    """
    used, folded = executed(graph), constant_nodes(graph)
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
        graph: the graph of all copies; random numbers take the place of their inputs.
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
        the copies; None if the size or element type of an input of the layer is not known.
    """
    lab = Graph(f"{channels.graph.name}: {layer.name}")
    lab.add(Node(NOTHING, "NoOp"))
    axis_at: Dict[Optional[Use], ParamAxis] = {axis.use: axis for axis in channels.axes if axis.use}
    targets = []
    for number, removed in enumerate(gone):
        copy = _Copy(Removal(channels, removed), layer, batch, axis_at, lab, f"w{number}/")
        if not copy.make():
            return None
        targets.append(copy.ends())
    lab.outputs = [Port(name) for names in targets for name in names]
    return Lab(lab, targets)


@dataclass
class _Copy:
    """A copy of a layer while it is built.

    Attributes:
        removal: the channels that go from this copy.
        layer, batch: as for `cut_out`.
        axis_at: by reader and input, the axis of a parameter that is read there.
        lab: the graph that gets the copy.
        prefix: of the names of its nodes.
        ports: by tensor from outside the layer, the tensor that takes its place in the copy.
    """

    removal: Removal
    layer: TimedLayer
    batch: int
    axis_at: Mapping[Optional[Use], ParamAxis]
    lab: Graph
    prefix: str
    ports: Dict[Port, Port] = field(default_factory=dict)

    def make(self) -> bool:
        """Adds the nodes; returns False if an input of one is not known."""
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
        """The tensor of the copy that an input reads; None if its size or type is not known."""
        if port.node in self.layer.nodes:
            return Port(self.prefix + port.node, port.port)
        graph = self.removal.channels.graph
        # A vector that several ops read has ids for each of them.
        param_axis = self.axis_at.get(Use(reader, index))
        if param_axis is None and port in self.ports:
            return self.ports[port]
        fact = self.removal.channels.fact(port)
        if fact.shape is None or None in fact.shape[1:]:
            return None
        keep = [None if ids is None else ~self.removal.of(ids) for ids in fact.ids]
        if param_axis is not None:
            keep[param_axis.axis] = ~self.removal.along(param_axis)
        name = self.lab.fresh_name(self.prefix + port.node)
        origin = graph[behind(graph, port).node]
        if origin.op == "Const":
            tensor: Tensor = origin.attrs["value"]
            for axis, mask in enumerate(keep):
                tensor = tensor if mask is None else tensor.take(axis, mask)
            self._constant(name, tensor)
        elif graph[reader].attrs.get("T") is not DType.float32:
            return None
        else:
            self._stand_in(
                name,
                [
                    self.batch if size is None else int(size if mask is None else mask.sum())
                    for size, mask in zip(fact.shape, keep)
                ],
            )
        if param_axis is None:
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
