"""Which channels hold a known constant, whatever the input: the second walk over the graph."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

import numpy as np

from graphslim import ops  # noqa: F401  (registers the rules)
from graphslim.analysis.channels import Channels, analyse
from graphslim.analysis.computed import as_tensor
from graphslim.errors import AnalysisError
from graphslim.ir import CONTROL, Graph, Port, Tensor
from graphslim.ops.table import MALFORMED, VALUE_RULES, ValueVisit

Value = Optional[np.ndarray]


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
        fed = set(graph.inputs)
        for node in graph.order():
            rule = VALUE_RULES.get(node.op)
            if rule is None or node.name in fed:
                continue
            ports = [port for port in graph.inputs_of(node) if port.port != CONTROL]
            visit = ValueVisit(
                node,
                [self.at(port) for port in ports],
                [channels.fact(port) for port in ports],
                channels.facts[node.name],
                zero_below,
            )
            try:
                self._values[node.name] = _clean(rule(visit)) if visit.outs else ()
            except MALFORMED as error:
                raise AnalysisError(
                    f"this {node.op} is malformed: {error!r}", node.name, "export the graph again"
                ) from error

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


def _clean(result: Any) -> Sequence[Value]:
    outs = result if isinstance(result, tuple) else (result,)
    return [None if out is None or _all_unknown(out) else out for out in outs]


def _all_unknown(value: np.ndarray) -> bool:
    if value.dtype.kind != "f" or not value.size or not np.isnan(value.flat[0]):
        return False
    return bool(np.isnan(value).all())
