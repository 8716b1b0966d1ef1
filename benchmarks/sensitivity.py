"""Holds budgets by measured sensitivity against uniform ones and global rankings.

python -m benchmarks.sensitivity MODEL.pb... [--images 300] [--macs 0.75 0.5] [--repaired]
python -m benchmarks.sensitivity MODEL.pb --workers 2

A network is one of `fashion.py`, or one that takes photographs, whose pixels are fed from 0 to 1 or
as --range says: crops of those of `photos.py`, of which a third only judges. Nothing is repaired,
so that what differs is the choice alone; with --repaired, sensitivity is measured and results are
judged after least squares. Error (the share of what the output varies by) and accuracy are on
images that no choice has seen. --output PAGE.md puts the table into a section of that page.

--workers N times the measurements of N processes against those of one, each on one thread, on a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from benchmarks import fashion, photos
from benchmarks.repair import accuracy
from benchmarks.repair_page import SENSITIVITY
from benchmarks.results import table
from benchmarks.work import ROOT

TESTED, AT_ONCE, FITTED = 2000, 200, 2000
BATCH = 32
Way = Tuple[str, Dict[str, Any]]


class Task(NamedTuple):
    """A network, and the images that it is for.

    Attributes:
        graph: the network.
        chosen: by the name of its input, images to choose by.
        fitted: images to fit layers to, those to choose by among them.
        test: images to judge with.
        labelled: the same with labels, where there are any.
    """

    graph: Any
    chosen: Dict[str, np.ndarray]
    fitted: Dict[str, np.ndarray]
    test: Dict[str, np.ndarray]
    labelled: Optional[fashion.Labelled]


def task_of(path: Path, images: int, scale: Tuple[float, float], folder: Path) -> Task:
    """A network, with images of Fashion-MNIST if it takes such, else with photographs."""
    import graphslim as gs

    graph = gs.load(str(path))
    (name,) = graph.inputs
    shape = gs.analyse(graph).fact(gs.Port(name)).shape
    if shape[1:] == (fashion.SIZE, fashion.SIZE, 1):
        train, test = fashion.read("train").images, fashion.read("t10k")
        test = fashion.Labelled(test.images[:TESTED], test.labels[:TESTED])
        given = [train[:images], train[:FITTED], test.images]
        return Task(graph, *[{name: array} for array in given], test)
    given = []
    for part in photos.share_out(folder):
        pixels = photos.crops(part, images, shape[1:3]).astype(np.float32) / 255
        given.append({name: scale[0] + pixels * (scale[1] - scale[0])})
    return Task(graph, given[0], given[0], given[1], None)


def ways_of(task: Task, repaired: bool, criteria: Sequence[str]) -> List[Way]:
    """What is compared: a title, and what `gs.plan` is told."""
    import graphslim as gs

    ways: List[Way] = [
        ("uniform, l1", {"criterion": "l1", "rank": "local"}),
        ("uniform, taylor", {"criterion": "taylor", "rank": "local"}),
        ("global, taylor", {"criterion": "taylor"}),
    ]
    if repaired:
        ways.append(("global, obs", {"criterion": "obs"}))
    for criterion in criteria:
        began = time.perf_counter()
        curves = gs.sensitivity(
            task.graph, data=task.chosen, criterion=criterion, repaired=repaired
        )
        seconds = time.perf_counter() - began
        print(f"{criterion}: {len(curves.losses)} measurements in {seconds:.0f} s", flush=True)
        ways.append((f"sensitivity, {criterion}", {"allocate": curves}))
    return ways


def row(name: str, task: Task, way: Way, macs: float, repaired: bool) -> List[str]:
    """A row of the table."""
    import graphslim as gs

    title, chosen = way
    began = time.perf_counter()
    plan = gs.plan(task.graph, macs=macs, data=task.chosen, batch=BATCH, **chosen)
    seconds = time.perf_counter() - began
    slim = gs.apply(task.graph, plan)
    if repaired:
        slim = gs.repair(task.graph, slim, plan, data=task.fitted, stages=["least-squares"]).graph
    change = gs.verify(task.graph, slim, data=task.test, batch=AT_ONCE)
    predicted = plan.settings.get("loss", {}).get("predicted")
    (feed,) = task.test
    right = None if task.labelled is None else accuracy(slim, feed, task.labelled)
    return [
        name,
        title,
        f"{(plan.macs[1] or 0) / (plan.macs[0] or 1):.3f}",
        f"{change.error:.3f}",
        "" if predicted is None else f"{predicted:.3f}",
        "" if right is None else f"{100 * right:.2f} %",
        f"{seconds:.0f}",
    ]


def compare_workers(task: Task, count: int) -> None:
    """Prints how long one process takes to measure, and how long several do."""
    import graphslim as gs

    took = []
    for workers in (1, count):
        spawned = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=spawned) as executor:
            given: Any = {"data": task.chosen, "criterion": "l1", "executor": executor}
            began = time.perf_counter()
            gs.sensitivity(task.graph, ratios=(0.125,), **given)
            warm = time.perf_counter()
            curves = gs.sensitivity(task.graph, **given)
            took.append(time.perf_counter() - warm)
        print(
            f"workers: {workers}, {warm - began:.1f} s to start and measure an eighth, then "
            f"{len(curves.losses)} measurements in {took[-1]:.1f} s",
            flush=True,
        )
    print(f"{count} workers take {took[1] / took[0]:.2f} of the time of one")


def section(rows: List[List[str]], options: argparse.Namespace) -> str:
    """The section of the page."""
    heads = ["network", "budget", "MACs", "error", "predicted", "accuracy", "seconds"]
    fitted = ", and layers fitted by least squares" if options.repaired else ""
    return f"""{SENSITIVITY}

Made by `python -m benchmarks.sensitivity {" ".join(sys.argv[1:])}`, on {os.cpu_count()} cores.

Channels were chosen by {options.images} images, without labels{fitted}.
Error (as a share of what the output varies by) and accuracy are on images that no choice has seen:
{TESTED} test images of Fashion-MNIST, or crops of photographs, which are not of the
kind that their networks were made for. Seconds are those of the choice, curves being measured.

{table(heads, rows)}
"""


def main() -> None:
    """Prints a table, or times."""
    parser = argparse.ArgumentParser(description="Measures budgets by sensitivity.")
    parser.add_argument("models", nargs="*", type=Path, default=[ROOT / "build/fashion/resnet.pb"])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--macs", nargs="*", type=float, default=[0.75, 0.5])
    parser.add_argument("--range", nargs=2, type=float, default=(0.0, 1.0), metavar="R")
    parser.add_argument("--photos", type=Path, default=photos.FOLDER)
    parser.add_argument("--repaired", action="store_true", help="with least squares throughout")
    parser.add_argument("--criteria", nargs="*", help="of the sensitivities that are measured")
    parser.add_argument("--workers", type=int, help="time N processes against one")
    parser.add_argument("--output", type=Path, help="put the table into this page")
    options = parser.parse_args()
    rows: List[List[str]] = []
    for path in options.models:
        task = task_of(path, options.images, tuple(options.range), options.photos)
        if options.workers:
            compare_workers(task, options.workers)
            continue
        criteria = options.criteria or (["taylor", "obs"] if options.repaired else ["taylor"])
        ways = ways_of(task, options.repaired, criteria)
        for macs in options.macs:
            for way in ways:
                rows.append(row(path.stem, task, way, macs, options.repaired))
                print(" | ".join(rows[-1]), flush=True)
    if rows and options.output is None:
        print(section(rows, options))
    elif rows:
        held = options.output.read_text(encoding="utf-8") if options.output.is_file() else ""
        text = held.partition(SENSITIVITY)[0] + section(rows, options)
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
