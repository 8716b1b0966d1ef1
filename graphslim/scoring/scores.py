"""From a criterion to the scores of groups: aggregated over bindings, comparable over groups.

**Aggregation.** A group has a score per channel from every binding that the criterion looks at.
Layers differ in scale, so that the mean of raw scores would be that of the layer with the largest
weights; each binding's scores are therefore divided by their mean over the group first, and what
comes out is told in the units of the group's first binding. Shares and other scores that compare as
they are stay undivided.

**Normalisation.** For a ranking over the whole network the scores of a group are divided by their
mean: 1.0 is an average channel of its group, 0.1 a channel that has a tenth of what its
neighbours have. What a global ranking compares is thus how far a channel falls behind its own
group, whatever the scale of the layer; a group whose channels are all alike gives few. It is what
the implementation of DepGraph does (Fang et al. 2023, arXiv 2301.12900). Criteria whose
scores compare by their definition (`lamp`, `bn-scale`, shares) are ranked by them as they are.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union
from zlib import crc32

import numpy as np

from graphslim.channels.groups import Channels, Group
from graphslim.errors import PlanError
from graphslim.ir import Graph
from graphslim.scoring.bindings import Held, held
from graphslim.scoring.registry import AGGREGATES, Criterion, check_aggregate, find_criterion

Array = np.ndarray


class Scores(NamedTuple):
    """What a criterion says of the channels of groups.

    Attributes:
        own: by group id, the criterion's own numbers, aggregated over bindings; float64 (n,).
            Larger is more worth keeping, or for a redundant criterion more redundant.
        rank: by group id, numbers that compare across groups; float64 (n,). The smallest go first.
        missing: by group id, why a group has no scores.
    """

    own: Dict[str, Array]
    rank: Dict[str, Array]
    missing: Mapping[str, str] = MappingProxyType({})


def score(
    graph: Graph,
    channels: Channels,
    groups: Sequence[Group],
    criterion: Union[str, Criterion],
    *,
    aggregate: Optional[str] = None,
    seed: int = 0,
    sampled: Optional[Mapping[str, Sequence[Array]]] = None,
) -> Scores:
    """Scores the channels of groups.

    Args:
        graph: the graph.
        channels: its channel analysis.
        groups: the groups wanted.
        criterion: a criterion, or its name as for `find_criterion`.
        aggregate: how the scores of a group's bindings become one: a key of `AGGREGATES`; by
            default the criterion's own.
        seed: for criteria that draw lots.
        sampled: for criteria that look at responses or gradients, by group id, one array of scores
            (n,), float64, for each tensor that was looked at; see `measure.sampled_scores`.

    Raises:
        PlanError: no such criterion or aggregate, weights that are not finite, a criterion that
            gives something else than one finite number for each channel, or no group with
            anything to score.
    """
    rule = find_criterion(criterion) if isinstance(criterion, str) else criterion
    way = aggregate or rule.aggregate
    check_aggregate(way, "--aggregate")
    if rule.kind == "weights":
        rows_of = _from_weights(graph, channels, groups, rule, seed)
    elif sampled is None:
        raise PlanError(
            f"{rule.name} looks at {rule.kind}, and nothing here can run the graph", "--criterion"
        )
    else:
        rows_of = sampled
    own, ranks, missing = {}, {}, {}  # type: Dict[str, Array], Dict[str, Array], Dict[str, str]
    for group in groups:
        rows = np.array(rows_of.get(group.id, ()))
        blank = np.isnan(rows)
        known = ~blank.all(axis=0) if len(rows) else np.zeros(len(group), bool)
        if known.all():
            own[group.id], ranks[group.id] = aggregated(rows, rule, way)
        else:
            missing[group.id] = _why_missing(rule, known)
    if missing and not own:
        name, why = next(iter(missing.items()))
        raise PlanError(f"{rule.name} finds no scores: {why}", name, "try another criterion")
    if ranks:
        # All at once, as it takes several passes over few numbers.
        every = without_noise(np.concatenate(list(ranks.values())))
        ends = np.cumsum([len(rank) for rank in ranks.values()])
        ranks = dict(zip(ranks, np.split(every, ends[:-1])))
    return Scores(own, ranks, missing)


def aggregated(scores: Array, rule: Criterion, aggregate: str) -> Tuple[Array, Array]:
    """One score for each channel, and one that compares across groups.

    Args:
        scores: of shape (bindings, n); NaN where a binding does not hold a channel.
        rule: the criterion that they are of.
        aggregate: a key of `AGGREGATES`.

    Returns:
        own and rank as in `Scores`, the rank with its rounding errors. Both order the channels of
        the group alike.
    """
    own = scores[0]
    compares = rule.comparable or rule.redundant
    if len(scores) > 1:
        size = np.ones((len(scores), 1)) if compares else _mean_size(scores)
        own = AGGREGATES[aggregate](scores / size, axis=0) * size[0]
    if rule.redundant:
        return own, 1.0 - own
    return own, own if compares else own / _mean_size(own[None])[0]


def without_noise(numbers: Array) -> Array:
    """Numbers rounded to 40 of their 53 bits, so that rounding errors do not decide over ties."""
    share, power = np.frexp(numbers)
    rounded: Array = np.ldexp(np.rint(share * 2.0**40) / 2.0**40, power)
    return rounded


def _mean_size(scores: Array) -> Array:
    """Per row the mean magnitude, which keeps the order where a score is negative; (rows, 1)."""
    sizes = np.abs(scores)
    mean = np.mean(sizes, axis=1, keepdims=True)
    if np.isnan(mean).any():
        mean = np.nanmean(sizes, axis=1, keepdims=True)
    return np.where(mean > 0, mean, 1.0)


def _why_missing(rule: Criterion, known: Array) -> str:
    which = "some of its channels" if known.any() else "its channels"
    if rule.kind != "weights":
        return f"no tensor shows {which}"
    if rule.roles == ("scale",):
        return f"no batch norm scales {which} (a scale of ones counts as none)"
    if rule.roles == ("producer",):
        return f"no constant filters make {which}"
    return f"nothing constant holds {which} as {' or '.join(rule.roles)}"


# ------------------------------------------------------------------ from weights


def _from_weights(
    graph: Graph, channels: Channels, groups: Sequence[Group], rule: Criterion, seed: int
) -> Mapping[str, Sequence[Array]]:
    """By group id, the scores of each binding, NaN for channels that it does not hold."""
    number, index = np.full(channels.count, -1), np.zeros(channels.count, np.int64)
    sizes = [len(group) for group in groups]
    every = np.concatenate([np.zeros(0, np.int64), *[group.channels for group in groups]])
    number[every] = np.repeat(np.arange(len(groups)), sizes)
    index[every] = np.arange(len(every)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows: Dict[str, List[Array]] = {group.id: [] for group in groups}
    for binding in held(graph, channels, groups, rule.roles):
        labels, scores = _scored(rule, binding, seed)
        if len(labels) and number[labels[0]] >= 0:
            group = groups[number[labels[0]]]
            if np.array_equal(labels, group.channels):
                rows[group.id].append(scores)
                continue
        places = number[labels]
        for place in np.unique(places).tolist():
            if place >= 0:
                mine = places == place
                row = np.full(len(groups[place]), np.nan)
                row[index[labels[mine]]] = scores[mine]
                rows[groups[place].id].append(row)
    return rows


def _scored(rule: Criterion, binding: Held, seed: int) -> Tuple[Array, Array]:
    """The channels that a binding holds and their scores, positions of one channel pooled."""
    weights, labels, part = binding.weights(rule.as_stored), binding.labels, None
    if (labels[1:] > labels[:-1]).all():
        return labels, _called(rule, weights, binding, seed)
    distinct, first, place, copies = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    if len(distinct) < len(labels) and (copies == copies[0]).all():
        order = np.argsort(first[place.ravel()], kind="stable")
        weights = weights[order].reshape(len(distinct), -1)
        labels = labels[order][:: copies[0]]
    elif len(distinct) < len(labels):
        part = place.ravel()
    scores = _called(rule, weights, binding, seed)
    if part is not None:
        # Channels with unequally many positions cannot stand in one array: their mean.
        return distinct, np.bincount(part, scores) / copies
    return labels, scores


def _called(rule: Criterion, weights: Array, binding: Held, seed: int) -> Array:
    """Calls a criterion on the weights of one layer."""
    given, where = {}, binding.where
    if rule.takes_random:
        # By name, so that a layer's numbers do not depend on which other layers are scored.
        given["random"] = np.random.RandomState([seed % 2**32, crc32(where.encode("utf-8"))])
    with np.errstate(all="ignore"):
        scores = rule.scores(where, weights, **given)
    if scores.shape != (len(weights),) or not np.isfinite(scores).all():
        binding.weights()  # tells of weights that are not finite
        raise PlanError(
            f"{rule.name} has to give one finite number for each of {len(weights)} channels",
            where,
            "it is called with an array of shape (channels, weights of each)",
        )
    return scores
