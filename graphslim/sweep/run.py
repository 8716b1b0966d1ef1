"""Sensitivity: what a network loses as each group alone loses more and more of its channels.

Li et al. (2017, arXiv 1608.08710) prune each layer alone at several ratios and look at the
accuracy; here the loss is measured against the original's own outputs, without labels.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from graphslim.channels.groups import analyse
from graphslim.errors import PlanError
from graphslim.ir import Graph
from graphslim.measure.feeds import digest_of
from graphslim.plans import Ranking, Selection, in_scope, model_of, ranking
from graphslim.plans.curves import About, Curves, Journal, Loss
from graphslim.scoring import Scores
from graphslim.support.progress import Tick, silent
from graphslim.support.text import is_share
from graphslim.sweep.evaluate import Conditions, Evaluator, Job
from graphslim.sweep.workers import Chain, Pool, measure_all

RATIOS = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
"""Shares of a group's channels that are removed."""


class Sweep(NamedTuple):
    """What is measured.

    Attributes:
        ratios: the shares of each group's channels that are removed, one after another.
        stop_at: a loss beyond which a group's larger ratios are not measured; None for none.
        path: the file that grows with each measurement, and is gone on with; None for none.
        workers: a number of processes, `dask://HOST:PORT`, or an executor; None for this process.
    """

    ratios: Sequence[float] = RATIOS
    stop_at: Optional[float] = None
    path: Optional[str] = None
    workers: Union[None, str, Executor] = None


def sweep(
    graph: Graph,
    selection: Selection,
    scores: Scores,
    conditions: Conditions,
    how: Sweep,
    progress: Tick = silent,
) -> Tuple[Curves, Evaluator]:
    """Measures the curves of the groups in scope.

    Args:
        graph: the graph.
        selection: which groups, and their rules.
        scores: theirs, by which their channels go.
        conditions: how losses are measured.
        how: what is measured.
        progress: called after each measurement.

    Returns:
        the curves, and what measured them, in this process.

    Raises:
        PlanError: a ratio is none, or the file is of something else.
        GraphslimError: images or labels do not fit, or a measurement failed.
        VerifyError: the graph does not run.
    """
    for ratio in how.ratios:
        if not is_share(ratio) or not 0 < ratio < 1:
            raise PlanError(f"{ratio} is no share between 0 and 1", "--ratios")
    order = ranked(graph, selection, scores)
    orders = {group.id: order.order_of(index) for index, group in enumerate(order.groups)}
    evaluator = Evaluator(graph, conditions, orders)
    model = model_of(graph)
    about = About(
        model["name"],
        model["sha256"],
        criterion=str(selection.criterion),
        metric=conditions.metric,
        repaired=conditions.repaired,
        seed=conditions.seed,
        data=str(evaluator.examples.about.as_dict()["sha256"]),
        labels="" if conditions.labels is None else digest_of([("labels", conditions.labels)]),
        images=evaluator.count,
    )
    wanted = _chains(order, how.ratios)
    with Journal(how.path, about) as journal:
        known = {(loss.group, loss.removed): loss for loss in journal.curves.losses}
        chains = [_rest(chain, known, how.stop_at) for chain in wanted]
        total, done = sum([len(counts) for _, counts in wanted]), 0

        def on_loss(loss: Loss) -> bool:
            nonlocal done
            journal.add(loss)
            done += 1
            goes_on = how.stop_at is None or loss.loss <= how.stop_at
            if not goes_on:
                done += sum([count > loss.removed for count in dict(chains)[loss.group]])
            progress(done, total, f"sensitivity of {loss.group}")
            return goes_on

        done = total - sum([len(counts) for _, counts in chains])
        progress(done, total, "sensitivity")
        if isinstance(how.workers, str):
            job = Job.of(graph, conditions, orders)
            with Pool(how.workers, job) as pool:
                measure_all(job, chains, pool.executor, on_loss, pool.restart)
        elif how.workers is not None:
            measure_all(Job.of(graph, conditions, orders), chains, how.workers, on_loss)
        else:
            for group, counts in chains:
                for count in counts:
                    if not on_loss(evaluator.measure(group, count)):
                        break
        return journal.curves, evaluator


def ranked(graph: Graph, selection: Selection, scores: Scores) -> Ranking:
    """The groups in scope, with the order of their channels and their rules."""
    channels = analyse(graph)
    return ranking(graph, channels, in_scope(graph, channels, selection), scores, selection)


def _chains(order: Ranking, ratios: Sequence[float]) -> List[Chain]:
    """For each group how many channels go, as its rule allows, ascending."""
    return [
        (group.id, sorted({order.allowed(index, ratio) for ratio in ratios} - {0}))
        for index, group in enumerate(order.groups)
    ]


def _rest(chain: Chain, known: Dict[Tuple[str, int], Any], stop_at: Optional[float]) -> Chain:
    """What is left to measure of a chain."""
    group, counts = chain
    rest = []
    for count in counts:
        loss = known.get((group, count))
        if loss is None:
            rest.append(count)
        elif stop_at is not None and loss.loss > stop_at:
            break
    return group, rest
