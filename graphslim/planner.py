"""From a selection to a plan, by whatever it takes: weights, sample inputs, measured times."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from graphslim.channels.groups import analyse, as_asked
from graphslim.delivery.timing import Workshop, require_place
from graphslim.errors import PlanError
from graphslim.ir import Graph
from graphslim.measure.bench import Spread, bench
from graphslim.measure.latency import Setting, table_of
from graphslim.measure.moments import measure_moments
from graphslim.measure.promise import WITHIN, Predictor, noise_of, quiet_enough, reach
from graphslim.measure.sampled_scores import measure
from graphslim.measure.samples import Samples, caution
from graphslim.measure.shares import chosen_from
from graphslim.pipeline import Outcome, Pass
from graphslim.plans import (
    MEASURED_BY,
    TARGETS,
    Achieved,
    Plan,
    Selection,
    check_possible,
    in_scope,
    model_of,
    per_saving,
    plan_dead,
    plan_scored,
    scores_beyond,
)
from graphslim.plans.curves import Curves, check_fits
from graphslim.rewrite import apply, apply_in_place
from graphslim.runtime import run_as_shipped
from graphslim.scoring import Scores, check_aggregate, find_criterion, score
from graphslim.support.garbage import pause_gc
from graphslim.support.progress import Tick, silent
from graphslim.support.text import percent, plural
from graphslim.support.workers import opened
from graphslim.sweep import Conditions, Sweep, by_curves, losses_of, sweep, within_loss

BEYOND = 1.5
"""A loss that is so many times the limit causes a caution."""
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
    selection.check()
    criterion = find_criterion(selection.criterion)
    if selection.aggregate is None:
        selection = replace(selection, aggregate=criterion.aggregate)
    wanted, selection = selection.step, _reachable(graph, selection)
    if selection.latency is not None:
        if selection.runtime is not None:
            require_place(selection.runtime)
        # Before scores may load TensorFlow: what is timed has to be what will run.
        run_as_shipped()
    with opened(samples.workers) as workers:
        samples = _choosing(selection, samples)._replace(workers=workers)
        plan = _planned(graph, selection, samples)
    if selection.step == wanted:
        return plan
    return plan._replace(settings={**plan.settings, "too_coarse": wanted})


def _planned(graph: Graph, selection: Selection, samples: Samples) -> Plan:
    """A plan by a criterion; see `make_plan`."""
    scores = scores_of(graph, selection, samples)
    if selection.latency is not None:
        plan = _by_latency(graph, selection, scores, samples)
    elif selection.max_loss is not None:
        plan = within_loss(graph, selection, scores, samples)
    elif selection.allocate is not None:
        plan = by_curves(graph, selection, scores, samples)
    else:
        with pause_gc():
            plan = plan_scored(graph, selection, scores)
    circumstances = _circumstances(graph, selection, scores, samples)
    if plan.removed == 0 and selection.threshold is not None and scores.own:
        circumstances["scores"] = scores_beyond(scores.own, selection)
    if selection.allocate is not None and selection.max_loss is None:
        circumstances["loss"] = losses_of(graph, selection, samples, plan)
    return plan._replace(settings={**plan.settings, **circumstances})


def _reachable(graph: Graph, selection: Selection) -> Selection:
    """The selection; with a smaller multiple where that of its runtime keeps it from its budget.

    Nobody asked for that multiple, and narrow networks have few channels beyond it.
    """
    if selection.target is None:
        return selection
    smaller = [replace(selection, multiple_of=step) for step in (8, 4) if step < selection.step]
    with pause_gc():
        channels = analyse(graph)
        for tried in (selection, *smaller):
            with contextlib.suppress(PlanError):
                check_possible(graph, channels, in_scope(graph, channels, tried), tried)
                return tried
    return selection


def _choosing(selection: Selection, samples: Samples) -> Samples:
    """The samples to choose channels by: none of those on which a plan's loss is then told."""
    if samples.kept_aside is None and selection.allocate is not None:
        return samples._replace(kept_aside=selection.allocate.about.seed)
    if samples.kept_aside is None and selection.max_loss is not None:
        return samples._replace(kept_aside=selection.seed)
    return samples


def scores_of(graph: Graph, selection: Selection, samples: Samples = RANDOM) -> Scores:
    """The scores of the groups in scope by a selection's criterion.

    Args:
        graph: the graph; for scope `blocks`, or names of blocks, its blocks must have been found.
        selection: the selection, with a criterion.
        samples: inputs, for criteria that look at responses or gradients.

    Raises:
        PlanError: the selection makes no sense for this graph, or its budget cannot be met.
        GraphslimError: sample inputs do not fit, or the graph does not run where it has to.
        RuntimeUnavailable: the graph has to run, and TensorFlow is not there.
    """
    assert selection.criterion is not None
    criterion = find_criterion(selection.criterion)
    with pause_gc():
        channels = analyse(graph)
        groups = in_scope(graph, channels, selection)
        if selection.allocate is not None:
            sizes = {group.id: len(group) for group in channels.groups}
            check_fits(selection.allocate, sizes, model_of(graph)["sha256"])
        check_possible(graph, channels, groups, selection)
    check_aggregate(selection.aggregate or criterion.aggregate)
    sampled = None
    if criterion.kind != "weights":
        look = measure_moments if criterion.kind == "moments" else measure
        sampled = look(
            graph,
            channels,
            groups,
            selection.criterion,
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
        if not criterion.additive:
            return scores
        return scores._replace(rank=per_saving(graph, channels, groups, scores.rank, selection))


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
            settings["data"] = chosen_from(graph, samples).about.as_dict()
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
        if "allocate" in plan.settings:
            texts.append(
                "the curves are of the channels that real inputs chose: give those that they were "
                "measured on with --data"
            )
    if plan.settings.get("kept"):
        kept, target = plan.settings["kept"], TARGETS[plan.settings["runtime"]]
        texts.append(
            f"{', '.join(kept)} keep {plural(sum(kept.values()), 'channel')} that change nothing: "
            f"{target.title} is slower at widths that are no multiple of {target.aligned}; "
            "--multiple-of 1 takes them"
        )
    if "too_coarse" in plan.settings:
        texts.append(
            f"multiples of {plan.settings['too_coarse']}, which are fast in "
            f"{TARGETS[plan.settings['runtime']].title}, would keep too many channels for this "
            f"budget: groups keep multiples of {plan.settings['multiple_of']}"
        )
    if "scores" in plan.settings:
        texts.append(_range_of(plan.settings))
    loss, limit = plan.settings.get("loss", {}), plan.settings.get("budget", {}).get("max_loss")
    if loss.get("other_images"):
        texts.append(
            "the curves were measured on other images: these may hold some of those that were kept "
            "aside, which then judge too well"
        )
    if loss.get("repaired"):
        texts.append("the losses were measured with layers fitted by least squares: add --repair")
    if limit is not None and loss["measured"] > BEYOND * limit:
        texts.append(
            f"the loss is {loss['measured']:.3g} on images kept aside, where "
            f"{limit:g} was asked for: the images are too few, or of too many kinds, to choose by"
        )
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
    if selection.runtime in (None, "tf"):
        return _within_time(graph, selection, scores, samples, None)
    with Workshop(str(selection.runtime), selection.threads) as workshop:
        return _within_time(graph, selection, scores, samples, workshop)


def _within_time(
    graph: Graph,
    selection: Selection,
    scores: Scores,
    samples: Samples,
    workshop: Optional[Workshop],
) -> Plan:
    """A plan whose latency is measured in TensorFlow, or where a workshop does it."""
    assert selection.latency is not None
    batch, threads, progress = samples.batch, selection.threads, samples.tick

    def ratio_to(other: Graph) -> Tuple[Spread, int]:
        if workshop is None:
            times = bench(graph, other, threads=threads, batch=batch, progress=progress)
            return times.ratio, times.runs
        timings = workshop.times([graph, other], batch=batch, progress=progress)
        return timings.models[1].ratio, timings.runs

    noise = quiet_enough(selection.latency, lambda: noise_of(*ratio_to(graph)))
    setting = Setting(threads, batch, selection.step)
    timing = None if workshop is None else workshop.timing()
    with opened(samples.workers) as workers:
        table = table_of(graph, setting, timing, progress=progress, workers=workers)
    predictor = Predictor(graph, table)

    def plan_for(share: float) -> Tuple[Plan, float]:
        plan = plan_scored(graph, replace(selection, latency=share), scores, predictor.share)
        return plan, plan.achieved.achieved if plan.achieved else share

    def measured(plan: Plan) -> Spread:
        return ratio_to(apply(graph, plan))[0]

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


# --- By what the network was measured to lose.


def sensitivity(
    graph: Graph,
    selection: Selection,
    conditions: Conditions,
    how: Sweep,
    progress: Tick = silent,
) -> Curves:
    """What the network loses as each group alone loses more and more of its channels.

    Args:
        graph: the graph; for scope `blocks`, or names of blocks, its blocks must have been found.
        selection: which groups, in which steps, and by which criterion their channels go; no
            budget.
        conditions: how losses are measured.
        how: what is measured, by whom, and where it is kept.
        progress: called after each measurement.

    Raises:
        PlanError: the selection makes no sense, or the file is of something else.
        GraphslimError: images or labels do not fit, or a measurement failed.
        VerifyError: the graph does not run.
        RuntimeUnavailable: TensorFlow is not there.
    """
    # Something has to be asked for where there is a criterion, and decides nothing here.
    selection = replace(selection, max_loss=1.0, criterion=selection.criterion or MEASURED_BY)
    graph = as_asked(graph, selection)
    how.check()
    with opened(how.workers) as workers:
        samples = Samples(
            conditions.data, conditions.batch, kept_aside=conditions.seed, workers=workers
        )
        scores = scores_of(graph, selection, samples)
        how = how._replace(workers=workers)
        return sweep(graph, selection, scores, conditions, how, progress)[0]


@dataclass(frozen=True)
class RemoveChannels(Pass):
    """Removes the channels that a criterion and a budget choose.

    It is not registered, since it is none of those that change nothing when they run again: half of
    what is left is half again.

    Attributes:
        selection: what goes, with a criterion.
        samples: inputs, for criteria that look at responses or gradients and for latency.
        planned: what makes the plan.
    """

    name = "remove-channels"
    after = {
        "find-inverted-residual": "scope `blocks` needs the blocks",
        "find-squeeze-excite": "scope `blocks` needs the blocks",
    }

    selection: Selection
    samples: Samples = RANDOM
    planned: Callable[[Graph, Selection, Samples], Plan] = make_plan

    def run(self, graph: Graph) -> Outcome:
        """Plans and applies; the plan is in the outcome."""
        plan = self.planned(graph, self.selection, self.samples)
        apply_in_place(graph, plan)
        return Outcome(plan.removed > 0, (f"channels removed: {plan.removed}",), plan)
