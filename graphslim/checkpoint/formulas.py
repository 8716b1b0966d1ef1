"""The small formulas of a training graph: which variable a tensor is, and what scalars come to."""

from __future__ import annotations

import re
from typing import AbstractSet, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from graphslim.channels.facts import axes_of
from graphslim.channels.rules import ValueVisit
from graphslim.ir import Graph, Node, Port, Shape, query
from graphslim.ir.families import BROADCASTING, CARRIERS, IDENTITIES, SELECTS, UNARY, VARIABLES
from graphslim.ops import VALUE_RULES

UPDATE_OPS: Dict[str, str] = {
    f"Assign{change}{flavour}": sign
    for change, sign in (("", "="), ("Add", "+"), ("Sub", "-"))
    for flavour in ("", "VariableOp")
}
"""Ops that change a whole variable: whether they set it, add to it or subtract from it."""
APPLY = re.compile(r"(Resource)?(Sparse)?Apply[A-Z]")
"""Ops of optimizers that are one op: the first input is the variable, others may be its slots."""
_CALCULATED = (UNARY | BROADCASTING | SELECTS) & set(VALUE_RULES)
_PASSED_ON = {**dict.fromkeys(IDENTITIES, 0), "Cast": 0, "Reshape": 0, "Fill": 1}
"""Ops that give the numbers of one input, and that input."""
_LONGEST = 200
"""Formulas of more ops are given up."""

Leaf = Callable[[Node], Optional[np.ndarray]]
"""Gives the value of a node that no formula here gives, or None if it has none."""


class Update(NamedTuple):
    """A change of a variable.

    Attributes:
        node: the op that makes it.
        variable: the node of the variable.
        kind: `=`, `+` or `-`: the value is assigned, added or subtracted.
        value: the value, behind identities.
    """

    node: str
    variable: str
    kind: str
    value: Port


def behind(graph: Graph, port: Port) -> Port:
    """The tensor that a port carries unchanged, behind identities and ways into branches."""
    return query.behind(graph, port, CARRIERS)


def operands(graph: Graph, node: Node) -> List[Port]:
    """The tensors that a node reads, behind identities and ways into branches."""
    return [behind(graph, port) for port in graph.data_inputs(node)]


def variable_at(graph: Graph, port: Port) -> Optional[str]:
    """The variable whose handle, reference or value a port carries, None if it carries none."""
    name = query.behind(graph, port, CARRIERS | {"ReadVariableOp", *UPDATE_OPS}).node
    return name if graph[name].op in VARIABLES else None


def sources(graph: Graph, start: Port, through: AbstractSet[str]) -> Iterator[Port]:
    """The tensors that a tensor is computed from through some ops, itself first, the nearest next.

    Each is given as the tensor behind identities and ways into branches.
    """
    waiting = [behind(graph, start)]
    visited = set(waiting)
    for port in waiting:
        yield port
        if graph[port.node].op in through:
            for operand in operands(graph, graph[port.node]):
                if operand not in visited:
                    visited.add(operand)
                    waiting.append(operand)


def shape_of(graph: Graph, variable: str) -> Optional[Tuple[int, ...]]:
    """The shape that a variable states, if it is fully known."""
    stated = graph[variable].attrs.get("shape")
    if not isinstance(stated, Shape) or stated.dims is None or None in stated.dims:
        return None
    return tuple([size for size in stated.dims if size is not None])


def applied_variables(graph: Graph) -> List[List[Optional[str]]]:
    """For each op of an optimizer the variables that it reads, None for other tensors."""
    return [
        [variable_at(graph, port) for port in graph.data_inputs(node)]
        for node in graph
        if APPLY.match(node.op)
    ]


def updates(graph: Graph) -> List[Update]:
    """All changes of whole variables by assignment, initialisers and restoring among them."""
    return graph.memo("updates of variables", _updates)


def _updates(graph: Graph) -> List[Update]:
    changes = []
    for node in graph:
        if node.op in UPDATE_OPS:
            target, value = graph.data_inputs(node)[:2]
            variable = variable_at(graph, target)
            if variable is not None:
                kind = UPDATE_OPS[node.op]
                changes.append(Update(node.name, variable, kind, behind(graph, value)))
    return changes


def calculate(graph: Graph, port: Port, leaf: Leaf) -> Optional[np.ndarray]:
    """The value of a port that is a formula of scalar constants and leaves, None if it is not.

    Args:
        graph: the graph.
        port: the tensor to calculate.
        leaf: gives the values of nodes that are neither constants nor formulas, as float64.

    Returns:
        float64 of any shape that the leaves broadcast to; truth values are 0 and 1.
    """
    known: Dict[str, Optional[np.ndarray]] = {}

    def value_at(port: Port) -> Optional[np.ndarray]:
        if port.node not in known:
            # None stands for the node while its inputs are calculated (a loop ends there), and
            # for every further node of a formula that is too long.
            known[port.node] = None
            if len(known) <= _LONGEST:
                known[port.node] = result_of(graph[port.node])
        return known[port.node]

    def result_of(node: Node) -> Optional[np.ndarray]:
        if node.op == "Const":
            tensor = node.attrs["value"]
            if tensor.size != 1 or tensor.dtype.storage.kind not in "biuf":
                return None
            return np.asarray(tensor.numbers().astype(np.float64).ravel()[0])
        inputs = graph.data_inputs(node)
        if node.op in _PASSED_ON:
            return value_at(inputs[_PASSED_ON[node.op]])
        if node.op == "ZerosLike":
            return np.zeros(())
        if node.op not in _CALCULATED:
            return leaf(node)
        arrays = [value_at(operand) for operand in inputs]
        facts = [axes_of(0)._replace(value=array) for array in arrays]
        out = axes_of(max([array.ndim for array in arrays if array is not None], default=0))
        if any(array is None for array in arrays):
            return None
        with np.errstate(all="ignore"):
            result = VALUE_RULES[node.op](ValueVisit(node, arrays, facts, [out], 0.0))
        return None if result is None else np.asarray(result, np.float64)

    return value_at(port)
