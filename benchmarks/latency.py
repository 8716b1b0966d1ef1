"""How fast the pruned network runs: against the original, and against one built at its widths.

python -m benchmarks.latency FOLDER PLATFORM NETWORK THREADS BATCH SECONDS
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import graphslim as gs
from benchmarks.built import KINDS, path_of
from benchmarks.work import Files, quartiles, tell
from graphslim import runtime
from graphslim.measure.bench import take_turns
from graphslim.measure.feeds import random_feeds
from graphslim.runtime.session import tensor_name

WARMUP = 3
LEAST, MOST = 5, 60
"""Rounds: as many as the seconds allow, within these."""


def measure(files: Files, threads: int, batch: int, seconds: float) -> Dict[str, Any]:
    """Milliseconds per run of each kind, and ratios round by round.

    The pruned network takes turns with the original, and then with the built one: beside both,
    whichever of the two smaller ones follows the original would find the caches cold.
    """
    runtime.run_as_shipped()
    graphs = [gs.load(str(path_of(files, kind, batch))) for kind in KINDS]
    with contextlib.ExitStack() as opened:
        actions: List[Callable[[], Any]] = []
        for graph in graphs:
            feeds = random_feeds(graph, batch=batch)
            session = opened.enter_context(runtime.Session(graph, threads))
            session.run(feeds)
            actions.append(
                session.prepare(feeds, [tensor_name(str(port)) for port in graph.outputs])
            )
        began = time.perf_counter()
        take_turns(actions, 1, 1)
        round_ = (time.perf_counter() - began) / 2
        rounds = int(min(MOST, max(LEAST, seconds / round_ - WARMUP)))
        original, first = 1e3 * take_turns(actions[:2], rounds, WARMUP).T
        pruned, built = 1e3 * take_turns(actions[1:], 2 * rounds, WARMUP).T
    costs = [gs.cost(graph).macs for graph in graphs]
    return {
        "milliseconds": dict(zip(KINDS, map(quartiles, (original, pruned, built)))),
        "to original": quartiles(first / original),
        "to built": quartiles(pruned / built),
        "macs": costs[1] / costs[0] if costs[0] and costs[1] else None,
        "rounds": rounds,
        "tensorflow": runtime.version(),
    }


def main() -> None:
    """Tells the result."""
    place, platform, name, threads, batch, seconds = sys.argv[1:]
    files = Files(name, Path(place) / platform / name)
    tell(measure(files, int(threads), int(batch), float(seconds)))


if __name__ == "__main__":
    main()
