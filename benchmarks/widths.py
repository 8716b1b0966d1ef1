"""Shows at which widths convolutions are fast here: what `--multiple-of` and `--for` rest on.

python -m benchmarks.widths [--runtime tf|tflite|tflite-int8|ort|openvino]

Each graph is a chain of layers that lead to the width and back again, so that what a run costs by
itself counts little and each layout has to be left as often as in a network; the widths of one row
are timed in turns, in one run.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import List, Sequence

import graphslim as gs
from benchmarks.results import table
from graphslim import runtime
from graphslim.delivery.timing import PLACES, Workshop
from graphslim.measure.bench import cpu_name, take_turns
from graphslim.measure.feeds import random_feeds
from graphslim.testing import from_text

COPIES = 10
WIDTHS = (24, 31, 32, 33, 36, 40, 44, 48, 56, 63, 64)
ROWS = (
    ("1x1, 56x56, 64", "Conv2D", 1, 56, 64),
    ("3x3, 28x28, 64", "Conv2D", 3, 28, 64),
    ("3x3 depthwise, 56x56", "DepthwiseConv2dNative", 3, 56, 0),
)
"""A name, the op, its kernel, the map's height, channels on the other side (0: it has none)."""


def chain(op: str, kernel: int, size: int, other: int, width: int) -> gs.Graph:
    """A chain of `COPIES` layers between `other` channels and `width`, or all of `width`."""
    sides = (other or width, width)
    lines = [f"x = Placeholder() dtype=float32 shape=<1,{size},{size},{sides[0]}>"]
    last = "x"
    for copy in range(COPIES):
        reads, makes = sides if copy % 2 == 0 else sides[::-1]
        shape = f"{kernel},{kernel},{reads},{makes if other else 1}"
        lines.append(f"w{copy} = Const() dtype=float32 value=float32[{shape}]{{random {copy}}}")
        lines.append(
            f'y{copy} = {op}({last}, w{copy}) T=float32 data_format="NHWC" padding="SAME" '
            "strides=[1,1,1,1]"
        )
        last = f"r{copy}"
        lines.append(f"{last} = Relu(y{copy}) T=float32")
    return from_text("\n".join(lines))


def measured(graphs: Sequence[gs.Graph], target: str, runs: int) -> List[float]:
    """Microseconds that one layer of each graph takes at least."""
    with ExitStack() as stack:
        workshop = stack.enter_context(Workshop(target))
        runners = [stack.enter_context(workshop.opened(graph)) for graph in graphs]
        actions = [runner.prepare(random_feeds(graph)) for runner, graph in zip(runners, graphs)]
        least = take_turns(actions, runs, warmup=3).min(axis=0)
    return [1e6 * float(seconds) / COPIES for seconds in least]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30, help="how often each is timed")
    parser.add_argument("--runtime", choices=sorted(PLACES), default="tf")
    options = parser.parse_args()
    runtime.run_as_shipped()
    print(f"{options.runtime}, one thread, {cpu_name()}: microseconds per layer")
    print(table(["layer", *map(str, WIDTHS)], [row(*each, options) for each in ROWS]))


def row(
    name: str, op: str, kernel: int, size: int, other: int, options: argparse.Namespace
) -> List[str]:
    """The row of one kind of layer."""
    graphs = [chain(op, kernel, size, other, width) for width in WIDTHS]
    times = measured(graphs, options.runtime, options.runs)
    return [name, *[f"{time:.0f}" for time in times]]


if __name__ == "__main__":
    main()
