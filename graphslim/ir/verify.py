"""The invariants of the IR, checked between passes."""

from __future__ import annotations

from graphslim.errors import IRError
from graphslim.ir.graph import Graph
from graphslim.ir.node import CONTROL
from graphslim.ir.tensor import Tensor


def check(graph: Graph) -> None:
    """Checks that a graph is whole.

    Raises:
        IRError: an input is missing or out of order, an output is gone, a constant does not fit
            its stated type, or there is a cycle.
    """
    for node in graph:
        if node.name not in graph.nx or graph[node.name] is not node:
            raise IRError("is filed under another name", node.name)
        slots = sorted(index for edges in graph.nx.pred[node.name].values() for index in edges)
        if slots != list(range(len(slots))):
            raise IRError(f"has inputs {slots}, one is missing", node.name)
        ports = [port.port for port in graph.inputs_of(node)]
        if CONTROL in ports and any(port != CONTROL for port in ports[ports.index(CONTROL) :]):
            raise IRError("has a data input after a control input", node.name)
        if node.op == "Const":
            value = node.attrs.get("value")
            if not isinstance(value, Tensor):
                raise IRError("is a constant without a value", node.name)
            if "dtype" in node.attrs and node.attrs["dtype"] != value.dtype:
                raise IRError(
                    f"is stated {node.attrs['dtype'].name} and holds {value.dtype.name}", node.name
                )
    for port in graph.outputs:
        if port.node not in graph:
            raise IRError("is an output and not in the graph", port.node)
    for name in graph.inputs:
        if name not in graph:
            raise IRError("is an input and not in the graph", name)
    graph.order()
