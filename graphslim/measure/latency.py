"""The time of each layer at several widths, measured on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import time
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from graphslim import runtime
from graphslim.channels.groups import Channels, analyse
from graphslim.errors import GraphslimError, PlanError, VerifyError
from graphslim.graphdef import serialize
from graphslim.ir import Graph
from graphslim.measure.bench import cpu_name, prepared, take_turns
from graphslim.measure.feeds import random_feeds
from graphslim.measure.latency_table import Row, Table, path_of, read, write
from graphslim.measure.portable import Portable
from graphslim.measure.timed_layers import NOTHING, Lab, TimedLayer, cut_out, layers_of
from graphslim.measure.verify import runnable
from graphslim.plans import check_sizes
from graphslim.support.progress import Tick, silent
from graphslim.support.workers import Job, Worker, Workers

MULTIPLE = 8
"""Widths between two multiples take a CPU as long as the larger multiple."""
SHARES = (0.75, 0.5, 0.25)
"""Shares of a layer's channels that are measured, beside all channels and the fewest."""
_ROUNDS, _LEAST, _SECONDS = 15, 5, 1.5
"""How often each width is timed: at most and at least; less often if it takes longer than that."""


class Setting(NamedTuple):
    """The setting in which the network will run.

    Attributes:
        threads: threads within an op; 0 for as many as there are cores.
        batch: the size of an open batch.
        multiple: the widths that are measured are multiples of this.
    """

    threads: int = 1
    batch: int = 1
    multiple: int = MULTIPLE


Timer = Callable[[Graph, Sequence[Sequence[str]], Setting], Optional[List[float]]]
"""Returns the milliseconds of each target of a graph; None if the runtime does not run it."""
WholeTimer = Callable[[Graph, Setting], ContextManager[Callable[[], float]]]
"""Opens a graph in a runtime; gives a function that runs it and returns the milliseconds."""


class Timing(NamedTuple):
    """How times are taken in a runtime.

    Attributes:
        runtime: what tells the runtime and its version from others, for the cache.
        targets: times layers.
        whole: times networks.
    """

    runtime: Sequence[object]
    targets: Timer
    whole: WholeTimer


def in_tensorflow() -> Timing:
    """How times are taken in TensorFlow.

    Raises:
        RuntimeUnavailable: TensorFlow is not installed.
    """
    runtime.run_as_shipped()
    return Timing((runtime.version(), runtime.without_onednn()), time_targets, timed_whole)


def table_of(
    graph: Graph,
    setting: Setting,
    timing: Optional[Timing] = None,
    *,
    progress: Tick = silent,
    cached: bool = True,
    workers: Optional[Workers] = None,
) -> Table:
    """The latency table of a graph, from the cache, or else measured and cached.

    Args:
        graph: the graph.
        setting: how the graph will run.
        timing: how times are taken; by default in TensorFlow.
        progress: called after each layer.
        cached: whether to take a table from the cache.
        workers: who times layers, in TensorFlow on one thread each; None for this process.

    Raises:
        PlanError: sizes are open, or no layer can be timed.
        GraphslimError: the graph does not run, or a worker is another machine than this.
        RuntimeUnavailable: TensorFlow is not installed.
    """
    shared_out = workers if timing is None else None
    timing = timing or in_tensorflow()
    machine = (*timing.runtime, cpu_name())
    digest = hashlib.sha256(serialize(graph)).hexdigest()
    path = path_of([digest, graph.inputs, graph.outputs, graph.input_shapes, *machine, *setting])
    table = read(path) if cached else None
    if table is None:
        runner = runnable(graph)
        known = {} if shared_out is None else _timed_by(shared_out, runner, setting, progress)
        with timing.whole(runner, setting) as time_graph:
            table = build(runner, setting, timing.targets, time_graph, progress, known)
        write(path, table)
    return table


def build(
    graph: Graph,
    setting: Setting,
    timer: Timer,
    time_graph: Callable[[], float],
    progress: Tick = silent,
    known: Optional[Mapping[str, Optional[Row]]] = None,
) -> Table:
    """Times every layer of a graph at several widths; equal layers are timed once.

    Args:
        graph: the graph, which a CPU can run.
        setting: how the graph will run.
        timer: times the copies of a layer.
        time_graph: returns the milliseconds of one run of the graph; called after each layer, so
            that the least of its times is as little disturbed as the least times of the layers.
        progress: called after each layer.
        known: by the digest of a layer, times that were taken before.

    Raises:
        PlanError: sizes are open, or no layer can be timed.
    """
    check_sizes(graph, "--latency")
    channels = analyse(graph)
    layers = layers_of(graph, channels)
    rows: Dict[str, Row] = {}
    timed = dict(known or {})
    least = time_graph()
    for number, layer in enumerate(layers):
        ready = _bench(channels, layer, setting)
        text = "not measured"
        if ready is not None:
            if ready.digest not in timed:
                timed[ready.digest] = ready.row(timer, setting)
            row = timed[ready.digest]
            if row is not None:
                rows[layer.name] = row
                text = f"{row.ms[-1][-1]:.3g} ms"
        least = min(least, time_graph())
        progress(number + 1, len(layers), f"latency of {layer.name}: {text}")
    if not rows:
        raise PlanError(
            "none of its layers can be timed", graph.name, "choose another budget, such as --params"
        )
    full = sum([row.ms[-1][-1] for row in rows.values()])
    return Table(rows, max(0.0, least - full))


class _Bench(NamedTuple):
    """A layer that can be timed.

    Attributes:
        sides: the widths that it reads and makes.
        lab: its copies at these widths.
        digest: a text that is equal for layers of equal time.
    """

    sides: List[List[int]]
    lab: Lab
    digest: str

    def row(self, timer: Timer, setting: Setting) -> Optional[Row]:
        """Its times; None where the runtime does not run it."""
        return _row(self.sides, timer(self.lab.graph, self.lab.targets, setting))


def _bench(channels: Channels, layer: TimedLayer, setting: Setting) -> Optional[_Bench]:
    """A layer, to be timed; None where it cannot be cut out."""
    sides = _widths_of(layer, channels.pinned(), setting.multiple)
    gone = [without(layer, channels.pinned(), *sizes) for sizes in itertools.product(*sides)]
    lab = cut_out(channels, layer, gone, setting.batch)
    return None if lab is None else _Bench(sides, lab, _digest(lab))


def _timed_by(
    workers: Workers, graph: Graph, setting: Setting, progress: Tick
) -> Dict[str, Optional[Row]]:
    """By digest, the times of the layers of a graph, taken by workers; none where that is no use.

    Processes of one machine take their time from each other. Processor time leaves that out but for
    what two threads of one core share, so that a machine takes half as many times at once as it
    counts cores. Time by the clock is not shared out at all.

    Raises:
        GraphslimError: a worker is another machine, or has another TensorFlow.
    """
    at_once = None if workers.here is None else min(workers.here, (os.cpu_count() or 1) // 2)
    if setting.threads != 1 or at_once in (0, 1):
        return {}
    check_sizes(graph, "--latency")
    channels = analyse(graph)
    first: Dict[str, int] = {}
    for number, layer in enumerate(layers_of(graph, channels)):
        ready = _bench(channels, layer, setting)
        if ready is not None:
            first.setdefault(ready.digest, number)
    job = Job(_layer_timer, (Portable.of(graph), setting))
    tasks = [(number,) for number in first.values()]
    rows = []
    for machine, row in workers.map(job, tasks, "latency of a layer", progress, at_once):
        if machine != _machine():
            raise GraphslimError(
                f"a worker is {', '.join(map(str, machine))}, and this machine "
                f"{', '.join(map(str, _machine()))}",
                "--workers",
                "time layers where the network will run: leave it out, or use workers like this",
            )
        rows.append(row)
    return dict(zip(first, rows))


def _machine() -> Tuple[object, ...]:
    """What the times depend on, beside the setting."""
    return cpu_name(), f"TensorFlow {runtime.version()}", runtime.without_onednn()


def _layer_timer(portable: Portable, setting: Setting) -> Worker:
    graph = portable.graph()
    channels = analyse(graph)
    layers = layers_of(graph, channels)

    def timed(number: int) -> Tuple[Tuple[object, ...], Optional[Row]]:
        ready = _bench(channels, layers[number], setting)
        return _machine(), None if ready is None else ready.row(time_targets, setting)

    return timed


def widths(labels: np.ndarray, pinned: np.ndarray, multiple: int) -> List[int]:
    """The widths to measure along one side of a layer, in ascending order.

    Args:
        labels: the labels of its channels; int64 of shape (n,).
        pinned: which channels of the graph have to stay; bool of shape (channels.count,).
        multiple: widths below the full one are rounded up to multiples of this, as plans do.
    """
    full, least = len(labels), int(np.count_nonzero(pinned[labels]))
    if full in (0, least):
        return [full]
    rounded = [-(-int(full * share) // multiple) * multiple for share in SHARES]
    return sorted({full, *[min(full, max(least, width, multiple)) for width in (0, *rounded)]})


def without(layer: TimedLayer, pinned: np.ndarray, reads: int, makes: int) -> np.ndarray:
    """The channels to remove so that a layer has some widths: the last that are not pinned.

    Args:
        layer: the layer.
        pinned: which channels of the graph have to stay; bool of shape (channels.count,).
        reads, makes: how many channels the layer reads and makes then.

    Returns:
        bool of shape (channels.count,).
    """
    gone = np.zeros(len(pinned), bool)
    for labels, width in zip(layer.sides, (reads, makes)):
        free = labels[~pinned[labels]]
        gone[free[max(0, len(free) - (len(labels) - width)) :]] = True
    return gone


def _widths_of(layer: TimedLayer, pinned: np.ndarray, multiple: int) -> List[List[int]]:
    """The widths that a layer reads and makes to measure; if tied, makes has the full one only."""
    sides = [widths(labels, pinned, multiple) for labels in layer.sides]
    return sides if len(sides) > 1 else [*sides, [len(layer.sides[0])]]


def _row(sides: Sequence[Sequence[int]], ms: Optional[Sequence[float]]) -> Optional[Row]:
    if ms is None:
        return None
    reads, makes = sides
    lines = np.reshape(ms, (len(reads), len(makes)))
    return Row(tuple(reads), tuple(makes), tuple([tuple(line) for line in lines.tolist()]))


def _digest(lab: Lab) -> str:
    """A text that is equal for layers of equal time: ops, attributes and shapes, no values."""
    parts: List[str] = []
    number: Dict[str, int] = {}
    for node in lab.graph.order():
        number[node.name] = len(number)
        attrs = [
            f"{key}={getattr(value, 'shape', value)!r}" for key, value in sorted(node.attrs.items())
        ]
        inputs = [(number[port.node], port.port) for port in lab.graph.inputs_of(node)]
        parts.append(f"{node.op} {inputs} {attrs}")
    parts.append(str([[number[name] for name in names] for names in lab.targets]))
    return "\n".join(parts)


def clock_for(setting: Setting) -> Callable[[], float]:
    """The clock for layers, in seconds: with one thread, the processor time of this process.

    Other programs on the machine do not affect processor time; they would disturb a long run more
    than a short one. With several threads it would add up the time of all of them.
    """
    return time.process_time if setting.threads == 1 else time.perf_counter


def above_the_first(actions: Sequence[Callable[[], Any]], setting: Setting) -> List[float]:
    """Milliseconds of each action but the first, whose time is subtracted: it computes nothing.

    They are the least of several runs, since disturbances only add time.
    """
    started = time.perf_counter()
    take_turns(actions, 1, 1)
    seconds_per_round = (time.perf_counter() - started) / 2
    rounds = int(min(_ROUNDS, max(_LEAST, _SECONDS / seconds_per_round)))
    least = take_turns(actions, rounds, clock=clock_for(setting)).min(axis=0) * 1e3
    above: List[float] = np.maximum(least[1:] - least[0], 0).tolist()
    return above


def time_targets(
    graph: Graph, targets: Sequence[Sequence[str]], setting: Setting
) -> Optional[List[float]]:
    """Milliseconds of each target above those of a run that computes nothing."""
    try:
        with runtime.Session(graph, setting.threads) as session:
            actions = [session.prepare({}, names) for names in [[NOTHING], *targets]]
            return above_the_first(actions, setting)
    except VerifyError:
        return None


@contextlib.contextmanager
def timed_whole(graph: Graph, setting: Setting) -> Iterator[Callable[[], float]]:
    """A function that runs a graph on random inputs and returns the milliseconds.

    Raises:
        GraphslimError: the graph does not run.
    """
    with prepared(graph, random_feeds(graph, 0, setting.batch), setting.threads) as action:
        take_turns([action], 1, 1)
        yield lambda: float(take_turns([action], 2, clock=clock_for(setting)).min() * 1e3)
