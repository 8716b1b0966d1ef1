"""Two graphs, timed in every runtime: each is converted to what the runtime reads."""

from __future__ import annotations

import os
import tempfile
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Sequence

from graphslim.engines import TITLES
from graphslim.errors import GraphslimError
from graphslim.ir import Graph
from graphslim.measure.opened import Model, Opening, with_batch
from graphslim.measure.timings import Timings, time_models

_ENDINGS: Mapping[str, Sequence[str]] = {
    "tf": (".pb",),
    "tflite": (".tflite",),
    "ort": (".onnx",),
    "openvino": (".onnx", ".pb"),
}
"""By runtime the endings of the files that it is given, the next where the first cannot be made."""


class Everywhere(NamedTuple):
    """Two graphs, timed in several runtimes.

    Attributes:
        timings: by runtime, the two in it.
        left_out: by runtime that was asked for, why the graphs were not timed in it.
    """

    timings: Dict[str, Timings]
    left_out: Dict[str, str]

    def as_dict(self) -> Dict[str, Any]:
        """A tree for `--json`."""
        timings = {name: times.as_dict() for name, times in self.timings.items()}
        return {"runtimes": timings, "left_out": self.left_out}


def time_everywhere(
    first: Graph,
    second: Graph,
    runtimes: Sequence[str],
    export: Callable[[Graph, str], Any],
    threads: int = 1,
    names: Optional[Sequence[str]] = None,
    batch: int = 1,
    **given: Any,
) -> Everywhere:
    """Times two graphs in several runtimes, one after the other; in each they take turns.

    Args:
        first: the original.
        second: the graph that should be faster.
        runtimes: of `engines.RUNTIMES`.
        export: writes a graph to a path, in the format that its ending says.
        threads: threads within an op; 0 for as many as there are cores.
        names: what the two are called; by default by the names of the graphs.
        batch: examples per run, where the graphs leave that open.
        **given: further arguments of `time_models`.

    Raises:
        GraphslimError: there is no runtime in which the graphs run; the error is that of the first.
    """
    names = names or (first.name, second.name)
    timings: Dict[str, Timings] = {}
    failures: Dict[str, GraphslimError] = {}
    with tempfile.TemporaryDirectory() as folder:
        for runtime in runtimes:
            for ending in _ENDINGS[runtime]:
                try:
                    pair = [
                        _converted(
                            graph, os.path.join(folder, name + ending), runtime, export, batch
                        )
                        for graph, name in ((first, "first"), (second, "second"))
                    ]
                    opening = Opening(runtime, threads)
                    timings[runtime] = time_models(pair, opening, names=names, batch=batch, **given)
                    failures.pop(runtime, None)
                    break
                except GraphslimError as error:
                    failures.setdefault(runtime, error)
        if failures and not timings:
            raise next(iter(failures.values()))
        # Nobody knows the folder.
        told = {name: error.told.replace(folder + os.sep, "") for name, error in failures.items()}
    return Everywhere(timings, {name: f"{TITLES[name]}: {text}" for name, text in told.items()})


def _converted(
    graph: Graph, path: str, runtime: str, export: Callable[[Graph, str], Any], batch: int
) -> Model:
    """What a runtime is given for a graph: TensorFlow the graph, others a file that is made once.

    Raises:
        GraphslimError: the graph cannot be converted.
    """
    if runtime == "tf":
        return graph
    if not os.path.exists(path):
        export(with_batch(graph, batch), path)
    return path
