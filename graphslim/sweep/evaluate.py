"""One measurement: channels of a group go, and what the network loses is measured on images."""

from __future__ import annotations

import time
from typing import Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.groups import Removal, analyse
from graphslim.errors import GraphslimError
from graphslim.ir import Graph
from graphslim.measure.portable import Portable
from graphslim.measure.samples import Data, Examples, Samples
from graphslim.measure.shares import BATCH, Shares, share_out, split
from graphslim.measure.verify import runnable
from graphslim.plans import Plan, fit, plan_given
from graphslim.plans.curves import Loss
from graphslim.recovery.least_squares import refit
from graphslim.rewrite import apply
from graphslim.support.workers import Job, Worker
from graphslim.sweep.metric import Metric, Reference, check_loss, find_metric

IMAGES = 256
"""Images that a loss is measured on, at most."""

Orders = Mapping[str, np.ndarray]
"""By group id, the channels in the order in which they go, by their index; int64 of shape (n,)."""


class Conditions(NamedTuple):
    """How losses are measured.

    Attributes:
        data: the images; see `graphslim.measure.samples`.
        metric: the name of a metric; see `metric.find_metric`.
        labels: one for each example along the first axis, for metrics that need them.
        repaired: whether least squares fits the layers that read the channels first.
        images: images that a loss is measured on, at most.
        batch: examples per run, where the graph leaves that open.
        seed: of the shares of the images.
        threads: threads within one op; 0 for as many as there are cores.
    """

    data: Data
    metric: str = "error"
    labels: Optional[np.ndarray] = None
    repaired: bool = False
    images: int = IMAGES
    batch: int = BATCH
    seed: int = 0
    threads: int = 0


class _Judge(NamedTuple):
    """Some of the images, what the original answers to them, and their labels."""

    reference: Reference
    metric: Metric

    def loss(self, changed: Graph) -> float:
        return self.metric.loss(self.reference, changed)


class Evaluator:
    """Measures what a graph loses.

    Losses are measured on the images that a repair would train on; with `repaired`, on those that
    it would be tuned by. On a quarter of the images, the gate, nothing is measured until `on_gate`.

    Args:
        graph: the graph.
        conditions: how losses are measured.
        orders: by group id, the channels in the order in which they go.

    Attributes:
        examples: all images.
        count: how many of them a loss is measured on.

    Raises:
        GraphslimError: there are too few images, or these or the labels do not fit.
        VerifyError: the graph does not run.
    """

    def __init__(self, graph: Graph, conditions: Conditions, orders: Orders) -> None:
        if conditions.data is None:
            raise GraphslimError(
                "is needed to measure what the network loses: images of the kind that it is for",
                "--data",
                "give a folder of some hundred, without labels",
            )
        self._graph, self._conditions, self._orders = graph, conditions, orders
        self.examples = Examples(graph, Samples(conditions.data, conditions.batch), conditions.seed)
        self._shares: Shares = share_out(self.examples, conditions.seed, conditions.batch)
        learned, tuned, self._gate = split(self.examples.units, conditions.seed)
        self._judge = self._judging(tuned if conditions.repaired else learned)
        self.count = self._judge.reference.count

    def _judging(self, units: np.ndarray) -> _Judge:
        """What judges on some of the images, evenly spread over them."""
        conditions, at_once = self._conditions, self.examples.at_once
        most = max(1, conditions.images // at_once)
        if len(units) > most:
            units = units[np.linspace(0, len(units) - 1, most).astype(np.int64)]
        labels = conditions.labels
        if labels is not None:
            if len(labels) != self.examples.count:
                raise GraphslimError(
                    f"are {len(labels)}, and the examples {self.examples.count}",
                    "--labels",
                    "give one label for each, in the order of the examples",
                )
            labels = labels[(units[:, None] * at_once + np.arange(at_once)).ravel()]
        reference = Reference(
            self._graph, self.examples.part(units, conditions.batch), conditions.threads
        )
        labels = None if labels is None else labels[: reference.count]
        return _Judge(reference, find_metric(conditions.metric, labels))

    @property
    def digest(self) -> str:
        """The SHA-256 of the images."""
        return str(self.examples.about.as_dict()["sha256"])

    def measure(self, group: str, removed: int) -> Loss:
        """What the network loses if so many channels of a group go.

        Raises:
            GraphslimError: the loss is not finite, or the metric cannot be computed.
        """
        started = time.perf_counter()
        order = self._orders[group]
        plan = plan_given(self._graph, {group: np.sort(order[:removed]).tolist()}, fold=True)
        what = f"{group} without {removed} of {len(order)} channels"
        # Digits that depend on the number of threads would only be noise.
        loss = float(f"{check_loss(self._judge.loss(self._slim(plan)), what):.6g}")
        return Loss(group, len(order), removed, loss, round(time.perf_counter() - started, 3))

    def loss_of(self, plan: Plan) -> float:
        """What the network loses by a plan, on the images that single groups are measured on.

        Raises:
            GraphslimError: the loss is not finite, or the metric cannot be computed.
        """
        return check_loss(self._judge.loss(self._slim(plan)), "the plan")

    def loss_without(self, removed: Mapping[str, Sequence[int]]) -> float:
        """What the network loses without some channels, by group id; see `loss_of`."""
        return self.loss_of(plan_given(self._graph, removed, fold=True))

    def on_gate(self, plan: Plan) -> Tuple[float, int]:
        """What the network loses by a plan on the images kept aside, and their number.

        Raises:
            GraphslimError: the loss is not finite, or the metric cannot be computed.
        """
        judge = self._judging(self._gate)
        return check_loss(judge.loss(self._slim(plan)), "the plan"), judge.reference.count

    def _slim(self, plan: Plan) -> Graph:
        slim = apply(self._graph, plan)
        if self._conditions.repaired:
            removal = Removal(analyse(self._graph), fit(self._graph, plan).removed)
            refit(
                self._graph,
                slim,
                plan,
                removal,
                runnable(self._graph),
                self._shares,
                seed=self._conditions.seed,
                threads=self._conditions.threads,
            )
        return slim


# --- In another process.


def job_of(graph: Graph, conditions: Conditions, orders: Orders) -> Job:
    """The job whose tasks, a group and a number, are the measurements of an `Evaluator`."""
    return Job(_measurer, (Portable.of(graph), conditions, orders))


def whole_job_of(graph: Graph, conditions: Conditions) -> Job:
    """The job whose tasks, channels by group, are those of `Evaluator.loss_without`."""
    return Job(_whole_measurer, (Portable.of(graph), conditions))


def _whole_measurer(portable: Portable, conditions: Conditions) -> Worker:
    return Evaluator(portable.graph(), conditions, {}).loss_without


def _measurer(portable: Portable, conditions: Conditions, orders: Orders) -> Worker:
    return Evaluator(portable.graph(), conditions, orders).measure
