"""Repair: what is left of a network is fitted to answer as the whole did, and judged on images."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.analysis.cautions import Caution
from graphslim.channels.groups import Removal, analyse
from graphslim.errors import GraphslimError
from graphslim.ir import Graph
from graphslim.measure.agreement import Agreement
from graphslim.measure.fidelity import OutputDifference
from graphslim.measure.norm_statistics import cautions_about
from graphslim.measure.sampled_scores import differentiable
from graphslim.measure.samples import Data, Examples, Samples
from graphslim.measure.verify import compare_on, runnable
from graphslim.plans import Plan, fit
from graphslim.recovery.beforehand import few
from graphslim.recovery.distillation import SECONDS, STEPS, Point, distill
from graphslim.recovery.least_squares import Fitted, refit
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


class Stage(NamedTuple):
    """What a stage of a repair came to.

    Attributes:
        name: `least-squares` or `distillation`.
        kept: whether its result was kept.
        after: its result compared with the original, on the images for the gate.
        seconds: what it took.
        layers: the layers that least squares fitted.
        curve: the loss over the images for tuning, as distillation went on.
        note: a sentence about how it went; empty if there is nothing to say.
    """

    name: str
    kept: bool
    after: Agreement
    seconds: float
    layers: Tuple[Fitted, ...] = ()
    curve: Tuple[Point, ...] = ()
    note: str = ""


class Repaired(NamedTuple):
    """The outcome of a repair.

    Attributes:
        graph: the repaired graph: the nodes and shapes of the graph that was given.
        before: that graph compared with the original, on the images for the gate.
        stages: what was done.
        images: how many images there were for training, tuning and the gate.
        left: by constant with weights that were left as they are, a clause that says why.
        settings: seed, steps and seconds, and what the images are.
        unlike: cautions about images that are not like those of training.
    """

    graph: Graph
    before: Agreement
    stages: Tuple[Stage, ...]
    images: Tuple[int, int, int]
    left: Mapping[str, str]
    settings: Mapping[str, Any]
    unlike: Tuple[Caution, ...] = ()

    @property
    def after(self) -> Agreement:
        """The repaired graph compared with the original, on the images for the gate."""
        return next((stage.after for stage in self.stages[::-1] if stage.kept), self.before)

    def cautions(self) -> List[Caution]:
        """What the images cannot tell."""
        return [*few(sum(self.images)), *self.unlike, *self.before.cautions()]

    def as_dict(self) -> Dict[str, Any]:
        """A tree for `--json` and for the settings of plans."""
        return {
            **self.settings,
            "images": dict(zip(("training", "tuning", "gate"), self.images)),
            "before": losses(self.before),
            "after": losses(self.after),
            "stages": [
                {
                    "name": stage.name,
                    "kept": stage.kept,
                    "seconds": round(stage.seconds, 3),
                    "after": losses(stage.after),
                    "layers": [_finite(layer._asdict()) for layer in stage.layers],
                    "curve": [_finite(point._asdict()) for point in stage.curve],
                }
                for stage in self.stages
            ],
            "left_as_they_are": dict(self.left),
            "cautions": [str(caution) for caution in self.cautions()],
        }


def _finite(tree: Mapping[str, Any]) -> Dict[str, Any]:
    """A tree without numbers that are not finite, which JSON cannot hold: these are null."""
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in tree.items()
    }


def losses(agreement: Agreement) -> Dict[str, Dict[str, Optional[float]]]:
    """By output, the figures by which a repair is judged, for JSON."""
    return {
        output.name: {
            key: output.as_dict()[key] for key in ("error", "relative", "agreement", "mean_iou")
        }
        for output in agreement.outputs
    }


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
    return work.result(settings)._replace(unlike=tuple(cautions_about(graph, examples)))


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
        errors = [_error(compare_on(self._graph, attempt, tuning)) for attempt in tries]
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


def is_better(agreement: Agreement, before: Agreement) -> bool:
    """Whether a graph is nearer to the original: in error, and not further in what it decides.

    Both are means over the outputs, so that an output of a few numbers counts as much as a picture.
    """
    decides = [_mean([_decided(output) for output in each.outputs]) for each in (agreement, before)]
    return _error(agreement) < _error(before) and decides[0] >= decides[1]


def _error(agreement: Agreement) -> float:
    """The mean over outputs of the error as a share of the variation, or of the range."""
    errors = [
        output.relative if output.error is None else output.error for output in agreement.outputs
    ]
    return _mean([error if np.isfinite(error) else np.inf for error in errors])


def _decided(output: OutputDifference) -> float:
    """The share of decisions that are as before, for pictures the mean IoU; 1 without any."""
    if output.mean_iou is not None:
        return output.mean_iou
    return 1.0 if output.agreement is None else output.agreement


def _mean(numbers: Sequence[float]) -> float:
    return float(sum(numbers) / max(1, len(numbers)))


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
