"""Two graphs' latency, side by side."""

from __future__ import annotations

from graphslim.bench import Bench, Spread
from graphslim.show.console import Console, print_table
from graphslim.support.text import plural


def print_bench(console: Console, found: Bench) -> None:
    """Median and quartiles of both graphs, what the second gains, and where that was measured."""
    rows = [
        (name, f"{one.median:.2f} ms", f"{one.low:.2f} to {one.high:.2f} ms")
        for name, one in zip(found.names, (found.first, found.second))
    ]
    print_table(console, "Latency", ("graph", ">median", ">middle half of the runs"), rows)
    console.print(gain(found.ratio))
    threads = plural(found.threads, "thread") if found.threads else "as many threads as cores"
    console.print(
        f"TensorFlow {found.tensorflow}{', oneDNN off' if found.onednn_off else ''}"
        f" on {found.cpu}, {threads}, batch {found.batch}, {plural(found.runs, 'run')} of each,"
        f" in turns, after {found.warmup} to warm up"
    )
    if found.nhwc_twins:
        console.print("Run as NHWC twins: TensorFlow's CPU kernels take no NCHW.")


def gain(ratio: Spread) -> str:
    """What the second graph takes of the first one's time, in words."""
    text = f"The second takes {ratio.median:.3g} of the time ({ratio.low:.3g} to {ratio.high:.3g})"
    if ratio.low <= 1 <= ratio.high:
        return f"{text}: no difference beyond the spread"
    if ratio.median < 1:
        return f"{text}: {1 / ratio.median:.2f} times as fast"
    return f"{text}: slower"
