"""Sensitivity: what a network loses as each group alone loses more and more of its channels.

Li et al. (2017, arXiv 1608.08710) prune each layer alone at several ratios and look at the
accuracy; here the loss is measured against the original's own outputs, without labels.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from graphslim.channels.groups import analyse
from graphslim.errors import PlanError
from graphslim.ir import Graph
from graphslim.measure.feeds import digest_of
from graphslim.plans import Ranking, Selection, in_scope, model_of
from graphslim.plans.curves import About, Curves, Journal, Loss
from graphslim.scoring import Scores
from graphslim.support.progress import Tick, silent
from graphslim.support.text import is_share
from graphslim.support.workers import Given, Task, check_workers, opened, run_here
from graphslim.sweep.evaluate import Conditions, Evaluator, job_of

RATIOS = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
"""Shares of a group's channels that are removed."""


class Sweep(NamedTuple):
    """What is measured.

    Attributes:
        ratios: the shares of each group's channels that are removed, one after another.
        stop_at: a loss beyond which a group's larger ratios are not measured; None for none.
        path: the file that grows with each measurement, and is gone on with; None for none.
        workers: who measures; None for this process.
    """

    ratios: Sequence[float] = RATIOS
    stop_at: Optional[float] = None
    path: Optional[str] = None
    workers: Given = None

    def check(self) -> None:
        """Refuses ratios that are none, and workers that are nobody.

        Raises:
            PlanError: a ratio is none.
            GraphslimError: the workers are no number of processes, no scheduler and no executor.
        """
        for ratio in self.ratios:
            if not is_share(ratio) or not 0 < ratio < 1:
                raise PlanError(f"{ratio} is no share between 0 and 1", "--ratios")
        check_workers(self.workers)


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
    how.check()
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
        data=evaluator.digest,
        labels="" if conditions.labels is None else digest_of([("labels", conditions.labels)]),
        images=evaluator.count,
    )
    wanted = _chains(order, how.ratios)
    with Journal(how.path, about) as journal:
        known = {(loss.group, loss.removed): loss for loss in journal.curves.losses}
        chains = [_rest(group, counts, known, how.stop_at) for group, counts in wanted]
        total, done = sum([len(counts) for _, counts in wanted]), 0

        def on_loss(chain: int, loss: Loss) -> bool:
            nonlocal done
            journal.add(loss)
            done += 1
            goes_on = how.stop_at is None or loss.loss <= how.stop_at
            if not goes_on:
                done += sum([count > loss.removed for _, count in chains[chain]])
            progress(done, total, f"sensitivity of {loss.group}")
            return goes_on

        done = total - sum([len(chain) for chain in chains])
        progress(done, total, "sensitivity")
        with opened(how.workers) as workers:
            if workers is None:
                run_here(evaluator.measure, chains, on_loss)
            else:
                job = job_of(graph, conditions._replace(threads=workers.threads), orders)
                workers.run(
                    job, chains, on_loss, lambda task: f"{task[0]} without {task[1]} channels"
                )
        return journal.curves, evaluator


def ranked(graph: Graph, selection: Selection, scores: Scores) -> Ranking:
    """The groups in scope, with the order of their channels and their rules."""
    channels = analyse(graph)
    return Ranking(graph, channels, in_scope(graph, channels, selection), scores, selection)


def _chains(order: Ranking, ratios: Sequence[float]) -> List[Tuple[str, List[int]]]:
    """For each group how many channels go, as its rule allows, ascending."""
    return [
        (group.id, sorted({order.allowed(index, ratio) for ratio in ratios} - {0}))
        for index, group in enumerate(order.groups)
    ]


def _rest(
    group: str,
    counts: Sequence[int],
    known: Dict[Tuple[str, int], Loss],
    stop_at: Optional[float],
) -> List[Task]:
    """What is left to measure of a group: groups and numbers of channels."""
    rest: List[Task] = []
    for count in counts:
        loss = known.get((group, count))
        if loss is None:
            rest.append((group, count))
        elif stop_at is not None and loss.loss > stop_at:
            break
    return rest
