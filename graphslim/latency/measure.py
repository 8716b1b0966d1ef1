"""Timing every layer of a network at several widths, on this machine's TensorFlow."""

from __future__ import annotations

import contextlib
import hashlib
import time
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim import runtime
from graphslim.analysis.channels import Channels, analyse
from graphslim.bench import cpu_name, full_name, take_turns
from graphslim.compare import runnable
from graphslim.errors import GraphslimError, PlanError, VerifyError
from graphslim.feeds import random_feeds
from graphslim.graphdef import serialize
from graphslim.ir import Graph
from graphslim.latency import store
from graphslim.latency.cut import NOTHING, Lab, cut_out
from graphslim.latency.layers import Layer, layers_of
from graphslim.latency.table import Row, Table, widths, without
from graphslim.plans import check_sizes
from graphslim.support.progress import Tick, silent

MULTIPLE = 8
"""Widths that a CPU's kernels are filled by; what is between takes as long as the next of them."""
_ROUNDS, _LEAST, _SECONDS = 15, 5, 1.5
"""How often each width is timed, or less often, where all that would take longer than so long."""


class Setting(NamedTuple):
    """How the network will run.

    Attributes:
        threads: threads within an op; 0 for as many as there are cores.
        batch: stands in for an open batch.
        multiple: the widths that are measured are multiples of this.
    """

    threads: int = 1
    batch: int = 1
    multiple: int = MULTIPLE


Timer = Callable[[Graph, Sequence[Sequence[str]], Setting], Optional[List[float]]]
"""Gives the milliseconds of each target of a graph, or None where TensorFlow does not run it."""


def table_of(
    graph: Graph, setting: Setting, *, progress: Tick = silent, cached: bool = True
) -> Table:
    """The latency table of a graph: that in the cache, or else measured now and kept.

    Args:
        graph: the graph.
        setting: how it will run.
        progress: told of each layer.
        cached: whether a table in the cache will do.

    Raises:
        PlanError: sizes are open, or no layer of it can be timed.
        GraphslimError: it does not run.
        RuntimeUnavailable: TensorFlow is not there.
    """
    runtime.run_as_shipped()
    machine = (runtime.version(), runtime.without_onednn(), cpu_name())
    digest = hashlib.sha256(serialize(graph)).hexdigest()
    path = store.path_of(
        [digest, graph.inputs, graph.outputs, graph.input_shapes, *machine, *setting]
    )
    table = store.read(path) if cached else None
    if table is None:
        with timed_whole(runnable(graph), setting) as whole:
            table = build(runnable(graph), setting, time_targets, whole, progress)
        store.write(path, table)
    return table


def build(
    graph: Graph,
    setting: Setting,
    timer: Timer,
    whole: Callable[[], float],
    progress: Tick = silent,
) -> Table:
    """Times every layer of a graph at several widths; equal layers once.

    Args:
        graph: the graph, which a CPU can run.
        setting: how it will run.
        timer: times the copies of a layer.
        whole: times the graph once, in milliseconds; called beside each layer, so that the least
            of these is as little disturbed as the least of theirs.
        progress: told of each layer.

    Raises:
        PlanError: sizes are open, or no layer can be timed.
    """
    check_sizes(graph, "--latency")
    channels = analyse(graph)
    layers = layers_of(graph, channels)
    rows: Dict[str, Row] = {}
    known: Dict[str, Optional[Row]] = {}
    least = whole()
    for number, layer in enumerate(layers):
        points = _points(channels, layer, setting.multiple)
        lab = cut_out(channels, layer, [gone for _, gone in points], setting.batch)
        text = "not measured"
        if lab is not None:
            print_of = _digest(lab)
            if print_of not in known:
                known[print_of] = _row(points, timer(lab.graph, lab.targets, setting))
            row = known[print_of]
            if row is not None:
                rows[layer.name] = row
                text = f"{row.ms[-1][-1]:.3g} ms"
        least = min(least, whole())
        progress(number + 1, len(layers), f"latency of {layer.name}: {text}")
    if not rows:
        raise PlanError(
            "none of its layers can be timed",
            graph.name,
            "choose another budget, such as --params",
        )
    full = sum([row.ms[-1][-1] for row in rows.values()])
    return Table(rows, max(0.0, least - full))


def _points(
    channels: Channels, layer: Layer, multiple: int
) -> List[Tuple[Tuple[int, int], np.ndarray]]:
    """The widths of a layer to measure, and what has to go for each; reads first, growing."""
    pinned = channels.pinned()
    if layer.tied:
        both = np.union1d(layer.reads, layer.makes)
        sides = [(reads, len(both)) for reads in widths(both, pinned, multiple)]
    else:
        sides = [
            (reads, makes)
            for reads in widths(layer.reads, pinned, multiple)
            for makes in widths(layer.makes, pinned, multiple)
        ]
    return [((reads, makes), without(layer, pinned, reads, makes)) for reads, makes in sides]


def _row(
    points: Sequence[Tuple[Tuple[int, int], np.ndarray]], ms: Optional[Sequence[float]]
) -> Optional[Row]:
    if ms is None:
        return None
    reads = sorted({sides[0] for sides, _ in points})
    makes = sorted({sides[1] for sides, _ in points})
    lines = np.reshape(ms, (len(reads), len(makes)))
    return Row(tuple(reads), tuple(makes), tuple([tuple(line) for line in lines.tolist()]))


def _digest(lab: Lab) -> str:
    """The same for layers that take the same time: ops, attributes and shapes, but no numbers."""
    parts, number = [], {}  # type: List[str], Dict[str, int]
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
    """What tells the time of layers: with one thread, the processor's time of this process.

    Other programs on the machine do not change it, and they would disturb a long run more than a
    short one. With more threads it would add up what runs at once.
    """
    return time.process_time if setting.threads == 1 else time.perf_counter


def time_targets(
    graph: Graph, targets: Sequence[Sequence[str]], setting: Setting
) -> Optional[List[float]]:
    """Milliseconds of each target, the least of several runs: what disturbs only ever adds.

    What a run takes that does nothing is left out.
    """
    clock = clock_for(setting)
    try:
        with runtime.Session(graph, setting.threads) as session:
            actions = [session.prepare({}, names) for names in [[NOTHING], *targets]]
            started = time.perf_counter()
            take_turns(actions, 1, 1)
            once = (time.perf_counter() - started) / 2
            rounds = int(min(_ROUNDS, max(_LEAST, _SECONDS / once)))
            seconds = take_turns(actions, rounds, clock=clock)
    except VerifyError:
        return None
    least = seconds.min(axis=0) * 1e3
    above: List[float] = np.maximum(least[1:] - least[0], 0).tolist()
    return above


@contextlib.contextmanager
def timed_whole(graph: Graph, setting: Setting) -> Iterator[Callable[[], float]]:
    """A function that runs a whole graph on random inputs and gives the milliseconds.

    Raises:
        GraphslimError: it does not run.
    """
    data = random_feeds(graph, 0, setting.batch)
    with contextlib.ExitStack() as opened:
        try:
            session = opened.enter_context(runtime.Session(graph, setting.threads))
            session.run(data)
        except VerifyError as error:
            raise GraphslimError(error.what, error.where, error.hint) from error
        action = session.prepare(data, [full_name(port) for port in graph.outputs])
        take_turns([action], 1, 1)
        yield lambda: float(take_turns([action], 2, clock=clock_for(setting)).min() * 1e3)
