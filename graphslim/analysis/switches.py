"""Inputs that switch between training and inference, and what they are fed for inference."""

from __future__ import annotations

from typing import Dict, List, Optional, Set, Union

import numpy as np

from graphslim.analysis.probe import Probe
from graphslim.ir import DType, Graph, Node, Shape

_UNIFORM = frozenset(("RandomUniform", "StatelessRandomUniform", "StatelessRandomUniformV2"))
_MASKS = frozenset(("Add", "AddV2", "Less", "LessEqual", "Greater", "GreaterEqual"))


def switches(graph: Graph) -> Dict[str, Union[bool, float]]:
    """What inputs are fed that tell inference from training, by name.

    Inputs of booleans, such as `is_training` or a learning phase, are fed with False. A scalar that
    only dropout reads is fed with what lets everything through: 1 where it is the probability of
    keeping a number, 0 where it is the rate of dropping one.
    """
    return dict(graph.memo(f"switches among {graph.inputs}", _switches))


def _switches(graph: Graph) -> Dict[str, Union[bool, float]]:
    found: Dict[str, Union[bool, float]] = {}
    for name in graph.inputs:
        node = graph[name]
        dtype = node.attrs.get("dtype")
        if dtype is DType.bool:
            found[name] = False
        elif isinstance(dtype, DType) and dtype.is_floating and _may_be_scalar(node):
            value = _keeps_all(graph, name)
            if value is not None:
                found[name] = value
    return found


def silent_noise(graph: Graph) -> Set[str]:
    """Ops that draw the random numbers of dropout which the inputs above switch off."""
    return set(graph.memo(f"silent noise with {graph.inputs}", _silent_noise))


def _silent_noise(graph: Graph) -> Set[str]:
    given = {name: np.array(value) for name, value in switches(graph).items() if value is not False}
    if not given:
        return set()
    probe, found = Probe(graph, given), set()
    for node in graph:
        if node.op in _UNIFORM:
            drawn = _behind(graph, [node.name])
            exits = {use.node for name in drawn for use in graph.uses_of(name)} - drawn
            if all(_is_open(graph, probe, graph[name], drawn) for name in exits):
                found.add(node.name)
    return found


def _may_be_scalar(node: Node) -> bool:
    shape = node.attrs.get("shape")
    return not isinstance(shape, Shape) or not shape.dims


def _keeps_all(graph: Graph, name: str) -> Optional[float]:
    """The number for which each mask of dropout that an input decides about is all ones."""
    if not any(node.op in _UNIFORM for node in graph):
        return None
    drawn = _behind(graph, [node.name for node in graph if node.op in _UNIFORM])
    for value in (1.0, 0.0):
        probe = Probe(graph, {name: np.array(value)})
        masks = [
            _is_open(graph, probe, graph[node], drawn)
            for node in probe.readers
            if any(port.node in drawn for port in graph.data_inputs(node))
        ]
        if masks and all(masks):
            return value
    return None


def _behind(graph: Graph, names: List[str]) -> Set[str]:
    """Random numbers between 0 and 1: what draws them, and spells them out with 0 and 1."""
    reached = set(names)
    for node in graph.order():
        if node.op in ("Mul", "Add", "AddV2", "Sub", "Identity", "Cast"):
            ports = graph.data_inputs(node)
            others = [port for port in ports if port.node not in reached]
            if len(others) < len(ports) and all(
                graph[port.node].op in ("Const", "Sub") for port in others
            ):
                reached.add(node.name)
    return reached


def _is_open(graph: Graph, probe: Probe, node: Node, drawn: Set[str]) -> bool:
    """Whether a mask made of numbers drawn from [0, 1) lets everything through."""
    ports = graph.data_inputs(node)
    if node.op not in _MASKS or len(ports) != 2:
        return False
    first = ports[0].node in drawn
    value = probe.at(ports[1] if first else ports[0])
    if value is None:
        return False
    number = float(np.asarray(value).ravel()[0])
    if node.op in ("Add", "AddV2"):
        uses = graph.uses_of(node)
        return number == 1.0 and all(graph[use.node].op == "Floor" for use in uses)
    if node.op in ("Less", "LessEqual"):
        return number >= 1.0 if first else number <= 0.0
    return number <= 0.0 if first else number >= 1.0
