"""Plans by what the network was measured to lose: within a limit, or with the loss beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from graphslim.analysis.cost import cost
from graphslim.errors import PlanError
from graphslim.ir import Graph
from graphslim.measure.samples import Samples
from graphslim.measure.shares import BATCH
from graphslim.plans import Achieved, Plan, Selection, counted, plan_given, plan_scored
from graphslim.plans.allocate import Allocation, Step, predicted
from graphslim.scoring import Scores
from graphslim.support.workers import opened
from graphslim.sweep.evaluate import Conditions, Evaluator, whole_job_of
from graphslim.sweep.run import Sweep, ranked, sweep

FURTHER = 3.0
"""How much more than the limit the curves may predict for a plan that is tried."""
TRIALS = 10
"""Plans that are tried at most: the cost is known to a thousandth of what may go then."""
CORRECTIONS = 3
"""Plans that are made at most by curves that are corrected on the way."""
HOLDS = 1.25
"""A loss within this factor of the predicted one needs no correction."""
LEAST, FACTORS = 1e-3, (0.15, 7.0)
"""The least that putting a group back brings, as a share of all; bounds of a curve's factor."""


def _setting(selection: Selection, samples: Samples) -> Conditions:
    """How losses are measured where a plan is made: as those of the curves were.

    Raises:
        PlanError: the curves were measured by another metric, or with labels that are not at hand.
    """
    batch = samples.batch if samples.batch > 1 else BATCH
    conditions = Conditions(
        samples.data, samples.metric or "error", samples.labels, batch=batch, seed=selection.seed
    )
    if selection.allocate is None:
        return conditions
    about = selection.allocate.about
    if samples.metric not in (None, about.metric):
        raise PlanError(
            f"was measured by {about.metric}",
            "--allocate",
            f"leave --metric out, or measure by {samples.metric}",
        )
    if about.labels and samples.labels is None:
        raise PlanError(
            "was measured with labels, which are not at hand here",
            "--allocate",
            "give --labels too, one for each example",
        )
    # The same seed shares the images out in the same way: the gate stays unseen.
    return conditions._replace(metric=about.metric, repaired=about.repaired, seed=about.seed)


def by_curves(graph: Graph, selection: Selection, scores: Scores, samples: Samples) -> Plan:
    """The plan that meets a budget and loses least, by curves that are corrected on the way.

    What groups lose alone says little of what they lose together, where much is lost. So where
    images are given and the network loses something else than was predicted, each group of the
    plan is put back alone, the others staying narrow, and its curve is scaled by what that brings.
    Then a plan is made again, as long as the network loses less by it. That takes a measurement
    for each group and round; where the prediction holds, one in all. Curves of a network that is
    repaired are left as they are: each of these measurements would be a repair of all layers.
    """
    curves = selection.allocate
    assert curves is not None
    best = plan = plan_scored(graph, selection, scores)
    if not _can_measure(selection, samples) or curves.about.repaired:
        return best
    conditions, power = _setting(selection, samples), 2 if curves.about.adds_in_squares else 1
    evaluator = Evaluator(graph, conditions, {})
    least, factors = np.inf, {}  # type: float, Dict[str, float]
    for left in range(CORRECTIONS)[::-1]:
        removed = {group.id: tuple(group.removed) for group in plan.groups}
        loss = evaluator.loss_without(removed)
        if not removed or loss >= least:
            break
        best, least = plan, loss
        gone = {name: len(channels) for name, channels in removed.items()}
        expected = predicted(curves.scaled(factors), gone) or least
        if not left or 1 / HOLDS < loss / max(expected, 1e-12) < HOLDS:
            break
        others = [
            {name: channels for name, channels in removed.items() if name != back}
            for back in removed
        ]
        for name, lost in zip(removed, _losses(graph, conditions, evaluator, samples, others)):
            brings = max(loss**power - max(lost, 0.0) ** power, LEAST * loss**power)
            alone = predicted(curves, {name: gone[name]}) or 0.0
            if alone > 0:
                factor = np.clip((brings / alone**power) ** (1 / power), *FACTORS)
                # Halfway from the last one: what a group brings depends on the others.
                factors[name] = float(np.sqrt(factor * factors.get(name, factor)))
        corrected = replace(selection, allocate=curves.scaled(factors))
        plan = plan_scored(graph, corrected, scores)
    losses = {"chosen_by": least} if np.isfinite(least) else {}
    return best._replace(settings={**best.settings, "loss": losses})


def _losses(
    graph: Graph,
    conditions: Conditions,
    evaluator: Evaluator,
    samples: Samples,
    removals: Sequence[Mapping[str, Sequence[int]]],
) -> List[float]:
    """What the network loses without some channels or others, by group id."""
    step = "loss of the whole network"
    with opened(samples.workers) as workers:
        if workers is not None:
            job = whole_job_of(graph, conditions._replace(threads=workers.threads))
            return workers.map(job, [(removed,) for removed in removals], step, samples.tick)
    losses = []
    for removed in removals:
        losses.append(evaluator.loss_without(removed))
        samples.tick(len(losses), len(removals), step)
    return losses


def _can_measure(selection: Selection, samples: Samples) -> bool:
    """Whether there are images to measure a plan by curves on, and labels where these need them."""
    assert selection.allocate is not None
    needs_labels = bool(selection.allocate.about.labels)
    return samples.data is not None and (samples.labels is not None or not needs_labels)


def losses_of(graph: Graph, selection: Selection, samples: Samples, plan: Plan) -> Dict[str, Any]:
    """What a plan by curves is predicted to lose; and what it loses, where images are given."""
    assert selection.allocate is not None
    about = selection.allocate.about
    gone = {group.id: len(group.removed) for group in plan.groups}
    losses: Dict[str, Any] = {
        "metric": about.metric,
        "repaired": about.repaired,
        "predicted": predicted(selection.allocate, gone),
        **plan.settings.get("loss", {}),
    }
    if not _can_measure(selection, samples):
        return losses
    evaluator = Evaluator(graph, _setting(selection, samples), {})
    losses["other_images"] = evaluator.digest != about.data
    losses["measured"], losses["images"] = evaluator.on_gate(plan)
    return losses


def within_loss(graph: Graph, selection: Selection, scores: Scores, samples: Samples) -> Plan:
    """The narrowest plan by the curves whose loss is within a limit.

    The limit is held on the images that single groups were measured on; the loss on images that
    were kept aside from that stands beside it.
    """
    assert selection.max_loss is not None
    limit, conditions = selection.max_loss, _setting(selection, samples)
    order, curves = ranked(graph, selection, scores), selection.allocate
    if curves is None:
        # Where a group alone loses too much, more of it does not come into question.
        how = Sweep(stop_at=2 * limit, workers=samples.workers)
        curves, evaluator = sweep(graph, selection, scores, conditions, how, samples.tick)
    else:
        evaluator = Evaluator(graph, conditions, {})
    what = "params" if cost(graph).macs is None else "macs"
    allocation = Allocation(order, curves, counted(graph, order.groups, what))

    def plan_of(step: Step) -> Plan:
        removed = {
            group.id: np.sort(order.order_of(index)[:count]).tolist()
            for index, (group, count) in enumerate(zip(order.groups, step.counts))
            if count
        }
        return plan_given(graph, removed, fold=True, scores=scores.own)

    # The losses of narrower and narrower networks rise but for noise.
    step, loss = allocation.whole, 0.0
    low, high = allocation.narrowest.left, allocation.whole.left
    for trial in range(TRIALS):
        target = (low + high) / 2
        tried = allocation.within(target)
        assert tried is not None
        lost = evaluator.loss_of(plan_of(tried)) if tried.loss <= FURTHER * limit else np.inf
        samples.tick(trial + 1, TRIALS, "loss of the whole network")
        if lost <= limit:
            step, loss, high = tried, lost, tried.left
        else:
            low = target
    best = plan_of(step)
    on_gate, images = evaluator.on_gate(best) if best.removed else (0.0, 0)
    losses = {
        "metric": conditions.metric,
        "repaired": conditions.repaired,
        "predicted": step.loss,
        "measured": on_gate,
        "images": images,
        "chosen_by": loss,
        "other_images": evaluator.digest != curves.about.data,
    }
    reason = None
    if not best.removed:
        reason = "every plan that was tried loses more"
    settings = {"select": "scores", **selection.settings(), "loss": losses}
    return best._replace(
        settings=settings, achieved=Achieved("max_loss", limit, round(on_gate, 6), reason)
    )
