"""Measures what each deploy pass brings: latency, size of the file, and how far the outputs move.

    python benchmarks/passes.py model.pb ...              # graphs that you have
    python benchmarks/passes.py --keras MobileNetV2       # frozen by the installed TensorFlow

Every variant of a network is timed in turns with the network as it is, in one run, as TensorFlow
optimises them. A ratio is the median over rounds of a variant's time by the original's, with its
quartiles; below 1 is faster.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np

import graphslim as gs
from graphslim import runtime
from graphslim.measure.bench import cpu_name, spread, take_turns
from graphslim.measure.feeds import random_feeds
from graphslim.measure.fidelity import difference
from graphslim.measure.verify import runnable
from graphslim.pipeline.presets import PASSES
from graphslim.runtime import Session
from graphslim.runtime.session import tensor_name

VARIANTS: Dict[str, Tuple[str, ...]] = {
    "as it is": (),
    "fold-identity": ("fold-identity", "drop-unused"),
    "drop-debris": ("drop-debris", "drop-unused"),
    "fold-constants": ("fold-constants", "drop-unused"),
    "fold-batch-norm": ("fold-batch-norm", "drop-unused"),
    "merge-duplicates": ("merge-duplicates",),
    "half-weights": ("half-weights",),
    "--optimize": PASSES,
    "and half": (*PASSES, "half-weights"),
}
"""By name, the passes that run one after the other."""


@contextlib.contextmanager
def networks(options: argparse.Namespace) -> Iterator[List[gs.Graph]]:
    """The graphs to measure."""
    found = [gs.load(path) for path in options.files]
    with tempfile.TemporaryDirectory() as folder:
        for name in options.keras:
            sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
            from freezing import freeze

            place = Path(folder) / name
            place.mkdir()
            graph = freeze(name, place).graph
            graph.name = name
            found.append(graph)
        yield found


def variants(graph: gs.Graph, names: Sequence[str]) -> List[gs.Graph]:
    """A graph after each list of passes; the first is the graph as it is."""
    found = []
    for name in names:
        twin = graph.copy()
        gs.Pipeline(VARIANTS[name]).run(twin)
        found.append(twin)
    return found


def measure(graph: gs.Graph, names: Sequence[str], options: argparse.Namespace) -> None:
    """Prints one table."""
    graphs = variants(graph, names)
    feeds = random_feeds(graph, 0, options.batch)
    fetches = [tensor_name(str(port)) for port in graph.outputs]
    before = len(gs.serialize(graph))
    for threads in options.threads:
        with contextlib.ExitStack() as opened:
            sessions = [
                opened.enter_context(Session(runnable(one), threads=threads)) for one in graphs
            ]
            results = [session.run(feeds) for session in sessions]
            actions = [session.prepare(feeds, fetches) for session in sessions]
            seconds = take_turns(actions, options.runs, options.warmup)
        base = seconds[:, 0]
        print(f"\n{graph.name}, threads: {threads}, {1e3 * np.median(base):.2f} ms")
        print(f"{'passes':18} {'latency':>8} {'quartiles':>14} {'size':>6} {'difference':>11}")
        for place, name in enumerate(names):
            ratio = spread(seconds[:, place] / base)
            moved = max(difference("", *pair).relative for pair in zip(results[0], results[place]))
            size = len(gs.serialize(graphs[place])) / before
            print(
                f"{name:18} {ratio.median:8.3f} {ratio.low:7.3f}-{ratio.high:.3f}"
                f" {size:6.3f} {moved:11.1e}"
            )
        sys.stdout.flush()


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="frozen graphs")
    parser.add_argument("--keras", nargs="*", default=[], help="names in keras.applications")
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=60, help="rounds that count")
    parser.add_argument("--warmup", type=int, default=5, help="rounds before that")
    parser.add_argument("--only", nargs="*", help="variants to measure, by name")
    options = parser.parse_args()
    runtime.run_as_shipped()
    unknown = [name for name in options.only or () if name not in VARIANTS]
    if unknown:
        parser.error(f"no variant {unknown[0]!r}; there are: {', '.join(VARIANTS)}")
    wanted = [name for name in VARIANTS if not options.only or name in options.only]
    names = ["as it is", *[name for name in wanted if name != "as it is"]]
    print(f"TensorFlow {runtime.version()}, {cpu_name()}, batch {options.batch}")
    with networks(options) as graphs:
        for graph in graphs:
            measure(graph, names, options)


if __name__ == "__main__":
    main()
