"""Which channels hold a known constant, whatever the input: the second walk over the graph."""

from __future__ import annotations

from typing import Dict, Optional, Sequence

import numpy as np

from graphslim.channels.computed import as_tensor
from graphslim.channels.groups import Channels, analyse
from graphslim.channels.rules import ValueVisit, value_outputs
from graphslim.ir import Graph, Port, Tensor
from graphslim.ops import VALUE_RULES

Value = Optional[np.ndarray]
"""What is known of a tensor: float64, of size 1 along axes over which it does not vary, NaN where
unknown; None where nothing is known."""
_KEPT = 1 << 29
"""How many bytes of values are kept, beside eight for each of the file's."""


class Values:
    """Known values per port: arrays of size 1 along axes over which they do not vary, NaN unknown.

    They are computed in double precision by the value rules of the ops, and hold for the graph as
    it is when they are computed. What is fed is unknown.

    Args:
        graph: the graph.
        channels: its channel analysis; by default made now.
        zero_below: weights with a smaller magnitude count as zero (0: only exact zeros do).

    Attributes:
        graph, channels: as given.
    """

    def __init__(
        self, graph: Graph, channels: Optional[Channels] = None, zero_below: float = 0.0
    ) -> None:
        self.graph = graph
        self.channels = channels = analyse(graph) if channels is None else channels
        self._values: Dict[str, Sequence[Value]] = {}
        self._room = _KEPT + 8 * (len(graph.origin.data) if graph.origin else 0)
        fed = set(graph.inputs)
        for node in graph.order():
            if node.op not in VALUE_RULES or node.name in fed:
                continue
            ports = graph.data_inputs(node)
            values = [self.at(port) for port in ports]
            facts = [channels.fact(port) for port in ports]
            visit = ValueVisit(node, values, facts, channels.facts[node.name], zero_below)
            if visit.outs:
                self._values[node.name] = self._kept(visit, value_outputs(graph, visit))

    def _kept(self, visit: ValueVisit, outs: Sequence[Value]) -> Sequence[Value]:
        """The values of an op, unknown where all of them take more room than the file may have."""
        values = [None if out is None or _all_unknown(out) else out for out in outs]
        given = {id(value) for value in visit.values}
        new = [value for value in values if value is not None and id(value) not in given]
        self._room -= sum([value.nbytes for value in new])
        return values if self._room >= 0 else [None] * len(values)

    def at(self, port: Port) -> Value:
        """What is known at a port, or None."""
        outs = self._values.get(port.node, ())
        return outs[port.port] if 0 <= port.port < len(outs) else None

    def constant(self, port: Port) -> Value:
        """The value at a port if it is wholly known, else None."""
        value = self.at(port)
        return None if value is None or np.isnan(value).any() else value

    def tensor(self, port: Port) -> Optional[Tensor]:
        """The value at a port, rounded to its element type; None if it is not wholly known."""
        return as_tensor(self.at(port), self.channels.fact(port), self.graph[port.node])


def _all_unknown(value: np.ndarray) -> bool:
    if value.dtype.kind != "f" or not value.size or not np.isnan(value.flat[0]):
        return False
    return bool(np.isnan(value).all())
