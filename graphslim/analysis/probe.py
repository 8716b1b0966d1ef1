"""What a graph makes of given numbers, and so what switches that tell training from inference do.

Numbers are followed as far as the graph only scales, shifts and moves them about.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, Optional, Sequence, Set, Union

import numpy as np

from graphslim.analysis.values import Values
from graphslim.channels.facts import fit_together
from graphslim.channels.groups import analyse
from graphslim.channels.rules import ValueVisit, value_outputs
from graphslim.errors import AnalysisError
from graphslim.ir import DType, Graph, Node, Port, Shape
from graphslim.ir.families import (
    INEQUALITIES,
    MEASURES,
    PADS,
    QUOTIENTS,
    RESIZES,
    SUMS,
    UNIFORM_DRAWS,
)
from graphslim.ir.query import constant_nodes
from graphslim.ops import STRUCTURAL

_ARITHMETIC: Dict[str, Callable[..., np.ndarray]] = {
    **dict.fromkeys(SUMS | {"BiasAdd"}, np.add),
    **dict.fromkeys(QUOTIENTS, np.divide),
    "Sub": np.subtract,
    "Neg": np.negative,
    "Mul": np.multiply,
}


class Probe:
    """Numbers at an input, followed through ops that are linear in them.

    Args:
        graph: the graph.
        given: by input, an array that is broadcast to its shape; it has size 1 along axes over
            which it does not vary.

    Attributes:
        readers: names of the nodes that read such numbers and were not followed, in order; those
            that ask for a shape alone are left out.
    """

    def __init__(self, graph: Graph, given: Mapping[str, np.ndarray]) -> None:
        self._graph, self._channels = graph, analyse(graph)
        self._values: Dict[Port, np.ndarray] = {
            Port(name): np.asarray(value, np.float64) for name, value in given.items()
        }
        self._known = Values(graph, self._channels, at_once=False)
        self._constants = constant_nodes(graph)
        self.readers: List[str] = []
        for node in graph.order():
            ports = graph.data_inputs(node)
            if node.name in given or not any(port in self._values for port in ports):
                continue
            if not self._follow(node) and node.op not in MEASURES:
                self.readers.append(node.name)

    def at(self, port: Port) -> Optional[np.ndarray]:
        """The numbers at a port, float64 that broadcasts to its shape; None if not followed."""
        return self._values.get(port)

    def _follow(self, node: Node) -> bool:
        """Notes what an op makes of the numbers, if it is linear in them."""
        ports = self._graph.data_inputs(node)
        if node.op in PADS | RESIZES and ports[0] in self._values:
            # The numbers of the input, or numbers between them, but for a border.
            self._values[Port(node.name)] = self._values[ports[0]]
        elif node.op in _ARITHMETIC or node.op in STRUCTURAL:
            values = [
                self.at(port) if port in self._values else self._constant(port) for port in ports
            ]
            known = [value for value in values if value is not None]
            if len(known) == len(ports):
                self._note(node, known, [port in self._values for port in ports])
        return Port(node.name) in self._values

    def _note(self, node: Node, values: List[np.ndarray], led: List[bool]) -> None:
        outs: Sequence[Optional[np.ndarray]] = ()
        if node.op not in _ARITHMETIC:
            outs = self._moved(node, values)
        elif _is_linear(node, values, led):
            # Not by the value rules: these leave open what may be rounding, as 1 - 1 may.
            operands = _aligned(node, values)
            with np.errstate(all="ignore"):
                outs = [_ARITHMETIC[node.op](*operands)] if fit_together(*operands) else []
        for index, out in enumerate(outs):
            if out is not None and np.isfinite(out).all():
                self._values[Port(node.name, index)] = np.asarray(out, np.float64)

    def _moved(self, node: Node, values: List[np.ndarray]) -> Sequence[Optional[np.ndarray]]:
        """What the value rule of an op makes of its inputs."""
        facts = [self._channels.fact(port) for port in self._graph.data_inputs(node)]
        visit = ValueVisit(node, values, facts, self._channels.facts[node.name], 0.0)
        try:
            return value_outputs(self._graph, visit)
        except AnalysisError:
            return ()

    def _constant(self, port: Port) -> Optional[np.ndarray]:
        """The numbers at a port that depends on constants alone, else None."""
        try:
            return self._known.constant(port) if port.node in self._constants else None
        except AnalysisError:
            return None


def _is_linear(node: Node, values: Sequence[np.ndarray], led: Sequence[bool]) -> bool:
    """Whether arithmetic is linear in the numbers that are followed; of scalars any will do."""
    if node.op in QUOTIENTS | {"Mul"} and not all(value.ndim == 0 for value in values):
        return not all(led) and (node.op == "Mul" or led[0])
    return True


def _aligned(node: Node, values: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Operands as numpy broadcasts them: the bias of an NCHW tensor does not lie along the last."""
    if node.op == "BiasAdd" and node.text("data_format", "NHWC") == "NCHW":
        return values[0], values[1].reshape(-1, *[1] * (values[0].ndim - 2))
    return values


# --- Inputs that switch between training and inference, and what they are fed for inference.


def switches(graph: Graph) -> Dict[str, Union[bool, float]]:
    """What inputs are fed that tell inference from training, by name.

    Inputs of booleans, such as `is_training` or a learning phase, are fed with False. A scalar that
    only dropout reads is fed with what lets everything through: 1 where it is the probability of
    keeping a number, 0 where it is the rate of dropping one.
    """
    return dict(graph.memo("switches", _switches))


def _switches(graph: Graph) -> Dict[str, Union[bool, float]]:
    values: Dict[str, Union[bool, float]] = {}
    for name in graph.inputs:
        node = graph[name]
        dtype = node.attrs.get("dtype")
        if dtype is DType.bool:
            values[name] = False
        elif isinstance(dtype, DType) and dtype.is_floating and _may_be_scalar(node):
            value = _keeps_all(graph, name)
            if value is not None:
                values[name] = value
    return values


def silent_noise(graph: Graph) -> Set[str]:
    """Ops that draw the random numbers of dropout which the inputs above switch off."""
    return set(graph.memo("silent noise", _silent_noise))


def _silent_noise(graph: Graph) -> Set[str]:
    given = {name: np.array(value) for name, value in switches(graph).items() if value is not False}
    if not given:
        return set()
    probe, silent = Probe(graph, given), set()
    for node in graph:
        if node.op in UNIFORM_DRAWS:
            drawn = _drawn_from(graph, [node.name])
            exits = {use.node for name in drawn for use in graph.uses_of(name)} - drawn
            if all(_is_open(graph, probe, graph[name], drawn) for name in exits):
                silent.add(node.name)
    return silent


def _may_be_scalar(node: Node) -> bool:
    shape = node.attrs.get("shape")
    return not isinstance(shape, Shape) or not shape.dims


def _keeps_all(graph: Graph, name: str) -> Optional[float]:
    """The number for which each mask of dropout that an input decides about is all ones."""
    draws = [node.name for node in graph if node.op in UNIFORM_DRAWS]
    if not draws:
        return None
    drawn = _drawn_from(graph, draws)
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


def _drawn_from(graph: Graph, names: List[str]) -> Set[str]:
    """Random numbers between 0 and 1: what draws them, and spells them out with 0 and 1."""
    reached = set(names)
    for node in graph.order():
        if node.op in SUMS | {"Mul", "Sub", "Identity", "Cast"}:
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
    if node.op not in SUMS | INEQUALITIES or len(ports) != 2:
        return False
    first = ports[0].node in drawn
    value = probe.at(ports[1] if first else ports[0])
    if value is None:
        return False
    number = float(np.asarray(value).ravel()[0])
    if node.op in SUMS:
        uses = graph.uses_of(node)
        return number == 1.0 and all(graph[use.node].op == "Floor" for use in uses)
    if node.op in ("Less", "LessEqual"):
        return number >= 1.0 if first else number <= 0.0
    return number <= 0.0 if first else number >= 1.0
