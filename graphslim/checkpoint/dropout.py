"""Dropout, found by what it computes: x times a random mask times what makes up for it."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Set, Tuple

import numpy as np

from graphslim.checkpoint.averages import QUOTIENTS
from graphslim.checkpoint.edits import become_identity
from graphslim.checkpoint.numbers import calculate
from graphslim.checkpoint.variables import behind, shape_of, variable_at
from graphslim.ir import Graph, Node, Port, Shape
from graphslim.ir.families import VARIABLES

_UNIFORM = frozenset(("RandomUniform", "StatelessRandomUniform", "StatelessRandomUniformV2"))
_SELECTS = frozenset(("Select", "SelectV2"))
_PLACEHOLDERS = frozenset(("Placeholder", "PlaceholderV2", "PlaceholderWithDefault"))
_DRAWS = 4000
"""How finely the random numbers between 0 and 1 are laid out, in place of drawing them."""
_SHARES = np.array([[0.35], [0.85]])
"""Two values that a rate is tried with where it is known only when the graph runs."""


class _Scaled(NamedTuple):
    """A tensor and what it is multiplied by: of shape [], or [2, 1] for each of `_SHARES`."""

    factor: np.ndarray
    rest: Port


def remove_dropout(graph: Graph) -> List[str]:
    """Lets every reader of a dropout read its input, in place; gives the nodes passed over.

    Dropout is x times 0 or a factor, by random numbers, constants and scalars alone, so that x
    remains on average (Srivastava et al. 2014). All spellings of TensorFlow, with a rate that is
    constant or fed, and noise of any shape, are such. Other random numbers stay.
    """
    removed = []
    fed = set(graph.inputs)
    for name in _behind_random(graph):
        masked = _masked(graph, graph[name], fed)
        if masked is None:
            continue
        found = _undropped(graph, name, masked, fed)
        if found is not None:
            top, rest = found
            graph.replace_uses(Port(top), rest)
            if any(port.node == top for port in graph.outputs):
                become_identity(graph, top, rest)
            removed.append(top)
    return removed


def _behind_random(graph: Graph) -> List[str]:
    """Products and choices that depend on random numbers, in order."""
    reached: Set[str] = set()
    found = []
    for node in graph.order():
        if node.op in _UNIFORM or any(p.node in reached for p in graph.data_inputs(node)):
            reached.add(node.name)
            if node.op == "Mul" or node.op in _SELECTS or node.op in QUOTIENTS:
                found.append(node.name)
    return found


def _masked(graph: Graph, node: Node, fed: Set[str]) -> Optional[_Scaled]:
    """What a node lays a mask on, and the mask's mean; None if it does not."""
    inputs = graph.data_inputs(node)
    pairs: List[Tuple[Port, Port]] = []
    if node.op == "Mul":
        pairs = [(inputs[0], inputs[1]), (inputs[1], inputs[0])]
    elif node.op in _SELECTS:
        zeros = [_scalar(graph, port, fed) for port in inputs[1:]]
        pairs = [
            (inputs[0], inputs[2 - at])
            for at, value in enumerate(zeros)
            if value is not None and not value.any()
        ]
    for mask, rest in pairs:
        mean = _mean(graph, mask, fed)
        if mean is not None and _mean(graph, rest, fed) is None:
            if node.op in _SELECTS and rest == inputs[2]:
                mean = 1 - mean
            if _scalar(graph, rest, fed) is None:
                return _Scaled(mean, rest)
    return None


def _undropped(
    graph: Graph, name: str, masked: _Scaled, fed: Set[str]
) -> Optional[Tuple[str, Port]]:
    """The last node of a dropout and what it is the dropout of, None if nothing makes up for it."""
    mean, rest = masked
    before = _Scaled(np.ones(()), rest)
    while True:
        if _makes_up(mean, before.factor):
            return name, before.rest
        step = _scaled(graph, graph[behind(graph, before.rest).node], fed)
        if step is None:
            break
        before = _Scaled(before.factor * step.factor, step.rest)
    factor = np.ones(())
    while not _makes_up(mean, factor):
        uses = graph.uses_of(name)
        after = _scaled(graph, graph[uses[0].node], fed) if len(uses) == 1 else None
        if after is None or after.rest.node != name:
            return None
        factor, name = factor * after.factor, uses[0].node
    return name, rest


def _makes_up(mean: np.ndarray, factor: np.ndarray) -> bool:
    """Whether a factor makes up for what a mask drops on average."""
    return bool(np.all(np.abs(mean * factor - 1) <= 2 * np.abs(factor) / _DRAWS))


def _scaled(graph: Graph, node: Node, fed: Set[str]) -> Optional[_Scaled]:
    """What a node multiplies by a scalar, or divides by one."""
    inputs = graph.data_inputs(node)
    if node.op == "Mul":
        for factor, rest in (inputs, inputs[::-1]):
            value = _scalar(graph, factor, fed)
            if value is not None:
                return _Scaled(value, rest)
    if node.op in QUOTIENTS:
        value = _scalar(graph, inputs[1], fed)
        if value is not None and value.all():
            return _Scaled(1 / value, inputs[0])
    return None


def _mean(graph: Graph, port: Port, fed: Set[str]) -> Optional[np.ndarray]:
    """The mean of a mask, None for what is none: random, and 0 or one other number."""
    drawn: Set[str] = set()

    def leaf(node: Node) -> Optional[np.ndarray]:
        if node.op in _UNIFORM:
            drawn.add(node.name)
            return (np.arange(_DRAWS)[None, :] + 0.5) / _DRAWS
        return _rate(graph, node, fed)

    values = calculate(graph, port, leaf)
    if values is None or len(drawn) != 1:
        return None
    values = np.atleast_2d(values)
    most = values.max(axis=1, keepdims=True)
    if not (np.isclose(values, 0) | np.isclose(values, most)).all() or not most.all():
        return None
    return np.asarray(values.mean(axis=1, keepdims=True))


def _scalar(graph: Graph, port: Port, fed: Set[str]) -> Optional[np.ndarray]:
    """The value of a scalar that is computed from constants and rates."""
    return calculate(graph, port, lambda node: _rate(graph, node, fed))


def _rate(graph: Graph, node: Node, fed: Set[str]) -> Optional[np.ndarray]:
    """What a scalar that is fed or stored is tried with."""
    stated = node.attrs.get("shape")
    if node.op in _PLACEHOLDERS and node.name not in fed and isinstance(stated, Shape):
        return None if stated.dims else _SHARES
    if node.op in VARIABLES or node.op == "ReadVariableOp":
        variable = variable_at(graph, Port(node.name))
        if variable is not None and shape_of(graph, variable) == ():
            return _SHARES
    return None
