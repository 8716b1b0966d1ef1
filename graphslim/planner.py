"""From a selection to a plan, by whatever it takes: weights, sample inputs, measured times."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Tuple

from graphslim.channels.groups import analyse, as_asked
from graphslim.ir import Graph
from graphslim.measure.bench import Bench, Spread, bench
from graphslim.measure.latency import Setting, table_of
from graphslim.measure.promise import WITHIN, Predictor, noise_of, quiet_enough, reach
from graphslim.measure.sampled_scores import measure
from graphslim.measure.samples import Examples, Samples, caution
from graphslim.pipeline import Outcome, Pass
from graphslim.plans import (
    Achieved,
    Plan,
    Selection,
    check_possible,
    in_scope,
    plan_dead,
    plan_scored,
    scores_beyond,
)
from graphslim.rewrite import apply, apply_in_place
from graphslim.runtime import run_as_shipped
from graphslim.scoring import Scores, check_aggregate, find_criterion, score
from graphslim.support.garbage import pause_gc
from graphslim.support.text import percent, plural

RANDOM = Samples()
"""Random inputs, where no others are given."""


def make_plan(graph: Graph, selection: Selection, samples: Samples = RANDOM) -> Plan:
    """A plan for a selection: of dead channels, or of those that a criterion chooses.

    Args:
        graph: the graph; for scope `blocks`, or names of blocks, its blocks must have been found.
        selection: the selection.
        samples: inputs, for criteria that look at responses or gradients and for latency.

    Raises:
        PlanError: the selection makes no sense for this graph, or its budget cannot be met.
        GraphslimError: sample inputs do not fit, or the graph does not run where it has to.
        RuntimeUnavailable: the graph has to run, and TensorFlow is not there.
    """
    graph = as_asked(graph, selection)
    if selection.criterion is None:
        return plan_dead(graph, selection)
    criterion = find_criterion(selection.criterion)
    if selection.aggregate is None:
        selection = replace(selection, aggregate=criterion.aggregate)
    if selection.latency is not None:
        # Before scores may load TensorFlow: what is timed has to be what will run.
        run_as_shipped()
    with pause_gc():
        channels = analyse(graph)
        groups = in_scope(graph, channels, selection)
        check_possible(graph, channels, groups, selection)
    check_aggregate(selection.aggregate or criterion.aggregate)
    sampled = None
    if criterion.kind != "weights":
        sampled = measure(
            graph,
            channels,
            groups,
            criterion,
            data=samples,
            loss_output=selection.loss_output,
            seed=selection.seed,
        )
    with pause_gc():
        scores = score(
            graph,
            channels,
            groups,
            criterion,
            aggregate=selection.aggregate,
            seed=selection.seed,
            sampled=sampled,
        )
        plan = None
        if selection.latency is None:
            plan = plan_scored(graph, selection, scores)
    if plan is None:
        plan = _by_latency(graph, selection, scores, samples)
    circumstances = _circumstances(graph, selection, scores, samples)
    if plan.removed == 0 and selection.threshold is not None and scores.own:
        circumstances["scores"] = scores_beyond(scores.own, selection)
    return plan._replace(settings={**plan.settings, **circumstances})


def _circumstances(
    graph: Graph, selection: Selection, scores: Scores, samples: Samples
) -> Dict[str, Any]:
    """What a plan's settings say of how its scores came about, beside the selection."""
    settings: Dict[str, Any] = {}
    if scores.missing:
        settings["left_out"] = dict(scores.missing)
    if is_sampled(selection):
        if samples.data is None:
            settings["inputs"] = "random"
        else:
            settings["data"] = Examples(graph, samples).about.as_dict()
        if selection.loss_output is not None:
            settings["loss_output"] = selection.loss_output
    return settings


def is_sampled(selection: Selection) -> bool:
    """Whether the network is run on sample inputs to choose its channels."""
    return selection.criterion is not None and find_criterion(selection.criterion).kind != "weights"


def cautions_of(graph: Graph, plan: Plan) -> List[str]:
    """What a person should know of a plan, one line each."""
    texts = [
        f"{name} is left as it is: {why}" for name, why in plan.settings.get("left_out", {}).items()
    ]
    if plan.settings.get("inputs") == "random":
        texts.append(str(caution(graph, None)))
    if "scores" in plan.settings:
        texts.append(_range_of(plan.settings))
    latency = plan.settings.get("latency", {})
    if latency.get("noise", 0) > WITHIN:
        texts.append(
            f"the very same network differs from itself by {percent(latency['noise'])} here, and "
            f"the {latency['measured']['median']:.3g} measured is no more exact than that; measure "
            "where nothing else runs"
        )
    return texts


def _range_of(settings: Mapping[str, Any]) -> str:
    """What a threshold that removes nothing could have been."""
    scores, threshold = settings["scores"], settings["budget"]["threshold"]
    if not scores["beyond"]:
        side = "above" if scores["above"] else "below"
        text = f"no score is {side} the threshold {threshold:g}"
    else:
        text = (
            f"{plural(scores['beyond'], 'score')} beyond the threshold {threshold:g} are too few "
            f"for any group to lose channels by multiples of {settings['multiple_of']}"
        )
    numbers = [f"{score:.4g}" for score in scores["quartiles"]]
    return (
        f"{text}: scores of {settings['criterion']} are from {numbers[0]} to {numbers[4]}, half of "
        f"them between {numbers[1]} and {numbers[3]}, the median is {numbers[2]}"
    )


def _by_latency(graph: Graph, selection: Selection, scores: Scores, samples: Samples) -> Plan:
    """A plan whose latency was measured: predicted by a table, then held against the machine."""
    assert selection.latency is not None
    batch, threads, progress = samples.batch, selection.threads, samples.tick

    def timed(other: Graph) -> Bench:
        return bench(graph, other, threads=threads, batch=batch, progress=progress)

    def own_noise() -> float:
        alone = timed(graph)
        return noise_of(alone.ratio, alone.runs)

    noise = quiet_enough(selection.latency, own_noise)
    setting = Setting(threads, batch, selection.step)
    predictor = Predictor(graph, table_of(graph, setting, progress=progress))

    def plan_for(share: float) -> Tuple[Plan, float]:
        plan = plan_scored(graph, replace(selection, latency=share), scores, predictor.share)
        return plan, plan.achieved.achieved if plan.achieved else share

    def measured(plan: Plan) -> Spread:
        return timed(apply(graph, plan)).ratio

    plan, promise = reach(selection.latency, plan_for, measured, noise=noise)
    return plan._replace(
        settings={
            **plan.settings,
            "budget": {"latency": selection.latency},
            "latency": {**promise.as_dict(), "threads": threads, "batch": batch},
        },
        achieved=Achieved(
            "latency", selection.latency, round(promise.measured.median, 6), promise.reason
        ),
    )


@dataclass(frozen=True)
class RemoveChannels(Pass):
    """Removes the channels that a criterion and a budget choose.

    It is not registered, since it is none of those that change nothing when they run again: half of
    what is left is half again.

    Attributes:
        selection: what goes, with a criterion.
        samples: inputs, for criteria that look at responses or gradients and for latency.
    """

    name = "remove-channels"
    after = {
        "find-inverted-residual": "scope `blocks` needs the blocks",
        "find-squeeze-excite": "scope `blocks` needs the blocks",
    }

    selection: Selection
    samples: Samples = RANDOM

    def run(self, graph: Graph) -> Outcome:
        """Plans and applies; the plan is in the outcome."""
        plan = make_plan(graph, self.selection, self.samples)
        apply_in_place(graph, plan)
        return Outcome(plan.removed > 0, (f"channels removed: {plan.removed}",), plan)
