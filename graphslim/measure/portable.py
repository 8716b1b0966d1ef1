"""A graph as it is sent to another process."""

from __future__ import annotations

from typing import Dict, FrozenSet, NamedTuple, Optional, Tuple

from graphslim import runtime
from graphslim.graphdef import parse, serialize
from graphslim.graphdef.signature import settle
from graphslim.ir import Graph
from graphslim.support.importing import load_plugins


class Portable(NamedTuple):
    """A graph that can be pickled.

    Attributes:
        model: the graph, serialised.
        name: its name.
        inputs, outputs: the names of its inputs and outputs.
        input_shapes: the sizes of inputs that the file leaves open.
        asked: how it is analysed; see `Graph`.
        as_shipped: whether TensorFlow runs it with the kernels that it ships.
    """

    model: bytes
    name: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    input_shapes: Dict[str, Tuple[Optional[int], ...]]
    asked: FrozenSet[str]
    as_shipped: bool

    @classmethod
    def of(cls, graph: Graph) -> Portable:
        """A graph, to be sent."""
        outputs = tuple([str(port) for port in graph.outputs])
        shapes = dict(graph.input_shapes)
        return cls(
            serialize(graph),
            graph.name,
            tuple(graph.inputs),
            outputs,
            shapes,
            graph.asked,
            runtime.runs_as_shipped(),
        )

    def graph(self) -> Graph:
        """The graph, in the process that it was sent to.

        Raises:
            LoadError: the graph cannot be read here.
        """
        if self.as_shipped:
            runtime.run_as_shipped()
        load_plugins()
        graph = parse(self.model, self.name, False, self.inputs, self.outputs)
        settle(graph, self.inputs, self.outputs, self.input_shapes)
        graph.asked = self.asked
        return graph
