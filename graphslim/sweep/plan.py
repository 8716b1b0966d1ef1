"""Plans by what the network was measured to lose: within a limit, or with the loss beside them."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np

from graphslim.analysis.cost import cost
from graphslim.errors import PlanError
from graphslim.ir import Graph
from graphslim.measure.samples import Samples
from graphslim.measure.shares import BATCH
from graphslim.plans import Achieved, Plan, Selection, counted, plan_given
from graphslim.plans.allocate import Allocation, Step, predicted
from graphslim.scoring import Scores
from graphslim.sweep.evaluate import Conditions, Evaluator
from graphslim.sweep.run import Sweep, ranked, sweep

FURTHER = 3.0
"""How much more than the limit the curves may predict for a plan that is tried."""
TRIALS = 10
"""Plans that are tried at most: the cost is known to a thousandth of what may go then."""


def _setting(selection: Selection, samples: Samples) -> Conditions:
    """How losses are measured where a plan is made: as those of the curves were.

    Raises:
        PlanError: the curves were measured with labels, which are not at hand.
    """
    batch = samples.batch if samples.batch > 1 else BATCH
    conditions = Conditions(samples.data, batch=batch, seed=selection.seed)
    if selection.allocate is None:
        return conditions
    about = selection.allocate.about
    if about.labels:
        raise PlanError(
            "was measured with labels, which are not at hand here",
            "--allocate",
            "ask for a budget, or measure a loss that needs none",
        )
    # The same seed shares the images out in the same way: the gate stays unseen.
    return conditions._replace(metric=about.metric, repaired=about.repaired, seed=about.seed)


def losses_of(graph: Graph, selection: Selection, samples: Samples, plan: Plan) -> Dict[str, Any]:
    """What a plan by curves is predicted to lose; and what it loses, where images are given."""
    assert selection.allocate is not None
    about = selection.allocate.about
    gone = {group.id: len(group.removed) for group in plan.groups}
    losses: Dict[str, Any] = {
        "metric": about.metric,
        "repaired": about.repaired,
        "predicted": predicted(selection.allocate, gone),
    }
    if samples.data is None or about.labels:
        return losses
    evaluator = Evaluator(graph, _setting(selection, samples), {})
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
    }
    reason = None
    if not best.removed:
        reason = "every plan that was tried loses more"
    settings = {"select": "scores", **selection.settings(), "loss": losses}
    return best._replace(
        settings=settings, achieved=Achieved("max_loss", limit, round(on_gate, 6), reason)
    )
