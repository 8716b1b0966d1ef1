"""Rewriting numbers in constants that count channels, or that are positions of channels."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from graphslim.channels.groups import Removal
from graphslim.channels.rules import ValueVisit
from graphslim.ir import Graph, Node, Port, Tensor
from graphslim.ir.query import is_output, uses_behind
from graphslim.ops import VALUE_RULES

Reader = Tuple[str, int]
"""A node and one of its inputs."""


class _Demand(NamedTuple):
    """What a reader wants to read at place `place`, which element `element` of `param` gives."""

    reader: Reader
    place: int
    param: str
    element: int
    number: int


def resize(graph: Graph, removal: Removal) -> None:
    """Rewrites the numbers that count channels, in private copies where others read them.

    Args:
        graph: the graph, whose other bindings have been cut.
        removal: which of the channels that it had before go.
    """
    demands: Dict[str, Dict[Reader, List[_Demand]]] = {}
    for demand in _demands(removal):
        demands.setdefault(demand.param, {}).setdefault(demand.reader, []).append(demand)
    if demands:
        rewriter = _Rewriter(graph, removal)
        for param, by_reader in demands.items():
            rewriter.restate(param, by_reader)


def _demands(removal: Removal) -> Iterator[_Demand]:
    for size in removal.channels.resizes:
        number = size.sign * removal.left(size.ids)
        yield _Demand((size.node, size.slot), size.place, size.param, size.element, number)
    for other in removal.channels.renumbers:
        staying = ~removal.of(other.ids)
        position = np.cumsum(staying) - 1
        value = removal.channels.fact(Port(other.param)).value
        for place, old in enumerate(np.ravel(value).astype(np.int64)):  # type: ignore[arg-type]
            if staying[old]:
                reader = (other.node, other.slot)
                yield _Demand(reader, place, other.param, place, int(position[old]))


class _Rewriter:
    """Gives readers the numbers that they want.

    Args:
        graph: the graph, changed in place.
        removal: which of the channels that it had before it was cut go.
    """

    def __init__(self, graph: Graph, removal: Removal) -> None:
        self.graph, self._channels = graph, removal.channels
        self._copied: Dict[str, str] = {}
        self._restated: Dict[Any, Tensor] = {}
        self._moves: Dict[Port, List[Tuple[int, int]]] = {}
        self._removal = removal
        self._first_axes = {
            axis.param: axis
            for axis in removal.channels.axes
            if axis.axis == 0 and axis.use is None
        }

    def restate(self, param: str, by_reader: Dict[Reader, List[_Demand]]) -> None:
        """Rewrites elements of one constant, as each reader wants them."""
        wanted = [
            {demand.element: demand.number for demand in demands} for demands in by_reader.values()
        ]
        is_alone = set(uses_behind(self.graph, Port(param))) == set(by_reader)
        is_alone = is_alone and not is_output(self.graph, Port(param))
        if wanted.count(wanted[0]) == len(wanted) and is_alone:
            self._set(param, wanted[0])
            return
        for reader, demands in by_reader.items():
            ways: Dict[Tuple[Reader, ...], Dict[int, int]] = {}
            old = np.ravel(self._fact(Port(param)).value)
            for demand in demands:
                if old[demand.element] != demand.number:
                    way = self._way(reader, demand.place)
                    ways.setdefault(way, {})[demand.element] = demand.number
            for numbers in ways.values():
                # Traced again: this way may share nodes that were copied for the way before.
                place = next(demand.place for demand in demands if demand.element in numbers)
                self._set(self._own(reader, self._way(reader, place)), numbers)

    def _set(self, param: str, numbers: Dict[int, int]) -> None:
        """Sets elements, counted before the cut, of a constant or of a copy of it."""
        tensor, elements = self.graph[param].attrs["value"], sorted(numbers)
        places = self._elements(self._copied.get(param, param), elements)
        # Many reshapes state the same sizes, by the same tensor.
        key = (tensor, tuple(zip(places, [numbers[element] for element in elements])))
        if key not in self._restated:
            fresh = np.array(tensor.numbers())
            fresh.reshape(-1)[places] = [numbers[element] for element in elements]
            same = np.array_equal(fresh, tensor.numbers())
            self._restated[key] = tensor if same else tensor.with_numbers(fresh)
        if self._restated[key] is not tensor:
            self.graph.set_attr(param, "value", self._restated[key])

    def _elements(self, param: str, elements: Sequence[int]) -> List[int]:
        """Where elements of a constant stand after the cut; those that went are left out."""
        axis = self._first_axes.get(param)
        staying = np.ones(0, bool) if axis is None else ~self._removal.along(axis)
        if staying.all():
            return list(elements)
        position = np.cumsum(staying) - 1
        return [int(position[element]) for element in elements if staying[element]]

    def _way(self, reader: Reader, place: int) -> Tuple[Reader, ...]:
        """The nodes that a number comes through, each with the input that leads on to the constant.

        The last one is the constant itself.
        """
        way = []
        port = self.graph.data_inputs(reader[0])[reader[1]]
        while self.graph[port.node].op != "Const":
            slot, place = self._moved(port)[place]
            way.append((port.node, slot))
            port = self.graph.data_inputs(port.node)[slot]
        return (*way, (port.node, 0))

    def _moved(self, port: Port) -> List[Tuple[int, int]]:
        """For each number at a port, the input of its node that it comes from, and the place."""
        origin = Port(self._copied.get(port.node, port.node), port.port)
        if origin not in self._moves:
            node = self.graph[port.node]
            facts = [self._fact(source) for source in self.graph.data_inputs(node)]
            labels, owners = [], []  # type: List[np.ndarray], List[Tuple[int, int]]
            for slot, known in enumerate(facts):
                sizes = (known.shape or ()) if known.value is None else known.value.shape
                full = tuple([size or 0 for size in sizes])
                first, count = len(owners), int(np.prod(full))
                owners += [(slot, place) for place in range(count)]
                labels.append(np.arange(first, first + count, dtype=np.float64).reshape(full))
            outs = self._channels.facts[origin.node]
            shape = np.asarray(outs[origin.port].value).shape
            moved: Any = VALUE_RULES[node.op](ValueVisit(node, labels, facts, outs, 0.0))
            array = moved[port.port] if isinstance(moved, tuple) else moved
            array = np.broadcast_to(array, shape)
            self._moves[origin] = [owners[int(label)] for label in array.ravel()]
        return self._moves[origin]

    def _fact(self, port: Port) -> Any:
        return self._channels.fact(Port(self._copied.get(port.node, port.node), port.port))

    def _own(self, reader: Reader, way: Sequence[Reader]) -> str:
        """The constant at the end of a way, for this reader alone: itself, or a copy.

        What others read as well is copied, from there on down to the constant.
        """
        (above, slot), shared = reader, False
        for name, inner in way:
            outputs = {port.node for port in self.graph.outputs}
            shared = shared or len(self.graph.uses_of(name)) != 1 or name in outputs
            if shared:
                node, port = self.graph[name], self.graph.inputs_of(above)[slot].port
                copy = Node(self.graph.fresh_name(f"{name}/resized"), node.op, node.attrs.copy())
                self.graph.add(copy, self.graph.inputs_of(node))
                self.graph.rewire(above, slot, Port(copy.name, port))
                self._copied[copy.name] = self._copied.get(name, name)
                name = copy.name
            above, slot = name, inner
        return above
