"""A network in layers that can be timed alone: a sum over channels, and what follows it.

Layer-wise tables of measured latency are those of NetAdapt (Yang et al. 2018, arXiv 1804.03230).
"""

from __future__ import annotations

from typing import Dict, FrozenSet, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from graphslim.analysis.channels import Channels
from graphslim.ir import IDENTITIES, Graph, Node, Port
from graphslim.ir.query import constant_nodes, needed
from graphslim.ops.table import COST_RULES

FOLLOWERS: FrozenSet[str] = frozenset(
    [
        *("BiasAdd", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"),
        *("Relu", "Relu6", "Elu", "Selu", "LeakyRelu", "Sigmoid", "Tanh", "Softplus", "Erf"),
        *("Add", "AddV2", "AddN", "Sub", "Mul", "RealDiv", "Minimum", "Maximum", "Neg", "Square"),
        *("AvgPool", "MaxPool", "Mean", "Pad", "ConcatV2", "SpaceToBatchND", "BatchToSpaceND"),
        *("ResizeBilinear", "ResizeNearestNeighbor", *IDENTITIES),
    ]
)
"""Ops that take time by how many channels reach them."""


class Layer(NamedTuple):
    """A convolution or matrix product, and the ops behind it up to the next.

    Attributes:
        name: the node of the sum.
        nodes: all its nodes, in topological order.
        reads: labels of the channels that are summed over, each once; shape (n,).
        makes: labels of the channels that it produces, each once; shape (m,).
    """

    name: str
    nodes: Tuple[str, ...]
    reads: np.ndarray
    makes: np.ndarray

    @property
    def tied(self) -> bool:
        """Whether it reads and makes the same channels, as a depthwise convolution does."""
        return bool(np.isin(self.reads, self.makes).any())


def layers_of(graph: Graph, channels: Channels) -> List[Layer]:
    """The layers of a graph; what is in none of them takes as long whatever goes.

    Args:
        graph: the graph, which a CPU can run.
        channels: its channels.
    """
    used, folded, counting = needed(graph), constant_nodes(graph), _counting(channels)
    layer_of: Dict[str, int] = {}
    members: List[List[str]] = []
    for node in graph.order():
        if node.name not in used or node.name in folded or not _known(channels, node):
            continue
        inputs = graph.data_inputs(node)
        if any(port.node in counting for port in inputs):
            continue
        before = [layer_of[port.node] for port in inputs if port.node in layer_of]
        if node.op in COST_RULES:
            layer_of[node.name] = len(members)
            members.append([node.name])
        elif node.op in FOLLOWERS and before:
            layer_of[node.name] = max(before)
            members[max(before)].append(node.name)
    return [_layer(graph, channels, nodes) for nodes in members]


def _counting(channels: Channels) -> Set[str]:
    """The constants, and the identities behind them, that hold numbers of channels."""
    found = {one.param for one in channels.resizes} | {one.param for one in channels.renumbers}
    waiting = list(found)
    while waiting:
        for use in channels.graph.uses_of(Port(waiting.pop())):
            if channels.graph[use.node].op in IDENTITIES and use.node not in found:
                found.add(use.node)
                waiting.append(use.node)
    return found


def _known(channels: Channels, node: Node) -> bool:
    """Whether the sizes of all that a node gives are known, but for the batch."""
    shapes = [known.shape for known in channels.facts[node.name][:1]]
    return bool(shapes) and all(shape is not None and None not in shape[1:] for shape in shapes)


def _layer(graph: Graph, channels: Channels, nodes: List[str]) -> Layer:
    data = graph.data_inputs(nodes[0])
    # The data of a transposed convolution is its last input.
    index = 2 if graph[nodes[0]].op.endswith(("BackpropInput", "BackpropInputV2")) else 0
    return Layer(
        nodes[0],
        tuple(nodes),
        _labels(channels, data[index]),
        _labels(channels, Port(nodes[0])),
    )


def _labels(channels: Channels, port: Port) -> np.ndarray:
    labels: Optional[np.ndarray] = channels.channels_at(port)
    return np.unique(np.zeros(0, np.int64) if labels is None else labels)
