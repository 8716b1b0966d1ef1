"""Which channels hold a known constant, whatever the input: the second walk over the graph."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

import numpy as np

from graphslim import ops  # noqa: F401  (registers the rules)
from graphslim.analysis.channels import Channels
from graphslim.errors import AnalysisError
from graphslim.ir import CONTROL, Graph, Port
from graphslim.ops.table import MALFORMED, VALUE_RULES, ValueVisit

Value = Optional[np.ndarray]


class Values:
    """Known values per port: arrays of size 1 along axes over which they do not vary, NaN unknown.

    Args:
        graph: the graph.
        channels: its channel analysis.
        zero_below: weights with a smaller magnitude count as zero (0: only exact zeros do).
    """

    def __init__(self, graph: Graph, channels: Channels, zero_below: float) -> None:
        self.graph, self._channels = graph, channels
        self._values: Dict[str, Sequence[Value]] = {}
        for node in graph.order():
            rule = VALUE_RULES.get(node.op)
            if rule is None:
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


def _clean(result: Any) -> Sequence[Value]:
    outs = result if isinstance(result, tuple) else (result,)
    return [None if out is None or _all_unknown(out) else out for out in outs]


def _all_unknown(value: np.ndarray) -> bool:
    return value.dtype.kind == "f" and bool(np.isnan(value).all()) and value.size > 0
