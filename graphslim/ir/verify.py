"""The invariants of the IR, checked between passes."""

from __future__ import annotations

from graphslim.errors import IRError
from graphslim.ir.graph import Graph
from graphslim.ir.node import CONTROL, Port
from graphslim.ir.tensor import Tensor


def check(graph: Graph) -> None:
    """Checks that a graph is whole.

    Raises:
        IRError: an input is missing or out of order, edges were changed without the graph's
            knowledge, a constant does not fit its stated type, or there is a cycle.
    """
    sources, filed = graph.nx.pred, graph.nx.nodes
    for node in graph:
        if filed[node.name]["node"] is not node:
            raise IRError("is filed under another name", node.name)
        edges = sorted(
            (index, Port(source, data["port"]))
            for source, by_index in sources[node.name].items()
            for index, data in by_index.items()
        )
        slots = [index for index, _ in edges]
        if slots != list(range(len(slots))):
            raise IRError(f"has inputs {slots}, one is missing", node.name)
        if tuple([port for _, port in edges]) != graph.inputs_of(node):
            raise IRError(
                "its edges were changed behind the graph's back", node.name, "use graph.rewire"
            )
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
