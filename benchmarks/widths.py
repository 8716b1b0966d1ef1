"""Shows at which widths convolutions are fast here: what the default of `--multiple-of` rests on.

Each graph holds one layer twenty times over, so that what a run costs by itself counts little; the
widths of one row are timed in turns, in one run.
"""

from __future__ import annotations

import argparse
from typing import List, Sequence

import graphslim as gs
from graphslim import runtime
from graphslim.measure.bench import cpu_name, spread, take_turns
from graphslim.measure.feeds import random_feeds
from graphslim.runtime import Session
from graphslim.testing import from_text

COPIES = 20
ROWS = (
    ("1x1, 56x56, 64 in", "Conv2D", 1, 56, 64, (31, 32, 33, 36, 40, 48)),
    ("1x1, 56x56, 64 in", "Conv2D", 1, 56, 64, (63, 64, 65, 68, 72, 80)),
    ("3x3, 28x28, 64 in", "Conv2D", 3, 28, 64, (31, 32, 33, 36, 40, 48)),
    ("3x3 depthwise, 56x56", "DepthwiseConv2dNative", 3, 56, 0, (31, 32, 33, 36, 40, 48)),
)
"""A name, the op, its kernel, the map's height, channels in (0: as many as out), channels out."""


def layer(op: str, kernel: int, size: int, reads: int, makes: int) -> gs.Graph:
    """A graph with the layer `COPIES` times, all reading one input."""
    shape = f"{kernel},{kernel},{reads or makes},{makes if reads else 1}"
    lines = [f"x = Placeholder() dtype=float32 shape=<1,{size},{size},{reads or makes}>"]
    for copy in range(COPIES):
        lines.append(f"w{copy} = Const() dtype=float32 value=float32[{shape}]{{random {copy}}}")
        lines.append(
            f'y{copy} = {op}(x, w{copy}) T=float32 data_format="NHWC" padding="SAME" '
            "strides=[1,1,1,1]"
        )
        # One number per layer, so that fetching it costs nothing.
        lines.append(f"a{copy} = Const() dtype=int32 value=int32[4]{{0 1 2 3}}")
        lines.append(f"m{copy} = Max(y{copy}, a{copy}) T=float32 Tidx=int32 keep_dims=false")
    return from_text("\n".join(lines))


def measured(graphs: Sequence[gs.Graph], runs: int) -> List[float]:
    """Microseconds that one layer of each graph takes: medians."""
    sessions = [Session(graph, threads=1) for graph in graphs]
    actions = []
    for graph, session in zip(graphs, sessions):
        feeds = random_feeds(graph)
        session.run(feeds)
        actions.append(session.prepare(feeds, [f"{port.node}:0" for port in graph.outputs]))
    seconds = take_turns(actions, runs, warmup=3)
    for session in sessions:
        session.__exit__()
    return [1e6 * spread(column).median / COPIES for column in seconds.T]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30, help="how often each is timed")
    options = parser.parse_args()
    runtime.run_as_shipped()
    print(f"TensorFlow {runtime.version()}, one thread, {cpu_name()}: microseconds per layer")
    for name, op, kernel, size, reads, widths in ROWS:
        times = measured([layer(op, kernel, size, reads, one) for one in widths], options.runs)
        cells = "  ".join([f"{width}: {time:.0f}" for width, time in zip(widths, times)])
        print(f"{name:22}  {cells}")


if __name__ == "__main__":
    main()
