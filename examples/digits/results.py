"""What the steps of the loop came to: accuracy, size, cost and speed, as a table and a chart."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any, List, NamedTuple, Optional

import data
import numpy as np
import tensorflow.compat.v1 as tf

import graphslim as gs
from graphslim.measure.bench import bench

OUTPUT = "probabilities"
RUNS = 200
THRESHOLDS = (0.8, 0.7, 0.6, 0.55, 0.5)
STEPS = {"digits": (600, 300), "fashion": (4000, 1500)}
"""By the images, the steps of the first training, and of each after a pruning."""
CHOICE = {"outputs": [OUTPUT], "max_ratio": 0.6}
"""What the schedule is told: what is run in the end, and how much of a block may go at most."""


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        step: what was done.
        removed: channels that are gone.
        failed: share of the filters set to zero that training brought back; None if none were.
        accuracy: share of the held-out images that are recognised.
        params: parameters.
        macs: multiply-accumulates for one image.
        latency: milliseconds for a batch of 32 images, on one thread.
        speed: latency as a share of the unpruned network's.
    """

    step: str
    removed: int
    failed: Optional[float]
    accuracy: float
    params: int
    macs: int
    latency: float
    speed: float


class Results:
    """Collects the rows.

    Args:
        held_out: images that were not trained on.
        folder: where the `.pb` files, the table and the chart go.
        seed: of the run, for the report.
    """

    def __init__(self, held_out: data.Digits, folder: str, seed: int) -> None:
        self.held_out, self.folder, self.seed = held_out, folder, seed
        self.started = time.time()
        self.rows: List[Row] = []
        self.unpruned: Any = None

    def add(
        self, step: str, graph: gs.Graph, removed: int = 0, failed: Optional[float] = None
    ) -> None:
        """Measures a frozen graph; the first is the one that the others are compared with."""
        gs.save(graph, os.path.join(self.folder, step + ".pb"))
        self.unpruned = self.unpruned or graph
        cost = gs.cost(graph)
        timed = bench(self.unpruned, graph, batch=data.BATCH, runs=RUNS)
        row = Row(
            step,
            removed,
            failed,
            accuracy(graph, self.held_out),
            cost.params,
            cost.macs or 0,
            timed.second.median,
            timed.ratio.median,
        )
        self.rows.append(row)
        print(f"{step}: accuracy {row.accuracy:.4f}, {row.macs / 1e6:.2f} M MACs", flush=True)

    def add_step(self, step: Any) -> None:
        """Measures what a step of the schedule would be if it were stripped now."""
        trained = gs.open_checkpoint(step.result, outputs=[OUTPUT])
        failed = gs.summary(trained, step.plan).rate
        name = f"TH{step.threshold:g}" + (f"_again{step.round}" if step.round else "")
        # The plan was made before training: of the same network, with other weights.
        slim = gs.apply(trained.graph, step.plan, force=True)
        self.add(name, slim, removed_by(step.plan), failed)

    def add_stripped(self, slim: Any) -> None:
        """Measures what `gs.strip` wrote, and says how near it is to the network with zeros."""
        self.add("stripped", gs.load(slim.graph_path), removed_by(slim.plan), slim.summary.rate)
        print(f"{slim.graph_path}: differs by {slim.agreement.worst.relative:.1g} of the range")

    def report(self) -> None:
        """Prints the table and the outcome, and writes them with the chart."""
        first, last = self.rows[0], self.rows[-1]
        text = (
            f"{table(self.rows)}\n\n"
            f"Accuracy {100 * (last.accuracy - first.accuracy):+.2f} points at "
            f"{last.macs / first.macs:.0%} of the MACs; {(time.time() - self.started) / 60:.1f} "
            f"minutes in TensorFlow {tf.__version__}, seed {self.seed}. "
            f"Accuracy on {len(self.held_out.labels)} held-out images; latency of {data.BATCH} "
            f"images at once on one thread, the median of {RUNS} runs."
        )
        print("\n" + text)
        with open(os.path.join(self.folder, "table.md"), "w", encoding="utf-8") as file:
            file.write(text + "\n")
        draw(self.rows, os.path.join(self.folder, "chart.svg"))


def removed_by(plan: gs.Plan) -> int:
    """How many channels a plan removes."""
    return sum(len(group.removed) for group in plan.groups)


def accuracy(graph: gs.Graph, digits: data.Digits) -> float:
    """The share of the images that a frozen graph recognises."""
    message = tf.GraphDef.FromString(gs.serialize(graph))
    with tf.Graph().as_default():
        tf.import_graph_def(message, name="")
        with tf.Session() as session:
            feed = {f"{graph.inputs[0]}:0": digits.images}
            probabilities = session.run(f"{graph.outputs[0].node}:0", feed)
    return float(np.mean(np.argmax(probabilities, axis=1) == digits.labels))


def table(rows: List[Row]) -> str:
    """The rows as a Markdown table."""
    first = rows[0]
    lines = [
        "| step | channels removed | failed rate | accuracy | parameters | MACs | latency |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        failed = "" if row.failed is None else f"{row.failed:.3f}"
        lines.append(
            f"| {row.step} | {row.removed} | {failed} | {row.accuracy:.2%} "
            f"| {row.params:,} ({row.params / first.params:.0%}) "
            f"| {row.macs / 1e6:.2f} M ({row.macs / first.macs:.0%}) "
            f"| {row.latency:.2f} ms ({row.speed:.0%}) |"
        )
    return "\n".join(lines)


def draw(rows: List[Row], path: str) -> None:
    """Draws accuracy above, and below it what is left of the unpruned network's cost."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text
    from matplotlib import pyplot

    figure, (top, bottom) = pyplot.subplots(2, 1, sharex=True, figsize=(7, 6))
    at = range(len(rows))
    top.plot(at, [100 * row.accuracy for row in rows], "o-", color="#0072b2")
    best = 100 * rows[0].accuracy
    top.axhspan(best - 1, best, color="#0072b2", alpha=0.12, lw=0)
    top.set_ylabel("held-out accuracy, %")
    top.set_title("within one point of the unpruned network: shaded", fontsize=9)
    left = [
        ("parameters", "#e69f00", "s-", [row.params / rows[0].params for row in rows]),
        ("MACs", "#009e73", "^-", [row.macs / rows[0].macs for row in rows]),
        ("latency", "#cc79a7", "d-", [row.speed for row in rows]),
    ]
    for name, colour, style, shares in left:
        bottom.plot(at, [100 * share for share in shares], style, color=colour, label=name)
    bottom.set_ylabel("of the unpruned network, %")
    bottom.set_ylim(0, 110)
    bottom.legend(frameon=False)
    bottom.set_xticks(list(at))
    bottom.set_xticklabels([row.step for row in rows], rotation=30, ha="right")
    for axes in (top, bottom):
        axes.grid(alpha=0.25)
        axes.spines["top"].set_visible(False)
        axes.spines["right"].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def arguments(about: str) -> argparse.Namespace:
    """The command line of both scripts."""
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("folder", help="where everything goes; must be new or empty")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--data", choices=sorted(STEPS), default="digits", help="the images")
    parser.add_argument("--steps", type=int, help="of the first training")
    parser.add_argument("--retrain-steps", type=int, help="after each pruning")
    parser.add_argument("--thresholds", type=float, nargs="+", default=THRESHOLDS, metavar="T")
    args = parser.parse_args()
    first, later = STEPS[args.data]
    args.steps, args.retrain_steps = args.steps or first, args.retrain_steps or later
    if os.path.isdir(args.folder) and os.listdir(args.folder):
        parser.error(f"{args.folder} is not empty: name a new folder")
    os.makedirs(args.folder, exist_ok=True)
    print(f"TensorFlow {tf.__version__}, seed {args.seed}", flush=True)
    return args
