"""The roles of variables in a training graph: slots of optimizers, moving averages, statistics."""

from __future__ import annotations

from itertools import islice
from typing import (
    Dict,
    FrozenSet,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import numpy as np

from graphslim.checkpoint.formulas import (
    UPDATE_OPS,
    Update,
    applied_variables,
    behind,
    calculate,
    operands,
    shape_of,
    sources,
    updates,
    variable_at,
)
from graphslim.ir import CONTROL, Graph, Node, Port
from graphslim.ir.families import BATCH_NORMS, MERGES, NORM_INPUTS, QUOTIENTS, RESHAPES, SUMS

_ARITHMETIC = SUMS | QUOTIENTS | {"Sub", "Mul", "Neg", "Sqrt", "Square", "Maximum", "Minimum"}
_ARITHMETIC |= {"Cast", "DivNoNan", "SquaredDifference"}
_SUMMED = _ARITHMETIC | RESHAPES | {"Merge", "Sum"}
"""Ops by which statistics are computed from sums over a batch."""
_ELEMENTWISE = _ARITHMETIC | {"Rsqrt", "Sign", "Abs", "Pow", "AddN", "ClipByValue"}
"""Ops by which updates are computed element by element."""
_DEEPEST = 200
"""How many tensors are searched before a tensor counts as no statistic."""


class Average(NamedTuple):
    """A variable that an assignment moves a little towards a tensor.

    Attributes:
        variable: its node.
        source: the tensor that it averages, behind identities.
        update: the node that assigns.
        of: the variable whose value `source` is; None where `source` is data.
        biased: a second variable that averages the same tensor without the correction for
            beginning at zero, from which this variable is computed; None if there is none.
    """

    variable: str
    source: Port
    update: str
    of: Optional[str]
    biased: Optional[str] = None


def moving_averages(graph: Graph) -> List[Average]:
    """Every moving average of a graph, in the order of its nodes.

    These are updates such as `V -= (V - X) * d`, `V += (X - V) * d`, `V = V * m + X * (1 - m)`, and
    averages that are corrected for beginning at zero (Kingma and Ba 2015, arXiv 1412.6980).
    """
    return graph.memo("moving averages", _moving_averages)


def companions(whole: Graph) -> Dict[str, Tuple[str, ...]]:
    """By variable, the variables that hold a value for each of its elements.

    They are the slots of optimizers (momentum, mean squares), moving averages, the slots and
    averages of these, and the uncorrected twins of averages that are corrected.

    Args:
        whole: the training graph, as its MetaGraph has it.

    Returns:
        for each variable that has companions, their names, sorted; all have its shape, which is
        not that of a scalar.
    """
    applied = applied_variables(whole)
    trained = {names[0] for names in applied}
    direct = _slots_by_formula(whole)
    for variable, *operand_variables in applied:
        # The gradient may be the value of another variable, which is then trained itself.
        slots = {name for name in operand_variables if name is not None and name not in trained}
        if variable is not None:
            direct.setdefault(variable, set()).update(slots)
    for average in moving_averages(whole):
        if average.of is not None:
            direct.setdefault(average.of, set()).add(average.variable)
        if average.biased is not None:
            direct.setdefault(average.variable, set()).add(average.biased)
    closed = {variable: _reached(whole, variable, direct) for variable in sorted(direct)}
    return {name: tuple(sorted(names)) for name, names in closed.items() if names}


def _reached(whole: Graph, variable: str, direct: Mapping[str, Set[str]]) -> Set[str]:
    """Companions of a variable, and those of companions, as far as they have its shape."""
    shape = shape_of(whole, variable)
    reached: Set[str] = set()
    waiting = [variable] if shape else []
    while waiting:
        for name in direct.get(waiting.pop(), ()):
            if name not in reached and name != variable and shape_of(whole, name) == shape:
                reached.add(name)
                waiting.append(name)
    return reached


def companion_keys(
    keys: Mapping[str, str],
    shapes: Mapping[str, Sequence[int]],
    by_variable: Mapping[str, Sequence[str]],
) -> Dict[str, Tuple[str, ...]]:
    """The companions of a checkpoint's keys.

    A key that no variable of the graph has is a companion of the variable whose key, and a slash,
    it begins with, if both have one shape: `w/Momentum` belongs to `w`, `w2` does not.

    Args:
        keys: the key of each variable node of the graph.
        shapes: of each key of the checkpoint.
        by_variable: the companions of variable nodes, from `companions`.

    Returns:
        for each key that has any, the keys of its companions that the checkpoint has, sorted.
    """
    by_key: Dict[str, Set[str]] = {}
    for variable, names in by_variable.items():
        owner = keys.get(variable, variable)
        slots = {keys.get(name, name) for name in names} - {owner}
        by_key.setdefault(owner, set()).update(key for key in slots if key in shapes)
    known = {
        *keys.values(),
        *by_variable,
        *[name for many in by_variable.values() for name in many],
    }
    for key in shapes:
        owner = "" if key in known else _owner(key, known)
        if owner in shapes and tuple(shapes[owner]) == tuple(shapes[key]) and shapes[key]:
            for above in [owner, *[name for name, many in by_key.items() if owner in many]]:
                by_key.setdefault(above, set()).add(key)
    return {key: tuple(sorted(many)) for key, many in sorted(by_key.items()) if many}


def _owner(key: str, known: Set[str]) -> str:
    """The longest known key that, with a slash, a key begins with; empty if there is none."""
    while key:
        key = key.rpartition("/")[0]
        if key in known:
            return key
    return ""


def statistics(whole: Graph) -> FrozenSet[str]:
    """The variables that hold moving means and variances of batch norm.

    In a training graph they are moving averages of a batch's mean and variance; in others
    they are recognised as inputs of a fused batch norm, or by the square root of an unfused one.
    """
    moved: Set[Optional[str]] = set()
    for average in moving_averages(whole):
        if average.of is None and is_statistic(whole, average.source):
            moved |= {average.variable, average.biased}
    return frozenset([name for name in moved if name is not None]) | _statistics_by_use(whole)


def is_statistic(graph: Graph, port: Port) -> bool:
    """Whether a tensor is a statistic of a batch, as a mean or variance is, and no gradient."""
    return any(
        _sums_up(graph, source) for source in islice(sources(graph, port, _SUMMED), _DEEPEST)
    )


def _sums_up(graph: Graph, port: Port) -> bool:
    node = graph[port.node]
    if node.op in BATCH_NORMS:
        return port.port in (1, 2)
    if node.op in ("If", "StatelessIf"):  # a learning phase chooses between batch and moving ones
        if not any(variable_at(graph, source) for source in graph.data_inputs(node)):
            return False
    elif node.op not in ("Mean", "Min", "Max"):  # a Sum alone is also what gradients are made of
        return False
    return port.node not in after_gradients(graph)


def after_gradients(graph: Graph) -> FrozenSet[str]:
    """The nodes that depend on a gradient."""
    return graph.memo("nodes after gradients", _after_gradients)


def _after_gradients(graph: Graph) -> FrozenSet[str]:
    after: Set[str] = set()
    for node in graph.order():
        before = {port.node for port in graph.data_inputs(node)}
        if node.op == "ReadVariableOp":  # it may wait for an assignment to its variable
            before |= _assigned_before(graph, node)
        if _is_gradient_op(node) or before & after:
            after.add(node.name)
    return frozenset(after)


def _is_gradient_op(node: Node) -> bool:
    """Whether an op is one that nothing but a gradient needs."""
    return node.op.endswith(("Grad", "GradV2", "GradV3")) or (
        "Backprop" in node.op and node.op != "Conv2DBackpropInput"
    )


def _waits_for(graph: Graph, node: Node) -> List[str]:
    return [port.node for port in graph.inputs_of(node) if port.port == CONTROL]


def _assigned_before(graph: Graph, read: Node) -> Set[str]:
    """The assignments to a variable that an op which reads it waits for."""
    waits = _waits_for(graph, read)
    variable = variable_at(graph, Port(read.name)) if waits else None
    return {
        name
        for name in waits
        if graph[name].op in UPDATE_OPS
        and variable_at(graph, graph.data_inputs(name)[0]) == variable
    }


# ------------------------------------------------------------------ moving averages


def _moving_averages(graph: Graph) -> List[Average]:
    averages: List[Average] = []
    corrected: List[Tuple[Update, Port]] = []
    for update in updates(graph):
        source = _averaged(graph, update)
        if source is not None and _quotient(graph, source) is None:
            of = variable_at(graph, source)
            if of != update.variable:
                averages.append(Average(update.variable, source, update.node, of))
        else:
            value = _quotient(graph, source if source is not None else update.value)
            if value is not None and (source is not None or update.kind == "="):
                corrected.append((update, value))
    plain: Dict[Optional[str], Average] = {average.variable: average for average in averages}
    for update, value in corrected:
        biased = variable_at(graph, value)
        if biased in plain and biased != update.variable:
            twin = plain[biased]
            averages.append(
                twin._replace(variable=update.variable, update=update.node, biased=biased)
            )
    return averages


def _quotient(graph: Graph, port: Port) -> Optional[Port]:
    """The dividend of a quotient if it is a variable, read or just assigned; else None."""
    node = graph[port.node]
    if node.op not in QUOTIENTS:
        return None
    value = operands(graph, node)[0]
    return value if graph[value.node].op in {"ReadVariableOp", *UPDATE_OPS} else None


def _averaged(graph: Graph, update: Update) -> Optional[Port]:
    """The tensor that an update moves its variable towards; None if it does something else."""
    variable, node = update.variable, graph[update.value.node]
    if update.kind in "+-":
        return _difference(graph, update.value, variable, first=update.kind == "-")
    if node.op == "Sub":
        left, right = graph.data_inputs(node)
        is_own = variable_at(graph, left) == variable
        return _difference(graph, right, variable, first=True) if is_own else None
    if node.op not in SUMS:
        return None
    for first, second in _orders(graph, node):
        if variable_at(graph, first) == variable:
            return _difference(graph, second, variable, first=False)
        source = _weighted(graph, first, second, variable)
        if source is not None:
            return source
    return None


def _orders(graph: Graph, node: Node) -> Iterator[Tuple[Port, Port]]:
    """The two operands of a node in both orders, behind identities."""
    left, right = operands(graph, node)
    yield left, right
    yield right, left


def _difference(graph: Graph, port: Port, variable: str, first: bool) -> Optional[Port]:
    """X in `variable - X` (if `first`) or `X - variable`, times any factors; else None."""
    node = graph[behind(graph, port).node]
    if node.op == "Mul":
        for factor in operands(graph, node):
            source = _difference(graph, factor, variable, first)
            if source is not None:
                return source
    if node.op != "Sub":
        return None
    value, source = graph.data_inputs(node) if first else reversed(graph.data_inputs(node))
    return behind(graph, source) if variable_at(graph, value) == variable else None


def _weighted(graph: Graph, first: Port, second: Port, variable: str) -> Optional[Port]:
    """X in `variable * m + X * (1 - m)`; None if the products are others."""
    if graph[first.node].op != "Mul" or graph[second.node].op != "Mul":
        return None
    for value, momentum in _orders(graph, graph[first.node]):
        if variable_at(graph, value) == variable:
            for source, weight in _orders(graph, graph[second.node]):
                if _sum_to_one(graph, momentum, weight):
                    return source
    return None


def _sum_to_one(graph: Graph, first: Port, second: Port) -> bool:
    """Whether two weights are m and 1 - m, tried with two values of m."""
    leaves: Dict[str, np.ndarray] = {}

    def leaf(node: Node) -> np.ndarray:
        if node.op == "ReadVariableOp":
            return leaf(graph[variable_at(graph, Port(node.name)) or ""])
        return leaves.setdefault(node.name, np.array([0.37, 0.81]) / (1 + len(leaves)))

    weights = [calculate(graph, port, leaf) for port in (first, second)]
    if weights[0] is None or weights[1] is None:
        return False
    return bool(np.allclose(weights[0] + weights[1], 1, rtol=0, atol=1e-6))


# ------------------------------------------------------------------ what only formulas tell


def _slots_by_formula(graph: Graph) -> Dict[str, Set[str]]:
    """The slots of optimizers that are spelled out in ops: `s = f(s, gradient)`, `w -= g(s)`.

    A variable is a slot of another variable of its shape where its new value enters the update of
    that variable, element by element, and both change by a gradient. Two variables that would each
    be a slot of the other are not slots.
    """
    shadows = {average.update for average in moving_averages(graph) if average.of is not None}
    changes = {
        update.node: update
        for update in updates(graph)
        if update.node not in shadows and update.value.node in after_gradients(graph)
    }
    by_value: Dict[Port, Set[str]] = {}
    for update in changes.values():
        if update.kind == "=":
            by_value.setdefault(update.value, set()).add(update.variable)
    slots: Dict[str, Set[str]] = {}
    for update in changes.values():
        for port in sources(graph, update.value, _ELEMENTWISE):
            node = graph[port.node]
            # The port may be an assignment, or a read that waits for assignments.
            assigned = [
                node.name,
                *(_waits_for(graph, node) if node.op == "ReadVariableOp" else []),
            ]
            names = {changes[name].variable for name in assigned if name in changes}
            for name in (names | by_value.get(port, set())) - {update.variable}:
                if shape_of(graph, name) == shape_of(graph, update.variable):
                    slots.setdefault(update.variable, set()).add(name)
    return {
        variable: {name for name in names if variable not in slots.get(name, ())}
        for variable, names in slots.items()
    }


def _statistics_by_use(graph: Graph) -> FrozenSet[str]:
    """The variables that a batch norm reads as mean or variance, without those that are trained."""
    entering: Set[Optional[str]] = set()
    for node in graph:
        inputs = graph.data_inputs(node)
        if node.op in NORM_INPUTS and len(inputs) > max(NORM_INPUTS[node.op]):
            entering |= {_vector(graph, inputs[at]) for at in NORM_INPUTS[node.op].statistics}
        elif node.op in ("Rsqrt", "Sqrt"):
            entering |= _unfused(graph, node.name)
    late = after_gradients(graph)
    entering -= {update.variable for update in updates(graph) if update.value.node in late}
    entering -= {names[0] for names in applied_variables(graph)}
    return frozenset([name for name in entering if name is not None])


def _vector(graph: Graph, port: Port) -> Optional[str]:
    """The variable whose value a tensor is, reshaped or chosen by a branch or not; else None."""
    for source in sources(graph, port, RESHAPES | MERGES | {"Cast"}):
        name = variable_at(graph, source)
        if name is not None:
            return name
    return None


def _unfused(graph: Graph, root: str) -> Set[str]:
    """Mean and variance of an unfused batch norm, from its square root of variance + epsilon."""
    total = graph[operands(graph, graph[root])[0].node]
    if total.op not in SUMS:
        return set()
    variances = {_vector(graph, port) for port in graph.data_inputs(total)} - {None}
    if len(variances) != 1:
        return set()
    variance = variances.pop() or ""
    candidates: Set[Optional[str]] = set()
    waiting: List[Tuple[str, Optional[str]]] = [(root, None)]
    while waiting:
        name, factor = waiting.pop()
        for use in graph.uses_of(Port(name)):
            reader = graph[use.node]
            operand_ports = [
                port for at, port in enumerate(graph.data_inputs(reader)) if at != use.index
            ]
            if reader.op == "Sub" and use.index == 1:
                candidates.add(factor)  # offset - mean * scale
            elif reader.op in QUOTIENTS | {"Mul"} and operand_ports:
                scale = _vector(graph, operand_ports[0])
                candidates.add(_subtracted(graph, operand_ports[0]))
                if scale is not None:
                    waiting.append((reader.name, scale))
            elif reader.op in RESHAPES | {"Cast", "Merge"}:
                waiting.append((reader.name, factor))
    shape = shape_of(graph, variance)
    means = {name for name in candidates if name is not None and shape_of(graph, name) == shape}
    return {*means, variance} if means else set()


def _subtracted(graph: Graph, port: Port) -> Optional[str]:
    """The variable that is subtracted here, (x - mean), if there is one."""
    node = graph[behind(graph, port).node]
    return _vector(graph, graph.data_inputs(node)[1]) if node.op == "Sub" else None
