"""What a graph makes of given numbers, as far as it only scales, shifts and moves them about."""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, Optional, Sequence

import numpy as np

from graphslim.analysis.channels import analyse
from graphslim.errors import AnalysisError
from graphslim.ir import IDENTITIES, Graph, Node, Port
from graphslim.ops.guard import guarded
from graphslim.ops.table import VALUE_RULES, ValueVisit

_MOVES = frozenset(
    ("Cast", "Concat", "ConcatV2", "ExpandDims", "Gather", "GatherV2", "Pack", "Reshape")
    + ("ReverseV2", "Slice", "Split", "SplitV", "Squeeze", "StridedSlice", "Transpose", "Unpack")
)
_ARITHMETIC: Dict[str, Callable[..., np.ndarray]] = {
    "Add": np.add,
    "AddV2": np.add,
    "BiasAdd": np.add,
    "Sub": np.subtract,
    "Neg": np.negative,
    "Mul": np.multiply,
    "Div": np.divide,
    "RealDiv": np.divide,
}
_KEEPS_RANGE = frozenset(
    ("MirrorPad", "Pad", "PadV2")
    + ("ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor")
)
"""Ops whose numbers are those of their input, or between them, but for a border."""
_DEEPEST = 50
"""So many ops on the way from constants to an operand are computed."""
_MEASURES = frozenset(("Shape", "ShapeN", "Size", "Rank"))


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
        self._constants: Dict[Port, Optional[np.ndarray]] = {}
        self.readers: List[str] = []
        for node in graph.order():
            ports = graph.data_inputs(node)
            if node.name in given or not any(port in self._values for port in ports):
                continue
            if not self._follow(node) and node.op not in _MEASURES:
                self.readers.append(node.name)

    def at(self, port: Port) -> Optional[np.ndarray]:
        """The numbers at a port, float64; None where they were not followed to it."""
        return self._values.get(port)

    def _follow(self, node: Node) -> bool:
        """Notes what an op makes of the numbers, if it is linear in them."""
        ports = self._graph.data_inputs(node)
        if node.op in _KEEPS_RANGE and ports[0] in self._values:
            self._values[Port(node.name)] = self._values[ports[0]]
        elif node.op in _ARITHMETIC or node.op in _MOVES or node.op in IDENTITIES:
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
            with np.errstate(all="ignore"):
                outs = [_ARITHMETIC[node.op](*_aligned(node, values))]
        for index, out in enumerate(outs):
            if out is not None and np.isfinite(out).all():
                self._values[Port(node.name, index)] = np.asarray(out, np.float64)

    def _moved(self, node: Node, values: List[np.ndarray]) -> Sequence[Optional[np.ndarray]]:
        """What the value rule of an op makes of its inputs."""
        facts = [self._channels.fact(port) for port in self._graph.data_inputs(node)]
        visit = ValueVisit(node, values, facts, self._channels.facts[node.name], 0.0)
        try:
            result = guarded(VALUE_RULES[node.op], self._graph, node, visit)
        except AnalysisError:
            return ()
        return result if isinstance(result, tuple) else (result,)

    def _constant(self, port: Port, depth: int = 0) -> Optional[np.ndarray]:
        """The numbers at a port that depends on constants alone, else None."""
        node = self._graph[port.node]
        if node.op == "Const":
            numbers: np.ndarray = node.attrs["value"].numbers()
            return numbers
        if port not in self._constants:
            self._constants[port] = None
            ports = self._graph.data_inputs(node)
            if ports and node.op in VALUE_RULES and depth < _DEEPEST:
                self._constants[port] = self._computed(node, port.port, ports, depth)
        return self._constants[port]

    def _computed(
        self, node: Node, place: int, ports: Sequence[Port], depth: int
    ) -> Optional[np.ndarray]:
        values: List[np.ndarray] = []
        for port in ports:
            value = self._constant(port, depth + 1)
            if value is None:
                return None
            values.append(value)
        outs = self._moved(node, values)
        out = outs[place] if 0 <= place < len(outs) else None
        return None if out is None or not np.isfinite(out).all() else np.asarray(out)


def _is_linear(node: Node, values: Sequence[np.ndarray], led: Sequence[bool]) -> bool:
    """Whether arithmetic is linear in the numbers that are followed; of scalars any will do."""
    if node.op in ("Mul", "Div", "RealDiv") and not all(value.ndim == 0 for value in values):
        return not all(led) and (node.op == "Mul" or led[0])
    return True


def _aligned(node: Node, values: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Operands as numpy broadcasts them: the bias of an NCHW tensor does not lie along the last."""
    if node.op == "BiasAdd" and node.text("data_format", "NHWC") == "NCHW":
        return values[0], values[1].reshape(-1, *[1] * (values[0].ndim - 2))
    return values
