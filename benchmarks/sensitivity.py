"""Holds budgets by measured sensitivity against uniform ones and global rankings.

python -m benchmarks.sensitivity [MODEL.pb] [--images 300] [--macs 0.75 0.5] [--repaired]

The network is one of `fashion.py`. Nothing is repaired, so that what differs is the choice alone;
with --repaired, sensitivity is measured and results are judged after least squares. Error (the
share of what the output varies by) and accuracy are on test images that no choice has seen.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

from benchmarks import fashion
from benchmarks.repair import accuracy
from benchmarks.results import table
from benchmarks.work import ROOT

TESTED, AT_ONCE, FITTED = 2000, 200, 2000


def budgets(graph: Any, data: Any, repaired: bool) -> List[Tuple[str, Dict[str, Any]]]:
    """What is compared: a title, and what `gs.plan` is told."""
    import graphslim as gs

    ways: List[Tuple[str, Dict[str, Any]]] = [("global, taylor", {"criterion": "taylor"})]
    criteria = ("taylor", "obs") if repaired else ("taylor",)
    if repaired:
        ways.append(("global, obs", {"criterion": "obs"}))
    else:
        ways.append(("uniform, l1", {"criterion": "l1", "rank": "local"}))
        ways.append(("uniform, taylor", {"criterion": "taylor", "rank": "local"}))
    for criterion in criteria:
        began = time.perf_counter()
        curves = gs.sensitivity(graph, data=data, criterion=criterion, repaired=repaired)
        seconds = time.perf_counter() - began
        print(f"{criterion}: {len(curves.losses)} measurements in {seconds:.0f} s", flush=True)
        ways.append((f"sensitivity, {criterion}", {"allocate": curves}))
    return ways


def main() -> None:
    """Prints a table."""
    import graphslim as gs

    parser = argparse.ArgumentParser(description="Measures budgets by sensitivity.")
    parser.add_argument("model", nargs="?", type=Path, default=ROOT / "build/fashion/resnet.pb")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--macs", nargs="*", type=float, default=[0.75, 0.5])
    parser.add_argument("--repaired", action="store_true", help="with least squares throughout")
    options = parser.parse_args()
    graph = gs.load(str(options.model))
    (name,) = graph.inputs
    images = fashion.read("train").images
    data = {name: images[: options.images]}
    test = fashion.read("t10k")
    test = fashion.Labelled(test.images[:TESTED], test.labels[:TESTED])
    ways = budgets(graph, data, options.repaired)
    rows: List[List[str]] = []
    for macs in options.macs:
        for title, chosen in ways:
            plan = gs.plan(graph, macs=macs, data=data, batch=32, **chosen)
            slim = gs.apply(graph, plan)
            if options.repaired:
                given = {name: images[:FITTED]}
                slim = gs.repair(graph, slim, plan, data=given, stages=["least-squares"]).graph
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
