"""The time of networks and of their layers in the runtime that they are delivered to."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from graphslim.delivery.converter import Converter
from graphslim.delivery.formats import Wish
from graphslim.delivery.run import written
from graphslim.engines import INSTALL, TITLES, Runner, installed, open_runner
from graphslim.errors import GraphslimError, RuntimeUnavailable
from graphslim.ir import Attrs, DType, Graph, Node, Port, Shape
from graphslim.ir.query import needed
from graphslim.measure.bench import take_turns
from graphslim.measure.feeds import random_feeds
from graphslim.measure.latency import Setting, Timing, above_the_first, clock_for
from graphslim.measure.opened import Model, Opening, with_batch
from graphslim.measure.timings import Timings, time_models
from graphslim.support.progress import Tick, silent

_SIZE = 4
"""Numbers in the network that computes next to nothing."""


class Place(NamedTuple):
    """Where a network is delivered to.

    Attributes:
        runtime: one of `engines.RUNTIMES`.
        name: of the files that it reads; the ending says their format.
        wish: how they are converted.
    """

    runtime: str
    name: str
    wish: Wish = Wish()


PLACES: Dict[str, Place] = {
    "tf": Place("tf", "model.pb"),
    "tflite": Place("tflite", "model.tflite"),
    "tflite-int8": Place("tflite", "model.tflite", Wish("int8", random_calibration=True)),
    "ort": Place("ort", "model.onnx"),
    "openvino": Place("openvino", "model.onnx"),
}
"""By what `--for` takes, where that is. Ranges of random inputs do for times."""


def require_place(target: str) -> None:
    """Makes sure, before any work is done, that something can be timed in a runtime.

    Raises:
        RuntimeUnavailable: the runtime is not installed; the message has the command for that.
    """
    runtime = PLACES[target].runtime
    if runtime not in installed():
        raise RuntimeUnavailable(
            f"{TITLES[runtime]} is not installed", f"--for {target}", INSTALL[runtime]
        )


class Workshop:
    """Converts graphs for one runtime and times them in it; a context manager.

    One process converts them all.

    Args:
        target: a key of `PLACES`.
        threads: threads within an op; 0 for as many as there are cores.
    """

    def __init__(self, target: str, threads: int = 1) -> None:
        self._place, self._threads = PLACES[target], threads
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Workshop:
        self._folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="graphslim-"))
        self._converter = self._stack.enter_context(Converter())
        self._count = 0
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _model(self, graph: Graph) -> Model:
        """What the runtime is given for a graph: TensorFlow the graph, others a file.

        Raises:
            GraphslimError: the graph cannot be converted, or leaves sizes open.
        """
        if self._place.runtime == "tf":
            return graph
        self._count += 1
        folder = os.path.join(self._folder, str(self._count))
        os.mkdir(folder)
        path = os.path.join(folder, self._place.name)
        return written(self._converter, graph, path, self._place.wish)

    def times(
        self,
        graphs: Sequence[Graph],
        *,
        batch: int = 1,
        progress: Tick = silent,
        names: Optional[Sequence[str]] = None,
        seconds: Optional[float] = None,
    ) -> Timings:
        """Times graphs in turns, each as the runtime reads it; see `measure.timings.time_models`.

        Args:
            graphs: the graphs, the original first.
            batch: examples per run, where the graphs leave that open.
            progress: called after each round.
            names: what the graphs are called; by default their own names.
            seconds: how long it may take about; by default as long as it takes.

        Raises:
            GraphslimError: a graph cannot be converted, or does not run.
            RuntimeUnavailable: the runtime is not installed.
        """
        models = [self._model(with_batch(graph, batch)) for graph in graphs]
        return time_models(
            models,
            Opening(self._place.runtime, self._threads),
            batch=batch,
            progress=progress,
            names=names or [graph.name for graph in graphs],
            seconds=seconds,
        )

    # --- For the table of layers.

    def timing(self) -> Timing:
        """How layers and networks are timed here, for a latency table."""
        with self.opened(_nothing()) as runner:
            version = runner.version
        return Timing((self._place.runtime, self._place.wish, version), self._targets, self._whole)

    @contextlib.contextmanager
    def opened(self, graph: Graph) -> Iterator[Runner]:
        """A graph in the runtime.

        Raises:
            GraphslimError: the graph cannot be converted, or leaves sizes open.
            RuntimeUnavailable: the runtime is not installed.
        """
        with open_runner(self._model(graph), self._place.runtime, self._threads) as runner:
            yield runner

    def _targets(
        self, graph: Graph, targets: Sequence[Sequence[str]], setting: Setting
    ) -> Optional[List[float]]:
        """Milliseconds of each target; see `measure.latency.time_targets`."""
        parts = [_nothing(), *[part_of(graph, names) for names in targets]]
        times: Optional[List[float]] = None
        with contextlib.suppress(GraphslimError), contextlib.ExitStack() as stack:
            runners = [stack.enter_context(self.opened(part)) for part in parts]
            actions = [runner.prepare(random_feeds(part)) for runner, part in zip(runners, parts)]
            times = above_the_first(actions, setting)
        return times

    @contextlib.contextmanager
    def _whole(self, graph: Graph, setting: Setting) -> Iterator[Callable[[], float]]:
        """A function that runs a graph and gives the milliseconds."""
        fixed = with_batch(graph, setting.batch)
        with self.opened(fixed) as runner:
            action = runner.prepare(random_feeds(fixed))
            take_turns([action], 1, 1)
            yield lambda: float(take_turns([action], 2, clock=clock_for(setting)).min() * 1e3)


def part_of(lab: Graph, names: Sequence[str]) -> Graph:
    """What computes some nodes of a graph of layers; what stood in for inputs is an input now."""
    part = lab.copy()
    part.outputs = [Port(name) for name in names]
    used = needed(part)
    inputs = []
    for node in list(part):
        if node.op == "PlaceholderWithDefault" and node.name in used:
            attrs = Attrs({"dtype": node.attrs["dtype"], "shape": node.attrs["shape"]})
            part.replace(Node(node.name, "Placeholder", attrs), ())
            inputs.append(node.name)
    part.inputs = inputs
    return part


def _nothing() -> Graph:
    """A network that computes next to nothing, to time the overhead of a run."""
    graph = Graph("nothing")
    attrs = Attrs({"dtype": DType.float32, "shape": Shape((1, _SIZE))})
    graph.add(Node("x", "Placeholder", attrs))
    graph.add(Node("y", "Relu", Attrs({"T": DType.float32})), [Port("x")])
    graph.inputs, graph.outputs = ["x"], [Port("y")]
    return graph
