"""Small changes of graphs: what outputs need is kept, and one node takes the place of another."""

from __future__ import annotations

from typing import AbstractSet, Any, Callable, Iterable, Set

import numpy as np

from graphslim.ir import CONTROL, IDENTITIES, Attrs, Graph, Node, Port, Tensor
from graphslim.ir.query import in_branch

_FORKS = frozenset(("Switch", "RefSwitch", "Merge", "RefMerge", "LoopCond", "Enter", "Exit"))


def put(graph: Graph, name: str, op: str, inputs: Iterable[Port] = (), **attrs: Any) -> None:
    """Puts a node of another op in the place of one, whose readers then read the new one."""
    graph.replace(Node(name, op, Attrs(attrs), graph[name].device), inputs)


def become_identity(graph: Graph, name: str, source: Port) -> None:
    """Makes an identity of a node that has an attribute `T`."""
    put(graph, name, "Identity", [source], T=graph[name].attrs["T"])


def reach(graph: Graph, stops: Callable[[Node], bool] = lambda node: False) -> Set[str]:
    """The nodes whose values the outputs need, searched back and no further than `stops`.

    Of what nodes only wait for, no more counts than what decides whether a branch runs.
    """
    deciding = in_branch(graph)
    found: Set[str] = set()
    waiting = [port.node for port in graph.outputs]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            node = graph[name]
            if not stops(node):
                waiting.extend(
                    [
                        port.node
                        for port in graph.inputs_of(node)
                        if port.port != CONTROL or _decides(graph[port.node], deciding)
                    ]
                )
    return found


def _decides(node: Node, deciding: AbstractSet[str]) -> bool:
    return node.op in _FORKS or (node.name in deciding and node.op in IDENTITIES)


def part_of(graph: Graph, stops: Callable[[Node], bool] = lambda node: False) -> Graph:
    """A graph of the nodes that the outputs need and the inputs alone; those of `graph` are copied.

    The nodes that `stops` says lose what they read.
    """
    kept = reach(graph, stops) | set(graph.inputs)
    deciding = in_branch(graph)
    part = Graph(graph.name)
    entries = []
    for node in graph:
        if node.name in kept:
            twin = node.copy()
            before = () if stops(node) else graph.inputs_of(node)
            after = [
                port
                for port in before
                if port.node in kept
                and (port.port != CONTROL or _decides(graph[port.node], deciding))
            ]
            twin.rewired = node.rewired or len(after) != len(graph.inputs_of(node))
            entries.append((twin, after))
    part.load(entries)
    part.inputs, part.outputs = list(graph.inputs), list(graph.outputs)
    part.input_shapes = dict(graph.input_shapes)
    part.origin = graph.origin
    part.gone = graph.gone | {node.name for node in graph if node.name not in kept}
    return part


def add_constant(graph: Graph, wish: str, value: np.ndarray) -> Port:
    """Adds a constant under a name like `wish`."""
    tensor = Tensor.of(value)
    name = graph.fresh_name(wish)
    graph.add(Node(name, "Const", Attrs({"dtype": tensor.dtype, "value": tensor})))
    return Port(name)


def read_variable(part: Graph, whole: Graph, variable: str) -> Port:
    """A port of `part` that has the value of a variable of `whole`, which is brought along."""
    if variable not in part:
        part.add(whole[variable].copy())
    if part[variable].op != "VarHandleOp":
        return Port(variable)
    for graph in (part, whole):
        for use in graph.uses_of(Port(variable)):
            reader = graph[use.node]
            if reader.op == "ReadVariableOp" and len(graph.inputs_of(reader)) == 1:
                if reader.name not in part:
                    part.add(reader.copy(), [Port(variable)])
                return Port(reader.name)
    name = part.fresh_name(f"{variable}/Read/ReadVariableOp")
    part.add(
        Node(name, "ReadVariableOp", Attrs({"dtype": part[variable].attrs["dtype"]})),
        [Port(variable)],
    )
    return Port(name)
