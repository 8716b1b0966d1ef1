"""Scores of channels by their responses to sample inputs, or by gradients of a loss."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Union

import numpy as np

from graphslim.channels.groups import Channels, Group, analyse
from graphslim.errors import PlanError
from graphslim.ir import Graph
from graphslim.measure.loss import Factors, Loss, check_loss_output, differentiable
from graphslim.measure.places import Place, laid_out, places_of
from graphslim.measure.portable import Portable
from graphslim.measure.samples import Data, Runs, Samples
from graphslim.measure.shares import chosen_from
from graphslim.measure.verify import runnable
from graphslim.runtime import Session
from graphslim.scoring.registry import Criterion, find_criterion
from graphslim.support.progress import silent
from graphslim.support.workers import Job, Worker, opened

PARTS = 64
"""So many parts at most the runs are done in: the results do not depend on who does which."""


def measure(
    graph: Graph,
    channels: Channels,
    groups: Sequence[Group],
    criterion: Union[str, Criterion],
    *,
    data: Union[Data, Samples] = None,
    loss_output: Optional[str] = None,
    seed: int = 0,
) -> Dict[str, List[np.ndarray]]:
    """The scores of groups' channels by a criterion of kind `responses` or `gradients`.

    The graph is run on the examples one by one (or as many at a time as it takes), and the scores
    of the runs are averaged over the examples. Only their sums are kept. For a criterion that is
    itself a mean over examples, the scores do not depend on how many examples are run together.
    Runs are summed up in parts, and the parts in order, whoever does them: the scores are the same
    to the last digit on one process and on many.

    Args:
        graph: the graph.
        channels: its channel analysis.
        groups: the groups to score.
        criterion: the criterion, or its name.
        data: sample inputs: a path as for verify, arrays by input name, or None for random inputs;
            or `Samples` of these, which say too who runs the graph.
        loss_output: for gradients, a tensor (`node` or `node:port`) to take the loss from, as it
            is, instead of the outputs. If that tensor is one number, or one for each example, it
            is the loss itself.
        seed: the seed of random inputs.

    Returns:
        by group id, for each tensor that shows its channels (see `places_of`) the scores, float64
        of shape (channels,); NaN for channels that are not in that tensor.

    Raises:
        GraphslimError: the data cannot be read or do not fit the graph, or workers were lost.
        PlanError: the graph has no such tensor for the loss, no gradient leads from it to a
            channel, or the scores are not finite, or the same for all channels.
        VerifyError: the graph does not run, or holds an op without a gradient.
        RuntimeUnavailable: TensorFlow is not installed.
    """
    samples = data if isinstance(data, Samples) else Samples(data)
    alone = samples._replace(tick=silent, workers=None)
    scorer = _Scorer(graph, channels, groups, criterion, samples, loss_output, seed)
    job = Job(
        _scorer_of,
        (Portable.of(graph), [group.id for group in groups], criterion, alone, loss_output, seed),
    )
    totals = scorer.nothing()
    with opened(samples.workers) as workers, scorer.session:

        def done(kind: str, *more: Any) -> Iterator[Any]:
            tasks = [(kind, first, last, *more) for first, last in scorer.parts]
            if workers is None:
                return map(lambda task: scorer(*task), tasks)
            return iter(workers.map(job, tasks, "part of the inputs", samples.tick))

        factors = None
        if scorer.criterion.kind == "gradients":
            factors = scorer.loss.factors(done("squares"))
        for part in done("scores", factors):
            totals.add_all(part)
    return totals.averages()


class _Scorer:
    """Scores channels on some of the runs of a graph; see `measure`.

    Attributes:
        criterion: the criterion.
        loss: what gradients are of.
        parts: the first run of each part, and the one behind its last.
        session: what runs the graph.
    """

    def __init__(
        self,
        graph: Graph,
        channels: Channels,
        groups: Sequence[Group],
        criterion: Union[str, Criterion],
        samples: Samples,
        loss_output: Optional[str],
        seed: int,
    ) -> None:
        self.criterion = find_criterion(criterion) if isinstance(criterion, str) else criterion
        runner = runnable(graph)
        check_loss_output(graph, runner, loss_output)
        self._groups, self._places = groups, places_of(channels, groups, runner)
        shown = [place.port for places in self._places.values() for place in places]
        self._ports = list(dict.fromkeys([str(port) for port in shown]))
        self._examples = chosen_from(graph, samples, seed)
        edges = np.linspace(0, self._examples.runs, min(self._examples.runs, PARTS) + 1)
        self.parts = list(
            zip(*[edges.astype(int)[ends].tolist() for ends in (slice(-1), slice(1, None))])
        )
        if self.criterion.kind == "gradients":
            runner = differentiable(runner)
        self.loss = Loss.of(runner, loss_output)
        self.session = Session(runner, optimize=False)
        self._slopes: Optional[List[Optional[str]]] = None

    def __call__(self, kind: str, first: int, last: int, factors: Optional[Factors] = None) -> Any:
        """What some runs give: their `scores` (a `_Totals`), or the `squares` of the loss."""
        runs = self._examples.starting(first, last)
        if kind == "squares":
            return self.loss.squares(self.session, runs)
        return self._scores(runs, factors)

    def nothing(self) -> _Totals:
        """The sums over no runs."""
        return _Totals(self._groups, self._places, self.criterion)

    def _scores(self, runs: Runs, factors: Optional[Factors]) -> _Totals:
        totals, ports = self.nothing(), self._ports
        if self._slopes is None:
            self._slopes = [None] * len(ports)
            if factors is not None:
                self._slopes = self.loss.slopes(self.session, factors, ports)
        fetches = ports + [slope for slope in self._slopes if slope is not None]
        for feeds, count in runs:
            values = iter(self.session.run(feeds, fetches))
            responses = {port: np.asarray(next(values)) for port in ports}
            gradients = {
                port: np.zeros_like(responses[port]) if slope is None else np.asarray(next(values))
                for port, slope in zip(ports, self._slopes)
            }
            totals.add(responses, gradients, count)
        return totals


def _scorer_of(
    portable: Portable,
    names: Sequence[str],
    criterion: Union[str, Criterion],
    samples: Samples,
    loss_output: Optional[str],
    seed: int,
) -> Worker:
    graph = portable.graph()
    channels = analyse(graph)
    by_id = {group.id: group for group in channels.groups}
    groups = [by_id[name] for name in names]
    return _Scorer(graph, channels, groups, criterion, samples, loss_output, seed)


class _Totals:
    """The sums of a criterion's scores over examples, place by place."""

    def __init__(
        self, groups: Sequence[Group], places: Mapping[str, Sequence[Place]], criterion: Criterion
    ) -> None:
        self._places, self._criterion, self._examples = places, criterion, 0
        self._totals: Dict[str, List[np.ndarray]] = {
            group.id: [np.full(len(group), np.nan) for _ in places[group.id]] for group in groups
        }

    def add(
        self,
        responses: Mapping[str, np.ndarray],
        gradients: Mapping[str, np.ndarray],
        examples: int,
    ) -> None:
        """Adds one run: by port the responses and their gradients, arrays of the port's shape."""
        for name, places in self._places.items():
            for place, total in zip(places, self._totals[name]):
                port = str(place.port)
                blocks = [laid_out(responses[port], place, examples)]
                if self._criterion.kind == "gradients":
                    blocks.append(laid_out(gradients[port], place, examples))
                for parts in zip(*blocks):
                    indices = parts[0][0]
                    scores = self._scores([block for _, block in parts], name, port)
                    total[indices] = np.nan_to_num(total[indices]) + examples * scores
        self._examples += examples

    def add_all(self, other: _Totals) -> None:
        """Adds the sums over other runs."""
        for name, totals in self._totals.items():
            for index, (mine, theirs) in enumerate(zip(totals, other._totals[name])):
                # NaN is nothing, but for channels that neither has.
                both = np.nan_to_num(mine) + np.nan_to_num(theirs)
                totals[index] = np.where(np.isnan(mine), theirs, both)
        self._examples += other._examples

    def _scores(self, blocks: Sequence[np.ndarray], group: str, port: str) -> np.ndarray:
        if not all(np.isfinite(block).all() for block in blocks):
            raise PlanError(
                "is not finite on these inputs", f"{port} (group {group})", "give real --data"
            )
        scores = self._criterion.scores(f"{port} (group {group})", *blocks)
        width, shape = blocks[0].shape[2], scores.shape
        if shape != (width,) or not np.isfinite(scores).all():
            raise PlanError(
                f"gives an array of shape {list(shape)} for {width} channels, or not numbers",
                f"criterion {self._criterion.name}",
                "it takes (examples, positions, channels) and gives a finite number per channel",
            )
        return scores

    def averages(self) -> Dict[str, List[np.ndarray]]:
        """The averages over all examples: by name float64 arrays, one value for each channel.

        Raises:
            PlanError: the averages are the same for every channel of every group.
        """
        averages = {
            name: [total / max(1, self._examples) for total in totals]
            for name, totals in self._totals.items()
        }
        refuse_alike(self._criterion, [row for shown in averages.values() for row in shown])
        return averages


def refuse_alike(criterion: Criterion, scores: Sequence[np.ndarray]) -> None:
    """Refuses scores that are the same for every channel of every group, NaN left out.

    Raises:
        PlanError: they are.
    """
    rows = [row[~np.isnan(row)] for row in scores]
    if any(len(row) > 1 for row in rows) and len(np.unique(np.concatenate(rows))) == 1:
        raise PlanError(
            f"{criterion.name} tells no channel from another on these inputs",
            "--criterion",
            "choose another one; apoz works behind activations that give exact zeros, as ReLU",
        )
