"""Moving averages: which variable averages which tensor, and whether that is another variable."""

from __future__ import annotations

from typing import Dict, FrozenSet, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from graphslim.checkpoint.numbers import calculate
from graphslim.checkpoint.variables import KINDS, Update, behind, updates, variable_at
from graphslim.ir import CONTROL, Graph, Node, Port

SUMS = ("Add", "AddV2")
QUOTIENTS = ("RealDiv", "Div")
NORMS = frozenset(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"))
_REDUCTIONS = frozenset(("Mean", "Min", "Max"))
"""What sums up a batch; a Sum alone is also what gradients are made of."""
_THROUGH = frozenset(
    (*SUMS, *QUOTIENTS, "Sub", "Mul", "Square", "Sqrt", "Maximum", "Minimum", "Merge", "Cast")
    + ("Squeeze", "Reshape", "SquaredDifference", "Sum", "Neg", "ExpandDims", "DivNoNan")
)
"""What statistics are computed from sums by."""
_CHOICES = frozenset(("If", "StatelessIf"))
_DEEPEST = 200


class Average(NamedTuple):
    """A variable that an assignment moves a little towards a tensor.

    Attributes:
        variable: its node.
        source: the tensor that it averages, behind identities.
        update: the node that assigns.
        of: the variable that `source` is the value of, None where it is data.
        biased: a second variable that averages the same, from which this one is computed.
    """

    variable: str
    source: Port
    update: str
    of: Optional[str]
    biased: Optional[str] = None


def averages(graph: Graph) -> List[Average]:
    """Every moving average of a graph, in the order of its nodes.

    Found are `V -= (V - X) * d`, `V += (X - V) * d`, `V = V * m + X * (1 - m)` and the like, and
    averages that are corrected for beginning at zero (Kingma and Ba 2015, arXiv 1412.6980).
    """
    return graph.memo("moving averages", _averages)


def is_statistic(graph: Graph, port: Port) -> bool:
    """Whether a tensor sums up a batch, as a mean or variance does, and is no gradient."""
    found = False
    waiting, seen = [port], set()  # type: List[Port], Set[Port]
    while waiting and len(seen) < _DEEPEST:
        one = behind(graph, waiting.pop())
        if one in seen:
            continue
        seen.add(one)
        node = graph[one.node]
        if node.op in NORMS:
            found = found or one.port in (1, 2)
        elif node.op in _REDUCTIONS:
            found = found or one.node not in after_gradients(graph)
        elif node.op in _CHOICES:  # of the batch's and the moving one, by a learning phase
            found = found or (
                one.node not in after_gradients(graph)
                and any(variable_at(graph, port) for port in graph.data_inputs(node))
            )
        elif node.op in _THROUGH:
            waiting.extend(graph.data_inputs(node))
    return found


def is_gradient_op(node: Node) -> bool:
    """Whether an op is one that nothing but a gradient needs."""
    return node.op.endswith(("Grad", "GradV2", "GradV3")) or (
        "Backprop" in node.op and node.op != "Conv2DBackpropInput"
    )


def after_gradients(graph: Graph) -> FrozenSet[str]:
    """The nodes that depend on a gradient."""
    return graph.memo("nodes after gradients", _after_gradients)


def _after_gradients(graph: Graph) -> FrozenSet[str]:
    found: Set[str] = set()
    for node in graph.order():
        before = {port.node for port in graph.data_inputs(node)}
        if node.op == "ReadVariableOp":  # a variable that has to have been assigned before
            before |= _assigned_before(graph, node)
        if is_gradient_op(node) or before & found:
            found.add(node.name)
    return frozenset(found)


def _assigned_before(graph: Graph, read: Node) -> Set[str]:
    """The assignments to a variable that its reading waits for."""
    waits = [port.node for port in graph.inputs_of(read) if port.port == CONTROL]
    own = variable_at(graph, Port(read.name)) if waits else None
    return {
        name
        for name in waits
        if graph[name].op in KINDS and variable_at(graph, graph.data_inputs(name)[0]) == own
    }


def _averages(graph: Graph) -> List[Average]:
    found: List[Average] = []
    corrected: List[Tuple[Update, Port]] = []
    for update in updates(graph):
        source = _averaged(graph, update)
        if source is not None and _quotient(graph, source) is None:
            of = variable_at(graph, source)
            if of != update.variable:
                found.append(Average(update.variable, source, update.node, of))
        else:
            value = _quotient(graph, source if source is not None else update.value)
            if value is not None and (source is not None or update.kind == "="):
                corrected.append((update, value))
    plain: Dict[str, Average] = {one.variable: one for one in found}
    for update, value in corrected:
        biased = variable_at(graph, value)
        if biased in plain and biased != update.variable:
            twin = plain[biased]
            found.append(twin._replace(variable=update.variable, update=update.node, biased=biased))
    return found


def _quotient(graph: Graph, port: Port) -> Optional[Port]:
    """What is divided here, where that is a variable just assigned, or read again."""
    node = graph[port.node]
    if node.op not in QUOTIENTS:
        return None
    value = behind(graph, graph.data_inputs(node)[0])
    source = graph[value.node]
    return value if source.op in KINDS or source.op == "ReadVariableOp" else None


def _averaged(graph: Graph, update: Update) -> Optional[Port]:
    """What an update moves its variable towards, None if it does something else."""
    value, node = update.value, graph[update.value.node]
    if update.kind == "-":
        return _difference(graph, value, update.variable, first=True)
    if update.kind == "+":
        return _difference(graph, value, update.variable, first=False)
    if node.op == "Sub":
        left, right = graph.data_inputs(node)
        is_own = variable_at(graph, left) == update.variable
        return _difference(graph, right, update.variable, first=True) if is_own else None
    if node.op not in SUMS:
        return None
    for one, other in _orders(graph, node):
        if variable_at(graph, one) == update.variable:
            return _difference(graph, other, update.variable, first=False)
        found = _weighted(graph, one, other, update.variable)
        if found is not None:
            return found
    return None


def _orders(graph: Graph, node: Node) -> List[Tuple[Port, Port]]:
    """The operands of a node of two, in both orders, behind identities."""
    left, right = [behind(graph, port) for port in graph.data_inputs(node)]
    return [(left, right), (right, left)]


def _difference(graph: Graph, port: Port, variable: str, first: bool) -> Optional[Port]:
    """X in `variable - X` (where that comes first) or `X - variable`, times anything."""
    node = graph[behind(graph, port).node]
    if node.op == "Mul":
        for one, _ in _orders(graph, node):
            found = _difference(graph, one, variable, first)
            if found is not None:
                return found
    if node.op != "Sub":
        return None
    own, other = graph.data_inputs(node) if first else reversed(graph.data_inputs(node))
    return behind(graph, other) if variable_at(graph, own) == variable else None


def _weighted(graph: Graph, one: Port, other: Port, variable: str) -> Optional[Port]:
    """X in `variable * m + X * (1 - m)`."""
    if graph[one.node].op != "Mul" or graph[other.node].op != "Mul":
        return None
    for own, weight in _orders(graph, graph[one.node]):
        if variable_at(graph, own) == variable:
            for source, rest in _orders(graph, graph[other.node]):
                if _sum_to_one(graph, weight, rest):
                    return source
    return None


def _sum_to_one(graph: Graph, one: Port, other: Port) -> bool:
    """Whether two weights are m and 1 - m, whatever the values of what they are computed from."""
    leaves: Dict[str, np.ndarray] = {}

    def leaf(node: Node) -> np.ndarray:
        if node.op == "ReadVariableOp":
            return leaf(graph[variable_at(graph, Port(node.name)) or ""])
        return leaves.setdefault(node.name, np.array([0.37, 0.81]) / (1 + len(leaves)))

    weights = [calculate(graph, port, leaf) for port in (one, other)]
    if weights[0] is None or weights[1] is None:
        return False
    return bool(np.allclose(weights[0] + weights[1], 1, rtol=0, atol=1e-6))
