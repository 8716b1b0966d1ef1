"""What a graph costs: parameters and multiply-accumulates.

Parameters are the elements of floating-point and quantised constants of rank 1 and more that an
output depends on: weights, biases and all four batch-norm vectors, as Keras counts them. MACs are
those of convolutions and matrix products for one example, as papers count them; the additions
of bias, batch norm, activations and pooling are left out.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Set

import numpy as np

from graphslim.analysis.channels import Channels, analyse
from graphslim.analysis.shared import copies_needed
from graphslim.ir import Graph, Node
from graphslim.ops.table import COST_RULES, Fact, product


class Cost(NamedTuple):
    """Parameters (elements) and multiply-accumulates; None where a size is open."""

    params: int
    macs: Optional[int]


def needed(graph: Graph) -> Set[str]:
    """The nodes that an output depends on, control dependencies included."""
    reached: Set[str] = set()
    waiting = [port.node for port in graph.outputs]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend([port.node for port in graph.inputs_of(name)])
    return reached


def cost(graph: Graph) -> Cost:
    """What a graph costs."""
    return graph.memo("cost", lambda graph: cost_without(graph, None))


def cost_without(graph: Graph, removed: Optional[np.ndarray]) -> Cost:
    """What a graph would cost without some channels; `removed` is bool per channel label."""
    channels = analyse(graph)
    used = needed(graph)
    shared = {} if removed is None else copies_needed(channels, removed)
    params, macs = 0, 0  # type: int, Optional[int]
    for node in graph:
        if node.name not in used:
            continue
        outs = [_shrunk(known, channels, removed) for known in channels.facts[node.name]]
        if node.op == "Const" and outs[0].shape and _is_real(node):
            copies = shared.get(node.name)
            params += (
                product(outs[0].shape) or 0
                if copies is None
                else sum([int(np.count_nonzero(~dead)) for dead, _ in copies])
            )
        rule = COST_RULES.get(node.op)
        if rule is not None and macs is not None:
            inputs = [channels.fact(port) for port in graph.data_inputs(node)]
            own = rule(node, [_shrunk(known, channels, removed) for known in inputs], outs)
            macs = None if own is None else macs + own
    return Cost(params, macs)


def _is_real(constant: Node) -> bool:
    dtype = constant.attrs["value"].dtype
    return bool(dtype.is_floating or dtype.is_quantized)


def _shrunk(known: Fact, channels: Channels, removed: Optional[np.ndarray]) -> Fact:
    if removed is None or known.shape is None:
        return known
    sizes = [
        size if ids is None else int(np.count_nonzero(~removed[channels.label[ids]]))
        for size, ids in zip(known.shape, known.ids)
    ]
    return known._replace(shape=tuple(sizes))
