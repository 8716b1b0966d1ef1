"""A small graph of one layer at several widths, to be timed side by side."""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from graphslim.analysis.channels import Channels
from graphslim.analysis.walk import ParamAxis
from graphslim.ir import Attrs, DType, Graph, Node, Port, Shape, Tensor, Use
from graphslim.latency.layers import Layer

_PRIVATE = ("_class", "_output_shapes")
"""Attributes that speak of other nodes, or of the widths before."""
NOTHING = "nothing"
"""A node that does nothing, to time what a run costs that does nothing."""


class Lab(NamedTuple):
    """A graph that holds copies of a layer.

    Attributes:
        graph: all of them, each with random numbers in place of what reaches it.
        targets: per copy, the nodes to run.
    """

    graph: Graph
    targets: Sequence[Sequence[str]]


def cut_out(
    channels: Channels,
    layer: Layer,
    gone: Sequence[np.ndarray],
    batch: int,
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
        copy = _Copy(channels, layer, removed, own, batch, lab, f"w{number}/")
        if not copy.make():
            return None
        targets.append(copy.ends())
    lab.outputs = [Port(name) for names in targets for name in names]
    return Lab(lab, targets)


class _Copy:
    """One copy of a layer in the making."""

    def __init__(
        self,
        channels: Channels,
        layer: Layer,
        removed: np.ndarray,
        own: Mapping[Optional[Use], ParamAxis],
        batch: int,
        lab: Graph,
        prefix: str,
    ) -> None:
        self._graph, self._channels, self._layer = channels.graph, channels, layer
        self._removed, self._own, self._batch = removed, own, batch
        self._lab, self._prefix = lab, prefix
        self._ports: Dict[Port, Port] = {}

    def make(self) -> bool:
        """Adds the nodes; False where one cannot be."""
        for name in self._layer.nodes:
            node = self._graph[name]
            inputs = []
            for index, port in enumerate(self._graph.data_inputs(node)):
                source = self._source(name, index, port)
                if source is None:
                    return False
                inputs.append(source)
            self._add(node, inputs)
        return True

    def ends(self) -> List[str]:
        """The nodes that something outside the layer reads, by their names in the copy."""
        inside = set(self._layer.nodes)
        outputs = {port.node for port in self._graph.outputs}
        return [
            self._prefix + name
            for name in self._layer.nodes
            if name in outputs or any(use.node not in inside for use in self._graph.uses_of(name))
        ]

    def _add(self, node: Node, inputs: Sequence[Port]) -> None:
        attrs = {key: value for key, value in node.attrs.items() if key not in _PRIVATE}
        self._lab.add(Node(self._prefix + node.name, node.op, Attrs(attrs)), inputs)

    def _source(self, reader: str, index: int, port: Port) -> Optional[Port]:
        """What stands in the copy for what an input reads; None where that is not known."""
        if port.node in self._layer.nodes:
            return Port(self._prefix + port.node, port.port)
        # A vector that several ops read has ids for each of them.
        own = self._own.get(Use(reader, index))
        if own is None and port in self._ports:
            return self._ports[port]
        known = self._channels.fact(port)
        if known.shape is None or None in known.shape[1:]:
            return None
        axes = list(known.ids)
        if own is not None:
            axes[own.axis] = np.arange(own.start, own.start + own.size)
        keep = [None if ids is None else ~self._removed[self._channels.label[ids]] for ids in axes]
        name = self._lab.fresh_name(self._prefix + port.node)
        origin = self._origin(port)
        if origin is not None:
            tensor: Tensor = origin.attrs["value"]
            for axis, kept in enumerate(keep):
                tensor = tensor if kept is None else tensor.take(axis, kept)
            self._constant(name, tensor)
        else:
            if self._graph[reader].attrs.get("T") is not DType.float32:
                return None
            self._stand_in(
                name,
                [
                    self._batch if size is None else int(size if kept is None else kept.sum())
                    for size, kept in zip(known.shape, keep)
                ],
            )
        if own is None:
            self._ports[port] = Port(name)
        return Port(name)

    def _origin(self, port: Port) -> Optional[Node]:
        """The constant at a port, whatever identities are between; None where it is none."""
        node = self._graph[port.node]
        while node.op == "Identity":
            node = self._graph[self._graph.data_inputs(node)[0].node]
        return node if node.op == "Const" else None

    def _constant(self, name: str, tensor: Tensor) -> None:
        self._lab.add(Node(name, "Const", Attrs({"dtype": tensor.dtype, "value": tensor})))

    def _stand_in(self, name: str, sizes: Sequence[int]) -> None:
        """Random numbers that TensorFlow does not take for a constant that it could fold."""
        numbers = np.random.RandomState(0).uniform(-1, 1, tuple(sizes)).astype(np.float32)
        self._constant(f"{name}/numbers", Tensor.of(numbers))
        attrs = Attrs({"dtype": DType.float32, "shape": Shape(tuple(sizes))})
        self._lab.add(Node(name, "PlaceholderWithDefault", attrs), [Port(f"{name}/numbers")])
