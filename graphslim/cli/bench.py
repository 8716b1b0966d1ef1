"""`graphslim bench`: how fast models run, side by side."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import click

from graphslim.cli import console
from graphslim.cli.console import Console
from graphslim.cli.files import are_graphs, models_of, opening_of, runtime_option, tell_data
from graphslim.cli.option_types import names_of, quiet_option, whole_number
from graphslim.cli.options import Reading, Sectioned, model_options, sample_options
from graphslim.cli.tables import print_table
from graphslim.delivery.formats import Wish
from graphslim.engines import RUNTIMES, installed
from graphslim.errors import GraphslimError
from graphslim.ir import Graph
from graphslim.measure.bench import RUNS, WARMUP, Bench, Spread
from graphslim.measure.bench import bench as measure
from graphslim.measure.images import Images
from graphslim.measure.timings import Everywhere, Timings, time_everywhere, time_models
from graphslim.runtime import run_as_shipped
from graphslim.support.text import plural, threads_used


@click.command(cls=Sectioned)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.argument("more", nargs=-1, metavar="[MORE]...")
@runtime_option
@click.option(
    "--in",
    "places",
    multiple=True,
    callback=names_of,
    metavar="RUNTIME,...",
    help="Convert both graphs to what these runtimes read, and time them there: all (that are "
    "installed), or names as for --runtime.",
)
@whole_number("--threads", 0, 1, "Threads within an op; 0: as many as there are cores.")
@whole_number("--runs", 1, RUNS, "How often each graph is timed.")
@whole_number("--warmup", 0, WARMUP, "How often each graph is run before that.")
@quiet_option
@sample_options
@model_options
def bench(
    first: str,
    second: str,
    more: Tuple[str, ...],
    runtime: Optional[str],
    places: List[str],
    threads: int,
    data: Optional[Images],
    seed: int,
    batch: int,
    runs: int,
    warmup: int,
    quiet: bool,
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Time models in turns in one run, on the same inputs.

    Each is a graph as other commands read it, .tflite or .onnx, and is timed in the runtime of its
    format, or in --runtime: graphs as TensorFlow optimises them. Only the first batch of --data is
    timed.
    """
    started = time.perf_counter()
    run_as_shipped()  # before a model's variables are read, which loads TensorFlow
    paths = (first, second, *more)
    given: Dict[str, Any] = dict(batch=batch, runs=runs, warmup=warmup, seed=seed, data=data)
    times: Union[Bench, Timings, Everywhere]
    if places:
        runtimes = _runtimes_in(places, paths, runtime)
        original, changed = reading.load_pair(first, second)
        tell_data(original, data, batch)
        with console.bar(console.err, quiet) as tick, _exporting() as export:
            times = time_everywhere(
                original,
                changed,
                runtimes,
                export,
                threads,
                names=paths,
                progress=tick,
                **given,
            )
    elif are_graphs(paths, runtime) and not more:
        original, changed = reading.load_pair(first, second)
        tell_data(original, data, batch)
        with console.bar(console.err, quiet) as tick:
            times = measure(original, changed, threads=threads, progress=tick, **given)
    else:
        models = models_of(paths, runtime, reading)
        with console.bar(console.err, quiet) as tick:
            times = time_models(
                models,
                opening_of(runtime, threads, reading),
                progress=tick,
                tell=lambda graph: tell_data(graph, data, batch),
                names=paths,
                **given,
            )
    if verbose:
        console.err.print(f"read and timed in {time.perf_counter() - started:.2f} s")
    if as_json:
        console.print_json(times.as_dict())
    elif isinstance(times, Bench):
        print_bench(console.out, times)
    elif isinstance(times, Everywhere):
        print_everywhere(console.out, times)
    else:
        print_timings(console.out, times)
    return console.OK


def _runtimes_in(places: Sequence[str], paths: Sequence[str], runtime: Optional[str]) -> List[str]:
    """The runtimes that --in names.

    Raises:
        GraphslimError: it names none, or the models are not two graphs.
    """
    unknown = [name for name in places if name not in (*RUNTIMES, "all")]
    if unknown:
        raise GraphslimError(
            f"no runtime {unknown[0]!r}", "--in", f"all, or of {', '.join(RUNTIMES)}"
        )
    if runtime is not None or len(paths) != 2 or not are_graphs(paths, None):
        raise GraphslimError(
            "converts two graphs, the original and the pruned",
            "--in",
            "give two .pb files or SavedModels and no --runtime; files that are converted already "
            "are timed without --in",
        )
    return list(installed() if "all" in places else dict.fromkeys(places))


@contextlib.contextmanager
def _exporting() -> Iterator[Callable[[Graph, str], Any]]:
    """What writes a graph in the format of a path, by one converter for all."""
    from graphslim.delivery.converter import Converter
    from graphslim.delivery.run import written

    with Converter() as converter:
        yield functools.partial(written, converter, wish=Wish())


def print_bench(console: Console, times: Bench) -> None:
    """Prints median and quartiles of both graphs, their ratio, and where they were measured."""
    rows = [
        (name, f"{latency.median:.2f} ms", f"{latency.low:.2f} to {latency.high:.2f} ms")
        for name, latency in zip(times.names, (times.first, times.second))
    ]
    print_table(console, "Latency", ("graph", ">median", ">middle half of the runs"), rows)
    console.print(gain(times.ratio))
    console.print(
        f"TensorFlow {times.tensorflow}{', oneDNN off' if times.onednn_off else ''}"
        f" on {_conditions(times)}"
    )
    if times.nhwc_twins:
        console.print("Run as NHWC twins: TensorFlow's CPU kernels take no NCHW.")


def _conditions(times: Union[Bench, Timings]) -> str:
    """Where and how often something was timed."""
    return (
        f"{times.cpu}, {threads_used(times.threads)}, batch {times.batch}, "
        f"{plural(times.runs, 'run')} of each, in turns, after {times.warmup} to warm up"
    )


def print_timings(console: Console, times: Timings) -> None:
    """Prints for each model what ran it, median and quartiles, ratio to the first, and size."""
    columns = ("model", "+run by", ">median", ">middle half of the runs", ">of the first", ">size")
    rows = [
        (
            timed.name,
            timed.version,
            f"{timed.latency.median:.2f} ms",
            f"{timed.latency.low:.2f} to {timed.latency.high:.2f} ms",
            f"{timed.ratio.median:.3g}" if number else "",
            f"{timed.size / 1e6:.2f} MB",
        )
        for number, timed in enumerate(times.models)
    ]
    print_table(console, "Latency", columns, rows)
    if len(times.models) == 2:
        console.print(gain(times.models[1].ratio))
    console.print(f"On {_conditions(times)}")
    for note in times.notes:
        console.print(note)


def print_everywhere(console: Console, times: Everywhere) -> None:
    """Prints for each runtime the medians of both graphs, their ratio, and the sizes of files.

    Beside the ratio stands its middle half over the runs.
    """
    columns = ("runtime", ">original", ">pruned", ">ratio", ">original file", ">pruned file")
    rows = []
    for timings in times.timings.values():
        first, second = timings.models
        ratio = second.ratio
        rows.append(
            (
                first.version,
                f"{first.latency.median:.2f} ms",
                f"{second.latency.median:.2f} ms",
                f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})",
                f"{first.size / 1e6:.2f} MB",
                f"{second.size / 1e6:.2f} MB",
            )
        )
    print_table(console, "Latency in each runtime", columns, rows)
    conditions = [_conditions(timings) for timings in times.timings.values()]
    console.print(f"On {conditions[0]}")
    for note in dict.fromkeys([note for each in times.timings.values() for note in each.notes]):
        console.print(note)
    for timings in times.timings.values():
        ratio = timings.models[1].ratio
        if ratio.low > 1:
            console.print(f"{timings.models[0].version}: {gain(ratio)}.", style="bold red")
    for reason in times.left_out.values():
        console.print(f"Left out: {reason}")


def gain(ratio: Spread) -> str:
    """A sentence about the second graph's time as a share of the first's."""
    text = f"The second takes {ratio.median:.3g} of the time ({ratio.low:.3g} to {ratio.high:.3g})"
    if ratio.low <= 1 <= ratio.high:
        return f"{text}: no difference beyond the spread"
    if ratio.median < 1:
        return f"{text}: {1 / ratio.median:.2f} times as fast"
    return f"{text}: slower"
