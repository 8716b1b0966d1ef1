"""From a selection to a plan, by whatever it takes: weights, sample inputs, measured times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from graphslim.channels.groups import analyse
from graphslim.criteria import Scores, check_aggregate, find_criterion, score
from graphslim.ir import Graph
from graphslim.measure.bench import Bench, Spread, bench
from graphslim.measure.latency import Setting, table_of
from graphslim.measure.promise import WITHIN, Predictor, noise_of, quiet_enough, reach
from graphslim.measure.sampled_scores import measure
from graphslim.measure.samples import Examples, Samples, caution
from graphslim.pipeline import Outcome, Pass
from graphslim.plans import (
    DEAD_BELOW,
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
from graphslim.support.progress import Tick, silent
from graphslim.support.text import percent, plural


class Means(NamedTuple):
    """What a plan may need besides the graph.

    Attributes:
        samples: sample inputs, for criteria that look at responses or gradients.
        threads: threads within an op, for a latency budget; 0 for as many as there are cores.
        dead_below: weights of smaller magnitude count as zero, where dead channels are wanted.
        progress: told of what takes long.
    """

    samples: Samples = Samples()
    threads: int = 1
    dead_below: float = DEAD_BELOW
    progress: Tick = silent


def make_plan(graph: Graph, wish: Selection, means: Optional[Means] = None) -> Plan:
    """A plan for a selection: of dead channels, or of those that a criterion chooses.

    Args:
        graph: the graph; for scope `blocks`, or names of blocks, its blocks must have been found.
        wish: the selection.
        means: what it takes.

    Raises:
        PlanError: the selection makes no sense for this graph, or its budget cannot be met.
        GraphslimError: sample inputs do not fit, or the graph does not run where it has to.
        RuntimeUnavailable: the graph has to run, and TensorFlow is not there.
    """
    means = means or Means()
    if wish.criterion is None:
        return plan_dead(graph, wish, means.dead_below)
    criterion = find_criterion(wish.criterion)
    if wish.aggregate is None:
        wish = wish._replace(aggregate=criterion.aggregate)
    if wish.latency is not None:
        # Before scores may load TensorFlow: what is timed has to be what will run.
        run_as_shipped()
    channels = analyse(graph)
    groups = in_scope(graph, channels, wish)
    check_possible(graph, channels, groups, wish)
    check_aggregate(wish.aggregate or criterion.aggregate)
    sampled = None
    if criterion.kind != "weights":
        sampled = measure(graph, channels, groups, criterion, data=means.samples, seed=wish.seed)
    scores = score(
        graph,
        channels,
        groups,
        criterion,
        aggregate=wish.aggregate,
        seed=wish.seed,
        sampled=sampled,
    )
    plan = (
        plan_scored(graph, wish, scores)
        if wish.latency is None
        else _by_latency(graph, wish, scores, means)
    )
    found = _circumstances(graph, wish, scores, means)
    if plan.removed == 0 and wish.threshold is not None and scores.own:
        found["scores"] = scores_beyond(scores.own, wish)
    return plan._replace(settings={**plan.settings, **found})


def _circumstances(graph: Graph, wish: Selection, scores: Scores, means: Means) -> Dict[str, Any]:
    """What a plan's settings say of how its scores came about, beside the selection."""
    found: Dict[str, Any] = {}
    if scores.missing:
        found["left_out"] = dict(scores.missing)
    if is_sampled(wish):
        if means.samples.data is None:
            found["inputs"] = "random"
        else:
            found["data"] = Examples(graph, means.samples).about.as_dict()
        if means.samples.loss_output is not None:
            found["loss_output"] = means.samples.loss_output
    return found


def is_sampled(wish: Selection) -> bool:
    """Whether the network is run on sample inputs to choose its channels."""
    return wish.criterion is not None and find_criterion(wish.criterion).kind != "weights"


def cautions_of(graph: Graph, plan: Plan) -> List[str]:
    """What a person should know of a plan, one line each."""
    found = [
        f"{name} is left as it is: {why}" for name, why in plan.settings.get("left_out", {}).items()
    ]
    if plan.settings.get("inputs") == "random":
        found.append(str(caution(graph, None)))
    if "scores" in plan.settings:
        found.append(_range_of(plan.settings))
    latency = plan.settings.get("latency", {})
    if latency.get("noise", 0) > WITHIN:
        found.append(
            f"the very same network differs from itself by {percent(latency['noise'])} here, and "
            f"the {latency['measured']['median']:.3g} measured is no more exact than that; measure "
            "where nothing else runs"
        )
    return found


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
    numbers = [f"{one:.4g}" for one in scores["quartiles"]]
    return (
        f"{text}: scores of {settings['criterion']} are from {numbers[0]} to {numbers[4]}, half of "
        f"them between {numbers[1]} and {numbers[3]}, the median is {numbers[2]}"
    )


def _by_latency(graph: Graph, wish: Selection, scores: Scores, means: Means) -> Plan:
    """A plan whose latency was measured: predicted by a table, then held against the machine."""
    assert wish.latency is not None
    batch = means.samples.batch

    def timed(other: Graph) -> Bench:
        return bench(graph, other, threads=means.threads, batch=batch, progress=means.progress)

    def own_noise() -> float:
        alone = timed(graph)
        return noise_of(alone.ratio, alone.runs)

    noise = quiet_enough(wish.latency, own_noise)
    setting = Setting(means.threads, batch, wish.step)
    predictor = Predictor(graph, table_of(graph, setting, progress=means.progress))

    def plan_for(share: float) -> Tuple[Plan, float]:
        plan = plan_scored(graph, wish._replace(latency=share), scores, predictor.share)
        return plan, plan.achieved.achieved if plan.achieved else share

    def measured(plan: Plan) -> Spread:
        return timed(apply(graph, plan)).ratio

    plan, promise = reach(wish.latency, plan_for, measured, noise=noise)
    return plan._replace(
        settings={
            **plan.settings,
            "budget": {"latency": wish.latency},
            "latency": {**promise.as_dict(), "threads": means.threads, "batch": batch},
        },
        achieved=Achieved(
            "latency", wish.latency, round(promise.measured.median, 6), promise.reason
        ),
    )


@dataclass(frozen=True)
class RemoveChannels(Pass):
    """Removes the channels that a criterion and a budget choose.

    It is not registered, since it is none of those that change nothing when they run again: half of
    what is left is half again.

    Attributes:
        wish: the selection.
        means: what it takes.
    """

    name = "remove-channels"
    after = {
        "find-inverted-residual": "scope `blocks` needs the blocks",
        "find-squeeze-excite": "scope `blocks` needs the blocks",
    }

    wish: Selection
    means: Means = Means()

    def run(self, graph: Graph) -> Outcome:
        """Plans and applies; the plan is in the outcome."""
        plan = make_plan(graph, self.wish, self.means)
        apply_in_place(graph, plan)
        return Outcome(plan.removed > 0, (f"channels removed: {plan.removed}",), plan)
