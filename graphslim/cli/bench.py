"""`graphslim bench`: how fast two graphs run, side by side."""

from __future__ import annotations

import time
from typing import Optional

import click

from graphslim import runtime
from graphslim.cli import console
from graphslim.cli.console import Console, print_table
from graphslim.cli.files import tell_data
from graphslim.cli.option_types import quiet_option, whole_number
from graphslim.cli.options import Reading, model_options, sample_options
from graphslim.measure.bench import RUNS, WARMUP, Bench, Spread
from graphslim.measure.bench import bench as measure
from graphslim.measure.images import Images
from graphslim.support.text import plural


@click.command()
@click.argument("first", metavar="A.pb")
@click.argument("second", metavar="B.pb")
@whole_number("--threads", 0, 1, "Threads within an op; 0: as many as there are cores.")
@whole_number("--runs", 1, RUNS, "How often each graph is timed.")
@whole_number("--warmup", 0, WARMUP, "How often each graph is run before that.")
@quiet_option
@sample_options
@model_options
def bench(
    first: str,
    second: str,
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
    """Time two graphs in turns in one run, as TensorFlow optimises them, on the same inputs.

    Only the first batch of --data is timed.
    """
    started = time.perf_counter()
    runtime.run_as_shipped()  # before a model's variables are read, which loads TensorFlow
    original, changed = reading.load_pair(first, second)
    tell_data(original, data, batch)
    with console.bar(console.err, quiet) as tick:
        times = measure(
            original,
            changed,
            threads=threads,
            batch=batch,
            runs=runs,
            warmup=warmup,
            seed=seed,
            data=data,
            progress=tick,
        )
    if verbose:
        console.err.print(f"read and timed in {time.perf_counter() - started:.2f} s")
    if as_json:
        console.print_json(times.as_dict())
    else:
        print_bench(console.out, times)
    return console.OK


def print_bench(console: Console, times: Bench) -> None:
    """Prints median and quartiles of both graphs, their ratio, and where they were measured."""
    rows = [
        (name, f"{latency.median:.2f} ms", f"{latency.low:.2f} to {latency.high:.2f} ms")
        for name, latency in zip(times.names, (times.first, times.second))
    ]
    print_table(console, "Latency", ("graph", ">median", ">middle half of the runs"), rows)
    console.print(gain(times.ratio))
    threads = plural(times.threads, "thread") if times.threads else "as many threads as cores"
    console.print(
        f"TensorFlow {times.tensorflow}{', oneDNN off' if times.onednn_off else ''}"
        f" on {times.cpu}, {threads}, batch {times.batch}, {plural(times.runs, 'run')} of each,"
        f" in turns, after {times.warmup} to warm up"
    )
    if times.nhwc_twins:
        console.print("Run as NHWC twins: TensorFlow's CPU kernels take no NCHW.")


def gain(ratio: Spread) -> str:
    """A sentence about the second graph's time as a share of the first's."""
    text = f"The second takes {ratio.median:.3g} of the time ({ratio.low:.3g} to {ratio.high:.3g})"
    if ratio.low <= 1 <= ratio.high:
        return f"{text}: no difference beyond the spread"
    if ratio.median < 1:
        return f"{text}: {1 / ratio.median:.2f} times as fast"
    return f"{text}: slower"
