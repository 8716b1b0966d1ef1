"""What a graph costs: parameters and multiply-accumulates.

Parameters are the elements of floating-point and quantised constants of rank 1 and more that an
output depends on: weights, biases and all four batch-norm vectors, as Keras counts them. MACs are
those of convolutions and matrix products for one example, as papers count them; the additions
of bias, batch norm, activations and pooling are left out.
"""

from __future__ import annotations

from typing import Collection, Dict, List, NamedTuple, Optional, Sequence, Set

import numpy as np

from graphslim.analysis.channels import Channels, analyse
from graphslim.analysis.computed import element_type
from graphslim.analysis.shared import Copies, copies_needed
from graphslim.ir import Graph, Node
from graphslim.ir.query import needed
from graphslim.ops.guard import guarded
from graphslim.ops.table import COST_RULES, Fact, product


class Cost(NamedTuple):
    """Parameters (elements) and multiply-accumulates; None where a size is open."""

    params: int
    macs: Optional[int]


def cost(graph: Graph) -> Cost:
    """What a graph costs."""
    return graph.memo("cost", lambda graph: cost_without(graph, None))


def cost_without(graph: Graph, removed: Optional[np.ndarray]) -> Cost:
    """What a graph would cost without some channels; `removed` is bool per channel label."""
    channels = analyse(graph)
    shrunk = _Shrinking(channels, removed)
    shared = {} if removed is None else copies_needed(channels, removed)
    stored = set() if removed is None else set(channels.to_store(removed))
    idle = _unread(graph, stored)
    params, macs = 0, 0  # type: int, Optional[int]
    for node in _costed(graph):
        if node.name in idle:
            continue
        if node.op == "Const":
            if node.attrs["value"].dtype.is_real:
                params += _left(shrunk(channels.facts[node.name][0]), shared.get(node.name))
        elif node.name in stored:
            params += _left(shrunk(channels.facts[node.name][0]), None)
        elif node.op in COST_RULES:
            inputs = [shrunk(channels.fact(port)) for port in graph.data_inputs(node)]
            outs = [shrunk(known) for known in channels.facts[node.name]]
            own = macs_of(graph, node, inputs, outs)
            macs = None if own is None or macs is None else macs + own
    return Cost(params, macs)


def macs_of(
    graph: Graph, node: Node, inputs: Sequence[Fact], outs: Sequence[Fact]
) -> Optional[int]:
    """The multiply-accumulates of an op that has a cost rule; None where a size is open.

    Raises:
        AnalysisError: the rule fails, since the node is damaged.
    """
    return guarded(COST_RULES[node.op], graph, node, node, inputs, outs)


def bytes_without(graph: Graph, removed: np.ndarray) -> int:
    """How many bytes of constants the graph would lose with some channels.

    Constants of any type count, those that no output depends on too, since a file holds them.
    """
    channels = analyse(graph)
    shrunk, shared = _Shrinking(channels, removed), copies_needed(channels, removed)
    stored = channels.to_store(removed)
    idle = _unread(graph, stored)
    lost = 0
    for name in stored:
        known, dtype = shrunk(channels.facts[name][0]), element_type(graph[name])
        lost -= (product(known.shape or ()) or 0) * (dtype.storage.itemsize if dtype else 0)
    for node in graph:
        if node.op == "Const" and channels.facts[node.name][0].shape:
            known, tensor = channels.facts[node.name][0], node.attrs["value"]
            left = _left(shrunk(known), shared.get(node.name))
            left = 0 if node.name in idle else left
            lost += (tensor.size - left) * tensor.dtype.storage.itemsize
    return lost


def _costed(graph: Graph) -> List[Node]:
    """The nodes that cost something: parameters of rank 1 and more, and ops with a cost rule."""

    def find(graph: Graph) -> List[Node]:
        used, channels = needed(graph), analyse(graph)
        facts, stored = channels.facts, channels.stored
        return [
            node
            for node in graph
            if node.name in used
            and (
                (facts[node.name][0].shape if node.op == "Const" else node.op in COST_RULES)
                or (node.name in stored and facts[node.name][0].shape)
            )
        ]

    return graph.memo("costed", find)


def _unread(graph: Graph, stored: Collection[str]) -> Set[str]:
    """The nodes that nothing reads any more once the results of some nodes are stored."""
    kept = {*graph.inputs, *[port.node for port in graph.outputs]}
    found: Set[str] = set()
    waiting = [port.node for name in stored for port in graph.inputs_of(name)]
    while waiting:
        name = waiting.pop()
        left = [use for use in graph.uses_of(name) if use.node not in stored]
        if name not in kept | found and all(use.node in found for use in left):
            found.add(name)
            waiting.extend([port.node for port in graph.inputs_of(name)])
    return found


def _left(known: Fact, copies: Optional[Copies]) -> int:
    """How many elements of a constant are left, in all its copies."""
    if copies is None:
        return product(known.shape or ()) or 0
    return sum([int(np.count_nonzero(~dead)) for dead, _ in copies])


class _Shrinking:
    """Facts without the channels that go; an array of ids that many share is counted once."""

    def __init__(self, channels: Channels, removed: Optional[np.ndarray]) -> None:
        self._channels, self._removed = channels, removed
        self._counts: Dict[int, int] = {}

    def __call__(self, known: Fact) -> Fact:
        if self._removed is None or known.shape is None:
            return known
        sizes = [
            size if ids is None else self._count(ids) for size, ids in zip(known.shape, known.ids)
        ]
        return known._replace(shape=tuple(sizes))

    def _count(self, ids: np.ndarray) -> int:
        found = self._counts.get(id(ids))
        if found is None and self._removed is not None:
            found = int(np.count_nonzero(~self._removed[self._channels.label[ids]]))
            self._counts[id(ids)] = found
        return found or 0
