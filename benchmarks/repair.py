"""Measures what a repair without labels brings back, and writes REPAIR.md: `make bench-repair`.

python -m benchmarks.repair [--folder build/fashion] [--networks resnet] [--macs 0.5]

The networks are those of `fashion.py`, which trains them where they are not there yet. A repair
sees the first images of the training set, without their labels; the accuracy is that on the 10,000
test images, which neither a repair nor the choice of channels has seen.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence

from benchmarks import fashion
from benchmarks.machine import facts
from benchmarks.results import table
from benchmarks.work import ROOT, ask, peak_megabytes, tell

CRITERIA = ("l1", "taylor", "activation", "obs")
ALLOCATED = {"obs-sensitivity": "obs", "taylor-sensitivity": "taylor"}
"""What stands for a budget shared out by a sensitivity that was measured with repaired layers."""
SHARES = (0.75, 0.5, 0.35)
IMAGES, SCORED, AT_ONCE = 8000, 256, 500


def measure(path: Path, criterion: str, macs: float, images: int, seconds: float) -> Dict[str, Any]:
    """Prunes a network and repairs it; gives the accuracy and the error after each stage."""
    import graphslim as gs

    train, test = fashion.read("train"), fashion.read("t10k")
    graph = gs.load(str(path))
    (name,) = graph.inputs
    data = {name: train.images[:images]}
    some: Any = {"data": {name: data[name][:SCORED]}, "batch": 32}
    if criterion in ALLOCATED:
        curves = gs.sensitivity(graph, criterion=ALLOCATED[criterion], repaired=True, **some)
        plan = gs.plan(graph, allocate=curves, macs=macs, **some)
    else:
        plan = gs.plan(graph, criterion=criterion, macs=macs, **({} if criterion == "l1" else some))
    slim = gs.apply(graph, plan)
    started = time.perf_counter()
    first = gs.repair(graph, slim, plan, data=data, stages=["least-squares"])
    middle = time.perf_counter()
    second = first
    if seconds:
        second = gs.repair(
            graph, first.graph, plan, data=data, stages=["distillation"], seconds=seconds
        )
    ended = time.perf_counter()
    columns: List[Dict[str, float]] = []
    for each, took in (
        (slim, 0.0),
        (first.graph, middle - started),
        (second.graph, ended - middle),
    ):
        compared = gs.verify(graph, each, data={name: test.images}, batch=AT_ONCE)
        right = accuracy(each, name, test)
        columns.append(
            {"accuracy": right, "error": compared.outputs[0].error or 0.0, "seconds": took}
        )
    return {
        "network": path.stem,
        "criterion": criterion,
        "macs": (plan.macs[1] or 0) / (plan.macs[0] or 1),
        "original": accuracy(graph, name, test),
        "steps": second.stages[0].note,
        "columns": columns,
        "gigabytes": peak_megabytes() / 1024,
    }


def accuracy(graph: Any, name: str, test: fashion.Labelled) -> float:
    """The share of images whose largest logit is that of their label."""
    from graphslim.runtime import Session

    right = 0
    with Session(graph, threads=0) as session:
        for first in range(0, len(test.labels), AT_ONCE):
            rows = slice(first, first + AT_ONCE)
            (logits,) = session.run({name: test.images[rows]})
            right += int((logits.argmax(-1) == test.labels[rows]).sum())
    return right / len(test.labels)


def page(rows: Sequence[Dict[str, Any]], machine: Dict[str, Any], options: Any) -> str:
    """The page, in Markdown."""
    heads = ["network", "criterion", "MACs", "original", "removed", "error", "least squares"]
    heads += ["error", "distilled too", "error", "lost", "steps", "seconds", "peak GB"]
    lines = []
    for row in rows:
        cells = [row["network"], row["criterion"], f"{row['macs']:.2f}", _percent(row["original"])]
        for column in row["columns"]:
            cells += [_percent(column["accuracy"]), _percent(column["error"])]
        lost = row["original"] - row["columns"][-1]["accuracy"]
        seconds = sum([column["seconds"] for column in row["columns"]])
        steps = row["steps"].partition(" step")[0]
        cells += [f"{100 * lost:.2f}", steps, f"{seconds:.0f}", f"{row['gigabytes']:.1f}"]
        lines.append(cells)
    about = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}"
    text = f"""# Repair without labels

Made by `{command()}` on {about}.

A repair saw {options.images} training images of Fashion-MNIST without labels, a quarter of them as
its gate, and trained for {options.seconds:g} s at most. Accuracy and error (as a share of what the
output varies by) are on the 10,000 test images: as the channels were removed, after least squares,
and after distillation too. `lost` is in points of accuracy, against the original; seconds are those
of the repair. A criterion with `-sensitivity` is one whose budget was shared out by
`gs.sensitivity(..., repaired=True)` on {SCORED} images; the others rank all channels at once.

"""
    return text + table(heads, lines) + "\n"


def command() -> str:
    """The command that makes the page."""
    given = " ".join(sys.argv[1:])
    return f"make bench-repair{f' ARGS={given!r}' if given else ''}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def main() -> None:
    """See the head of the file."""
    parser = argparse.ArgumentParser(description="Measures repair without labels.")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "fashion")
    parser.add_argument("--networks", nargs="*", default=sorted(fashion.NETWORKS))
    parser.add_argument("--criteria", nargs="*", default=CRITERIA)
    parser.add_argument("--macs", nargs="*", type=float, default=SHARES)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--seconds", type=float, default=480.0, help="0: least squares alone")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "REPAIR.md")
    parser.add_argument("--row", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        network, criterion, macs = options.row
        path = options.folder / f"{network}.pb"
        tell(measure(path, criterion, float(macs), options.images, options.seconds))
        return
    if not fashion.is_there():
        print(f"skipped: there is no {fashion.SOURCE} (Debian: {fashion.PACKAGE})")
        return
    rows = []
    for network in options.networks:
        path = options.folder / f"{network}.pb"
        if not path.is_file():
            ask(sys.executable, "fashion", options.folder, network)
        for criterion, macs in itertools.product(options.criteria, options.macs):
            words = ["--folder", options.folder, "--images", options.images]
            words += ["--seconds", options.seconds, "--row", network, criterion, macs]
            rows += ask(sys.executable, "repair", *words)
            print(json.dumps(rows[-1]), flush=True)
            options.output.write_text(page(rows, facts(), options), encoding="utf-8")


if __name__ == "__main__":
    main()
