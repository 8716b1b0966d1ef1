"""Graphs and SavedModels, run by TensorFlow."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphslim import graphdef, runtime
from graphslim.channels.groups import analyse
from graphslim.engines.base import Runner, Shapes, Tensor
from graphslim.graphdef.kinds import keras_container
from graphslim.ir import Graph, Port
from graphslim.layout import runnable
from graphslim.runtime.session import tensor_name


def read_graph(path: str, shapes: Optional[Shapes] = None) -> Graph:
    """Reads a frozen graph, a SavedModel or a Keras model.

    Args:
        path: the file or folder.
        shapes: for inputs that the file leaves open, by name.

    Raises:
        LoadError: the file is no such model, is damaged, or a shape does not fit.
        RuntimeUnavailable: TensorFlow is not there to read variables.
    """
    if keras_container(path) is not None:
        chosen, variables = runtime.traced(path)
        return graphdef.frozen_from(path, chosen, None, None, shapes, variables)
    return graphdef.load(path, input_shapes=shapes, variables=runtime.saved_variables)


class TensorFlowRunner(Runner):
    """A graph in a session of TensorFlow; NCHW ops without a CPU kernel run as NHWC.

    The tensors of a SavedModel are named as its signature names them.

    Args:
        graph: the graph.
        threads: threads within an op; 0 for as many as there are cores.
        optimize: whether TensorFlow may rewrite the graph before it runs it.

    Raises:
        VerifyError: TensorFlow refuses the graph.
        RuntimeUnavailable: TensorFlow is not there.
    """

    runtime = "tf"

    def __init__(self, graph: Graph, threads: int = 1, optimize: bool = True) -> None:
        self._session = runtime.Session(runnable(graph), threads, optimize)
        self.path, self.version = graph.name, f"TensorFlow {runtime.version()}"
        self._ports: Dict[str, str] = {}
        """By name, the ports of inputs and outputs."""
        outputs = [str(port) for port in graph.outputs]
        self.inputs = self._described(graph, graph.inputs, "inputs")
        self.outputs = self._described(graph, outputs, "outputs")

    def _described(self, graph: Graph, ports: Sequence[str], side: str) -> Tuple[Tensor, ...]:
        keys = {port: key for key, port in graph.signature.get(side, {}).items()}
        self._ports.update({keys.get(port, port): port for port in ports})
        channels = analyse(graph)
        return tuple(
            [
                Tensor(
                    keys.get(port, port),
                    channels.fact(Port.parse(port)).shape,
                    self._session.dtype(port),
                )
                for port in ports
            ]
        )

    def close(self) -> None:
        """Closes the session."""
        self._session.__exit__()

    def run(self, feeds: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """What the graph computes; see `Runner.run`."""
        fed = {self._ports[name]: array for name, array in self.arrays(feeds).items()}
        names = [self._ports[tensor.name] for tensor in self.outputs]
        values = self._session.run(fed, names)
        return {tensor.name: value for tensor, value in zip(self.outputs, values)}

    def prepare(self, feeds: Mapping[str, np.ndarray]) -> Callable[[], Sequence[Any]]:
        """A function that runs the graph once; see `Runner.prepare`."""
        fed = {self._ports[name]: array for name, array in self.arrays(feeds).items()}
        return self._session.prepare(
            fed, [tensor_name(self._ports[tensor.name]) for tensor in self.outputs]
        )
