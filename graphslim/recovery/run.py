"""Repair: what is left of a network is fitted to answer as the whole did, and judged on images."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.analysis.cautions import Caution
from graphslim.channels.groups import Removal, analyse, as_asked
from graphslim.errors import GraphslimError
from graphslim.ir import Graph
from graphslim.measure.loss import differentiable
from graphslim.measure.norm_statistics import cautions_about
from graphslim.measure.samples import Data, Examples, Samples
from graphslim.measure.shares import BATCH, Shares, share_out
from graphslim.measure.verify import compare_on, runnable
from graphslim.plans import Plan, fit
from graphslim.recovery.distillation import SECONDS, STEPS, Point, distill
from graphslim.recovery.least_squares import Fitted, refit
from graphslim.recovery.result import Repaired, Stage
from graphslim.recovery.state import State, StateLike, digest_of_graph, digest_of_plan, state_of
from graphslim.recovery.targets import features_of
from graphslim.recovery.weights import weights_of
from graphslim.runtime import train_on_gpus
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
    state: StateLike = None,
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
        state: a file in which is kept what was done so far. A call with the same arguments goes on
            from there, as if it had not been killed. The file stays; remove it once the result is
            saved.
        progress: told of what takes long; see `graphslim.support.progress`.

    Raises:
        GraphslimError: there are no images, or too few, a stage is unknown, or the state is damaged
            or that of another repair.
        PlanError: the plan does not fit the original.
        VerifyError: a graph does not run, or cannot be trained.
        RuntimeUnavailable: TensorFlow is not there.
    """
    wish = Wish(tuple(stages), steps, seconds, batch, seed, threads, force)
    examples = opened(graph, data, wish)
    kept = state_of(
        state,
        lambda: {
            **wish.purpose(graph, examples),
            "the pruned graph": digest_of_graph(slim),
            "the plan": digest_of_plan(plan),
        },
    )
    work = Work(graph, slim, plan, share_out(examples, seed, batch), wish, progress, kept)
    work.run()
    settings = wish.settings(examples)
    image_cautions = (*cautions_about(graph, examples), *_chosen_by(plan, settings))
    return work.result(settings)._replace(image_cautions=image_cautions)


def _chosen_by(plan: Optional[Plan], settings: Mapping[str, Any]) -> List[Caution]:
    """The caution that a plan was chosen by the images that are to judge it."""
    looked_at = {} if plan is None else plan.settings.get("data", {})
    if looked_at.get("sha256") != settings["data"]["sha256"]:
        return []
    if looked_at.get("kept_aside", {}).get("seed") == settings["seed"]:
        return []
    return [
        Caution(
            "the plan was chosen by the very images that judge it, and they may flatter it",
            "choose and repair in one command, `prune --repair`, or give other images",
            "--data",
        )
    ]


class Wish(NamedTuple):
    """What a repair is to do; the attributes are the arguments of `repair`."""

    stages: Tuple[str, ...] = STAGES
    steps: int = STEPS
    seconds: float = SECONDS
    batch: int = BATCH
    seed: int = 0
    threads: int = 0
    force: bool = False

    def without(self, stage: str) -> Wish:
        """The same, with a stage left out."""
        return self._replace(stages=tuple([name for name in self.stages if name != stage]))

    def purpose(self, graph: Graph, examples: Examples) -> Dict[str, Any]:
        """What has to be the same where a state is gone on with; see `state`."""
        told = {f"the option {name}": value for name, value in self._asdict().items()}
        about = examples.about.as_dict()
        images = f"{about.pop('examples')} of digest {str(about.pop('sha256'))[:16]}, {about}"
        return {"the original": digest_of_graph(graph), "the images": images, **told}

    def settings(self, examples: Examples) -> Dict[str, Any]:
        """What is recorded of it."""
        return {
            "data": examples.about.as_dict(),
            "seed": self.seed,
            "steps": self.steps,
            "seconds": self.seconds,
            "batch": self.batch,
        }


def opened(graph: Graph, data: Data, wish: Wish) -> Examples:
    """The images of a repair.

    Raises:
        GraphslimError: there are none, they do not fit, or a stage is unknown.
    """
    require_images(data)
    if DISTILLATION in wish.stages:
        train_on_gpus()
    unknown = [name for name in wish.stages if name not in STAGES]
    if unknown:
        raise GraphslimError(
            f"{unknown[0]!r} is no stage of a repair", "stages", f"there are: {', '.join(STAGES)}"
        )
    return Examples(graph, Samples(data, wish.batch), wish.seed)


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


class Work:
    """A repair as it goes on: the best graph so far, and how it compares with the original.

    Args:
        graph: the original.
        slim: the graph without the channels of the plan.
        plan: what was removed; None if that is not known.
        shares: the images.
        wish: what is to be done.
        progress: told of what takes long.
        state: where what is done is kept.
        round_number: the number of the round; 0 where there are none.
        last: the graph of the round before, and what was removed from it since. Least squares makes
            up for that, around the weights as they are; by default for the plan.

    Attributes:
        slim: the best graph so far.
        before: the graph that was given, compared with the original, on the images for the gate.
        agreement: the same for the best graph so far.
        stages: what was done.
        interrupted: whether training was ended from the keyboard.
    """

    def __init__(
        self,
        graph: Graph,
        slim: Graph,
        plan: Optional[Plan],
        shares: Shares,
        wish: Wish,
        progress: Tick,
        state: State,
        round_number: int = 0,
        last: Optional[Tuple[Graph, Plan]] = None,
    ) -> None:
        if plan is not None:
            graph = as_asked(graph, plan)
        self._graph, self._shares, self._wish, self._state = graph, shares, wish, state
        self._removed = None if plan is None else fit(graph, plan, wish.force).removed
        self._last = last or (None if plan is None else (graph, plan))
        self._runner = runnable(graph)
        self._weights = weights_of(slim)
        self._progress, self._round = progress, round_number
        self._given = self.slim = slim
        self.stages: List[Stage] = []
        self.interrupted = False
        self.before = self.agreement = compare_on(graph, slim, shares.gate)
        self._resume()

    def _resume(self) -> None:
        """Takes over what the state holds of stages that are done."""
        done = self._state.get("stages")
        if done is not None:
            self.slim = with_numbers(self.slim, done["weights"])
            self.stages, self.interrupted = list(done["stages"]), done["interrupted"]
            kept = [stage.after for stage in self.stages if stage.kept]
            self.agreement = (kept or [self.before])[-1]

    def run(self) -> None:
        """The stages that are asked for, but those that were done before."""
        done = [stage.name for stage in self.stages]
        if LEAST_SQUARES in self._wish.stages and self._last and LEAST_SQUARES not in done:
            self._least_squares(*self._last)
        if DISTILLATION in self._wish.stages and DISTILLATION not in done:
            self._distillation()

    def result(self, settings: Mapping[str, Any]) -> Repaired:
        """The outcome."""
        shares = self._shares
        images = (shares.training.count, shares.tuning.count, shares.gate.count)
        left = self._weights.refused
        return Repaired(self.slim, self.before, tuple(self.stages), images, left, settings)

    def _least_squares(self, whole: Graph, plan: Plan) -> None:
        """The first stage. Layers that got better may make the network worse: then less is done."""
        started = time.perf_counter()
        removed, begun = fit(whole, plan, self._wish.force), self._state.get("least squares") or {}
        fitted = with_numbers(self.slim, begun.get("weights", {}))
        layers = refit(
            whole,
            fitted,
            removed.plan,
            Removal(analyse(whole), removed.removed),
            runnable(whole),
            self._shares,
            seed=self._wish.seed,
            threads=self._wish.threads,
            progress=self._progress,
            begun=begun.get("layers", ()),
            save=lambda layers: self._save_layers(fitted, layers),
        )
        tries = [fitted, *[_between(self.slim, fitted, part) for part in _PARTS[1:]]]
        tuning = self._shares.tuning
        errors = [compare_on(self._graph, attempt, tuning).error for attempt in tries]
        best = int(np.argmin(errors))
        note = "" if not best else f"of what was fitted {_PARTS[best]:g} was taken"
        self._judge(
            LEAST_SQUARES, tries[best], time.perf_counter() - started, tuple(layers), note=note
        )

    def _distillation(self) -> None:
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
        channels = analyse(self._graph)
        begun = self._state.get("training")
        distilled = distill(
            teacher,
            pupil,
            names,
            []
            if self._removed is None
            else features_of(channels, Removal(channels, self._removed), teacher, pupil),
            self._shares,
            steps=self._wish.steps,
            seconds=self._wish.seconds,
            seed=self._wish.seed,
            threads=self._wish.threads,
            progress=self._progress,
            begun=begun,
            save=self._save,
        )
        self.interrupted = distilled.interrupted
        trained = with_numbers(self.slim, distilled.weights)
        ended = ", ended from the keyboard" if distilled.interrupted else ""
        on = "".join([f" on {name}" for name in distilled.gpus])
        steps = (
            plural(distilled.steps, "step") if distilled.steps else "no step but trials of rates"
        )
        note = f"{steps}{on}{ended}"
        took = time.perf_counter() - started + (begun["elapsed"] if begun else 0.0)
        self._judge(DISTILLATION, trained, took, (), distilled.curve, note)

    def _save(self, training: Callable[[], Dict[str, Any]]) -> None:
        if self._state.is_due():
            self._state.put("training", training())

    def _save_layers(self, fitted: Graph, layers: List[Fitted]) -> None:
        if self._state.is_due():
            done = {"weights": changed(self.slim, fitted), "layers": tuple(layers)}
            self._state.put("least squares", done)

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
        kept = agreement.is_better_than(self.agreement)
        if kept:
            self.slim, self.agreement = result, agreement
        self.stages.append(Stage(name, kept, agreement, seconds, layers, curve, note, self._round))
        done = {
            "weights": changed(self._given, self.slim),
            "stages": tuple(self.stages),
            "interrupted": self.interrupted,
        }
        self._state.put("stages", done, forget=["training", "least squares"])


def changed(first: Graph, second: Graph) -> Dict[str, np.ndarray]:
    """By name, the numbers of constants that another graph of the same nodes has in their place."""
    return {
        node.name: second[node.name].attrs["value"].numbers()
        for node in first
        if node.op == "Const" and node.attrs["value"] is not second[node.name].attrs["value"]
    }


def _same_constant(first: Graph, second: Graph, name: str) -> bool:
    """Whether two graphs have a constant of that name and of one shape."""
    return (
        name in second
        and second[name].op == "Const"
        and (first[name].attrs["value"].shape == second[name].attrs["value"].shape)
    )


def with_numbers(graph: Graph, numbers: Mapping[str, np.ndarray]) -> Graph:
    """A graph with other numbers in some constants, rounded as these store them."""
    changed = graph.copy()
    for name, array in numbers.items():
        changed.set_attr(name, "value", changed[name].attrs["value"].with_numbers(array))
    return changed


def _between(first: Graph, second: Graph, part: float) -> Graph:
    """The first graph, with its constants moved by a share of the way to those of the second."""
    moved = {}
    for name, new in changed(first, second).items():
        old = first[name].attrs["value"].numbers()
        moved[name] = old + part * (new.astype(np.float64) - old)
    return with_numbers(first, moved)
