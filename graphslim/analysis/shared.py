"""Vectors that several ops read: which of them can go on sharing one when channels go."""

from __future__ import annotations

from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np

from graphslim.analysis.channels import Labels
from graphslim.ir import IDENTITIES, Graph, Port, Use

Copies = Sequence[Tuple[np.ndarray, List[Use]]]
"""Positions that go, bool of shape (n,), and who reads what is left; the first is the original."""


def copies_needed(channels: Labels, gone: np.ndarray) -> Dict[str, Copies]:
    """For each constant whose readers have ids of their own, the different cuts that they need.

    Args:
        channels: the channel analysis.
        gone: which channels go; bool of shape (channels.count,).
    """
    found: Dict[str, Dict[bytes, List[Use]]] = {}
    order: List[Tuple[bool, str, Use, bytes]] = []
    for axis in channels.axes:
        if axis.use is not None:
            dead = gone[channels.label[axis.start : axis.start + axis.size]]
            order.append((bool(dead.any()), axis.param, axis.use, dead.tobytes()))
    # Those that lose nothing come first, so that the original is theirs.
    for _, param, use, mask in sorted(order, key=lambda one: one[0]):
        if param not in found:
            size = len(mask)
            found[param] = {bytes(size): []} if _is_output(channels.graph, param) else {}
        found[param].setdefault(mask, []).append(use)
    return {
        param: [(np.frombuffer(mask, bool), uses) for mask, uses in cuts.items()]
        for param, cuts in found.items()
    }


def _is_output(graph: Graph, name: str) -> bool:
    """Whether a constant is an output of the graph, itself or behind identities."""
    outputs = {port.node for port in graph.outputs}
    return name in outputs or any(one in outputs for one in _passed_on(graph, name))


def _passed_on(graph: Graph, name: str) -> Iterator[str]:
    """The identities that stand behind a node."""
    for use in graph.uses_of(Port(name)):
        if graph[use.node].op in IDENTITIES:
            yield use.node
            yield from _passed_on(graph, use.node)
