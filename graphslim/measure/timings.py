"""Models timed in turns, in the runtimes that run their files; two graphs, in several runtimes."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from graphslim.engines import TITLES
from graphslim.errors import GraphslimError
from graphslim.graphdef import serialize
from graphslim.ir import Graph
from graphslim.measure.bench import RUNS, WARMUP, Spread, cpu_name, first_run, spread, take_turns
from graphslim.measure.opened import Model, Opening, as_bad_input, named, opened, with_batch
from graphslim.measure.samples import Data
from graphslim.runtime import run_as_shipped, without_onednn
from graphslim.support.progress import Tick, silent

LEAST = 5
"""How often each model is timed at least, where there is little time."""
_ENDINGS: Mapping[str, Sequence[str]] = {
    "tf": (".pb",),
    "tflite": (".tflite",),
    "ort": (".onnx",),
    "openvino": (".onnx", ".pb"),
}
"""By runtime the endings of the files that it is given, the next where the first cannot be made."""


class Timed(NamedTuple):
    """A model that was timed.

    Attributes:
        name: its path.
        runtime: one of `engines.RUNTIMES`.
        version: what ran it.
        latency: milliseconds for one run.
        ratio: its time as a share of the first model's, round by round.
        size: bytes of its file or folder; of a graph without one, those of its `.pb`.
    """

    name: str
    runtime: str
    version: str
    latency: Spread
    ratio: Spread
    size: int


class Timings(NamedTuple):
    """Models that were timed in turns.

    Attributes:
        models: the models, as given.
        runs, warmup: how often each was timed, and how often it was run before that.
        threads: threads within an op; 0 for as many as there are cores.
        batch: examples per run.
        cpu: the processor's name.
        notes: what was taken for what where names differ, and the like, in sentences.
    """

    models: Tuple[Timed, ...]
    runs: int
    warmup: int
    threads: int
    batch: int
    cpu: str
    notes: Tuple[str, ...]

    def as_dict(self) -> Dict[str, Any]:
        """A tree for `--json`; times in milliseconds, sizes in bytes."""
        models = [
            {**timed._asdict(), "latency": timed.latency._asdict(), "ratio": timed.ratio._asdict()}
            for timed in self.models
        ]
        return {**self._asdict(), "models": models, "notes": list(self.notes)}


def time_models(
    models: Sequence[Model],
    opening: Opening,
    *,
    batch: int = 1,
    runs: int = RUNS,
    warmup: int = WARMUP,
    seed: int = 0,
    data: Data = None,
    progress: Tick = silent,
    tell: Callable[[Graph], None] = lambda graph: None,
    names: Optional[Sequence[str]] = None,
    seconds: Optional[float] = None,
) -> Timings:
    """Times models in turns on the same inputs, each in the runtime that runs it.

    Args:
        models: the models, the original first.
        opening: how they are opened.
        batch: examples per run, where the models leave that open.
        runs: how often each model is timed.
        warmup: how often each is run before that.
        seed: the seed of random inputs.
        data: sample inputs, of which the first run is timed; by default random inputs.
        progress: called after each round.
        tell: is given the graph that says what is fed, before anything is run.
        names: what the models are called; by default their paths, and the names of graphs.
        seconds: how long it may take about, where that allows five runs of each; by default as long
            as it takes. An old runtime may need seconds for one run of an int8 model.

    Raises:
        GraphslimError: a model cannot be read or does not run, or the inputs do not fit.
        RuntimeUnavailable: a runtime is not installed.
    """
    run_as_shipped()
    with contextlib.ExitStack() as stack:
        together = opened(models, opening, stack)
        runners, graph, inputs, notes = together
        tell(graph)
        feeds, number = first_run(graph, data, seed, batch)
        if data is None:
            together.limit(feeds)
        actions: List[Callable[[], Any]] = []
        for runner, of in zip(runners, inputs):
            with as_bad_input():
                runner.run(named(feeds, of))
                actions.append(runner.prepare(named(feeds, of)))
        if seconds is not None:
            rounds = int(seconds / float(take_turns(actions, 1).sum()))
            runs, warmup = min(runs, max(LEAST, rounds - warmup)), min(warmup, rounds // LEAST)
        milliseconds = take_turns(actions, runs, warmup, progress=progress).T * 1e3
        if any(runner.runtime == "tf" for runner in runners) and without_onednn():
            notes.append("TensorFlow's oneDNN kernels are off.")
        if any(runner.own_threads for runner in runners):
            notes.append("TensorFlow Lite in TensorFlow 1.15 chooses its own number of threads.")
        called = names or [runner.path for runner in runners]
        timed = [
            Timed(
                name,
                runner.runtime,
                runner.version,
                spread(taken),
                spread(taken / milliseconds[0]),
                _size(name, model),
            )
            for name, model, runner, taken in zip(called, models, runners, milliseconds)
        ]
    return Timings(tuple(timed), runs, warmup, opening.threads, number, cpu_name(), tuple(notes))


def _size(path: str, model: Model) -> int:
    """The bytes of a file, or of all in a folder; of a graph without one, those of its `.pb`.

    Args:
        path: where a graph was read from.
        model: the graph, or the path of another model.
    """
    path = path if isinstance(model, Graph) else os.fspath(model)
    if os.path.isdir(path):
        files = [os.path.join(place, name) for place, _, names in os.walk(path) for name in names]
        return sum([os.path.getsize(file) for file in files])
    if isinstance(model, Graph) and not os.path.isfile(path):
        return len(serialize(model))
    return os.path.getsize(path)


# --- Two graphs in several runtimes, each of which reads files of its own.


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
