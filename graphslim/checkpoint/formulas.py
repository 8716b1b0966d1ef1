"""Roles of variables that only formulas tell: optimizers and batch norm made of small ops."""

from __future__ import annotations

from typing import Dict, FrozenSet, List, Optional, Set, Tuple

from graphslim.checkpoint.averages import (
    NORMS,
    QUOTIENTS,
    SUMS,
    after_gradients,
    averages,
)
from graphslim.checkpoint.variables import APPLY, behind, shape_of, updates, variable_at
from graphslim.ir import CONTROL, Graph, Port

_ELEMENTWISE = frozenset(
    (*SUMS, *QUOTIENTS, "Sub", "Mul", "Neg", "Sqrt", "Rsqrt", "Square", "Maximum", "Minimum")
    + ("Sign", "Abs", "Pow", "Cast", "AddN", "ClipByValue", "DivNoNan", "SquaredDifference")
)
"""What updates are calculated with, element by element."""
_RESHAPES = frozenset(("Reshape", "ExpandDims", "Squeeze", "Cast", "Merge"))
_MEAN, _VARIANCE = 3, 4
"""Inputs of a fused batch norm."""


def slots_by_formula(graph: Graph) -> Dict[str, Set[str]]:
    """The slots of optimizers that are written out: `s = f(s, gradient)`, `w -= g(s)`.

    A variable is a slot of another of its shape where its new value enters the other's update,
    element by element, and both change by a gradient; unless it goes for both directions.
    """
    shadows = {one.update for one in averages(graph) if one.of is not None}
    changes = {
        one.node: one
        for one in updates(graph)
        if one.node not in shadows and one.value.node in after_gradients(graph)
    }
    by_value: Dict[Port, Set[str]] = {}
    for one in changes.values():
        if one.kind == "=":
            by_value.setdefault(one.value, set()).add(one.variable)
    found: Dict[str, Set[str]] = {}
    for one in changes.values():
        for port in _reached(graph, one.value):
            names = set(by_value.get(port, ()))
            names |= {changes[name].variable for name in _assigned(graph, port) if name in changes}
            for name in names - {one.variable}:
                if shape_of(graph, name) == shape_of(graph, one.variable):
                    found.setdefault(one.variable, set()).add(name)
    return {
        variable: {name for name in names if variable not in found.get(name, ())}
        for variable, names in found.items()
    }


def _reached(graph: Graph, start: Port) -> List[Port]:
    """The tensors that enter a value element by element."""
    found: List[Port] = []
    waiting, seen = [start], set()  # type: List[Port], Set[Port]
    while waiting:
        port = behind(graph, waiting.pop())
        if port not in seen:
            seen.add(port)
            found.append(port)
            if graph[port.node].op in _ELEMENTWISE:
                waiting.extend(graph.data_inputs(port.node))
    return found


def _assigned(graph: Graph, port: Port) -> List[str]:
    """The assignments whose result a tensor is, or that have to come before it is read."""
    node = graph[port.node]
    waits = [one.node for one in graph.inputs_of(node) if one.port == CONTROL]
    return [node.name, *(waits if node.op == "ReadVariableOp" else [])]


def statistics_by_use(graph: Graph) -> FrozenSet[str]:
    """The moving means and variances, by where they enter a batch norm; none that are trained."""
    found: Set[str] = set()
    for node in graph:
        inputs = graph.data_inputs(node)
        if node.op in NORMS and len(inputs) > _VARIANCE:
            names = [_vector(graph, inputs[slot]) for slot in (_MEAN, _VARIANCE)]
            found |= {name for name in names if name is not None}
        elif node.op in ("Rsqrt", "Sqrt"):
            found |= _unfused(graph, node.name)
    changed = {one.variable for one in updates(graph) if one.value.node in after_gradients(graph)}
    applied = {
        variable_at(graph, graph.data_inputs(node)[0]) for node in graph if APPLY.match(node.op)
    }
    return frozenset(found - changed - applied)


def _vector(graph: Graph, port: Port) -> Optional[str]:
    """The variable whose value a tensor is, in whatever shape, and in whichever branch."""
    waiting, seen = [port], set()  # type: List[Port], Set[Port]
    while waiting:
        port = behind(graph, waiting.pop(0))
        name = variable_at(graph, port)
        if name is not None:
            return name
        if port not in seen and graph[port.node].op in _RESHAPES:
            seen.add(port)
            data = graph.data_inputs(port.node)
            waiting.extend(data if graph[port.node].op == "Merge" else data[:1])
    return None


def _unfused(graph: Graph, root: str) -> Set[str]:
    """Mean and variance of a batch norm that is not fused, from its square root of a sum."""
    total = behind(graph, graph.data_inputs(root)[0])
    if graph[total.node].op not in SUMS:
        return set()
    variances = {_vector(graph, port) for port in graph.data_inputs(total.node)} - {None}
    if len(variances) != 1:
        return set()
    variance = variances.pop()
    means: Set[str] = set()
    waiting: List[Tuple[str, Optional[str]]] = [(root, None)]
    while waiting:
        name, factor = waiting.pop()
        for use in graph.uses_of(Port(name)):
            reader = graph[use.node]
            others = [port for at, port in enumerate(graph.data_inputs(reader)) if at != use.index]
            if reader.op == "Sub" and use.index == 1 and factor is not None:
                means.add(factor)  # offset - mean * scale
            elif reader.op in ("Mul", *QUOTIENTS) and others:
                other = _vector(graph, others[0])
                means |= _subtracted(graph, others[0])
                if other is not None:
                    waiting.append((reader.name, other))
            elif reader.op in _RESHAPES:
                waiting.append((reader.name, factor))
    means = {one for one in means if variance and shape_of(graph, one) == shape_of(graph, variance)}
    return {*means, variance} if means and variance else set()


def _subtracted(graph: Graph, port: Port) -> Set[str]:
    """The variable that is subtracted here, (x - mean), if there is one."""
    port = behind(graph, port)
    if graph[port.node].op != "Sub":
        return set()
    name = _vector(graph, graph.data_inputs(port.node)[1])
    return set() if name is None else {name}
