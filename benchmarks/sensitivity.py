"""Holds budgets by measured sensitivity against uniform ones and global rankings.

python -m benchmarks.sensitivity [MODEL.pb] [--images 300] [--macs 0.75 0.5]

The network is one of `fashion.py`. Nothing is repaired, so that what differs is the choice alone.
Error (the share of what the output varies by) and accuracy are on test images that no choice has
seen.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, List

from benchmarks import fashion
from benchmarks.repair import accuracy
from benchmarks.results import table
from benchmarks.work import ROOT

TESTED, AT_ONCE = 2000, 200


def main() -> None:
    """Prints a table."""
    import graphslim as gs

    parser = argparse.ArgumentParser(description="Measures budgets by sensitivity.")
    parser.add_argument("model", nargs="?", type=Path, default=ROOT / "build/fashion/resnet.pb")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--macs", nargs="*", type=float, default=[0.75, 0.5])
    options = parser.parse_args()
    graph = gs.load(str(options.model))
    (name,) = graph.inputs
    data = {name: fashion.read("train").images[: options.images]}
    test = fashion.read("t10k")
    test = fashion.Labelled(test.images[:TESTED], test.labels[:TESTED])
    began = time.perf_counter()
    curves = gs.sensitivity(graph, data=data)
    seconds = time.perf_counter() - began
    print(f"{len(curves.losses)} measurements in {seconds:.0f} s")
    rows: List[List[str]] = []
    for macs in options.macs:
        for title, chosen in (
            ("uniform, l1", {"criterion": "l1", "rank": "local"}),
            ("uniform, taylor", {"criterion": "taylor", "rank": "local"}),
            ("global, taylor", {"criterion": "taylor"}),
            ("measured sensitivity", {"allocate": curves}),
        ):
            given: Any = chosen
            plan = gs.plan(graph, macs=macs, data=data, batch=32, **given)
            slim = gs.apply(graph, plan)
            change = gs.verify(graph, slim, data={name: test.images}, batch=AT_ONCE)
            predicted = plan.settings.get("loss", {}).get("predicted")
            rows.append(
                [
                    title,
                    f"{(plan.macs[1] or 0) / (plan.macs[0] or 1):.3f}",
                    f"{change.error:.3f}",
                    "" if predicted is None else f"{predicted:.3f}",
                    f"{100 * accuracy(slim, name, test):.2f} %",
                ]
            )
    print(table(["budget", "MACs", "error", "predicted", "accuracy"], rows))


if __name__ == "__main__":
    main()
