"""The invariants of the IR, checked between passes."""

from __future__ import annotations

from graphslim.errors import IRError
from graphslim.ir.graph import Graph, Use
from graphslim.ir.node import CONTROL
from graphslim.ir.tensor import Tensor


def check(graph: Graph) -> None:
    """Checks that a graph is whole.

    Raises:
        IRError: edges or nodes were changed without the graph's knowledge, a data input stands
            behind a control input, a constant does not fit its stated type, or there is a cycle.
    """
    for node in graph:
        if graph[node.name] is not node:
            raise IRError("is filed under another name", node.name)
    reads = {
        (port.node, Use(node.name, index))
        for node in graph
        for index, port in enumerate(graph.inputs_of(node))
    }
    uses = {(node.name, use) for node in graph for use in graph.uses_of(node)}
    for _, use in sorted(reads ^ uses):
        raise IRError(
            "its edges were changed behind the graph's back", use.node, "use graph.rewire"
        )
    for node in graph:
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
    graph.order()
