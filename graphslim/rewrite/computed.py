"""Storing what is computed from constants, where the computation would change with the channels."""

from __future__ import annotations

from typing import List

import numpy as np

from graphslim.analysis.values import Values
from graphslim.channels.groups import Channels
from graphslim.errors import PlanError
from graphslim.ir import Attrs, Graph, Node, Port


def store_computed(graph: Graph, channels: Channels, gone: np.ndarray) -> List[str]:
    """Makes constants, at their full size, of ops that are parameters and lose channels.

    Args:
        graph: the graph, changed in place.
        channels: its channels, as they were before any change.
        gone: which channels go; bool of shape (channels.count,).

    Returns:
        the nodes that may be unread now.

    Raises:
        PlanError: the numbers are not known.
    """
    names, idle = channels.to_store(gone), []  # type: List[str], List[str]
    values = Values(channels.graph, channels) if names else None
    for name in names:
        tensor = None if values is None else values.tensor(Port(name))
        if tensor is None:
            raise PlanError("is computed from constants to numbers that are not known", name)
        idle.extend([port.node for port in graph.inputs_of(name)])
        attrs = Attrs({"dtype": tensor.dtype, "value": tensor})
        graph.replace(Node(name, "Const", attrs, graph[name].device), [])
    return idle
