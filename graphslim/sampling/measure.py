"""Measures: runs a graph on sample inputs and scores the channels of groups by what they answer.

Gradients are those of a loss. By default it asks how far the outputs would move, which needs no
labels: half the sum of squares of every floating-point output, each divided by its mean square
over the examples, so that no output drowns another. It is the loss of Memory Aware Synapses
(Aljundi et al. 2018, arXiv 1711.09601); the distance of the outputs from themselves, as in
distillation, has no gradient where it is zero. An output that is a Softmax, a Sigmoid or an
ArgMax, whose gradients vanish, is replaced by what enters it.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from graphslim.analysis.channels import Channels, Group
from graphslim.criteria.registry import Criterion
from graphslim.errors import PlanError
from graphslim.ir import IDENTITIES, Graph, Port
from graphslim.layout import needs_nhwc, to_nhwc
from graphslim.runtime import Session
from graphslim.sampling.differentiable import differentiable
from graphslim.sampling.examples import Data, Examples, Samples
from graphslim.sampling.places import Place, places_of

_HINT = "name what stands before it with --loss-output, or score by the weights"

_SQUASHES = ("Softmax", "LogSoftmax", "Sigmoid", "ArgMax")
"""Ops behind which a network that is sure of itself has next to no gradient, or none."""
_PASSES = frozenset((*IDENTITIES, *_SQUASHES, "Reshape", "Squeeze", "ExpandDims"))


def measure(
    graph: Graph,
    channels: Channels,
    groups: Sequence[Group],
    criterion: Criterion,
    *,
    data: Union[Data, Samples] = None,
    seed: int = 0,
) -> Dict[str, List[np.ndarray]]:
    """What a criterion of kind `responses` or `gradients` says of the channels of groups.

    The graph is run on the examples one by one (or as many at a time as it takes), and what the
    criterion says of each run is averaged over the examples. Nothing but those sums is kept, and
    however many examples are run together, the scores are the same for any criterion that is
    itself a mean over examples.

    Args:
        graph: the graph.
        channels: its channel analysis.
        groups: those to score.
        criterion: the criterion.
        data: sample inputs: a path as for verify, arrays by input name, or None for random ones;
            or `Samples` of these, which may name a tensor to take the loss from, as it is, instead
            of the outputs. If that is one number, or one for each example, it is the loss itself.
        seed: for random ones.

    Returns:
        by group id, for each tensor that shows its channels (see `places_of`) the scores, float64
        of shape (channels,); NaN for channels that are not in that tensor.

    Raises:
        GraphslimError: the data cannot be read or do not fit.
        PlanError: the tensor named for the loss is not there, no gradient leads from it, or what is
            measured is not finite, or the same for all channels.
        VerifyError: the graph does not run, or holds an op without a gradient.
        RuntimeUnavailable: TensorFlow is not there.
    """
    given = data if isinstance(data, Samples) else Samples(data)
    runner = graph
    if needs_nhwc(graph):
        runner = graph.copy()
        to_nhwc(runner)
    if given.loss_output is not None:
        _check_output(graph, runner, given.loss_output)
    places = places_of(channels, groups, runner)
    examples = Examples(graph, given, seed)
    sums = _Sums(groups, places, criterion)
    ports = list(dict.fromkeys([str(one.port) for found in places.values() for one in found]))
    if criterion.kind == "gradients":
        runner = differentiable(runner)
    with Session(runner, optimize=False) as session:
        slopes: List[Optional[str]] = [None] * len(ports)
        if criterion.kind == "gradients":
            slopes = _gradients(session, runner, examples, given.loss_output, ports)
        fetches = ports + [one for one in slopes if one is not None]
        for feeds, count in examples:
            found = iter(session.run(feeds, fetches))
            responses = {port: np.asarray(next(found)) for port in ports}
            gradients = {
                port: np.zeros_like(responses[port]) if slope is None else np.asarray(next(found))
                for port, slope in zip(ports, slopes)
            }
            sums.add(responses, gradients, count)
    return sums.means()


def _check_output(graph: Graph, runner: Graph, name: str) -> None:
    port = Port.parse(name)
    if any(port.node not in one or port.port < 0 for one in (graph, runner)):
        raise PlanError(f"the graph has no {name!r}", "--loss-output", "`graphslim inspect` helps")


def _gradients(
    session: Session,
    graph: Graph,
    examples: Examples,
    loss_output: Optional[str],
    ports: Sequence[str],
) -> List[Optional[str]]:
    """Adds the gradients of the loss to the graph that is run: a name per port, None for zero."""
    names = [loss_output] if loss_output is not None else _logits(graph)
    weights = _loss(session, examples, names, loss_output is not None)
    slopes = session.gradients(weights, ports)
    if weights and any(slope is not None for slope in slopes):
        return slopes
    raise PlanError("no gradient leads from it to any channel", ", ".join(names), _HINT)


def _logits(graph: Graph) -> List[str]:
    """The outputs of a graph, or what enters the op that squashes one; each once."""
    found = []
    for port in graph.outputs:
        source = port
        while graph[source.node].op in _PASSES and source.node not in graph.inputs:
            squashes = graph[source.node].op in _SQUASHES
            source = graph.data_inputs(source.node)[0]
            port = source if squashes else port
        found.append(str(port))
    return list(dict.fromkeys(found))


def _loss(
    session: Session, examples: Examples, names: Sequence[str], is_loss: bool
) -> Dict[str, Optional[float]]:
    """For each tensor that has a share in the loss its factor, or None if it is the loss itself."""
    squares, sizes = np.zeros(len(names)), np.zeros(len(names))
    single = is_loss
    for feeds, count in examples:
        for place, value in enumerate(session.run(feeds, names)):
            array = np.asarray(value)
            if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
                continue
            squares[place] += np.square(array.astype(np.float64)).sum()
            sizes[place] += array.size
            single = single and array.size <= count
    if single and sizes.all():
        return {names[0]: None}
    weights: Dict[str, Optional[float]] = {}
    for name, square, size in zip(names, squares, sizes):
        if not np.isfinite(square):
            raise PlanError("is not finite", f"output {name}", "give real data with --data")
        if square > 0:
            weights[name] = float(size / square)
    return weights


class _Sums:
    """The sums over examples of what a criterion says, place by place."""

    def __init__(
        self,
        groups: Sequence[Group],
        places: Mapping[str, Sequence[Place]],
        criterion: Criterion,
    ) -> None:
        self._places, self._criterion, self._examples = places, criterion, 0
        self._sums = {
            group.id: [np.full(len(group), np.nan) for _ in places[group.id]] for group in groups
        }

    def add(
        self,
        responses: Mapping[str, np.ndarray],
        gradients: Mapping[str, np.ndarray],
        examples: int,
    ) -> None:
        """Takes in what one run gave: by port the responses and their gradients."""
        for name, places in self._places.items():
            for place, total in zip(places, self._sums[name]):
                port = str(place.port)
                blocks = [laid_out(responses[port], place, examples)]
                if self._criterion.kind == "gradients":
                    blocks.append(laid_out(gradients[port], place, examples))
                for parts in zip(*blocks):
                    which = parts[0][0]
                    found = self._scores([block for _, block in parts], name, port)
                    before = np.where(np.isnan(total[which]), 0.0, total[which])
                    total[which] = before + examples * found
        self._examples += examples

    def _scores(self, blocks: Sequence[np.ndarray], group: str, port: str) -> np.ndarray:
        if not all(np.isfinite(block).all() for block in blocks):
            raise PlanError(
                "is not finite on these inputs", f"{port} (group {group})", "give real --data"
            )
        found = np.asarray(self._criterion.function(*blocks), np.float64)
        width = blocks[0].shape[2]
        if found.shape != (width,) or not np.isfinite(found).all():
            raise PlanError(
                f"gives an array of shape {list(found.shape)} for {width} channels, or not numbers",
                f"criterion {self._criterion.name}",
                "it takes (examples, positions, channels) and gives a finite number per channel",
            )
        return found

    def means(self) -> Dict[str, List[np.ndarray]]:
        """The averages over all examples.

        Raises:
            PlanError: they are the same for every channel of every group.
        """
        found = {
            name: [total / max(1, self._examples) for total in totals]
            for name, totals in self._sums.items()
        }
        rows = [row[~np.isnan(row)] for totals in found.values() for row in totals]
        if any(len(row) > 1 for row in rows) and len(np.unique(np.concatenate(rows))) == 1:
            raise PlanError(
                f"{self._criterion.name} tells no channel from another on these inputs",
                "--criterion",
                "choose another one; apoz works behind activations that give exact zeros, as ReLU",
            )
        return found


def laid_out(
    array: np.ndarray, place: Place, examples: int
) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """A tensor as (examples, positions, channels), of one group.

    Where a channel has several positions along its axis, as behind a Flatten, they count as
    positions; channels that have different numbers of them come one number after the other.

    Args:
        array: what was found at `place.port`; any layout.
        place: where the channels stand in it.
        examples: how many examples it holds, in order along its first axis.

    Returns:
        pairs of channels (indices in the group, shape (c,)) and float64 of shape
        (examples, positions, c).
    """
    moved = np.moveaxis(np.asarray(array), place.axis, -1)
    # What does not go by examples, such as a table that all of them share, counts as one.
    by_examples = place.axis % array.ndim != 0 and array.shape[0] % examples == 0
    rows = moved.reshape(examples if by_examples else 1, -1, moved.shape[-1])
    order = np.argsort(place.channels, kind="stable")
    often = np.bincount(place.channels)
    for times in np.unique(often[often > 0]).tolist():
        which = np.flatnonzero(often == times)
        picked = order[np.isin(place.channels[order], which)]
        block = rows[:, :, place.positions[picked]].astype(np.float64)
        block = block.reshape(rows.shape[0], rows.shape[1], len(which), times)
        yield which, np.moveaxis(block, 3, 2).reshape(rows.shape[0], -1, len(which))
