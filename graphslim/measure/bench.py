"""How fast graphs run: timed in turns, so that other load on the machine affects all alike."""

from __future__ import annotations

import contextlib
import platform
import time
from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from graphslim import runtime
from graphslim.channels.groups import analyse
from graphslim.errors import GraphslimError, VerifyError
from graphslim.ir import Graph, Port
from graphslim.layout import needs_nhwc
from graphslim.measure.feeds import random_feeds
from graphslim.measure.samples import Data, Examples, Samples
from graphslim.measure.verify import runnable
from graphslim.runtime.session import tensor_name
from graphslim.support.progress import Tick, silent
from graphslim.support.text import plural

RUNS, WARMUP = 50, 5
"""Defaults of how often each graph is timed, and how often it is run before that."""


class Spread(NamedTuple):
    """The median and the quartiles of some measurements.

    Attributes:
        median: the median.
        low, high: the first and third quartile.
    """

    median: float
    low: float
    high: float


class Bench(NamedTuple):
    """Two graphs, timed in turns.

    Attributes:
        names: the names of the two graphs.
        first, second: milliseconds for one run.
        ratio: the second's time as a share of the first's, round by round.
        runs, warmup: how often each graph was timed, and how often it was run before that.
        threads: threads within an op; 0 for as many as there are cores.
        batch: examples per run.
        tensorflow: TensorFlow's version.
        onednn_off: whether TensorFlow's oneDNN kernels were turned off.
        cpu: the processor's name.
        nhwc_twins: whether the graphs were turned from NCHW to NHWC to run on a CPU.
    """

    names: Sequence[str]
    first: Spread
    second: Spread
    ratio: Spread
    runs: int
    warmup: int
    threads: int
    batch: int
    tensorflow: str
    onednn_off: bool
    cpu: str
    nhwc_twins: bool

    def as_dict(self) -> Dict[str, Any]:
        """A tree for `--json`; times in milliseconds."""
        spreads = {key: dict(getattr(self, key)._asdict()) for key in ("first", "second", "ratio")}
        return {**self._asdict(), "names": list(self.names), **spreads}


def spread(numbers: Sequence[float]) -> Spread:
    """The median and the quartiles of some numbers, interpolated between neighbours."""
    low, median, high = np.percentile(np.asarray(numbers, np.float64), [25, 50, 75])
    return Spread(float(median), float(low), float(high))


def take_turns(
    actions: Sequence[Callable[[], Any]],
    runs: int,
    warmup: int = 0,
    *,
    clock: Callable[[], float] = time.perf_counter,
    progress: Tick = silent,
) -> np.ndarray:
    """Times actions in turns: each once a round, and in the opposite order every other round.

    Args:
        actions: the functions to time.
        runs: the number of rounds that are timed.
        warmup: the number of rounds before these, which are not timed.
        clock: returns the time in seconds.
        progress: called after each round.

    Returns:
        seconds; float64 of shape (runs, len(actions)).
    """
    seconds = np.zeros((warmup + runs, len(actions)))
    for number in range(warmup + runs):
        for index in list(range(len(actions)))[:: 1 if number % 2 == 0 else -1]:
            started = clock()
            actions[index]()
            seconds[number, index] = clock() - started
        progress(number + 1, warmup + runs, "timing")
    return seconds[warmup:]


def bench(
    first: Graph,
    second: Graph,
    *,
    threads: int = 1,
    batch: int = 1,
    runs: int = RUNS,
    warmup: int = WARMUP,
    seed: int = 0,
    data: Data = None,
    progress: Tick = silent,
) -> Bench:
    """Times two graphs in turns on the same inputs, with TensorFlow's own optimisation turned on.

    A graph that holds NCHW ops without a CPU kernel is run as a twin in NHWC.

    Args:
        first: the original.
        second: the graph that should be faster.
        threads: threads within an op; 0 for as many as there are cores.
        batch: examples per run, where the batch is open.
        runs: how often each graph is timed.
        warmup: how often each graph is run before that.
        seed: the seed of random inputs.
        data: sample inputs, of which the first run is timed; see `samples.Examples`. By default
            random inputs.
        progress: called after each round.

    Raises:
        GraphslimError: `runs` or `warmup` is too small, a graph does not run, or the graphs take
            another batch than `batch` or than each other.
        RuntimeUnavailable: TensorFlow is not installed.
    """
    for option, number, least in (("--runs", runs, 1), ("--warmup", warmup, 0)):
        if number < least:
            raise GraphslimError(f"must be {least} or more", option)
    runtime.run_as_shipped()
    graphs = (first, second)
    feeds, sizes = zip(*[first_run(graph, data, seed, batch) for graph in graphs])
    if sizes[0] != sizes[1]:
        raise GraphslimError(
            f"takes {sizes[1]} examples at once, and {first.name} takes {sizes[0]}",
            second.name,
            "give the batch with --input-shape",
        )
    with contextlib.ExitStack() as stack:
        actions = [
            stack.enter_context(prepared(graph, arrays, threads))
            for graph, arrays in zip(graphs, feeds)
        ]
        milliseconds = take_turns(actions, runs, warmup, progress=progress).T * 1e3
    return Bench(
        (first.name, second.name),
        spread(milliseconds[0]),
        spread(milliseconds[1]),
        spread(milliseconds[1] / milliseconds[0]),
        runs,
        warmup,
        threads,
        sizes[0],
        runtime.version(),
        runtime.without_onednn(),
        cpu_name(),
        needs_nhwc(first) or needs_nhwc(second),
    )


@contextlib.contextmanager
def prepared(
    graph: Graph, feeds: Mapping[str, np.ndarray], threads: int
) -> Iterator[Callable[[], Any]]:
    """A function that computes all outputs of a graph; the graph has been run once already.

    Raises:
        GraphslimError: the graph does not run.
    """
    try:
        with runtime.Session(runnable(graph), threads) as session:
            session.run(feeds)
            yield session.prepare(feeds, [tensor_name(str(port)) for port in graph.outputs])
    except VerifyError as error:
        # Nothing is compared here, so that a graph that does not run is bad input.
        raise GraphslimError(error.what, error.where, error.hint) from error


def first_run(graph: Graph, data: Data, seed: int, batch: int) -> Tuple[Dict[str, np.ndarray], int]:
    """The inputs of a run that is timed, by name, and how many examples they are.

    Args:
        graph: the graph.
        data: sample inputs, of which the first run is taken; None for random inputs.
        seed: the seed of random inputs.
        batch: examples per run, where the graph leaves that open.

    Raises:
        GraphslimError: the graph takes another batch than `batch`, or the data do not fit, or hold
            fewer examples.
    """
    given = random_feeds(graph, seed, batch) if data is None else data
    feeds, count = next(iter(Examples(graph, Samples(given, batch=batch))))
    if batch in (1, count):
        return feeds, count
    shapes = [analyse(graph).fact(Port(name)).shape for name in graph.inputs]
    if all(shape and shape[0] for shape in shapes):
        raise GraphslimError(f"its batch is fixed at {count}", graph.name, "leave out --batch")
    raise GraphslimError(
        f"holds {plural(count, 'example')}, fewer than the {batch} of a run",
        "--data",
        "give more, or a smaller --batch",
    )


def cpu_name() -> str:
    """The processor's name, as the system reports it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"
