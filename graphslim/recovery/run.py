"""Repair: what is left of a network is fitted to answer as the whole did, and judged on images."""

from __future__ import annotations

import time
from typing import Any, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.groups import Removal, analyse
from graphslim.errors import GraphslimError
from graphslim.ir import Graph
from graphslim.measure.sampled_scores import differentiable
from graphslim.measure.samples import Data, Examples, Samples
from graphslim.measure.verify import compare_on, runnable
from graphslim.plans import Plan, fit
from graphslim.recovery.distillation import SECONDS, STEPS, Point, distill
from graphslim.recovery.gate import error_of, is_better
from graphslim.recovery.least_squares import Fitted, refit
from graphslim.recovery.result import Repaired, Stage
from graphslim.recovery.shares import BATCH, Shares, share_out
from graphslim.recovery.targets import features_of
from graphslim.recovery.weights import weights_of
from graphslim.runtime.pupil import ALONE
from graphslim.support.progress import Tick, silent
from graphslim.support.text import plural

LEAST_SQUARES, DISTILLATION = STAGES = ("least-squares", "distillation")
"""The stages, in their order."""
_PARTS = (1.0, 0.5, 0.25)
"""How far towards the fitted weights it is tried to go."""


def repair(
    graph: Graph,
    slim: Graph,
    plan: Optional[Plan],
    *,
    data: Data,
    stages: Sequence[str] = STAGES,
    steps: int = STEPS,
    seconds: float = SECONDS,
    batch: int = BATCH,
    seed: int = 0,
    threads: int = 0,
    force: bool = False,
    progress: Tick = silent,
) -> Repaired:
    """Fits the weights of a graph that lost channels to what the whole graph computes.

    No labels are needed: the original is the teacher. A quarter of the images is kept aside, and
    looked at by no stage; a stage whose result is no better on these is thrown away. So the
    repaired graph is never worse on them than the graph that was given.

    Args:
        graph: the original.
        slim: the graph without the channels of the plan, as `apply` gives it; it is not changed.
        plan: what was removed. With None nothing is known of the layers: `slim` is only trained,
            on the outputs alone.
        data: images or other inputs of the kind that the network is for; see `verify`.
        stages: what is done: `least-squares` fits layer by layer, `distillation` trains the whole.
        steps: the largest number of steps of distillation.
        seconds: the longest time that distillation takes.
        batch: examples per run, where the graph leaves that open.
        seed: of the shares of the images, and of their order in training. With one thread, and
            without a limit of time, the same seed gives the same weights.
        threads: threads within one op; 0 for as many as there are cores.
        force: take a plan that was made for another checkpoint.
        progress: told of what takes long; see `graphslim.support.progress`.

    Raises:
        GraphslimError: there are no images, or too few, or a stage is unknown.
        PlanError: the plan does not fit the original.
        VerifyError: a graph does not run, or cannot be trained.
        RuntimeUnavailable: TensorFlow is not there.
    """
    require_images(data)
    unknown = [name for name in stages if name not in STAGES]
    if unknown:
        raise GraphslimError(
            f"{unknown[0]!r} is no stage of a repair", "stages", f"there are: {', '.join(STAGES)}"
        )
    examples = Examples(graph, Samples(data, batch), seed)
    work = _Work(graph, slim, plan, share_out(examples, seed, batch), force, seed, progress)
    if LEAST_SQUARES in stages and plan is not None:
        work.least_squares(threads)
    if DISTILLATION in stages:
        work.distillation(steps, seconds, threads)
    settings = {
        "data": examples.about.as_dict(),
        "seed": seed,
        "steps": steps,
        "seconds": seconds,
        "batch": batch,
    }
    return work.result(settings)


def require_images(data: Data) -> None:
    """Refuses a repair without images.

    Raises:
        GraphslimError: `data` is None.
    """
    if data is None:
        raise GraphslimError(
            "is needed for a repair: images of the kind that the network is for, without labels",
            "--data",
            "give a folder of some hundred",
        )


class _Work:
    """A repair as it goes on: the best graph so far, and how it compares with the original."""

    def __init__(
        self,
        graph: Graph,
        slim: Graph,
        plan: Optional[Plan],
        shares: Shares,
        force: bool,
        seed: int,
        progress: Tick,
    ) -> None:
        self._graph, self._shares, self._seed = graph, shares, seed
        self._fitted = None if plan is None else fit(graph, plan, force)
        self._runner = runnable(graph)
        self._weights = weights_of(slim)
        self._progress = progress
        self.slim, self._stages = slim, []  # type: Graph, List[Stage]
        self._before = self._agreement = compare_on(graph, slim, shares.gate)

    def result(self, settings: Mapping[str, Any]) -> Repaired:
        shares = self._shares
        images = (shares.training.count, shares.tuning.count, shares.gate.count)
        left = self._weights.refused
        return Repaired(self.slim, self._before, tuple(self._stages), images, left, settings)

    def _removal(self) -> Removal:
        assert self._fitted is not None
        return Removal(analyse(self._graph), self._fitted.removed)

    def least_squares(self, threads: int) -> None:
        """The first stage. Layers that got better may make the network worse: then less is done."""
        started = time.perf_counter()
        fitted = self.slim.copy()
        assert self._fitted is not None
        layers = refit(
            self._graph,
            fitted,
            self._fitted.plan,
            self._removal(),
            self._runner,
            self._shares,
            seed=self._seed,
            threads=threads,
            progress=self._progress,
        )
        tries = [fitted, *[_between(self.slim, fitted, part) for part in _PARTS[1:]]]
        tuning = self._shares.tuning
        errors = [error_of(compare_on(self._graph, attempt, tuning)) for attempt in tries]
        best = int(np.argmin(errors))
        note = "" if not best else f"of what was fitted {_PARTS[best]:g} was taken"
        self._judge(
            LEAST_SQUARES, tries[best], time.perf_counter() - started, tuple(layers), note=note
        )

    def distillation(self, steps: int, seconds: float, threads: int) -> None:
        """The second stage."""
        started = time.perf_counter()
        pupil = differentiable(runnable(self.slim))
        names = [name for name in self._weights.names if _same_constant(self.slim, pupil, name)]
        if not names:
            raise GraphslimError(
                "holds no weights that can be trained",
                self.slim.name,
                ALONE,
            )
        teacher = differentiable(self._runner)
        distilled = distill(
            teacher,
            pupil,
            names,
            []
            if self._fitted is None
            else features_of(analyse(self._graph), self._removal(), teacher, pupil),
            self._shares,
            steps=steps,
            seconds=seconds,
            seed=self._seed,
            threads=threads,
            progress=self._progress,
        )
        trained = _with_numbers(self.slim, distilled.weights)
        ended = ", ended from the keyboard" if distilled.interrupted else ""
        note = f"{plural(distilled.steps, 'step')}{ended}"
        took = time.perf_counter() - started
        self._judge(DISTILLATION, trained, took, (), distilled.curve, note)

    def _judge(
        self,
        name: str,
        result: Graph,
        seconds: float,
        layers: Tuple[Fitted, ...] = (),
        curve: Tuple[Point, ...] = (),
        note: str = "",
    ) -> None:
        """The gate: a result that is no better on images that no stage has seen is thrown away."""
        agreement = compare_on(self._graph, result, self._shares.gate)
        kept = is_better(agreement, self._agreement)
        if kept:
            self.slim, self._agreement = result, agreement
        self._stages.append(Stage(name, kept, agreement, seconds, layers, curve, note))


def _same_constant(first: Graph, second: Graph, name: str) -> bool:
    """Whether two graphs have a constant of that name and of one shape."""
    return (
        name in second
        and second[name].op == "Const"
        and (first[name].attrs["value"].shape == second[name].attrs["value"].shape)
    )


def _with_numbers(graph: Graph, numbers: Mapping[str, np.ndarray]) -> Graph:
    """A graph with other numbers in some constants, rounded as these store them."""
    changed = graph.copy()
    for name, array in numbers.items():
        changed.set_attr(name, "value", changed[name].attrs["value"].with_numbers(array))
    return changed


def _between(first: Graph, second: Graph, part: float) -> Graph:
    """The first graph, with its constants moved by a share of the way to those of the second."""
    moved = {}
    for node in first:
        if node.op == "Const" and node.attrs["value"] is not second[node.name].attrs["value"]:
            old, new = [graph[node.name].attrs["value"].numbers() for graph in (first, second)]
            moved[node.name] = old + part * (new.astype(np.float64) - old)
    return _with_numbers(first, moved)
