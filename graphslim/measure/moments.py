"""Second moments of what layers read, and what an error of their sums costs at the outputs.

Both are means over sample inputs, from which a criterion of kind `moments` scores channels. What an
error costs is taken from gradients of the outputs, each output number with a random sign: the mean
of their outer products is the Gauss-Newton matrix of the outputs' squared error (Martens et al.
2012, arXiv 1206.6464), of which a layer gets its own block, summed over output positions.
"""

from __future__ import annotations

import itertools
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple, Union

import numpy as np

from graphslim.channels.facts import channel_axis
from graphslim.channels.groups import Channels, Group
from graphslim.channels.notes import Contraction
from graphslim.errors import PlanError
from graphslim.ir import Graph, Port
from graphslim.ir.query import behind
from graphslim.measure.grams import EXAMPLES, Gram, Reader, chosen, grams_of, in_portions, reader_of
from graphslim.measure.loss import Loss, check_loss_output, differentiable
from graphslim.measure.places import Place, laid_out, places_of, twins_of
from graphslim.measure.sampled_scores import refuse_alike
from graphslim.measure.samples import Data, Examples, Samples
from graphslim.measure.shares import chosen_from
from graphslim.measure.verify import runnable
from graphslim.runtime import Session
from graphslim.scoring.bindings import matrix_reader
from graphslim.scoring.elimination import Moments
from graphslim.scoring.registry import Criterion, find_criterion

LONGEST_ROW = 6144
"""Layers that read longer rows are not fitted anew: their Gram matrices take 300 MB and more."""
_SIGNS = 64
"""Random signs that are drawn at least for each output number, over all examples."""
_POSITIONS = 256
"""Output positions of a layer that are looked at in one example."""


class _Layer(NamedTuple):
    """A layer that reads channels and can be fitted.

    Attributes:
        contraction: a sum over channels that it makes, in the graph as it is.
        readers: its sums in the graph that is run: several where sums share their weights.
    """

    contraction: Contraction
    readers: List[Reader]


class _Need(NamedTuple):
    """What the scores of a group take.

    Attributes:
        group: the group.
        layers: the layers that read its channels and can be fitted.
        places: tensors that show its channels to what cannot be fitted.
    """

    group: Group
    layers: List[_Layer]
    places: List[Place]


def measure_moments(
    graph: Graph,
    channels: Channels,
    groups: Sequence[Group],
    criterion: Union[str, Criterion],
    *,
    data: Union[Data, Samples] = None,
    loss_output: Optional[str] = None,
    seed: int = 0,
) -> Dict[str, List[np.ndarray]]:
    """The scores of groups' channels by a criterion of kind `moments`.

    Where not all that reads a group can be fitted (a product of two tensors, a convolution in three
    dimensions, rows longer than `LONGEST_ROW`), that part stands for what the outputs lose, to
    first order, when a channel's responses are zero and nothing makes up for it.

    Args:
        graph: the graph.
        channels: its channel analysis.
        groups: the groups to score.
        criterion: the criterion, or its name.
        data: sample inputs, as for `sampled_scores.measure`; at most 1024 of them are run.
        loss_output: a tensor (`node` or `node:port`) whose error counts instead of the outputs'.
        seed: the seed of random inputs, of the signs, and of the positions that are looked at.

    Returns:
        by group id a list of one array of scores, float64 of shape (channels,); of none for a group
        whose channels no tensor shows.

    Raises:
        GraphslimError: the data cannot be read or do not fit the graph.
        PlanError: no gradient leads from the outputs to a channel, or scores are not finite, or the
            same for all channels.
        VerifyError: the graph does not run, or holds an op without a gradient.
        RuntimeUnavailable: TensorFlow is not installed.
    """
    if isinstance(criterion, str):
        criterion = find_criterion(criterion)
    samples = data if isinstance(data, Samples) else Samples(data)
    runner = runnable(graph)
    check_loss_output(graph, runner, loss_output)
    examples = chosen_from(graph, samples, seed)
    examples = examples.drawn(np.random.RandomState(seed), EXAMPLES)
    needs = _needs(channels, groups, runner)
    scores: Dict[str, List[np.ndarray]] = {}
    measured = _Measured(channels, runner, examples, needs, loss_output, seed)
    for portion in in_portions(
        [[reader for layer in need.layers for reader in layer.readers] for need in needs]
    ):
        parts = needs[len(scores) : len(scores) + len(portion)]
        grams = measured.grams(parts)
        for need in parts:
            scores[need.group.id] = _scored(criterion, need.group, measured.moments(need, grams))
            samples.tick(len(scores), len(needs), "what layers lose")
    refuse_alike(criterion, [row for rows in scores.values() for row in rows])
    return scores


def _scored(criterion: Criterion, group: Group, moments: List[Moments]) -> List[np.ndarray]:
    if not moments:
        return []
    scores = criterion.scores(group.id, len(group), moments)
    if scores.shape != (len(group),) or not np.isfinite(scores).all():
        raise PlanError(
            f"gives an array of shape {list(scores.shape)} for {len(group)} channels, or not "
            "numbers",
            f"criterion {criterion.name}",
            "it takes the number of channels and the moments of the layers that read them, and "
            "gives a finite number per channel",
        )
    return [scores]


def _needs(channels: Channels, groups: Sequence[Group], runner: Graph) -> List[_Need]:
    """What the scores of groups take, by group."""
    matrix = matrix_reader(channels.graph, channels)
    layers: Dict[Tuple[Port, bytes], _Layer] = {}
    unfitted: Set[Port] = set()
    for contraction, twin in zip(channels.contractions, twins_of(channels, runner)):
        reader = reader_of(runner, twin)
        is_known = reader is not None and reader.size <= LONGEST_ROW and contraction.out is not None
        if reader is None or not is_known or matrix(contraction) is None:
            unfitted.add(behind(runner, runner.data_inputs(twin.node)[twin.data]))
            continue
        inputs = channels.graph.data_inputs(contraction.node)
        source = behind(channels.graph, inputs[contraction.weights])
        key = source, channels.label[contraction.into].tobytes()
        layers.setdefault(key, _Layer(contraction, [])).readers.append(reader)
    group_at = np.full(channels.count, -1)
    for number, group in enumerate(groups):
        group_at[group.channels] = number
    needs = [_Need(group, [], []) for group in groups]
    for layer in layers.values():
        for number in np.unique(group_at[channels.members(layer.contraction.into)[1]]):
            if number >= 0:
                needs[number].layers.append(layer)
    places = places_of(channels, groups, runner)
    for need in needs:
        shown = places[need.group.id]
        need.places.extend([at for at in shown if at.port in unfitted or not need.layers])
    return needs


class _Measured:
    """What is measured of a graph on sample inputs."""

    def __init__(
        self,
        channels: Channels,
        runner: Graph,
        examples: Examples,
        needs: Sequence[_Need],
        loss_output: Optional[str],
        seed: int,
    ) -> None:
        self._channels, self._runner, self._examples = channels, runner, examples
        self._seed, self._rng = seed, np.random.RandomState(seed)
        self._matrix = matrix_reader(channels.graph, channels)
        self._nodes = {
            reader.contraction.node: _axis(runner, reader)
            for need in needs
            for layer in need.layers
            for reader in layer.readers
        }
        self._places = {need.group.id: need.places for need in needs}
        self._sensitivities: Dict[str, np.ndarray] = {}
        self._losses = {need.group.id: np.zeros(len(need.group)) for need in needs}
        self._follow(differentiable(runner), loss_output, seed)

    def _follow(self, runner: Graph, loss_output: Optional[str], seed: int) -> None:
        """Measures what errors come to at the outputs."""
        shown = [str(place.port) for places in self._places.values() for place in places]
        shown = list(dict.fromkeys(shown))
        ports = [*self._nodes, *shown]
        repeats = -(-_SIGNS // max(1, self._examples.count))
        total = 0
        with Session(runner, optimize=False) as session:
            loss = Loss.of(runner, loss_output, per_example=True)
            factors = loss.factors([loss.squares(session, self._examples)])
            slopes = loss.slopes(session, factors, ports, signs=seed)
            known = {port: slope for port, slope in zip(ports, slopes) if slope is not None}
            fetches = [*known.values(), *shown]
            for feeds, count in itertools.chain(*[self._examples] * repeats):
                values = session.run(feeds, fetches)
                gradients = dict(zip(known, values))
                self._add(gradients, dict(zip(shown, values[len(known) :])), count)
                total += count
        for name in self._sensitivities:
            self._sensitivities[name] /= total
        for losses in self._losses.values():
            losses /= total

    def _add(
        self, gradients: Mapping[str, np.ndarray], responses: Mapping[str, np.ndarray], count: int
    ) -> None:
        """Adds one run: by port the gradients, and the responses that places show."""
        for name, axis in self._nodes.items():
            if name in gradients:
                moved = np.moveaxis(gradients[name], axis, -1)
                rows = moved.reshape(-1, moved.shape[-1])
                picked = chosen(len(rows), count * _POSITIONS, self._rng)
                some = rows[picked].astype(np.float32)
                square = (some.T @ some).astype(np.float64) * (len(rows) / max(1, len(picked)))
                self._sensitivities[name] = self._sensitivities.get(name, 0.0) + square
        for group, places in self._places.items():
            for place in places:
                port = str(place.port)
                if port in gradients:
                    blocks = [laid_out(of[port], place, count) for of in (responses, gradients)]
                    for (indices, response), (_, gradient) in zip(*blocks):
                        change = (response * gradient).sum(1)
                        self._losses[group][indices] += np.square(change).sum(0)

    def grams(self, needs: Sequence[_Need]) -> Dict[int, Gram]:
        """The Gram matrices of the layers that read some groups, by the layer's id."""
        layers = {id(layer): layer for need in needs for layer in need.layers}
        readers = [reader for layer in layers.values() for reader in layer.readers]
        made = iter(grams_of(self._runner, readers, self._examples, self._seed) if readers else [])
        return {
            key: Gram.mean_of([next(made) for _ in layer.readers]) for key, layer in layers.items()
        }

    def moments(self, need: _Need, grams: Mapping[int, Gram]) -> List[Moments]:
        """The layers that read a group; what cannot be fitted is one of them, without inputs that
        depend on each other.

        Raises:
            PlanError: what a layer reads or makes is not finite.
        """
        size = len(need.group)
        index = np.full(self._channels.count, -1)
        index[need.group.channels] = np.arange(size)
        shown = np.zeros(size, bool)
        moments = []
        for layer in need.layers:
            weights = self._matrix(layer.contraction)
            assert weights is not None
            gram = grams[id(layer)]
            at, labels = self._channels.members(layer.contraction.into)
            inside = np.full(len(layer.contraction.into), -1)
            inside[at[index[labels] >= 0]] = index[labels[index[labels] >= 0]]
            shown[inside[inside >= 0]] = True
            nothing = np.zeros((weights.shape[2], weights.shape[2]))
            names = [reader.contraction.node for reader in layer.readers]
            sensitivity = sum([self._sensitivities.get(name, nothing) for name in names], nothing)
            moments.append(
                Moments(
                    np.tile(inside, len(weights)),
                    weights.reshape(-1, weights.shape[2]).astype(np.float64),
                    gram.centred,
                    sensitivity,
                )
            )
            if not np.isfinite(gram.outer).all() or not np.isfinite(sensitivity).all():
                raise PlanError("is not finite on these inputs", names[0], "give real --data")
        for place in need.places:
            shown[place.channels] = True
        if need.places:
            losses = np.diag(self._losses[need.group.id])
            moments.append(Moments(np.arange(size), np.eye(size), losses, np.eye(size)))
        return moments if shown.all() else []


def _axis(runner: Graph, reader: Reader) -> int:
    """The axis of the outputs of a sum."""
    if reader.kernel:
        return channel_axis(runner[reader.contraction.node])
    return -1 if reader.contraction.weights else -2
