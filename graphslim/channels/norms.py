"""Which reductions over channels are the statistics of a norm, so that channels may go before it.

A layer norm, group norm, RMS norm or L2 norm divides a tensor by what a reduction says of that
very tensor. Without some channels it is the norm of those that stay, since a reduction adapts to
the narrower tensor. That holds only where nothing else reads what the reduction gives, and where no
number states how many channels there were; any other reduction is no statistic, and pins.
"""

from __future__ import annotations

from typing import FrozenSet, Iterator, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from graphslim.ir import Graph, Node, Port
from graphslim.ir.families import CASTS, MEASURES, QUOTIENTS, RECIPROCALS, RESTATES, SUMS
from graphslim.ir.query import behind, constant_nodes, is_output, uses_behind


class _Moment(NamedTuple):
    """What a second moment is taken of.

    Attributes:
        data: the ports of the tensor, and of that less its mean where this is squared.
        centre: the node of that mean; None where the tensor itself is squared.
    """

    data: Set[Port]
    centre: Optional[str]


def is_statistic(graph: Graph, node: Node, rank: int) -> bool:
    """Whether a reduction is the mean or the second moment of a norm over channels.

    Args:
        graph: the graph.
        node: a reduction, over axes that include the channels.
        rank: of what is reduced.
    """
    norm = _Norms(graph, rank)
    return norm.is_moment(node) or norm.is_centre(node)


class _Norms:
    """The search around one reduction.

    Args:
        graph: the graph.
        rank: of what is reduced, by which axes from the end are counted.
    """

    def __init__(self, graph: Graph, rank: int) -> None:
        self._graph, self._rank = graph, rank
        self._constants = constant_nodes(graph)

    def is_moment(self, node: Node) -> bool:
        """Whether a reduction is a second moment by whose root its tensor is divided."""
        moment = self._moment(node)
        return moment is not None and self._divides(node, moment)

    def is_centre(self, node: Node) -> bool:
        """Whether a Mean is what is taken away before a second moment, and nothing else."""
        if node.op != "Mean":
            return False
        data, squared = self._source(node), False
        for reader, slot in self._readers(Port(node.name), RESTATES | {"Neg"}):
            others = [port for at, port in enumerate(self._sources(reader)) if at != slot]
            if reader.op == "SquaredDifference" and others == [data]:
                behind_it = [later for later, _ in self._readers(Port(reader.name), CASTS)]
                if not behind_it or not all(
                    [self._is_moment_about(each, node) for each in behind_it]
                ):
                    return False
                squared = True
            elif reader.op == "Square" or (
                reader.op == "Mul" and len({*self._sources(reader)}) == 1
            ):
                moments = self._moments_less(reader, node)
                if not moments or not all(map(self.is_moment, moments)):
                    return False
                squared = True
            elif self._is_difference(reader, node):
                squared = squared or any(
                    [self._is_moment_about(later, node) for later in self._squares_of(reader)]
                )
            elif reader.op not in ("Mul", "RealDiv") or not self._is_scale(others, data):
                return False
        return squared and not is_output(self._graph, Port(node.name), RESTATES | {"Neg"})

    # --- What a second moment is made of.

    def _moment(self, node: Node) -> Optional[_Moment]:
        """What a reduction is the second moment of; None if it is none."""
        if node.op == "EuclideanNorm":
            return _Moment({self._source(node)}, None)
        square = self._graph[self._source(node).node]
        sources = self._sources(square)
        if node.op not in ("Mean", "Sum") or square.name in self._graph.inputs:
            return None
        if square.op == "SquaredDifference":
            for data, other in (sources, sources[::-1]):
                mean = self._statistic(other)
                if mean is not None and self._is_mean_of(mean, data, node):
                    return _Moment({data}, mean.name) if node.op == "Mean" else None
            return None
        if not self._is_square(square):
            return None
        data = sources[0]
        mean = self._taken_away(self._graph[data.node])
        if mean is not None and self._is_mean_of(mean, self._source(mean), node):
            # A sum of squares about the mean is divided by the number of channels, which is stated.
            return _Moment({data, self._source(mean)}, mean.name) if node.op == "Mean" else None
        return _Moment({data}, None)

    def _is_square(self, node: Node) -> bool:
        sources = self._sources(node)
        if node.op == "Mul":
            return len(sources) == 2 and sources[0] == sources[1]
        return node.op == "Square" or (node.op == "Pow" and self._number(sources[1]) == 2)

    def _taken_away(self, node: Node) -> Optional[Node]:
        """The Mean that an op takes away from the tensor that this is the mean of, if it does."""
        sources = self._sources(node)
        if node.op not in ("Sub", *SUMS) or len(sources) != 2:
            return None
        sides = (sources,) if node.op == "Sub" else (sources, sources[::-1])
        for data, other in sides:
            negated = self._graph[behind(self._graph, other, RESTATES).node].op == "Neg"
            mean = self._statistic(other)
            if mean is not None and negated == (node.op != "Sub") and self._source(mean) == data:
                return mean if mean.op == "Mean" else None
        return None

    def _is_difference(self, node: Node, mean: Node) -> bool:
        taken = self._taken_away(node)
        return taken is not None and taken.name == mean.name

    def _is_mean_of(self, mean: Node, data: Port, moment: Node) -> bool:
        """Whether a node is the mean of a tensor, over the axes of a second moment."""
        if mean.op != "Mean" or self._source(mean) != data:
            return False
        axes = self._axes(mean)
        return axes is not None and axes == self._axes(moment)

    def _is_moment_about(self, node: Node, mean: Node) -> bool:
        moment = self._moment(node)
        return moment is not None and moment.centre == mean.name and self._divides(node, moment)

    def _squares_of(self, node: Node) -> Iterator[Node]:
        """The reductions of the square of what an op gives."""
        for square, _ in self._readers(Port(node.name), CASTS):
            if self._is_square(square):
                yield from [later for later, _ in self._readers(Port(square.name), CASTS)]

    def _moments_less(self, square: Node, mean: Node) -> List[Node]:
        """The means of squares that the square of a mean is taken away from: E[x^2] - E[x]^2."""
        moments = []
        for reader, slot in self._readers(Port(square.name), RESTATES):
            moment = self._statistic(self._sources(reader)[0]) if reader.op == "Sub" else None
            if moment is None or slot != 1 or not self._is_less_square(reader, moment):
                return []
            moments.append(moment)
        return moments

    def _is_less_square(self, node: Node, moment: Node) -> bool:
        """Whether a Sub takes the square of the mean away from the mean of the squares."""
        square = self._graph[behind(self._graph, self._sources(node)[1], RESTATES).node]
        known = self._moment(moment)
        if not self._is_square(square) or square.op == "Pow" or known is None or known.centre:
            return False
        mean = self._statistic(self._sources(square)[0])
        (data,) = known.data
        return moment.op == "Mean" and mean is not None and self._is_mean_of(mean, data, moment)

    # --- What becomes of it.

    def _divides(self, node: Node, moment: _Moment) -> bool:
        """Whether a second moment is read by nothing but what divides its tensor by the root."""
        waiting: List[Tuple[Port, bool]] = [(Port(node.name), node.op == "EuclideanNorm")]
        divides = False
        while waiting:
            port, is_root = waiting.pop()
            if port in self._graph.outputs:
                return False
            for use in self._graph.uses_of(port):
                reader = self._graph[use.node]
                step = self._step(reader, use.index, is_root, moment, node)
                if step is None:
                    return False
                divides = divides or step == "divides"
                if step in ("goes on", "root"):
                    waiting.append((Port(reader.name), is_root or step == "root"))
        return divides

    def _step(
        self, reader: Node, slot: int, is_root: bool, moment: _Moment, node: Node
    ) -> Optional[str]:
        """What a reader does on the way from a second moment to its norm; None if it is none.

        Args:
            reader, slot: who reads it, and with which input.
            is_root: whether a root has been taken.
            moment: what the second moment is of.
            node: the second moment.
        """
        op, sources = reader.op, self._sources(reader)
        others = [port for at, port in enumerate(sources) if at != slot]
        if op in MEASURES:
            return "ends"
        if op in RESTATES and slot == 0:
            return "goes on"
        if op in SUMS | {"Maximum"} and self._number(others[0]) is not None:
            return "goes on"
        if not is_root:
            if op == "Sub" and slot == 0 and self._is_less_square(reader, node):
                return "goes on"
            if op in ("Sqrt", "Rsqrt"):
                return "root"
            is_power = op == "Pow" and slot == 0 and self._number(others[0]) in (0.5, -0.5)
            return "root" if is_power else None
        if op in RECIPROCALS - {"Rsqrt"}:
            return "goes on"
        if op in QUOTIENTS and slot == 1:
            if self._number(others[0]) == 1:
                return "goes on"
            return "divides" if self._is_data(others[0], moment, node) else None
        if op != "Mul" or len(others) != 1:
            return None
        if self._is_data(others[0], moment, node):
            return "divides"
        if others[0].node in self._constants:
            return "goes on"  # the scale of each channel
        mean = self._statistic(others[0])
        return "ends" if mean is not None and self._source(mean) in moment.data else None

    def _is_data(self, port: Port, moment: _Moment, node: Node) -> bool:
        """Whether a port has the tensor of a second moment, or that less its mean."""
        if port in moment.data:
            return True
        mean = self._taken_away(self._graph[port.node])
        return mean is not None and any(
            [self._is_mean_of(mean, data, node) for data in moment.data]
        )

    def _is_scale(self, others: List[Port], data: Port) -> bool:
        """Whether the other side of a product is one by the root of a moment of the tensor."""
        port = others[0] if len(others) == 1 else Port("")
        while port.node in self._graph:
            node = self._graph[port.node]
            sources = self._sources(node)
            if node.op in ("Mean", "Sum"):
                moment = self._moment(node)
                return moment is not None and data in moment.data and self._divides(node, moment)
            varying = [each for each in sources if each.node not in self._constants]
            if node.op == "Sub":
                varying = varying[:1]
            known = RESTATES | SUMS | RECIPROCALS | {"Mul", "Maximum", "Sqrt", "Sub", "RealDiv"}
            if node.op not in known or len(varying) != 1:
                return False
            (port,) = varying
        return False

    # --- The graph around.

    def _source(self, node: Node) -> Port:
        """Where the first input of a node comes from."""
        sources = self._sources(node)
        return sources[0] if sources else Port(node.name)

    def _sources(self, node: Node) -> List[Port]:
        """Where the inputs of a node come from, behind what hands them on."""
        return [behind(self._graph, port, CASTS) for port in self._graph.data_inputs(node)]

    def _readers(self, port: Port, through: FrozenSet[str]) -> List[Tuple[Node, int]]:
        """Who reads a port, behind what hands it on, but for shapes."""
        uses = uses_behind(self._graph, port, through)
        readers = [(self._graph[use.node], use.index) for use in uses]
        return [(node, slot) for node, slot in readers if node.op not in MEASURES]

    def _statistic(self, port: Port) -> Optional[Node]:
        """The reduction that a port comes from."""
        node = self._graph[behind(self._graph, port, RESTATES | {"Neg"}).node]
        return node if node.op in ("Mean", "Sum") else None

    def _axes(self, node: Node) -> Optional[Set[int]]:
        """The axes of a reduction; None if they are no constant."""
        source = self._graph[self._sources(node)[1].node]
        if source.op != "Const":
            return None
        axes = np.ravel(source.attrs["value"].numbers())
        return {int(axis) % self._rank for axis in axes}

    def _number(self, port: Port) -> Optional[float]:
        """The number that a port holds, if it is one constant number; else None."""
        node = self._graph[behind(self._graph, port, RESTATES).node]
        if node.op != "Const" or node.attrs["value"].size != 1:
            return None
        return float(np.ravel(node.attrs["value"].numbers())[0])
