"""Measures what a repair without labels brings back, and writes REPAIR.md: `make bench-repair`.

python -m benchmarks.repair [--networks resnet] [--macs 0.5] [--seeds 1] [--steps 300] [--gradual]

The networks are those of `fashion.py`, which trains them where they are not there yet, and the
published ones of `../shared`, where that is there. For the former a repair sees the first images of
the training set, without their labels, and the accuracy is that on the 10,000 test images, which
neither a repair nor the choice of channels has seen. For the latter there are the photographs of
`photos.py`, a third of which only judges.

What was measured is added line by line to REPAIR.jsonl. A run leaves out what is there, so that one
that was killed goes on, and several may run side by side; --page makes the page of what is there.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from benchmarks import fashion, photos
from benchmarks.machine import facts
from benchmarks.repair_page import (
    AT_ONCE,
    BOTH,
    FITTED,
    GRADUAL,
    GRADUALLY,
    REMOVED,
    TRAINED,
    page,
)
from benchmarks.results import kept
from benchmarks.work import ROOT, SHARED, ask, peak_megabytes, tell

CRITERIA = ("l1", "taylor", "activation", "obs")
ALLOCATED = {"obs-sensitivity": "obs", "taylor-sensitivity": "taylor"}
"""What stands for a budget shared out by a sensitivity that was measured with repaired layers."""
BY_WEIGHTS = ("l1",)
MACS = (0.9, 0.75, 0.5, 0.35)
SEEDS = (1, 2)
GRAPHS = SHARED.parent / "graphs"
PUBLISHED = {
    "mobilepose": SHARED / "stripped.pb",
    "pose": GRAPHS / "ildoonet_pose_mnv2_small.pb",
    "meet": GRAPHS / "meet_segm_lite_v681.pb",
    "portrait": GRAPHS / "portrait_deeplab_mnv2_05.pb",
}
IMAGES, SCORED, TESTED_AT_ONCE, ROUNDS = 8000, 256, 500, 3
SCORED_PHOTOS = 16
THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
)
"""Where numpy's libraries and TensorFlow look for a number of threads, in the environment."""


class Subject(NamedTuple):
    """A network, with what it is repaired and judged by.

    Attributes:
        graph: the network.
        data: the images for the repair.
        scored: those of them that channels are chosen by.
        judged: gives what a network comes to on images that neither sees: `error`, and `right`,
            which is the accuracy or the share of decisions that are as before; None without any.
    """

    graph: Any
    data: Any
    scored: Any
    judged: Callable[[Any], Dict[str, Optional[float]]]


def open_subject(network: str, options: argparse.Namespace, seed: int) -> Subject:
    """A network by its name."""
    if network in PUBLISHED:
        return _published(PUBLISHED[network], options.photos)
    import graphslim as gs

    train, test = fashion.read("train"), fashion.read("t10k")
    graph = gs.load(str(options.folder / f"{network}.pb"))
    (name,) = graph.inputs
    images = train.images[: options.images]
    first = (seed - 1) * SCORED % max(1, len(images))

    def judged(other: Any) -> Dict[str, Optional[float]]:
        compared = gs.verify(graph, other, data={name: test.images}, batch=TESTED_AT_ONCE)
        return {"error": compared.error, "right": accuracy(other, name, test)}

    return Subject(graph, {name: images}, {name: images[first : first + SCORED]}, judged)


def _published(path: Path, folder: Path) -> Subject:
    import graphslim as gs
    from graphslim.measure.images import Images
    from graphslim.measure.samples import Examples, Samples

    given: Dict[str, Any] = {}
    sidecar = path.with_suffix(".json")
    if sidecar.is_file():
        about = json.loads(sidecar.read_text(encoding="utf-8"))
        given["inputs"] = [one["name"] for one in about["inputs"]]
        given["outputs"] = about["outputs"]
        given["input_shapes"] = {one["name"]: one["shape"] for one in about["inputs"]}
    graph = gs.load(str(path), **given)
    (name,) = graph.inputs
    # Decoded once: a step of training would else spend most of its time on that.
    learned, reported = [
        np.concatenate([feeds[name] for feeds, _ in Examples(graph, Samples(images))])
        for images in [Images(str(each), crop=True) for each in photos.share_out(folder)]
    ]

    def judged(other: Any) -> Dict[str, Optional[float]]:
        compared = gs.verify(graph, other, data={name: reported})
        decides = any(output.decision for output in compared.outputs)
        return {"error": compared.error, "right": compared.decided if decides else None}

    return Subject(graph, {name: learned}, {name: learned[:SCORED_PHOTOS]}, judged)


def accuracy(graph: Any, name: str, test: fashion.Labelled) -> float:
    """The share of images whose largest logit is that of their label."""
    from graphslim.runtime import Session

    right = 0
    with Session(graph, threads=0) as session:
        for first in range(0, len(test.labels), TESTED_AT_ONCE):
            rows = slice(first, first + TESTED_AT_ONCE)
            (logits,) = session.run({name: test.images[rows]})
            right += int((logits.argmax(-1) == test.labels[rows]).sum())
    return right / len(test.labels)


# --- One row.


class Measured(NamedTuple):
    """What one way to a budget came to.

    Attributes:
        achieved: the share of multiply-accumulates that is left.
        columns: by stage what `Subject.judged` gave, and its seconds.
        made: the steps of distillation that were made.
    """

    achieved: float
    columns: Dict[str, Dict[str, Any]]
    made: int


def measure(row: Dict[str, Any], options: argparse.Namespace) -> Dict[str, Any]:
    """Prunes and repairs a network in one way, and adds to the row what came of it."""
    subject = open_subject(row["network"], options, row["seed"])
    way = _gradually if row["way"] == GRADUALLY else _at_once
    told = facts()
    return {
        **row,
        **way(subject, row)._asdict(),
        "original": subject.judged(subject.graph)["right"],
        "gigabytes": peak_megabytes() / 1024,
        "machine": f"{told['cpu']}, Python {told['python']}",
    }


def _training(row: Dict[str, Any]) -> Dict[str, Any]:
    """How long distillation may take: so many steps however long these take, or seconds."""
    steps = row["steps"]
    return {"seconds": row["seconds"]} if steps is None else {"steps": steps, "seconds": 1e9}


def _at_once(subject: Subject, row: Dict[str, Any]) -> Measured:
    """All channels go at once; least squares and distillation, each alone and one after another."""
    import graphslim as gs

    graph, criterion, seed = subject.graph, row["criterion"], row["seed"]
    some: Dict[str, Any] = {"data": subject.scored, "batch": 32}
    if criterion in ALLOCATED:
        curves = gs.sensitivity(graph, criterion=ALLOCATED[criterion], repaired=True, **some)
        plan = gs.plan(graph, allocate=curves, macs=row["macs"], seed=seed, **some)
    else:
        given = {} if criterion in BY_WEIGHTS else some
        plan = gs.plan(graph, criterion=criterion, macs=row["macs"], seed=seed, **given)
    wish = {"data": subject.data, "seed": seed, "threads": row["threads"]}
    slim = gs.apply(graph, plan)

    def repaired(start: Any, stage: str, **training: Any) -> Tuple[Any, float]:
        began = time.perf_counter()
        done = gs.repair(graph, start, plan, stages=[stage], **wish, **training)
        return done, time.perf_counter() - began

    columns = {REMOVED: {**subject.judged(slim), "seconds": 0.0}}
    fitted, first = repaired(slim, "least-squares")
    columns[FITTED] = {**subject.judged(fitted.graph), "seconds": first}
    made, training = 0, _training(row)
    if training.get("steps", training["seconds"]):
        for title, start, before in ((TRAINED, slim, 0.0), (BOTH, fitted.graph, first)):
            done, took = repaired(start, "distillation", **training)
            columns[title] = {**subject.judged(done.graph), "seconds": before + took}
            made = _steps(done)
    return Measured(_left(plan), columns, made)


def _gradually(subject: Subject, row: Dict[str, Any]) -> Measured:
    """To the same budget in rounds, with both stages in each."""
    import graphslim as gs

    began = time.perf_counter()
    done = gs.prune_gradually(
        subject.graph,
        rounds=ROUNDS,
        criterion=row["criterion"],
        macs=row["macs"],
        data=subject.data,
        seed=row["seed"],
        threads=row["threads"],
        **_training(row),
    )
    seconds = time.perf_counter() - began
    column = {**subject.judged(done.repaired.graph), "seconds": seconds}
    return Measured(_left(done.plan), {GRADUAL: column}, _steps(done.repaired))


def _steps(repaired: Any) -> int:
    """How many steps of distillation were made, which the last point of each curve tells."""
    return sum([stage.curve[-1].step for stage in repaired.stages if stage.curve])


def _left(plan: Any) -> float:
    return float((plan.macs[1] or 0) / (plan.macs[0] or 1))


# --- All of them.


def rows_wanted(options: argparse.Namespace) -> Iterator[Dict[str, Any]]:
    """What is to be measured, one seed after the other."""
    ways = (AT_ONCE, GRADUALLY) if options.gradual else (AT_ONCE,)
    for seed, network, criterion, macs, way in itertools.product(
        options.seeds, options.networks, options.criteria, options.macs, ways
    ):
        if way == GRADUALLY and criterion in ALLOCATED:
            continue
        yield {
            **{"network": network, "criterion": criterion, "macs": macs, "seed": seed, "way": way},
            "images": None if network in PUBLISHED else options.images,
            "steps": options.steps,
            "seconds": None if options.steps is not None else options.seconds,
            "threads": options.threads,
        }


def read_rows(path: Path) -> List[Dict[str, Any]]:
    """The rows that were measured; a line that was cut off by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def add_row(path: Path, row: Dict[str, Any]) -> None:
    """Adds a row in one write, below what other runs may have added meanwhile."""
    whole = not path.is_file() or path.read_bytes()[-1:] in (b"", b"\n")
    line = ("" if whole else "\n") + json.dumps(row) + "\n"
    with path.open("ab", buffering=0) as file:
        file.write(line.encode("utf-8"))


def is_done(wanted: Dict[str, Any], rows: List[Dict[str, Any]]) -> bool:
    """Whether a row was measured with the same options."""
    return any(all(row[name] == value for name, value in wanted.items()) for row in rows)


def missing(network: str, options: argparse.Namespace) -> str:
    """What a network cannot be measured without; empty where all is there."""
    if network in PUBLISHED:
        if not PUBLISHED[network].is_file():
            return f"there is no {PUBLISHED[network]}"
        try:
            photos.share_out(options.photos)
        except LookupError as error:
            return f"there are no photographs in {options.photos}, and none of {error}"
        return ""
    if not fashion.is_there():
        return f"there is no {fashion.SOURCE} (Debian: {fashion.PACKAGE})"
    if not (options.folder / f"{network}.pb").is_file():
        ask(sys.executable, "fashion", options.folder, network)
    return ""


def write_page(options: argparse.Namespace) -> None:
    """Makes the page of all rows that there are."""
    from graphslim.support.writing import replacing

    made = page(read_rows(options.output.with_suffix(".jsonl")), sorted(PUBLISHED))
    earlier = options.output.read_text(encoding="utf-8") if options.output.is_file() else ""
    with replacing(str(options.output)) as file:
        file.write(kept(made, earlier).encode("utf-8"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measures repair without labels.")
    names = [*sorted(fashion.NETWORKS), *PUBLISHED]
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "fashion")
    parser.add_argument("--photos", type=Path, default=photos.FOLDER)
    parser.add_argument("--networks", nargs="*", default=names, choices=names, metavar="NAME")
    parser.add_argument("--criteria", nargs="*", default=CRITERIA, metavar="NAME")
    parser.add_argument("--macs", nargs="*", type=float, default=MACS, metavar="SHARE")
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS, metavar="N")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--seconds", type=float, default=480.0, help="0: least squares alone")
    parser.add_argument("--steps", type=int, help="of distillation, however long they take")
    parser.add_argument("--gradual", action="store_true", help="in rounds too, which takes as long")
    parser.add_argument("--threads", type=int, default=1, help="0: as many as there are cores")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "REPAIR.md")
    parser.add_argument("--page", action="store_true", help="only make the page")
    parser.add_argument("--row", type=json.loads, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """See the head of the file."""
    options = _parser().parse_args()
    if options.row:
        tell(measure(options.row, options))
        return
    if options.threads:
        # For all that takes no number of threads, in this process's children.
        os.environ.update(dict.fromkeys(THREADS, str(options.threads)))
    left_out = {}
    for network in () if options.page else options.networks:
        left_out[network] = missing(network, options)
        if left_out[network]:
            print(f"{network}: skipped: {left_out[network]}")
    kept, failed = options.output.with_suffix(".jsonl"), 0
    for row in () if options.page else rows_wanted(options):
        if left_out[row["network"]] or is_done(row, read_rows(kept)):
            continue
        words = ["--folder", options.folder, "--photos", options.photos, "--row", json.dumps(row)]
        try:
            (measured,) = ask(sys.executable, "repair", *words)
        except SystemExit as error:
            failed += 1
            print(error, file=sys.stderr, flush=True)
            continue
        add_row(kept, measured)
        print(json.dumps(measured), flush=True)
        write_page(options)
    write_page(options)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
