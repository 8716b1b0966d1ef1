"""The images that are learned and chosen from, those to tune by, and those that only judge."""

from __future__ import annotations

from typing import NamedTuple, Tuple

import numpy as np

from graphslim.errors import GraphslimError
from graphslim.ir import Graph
from graphslim.measure.samples import Examples, Samples
from graphslim.support.text import plural

GATE, TUNING = 0.25, 0.125
"""The shares of the images that are kept for the gate and for tuning."""
FEWEST = 4
"""Fewer images cannot be shared out."""
BATCH = 32
"""Images per run, where the graph leaves that open."""


class Shares(NamedTuple):
    """Images that have no image in common.

    Attributes:
        training: those that weights are fitted to.
        tuning: those by which a stage chooses among its results.
        gate: those that nothing looks at but what judges: what a stage gave is kept or thrown
            away, and the loss of a plan is told, on these.
    """

    training: Examples
    tuning: Examples
    gate: Examples


def share_out(examples: Examples, seed: int = 0, batch: int = BATCH) -> Shares:
    """Shares out images at random, whole: an image is in one share only.

    Args:
        examples: the images.
        seed: of the random order.
        batch: images per run, where the graph leaves that open.

    Raises:
        GraphslimError: there are too few of them.
    """
    units = examples.units
    if units < FEWEST:
        raise GraphslimError(
            f"holds {plural(examples.count, 'example')}, and it takes "
            f"{FEWEST * examples.at_once} at least: to learn or choose by, to tune by, to judge by",
            examples.about.where,
            "give some hundred typical images, without labels",
        )
    # In the order of the folder, since files are read fastest as they lie.
    return Shares(*[examples.part(part, batch) for part in split(units, seed)])


def chosen_from(graph: Graph, samples: Samples, seed: int = 0) -> Examples:
    """The examples that may be looked at to choose channels: all, or all but those kept aside.

    Args:
        graph: the graph.
        samples: the inputs, and whether a quarter of them is kept aside.
        seed: the seed of random inputs, of which none are kept aside.

    Raises:
        GraphslimError: the data cannot be read, or do not fit the inputs or each other.
    """
    examples = Examples(graph, samples, seed)
    if samples.data is None or samples.kept_aside is None or examples.units < FEWEST:
        return examples
    learned, tuned, gate = split(examples.units, samples.kept_aside)
    part = examples.part(np.union1d(learned, tuned), samples.batch, samples.tick)
    kept_aside = len(gate) * examples.at_once, samples.kept_aside
    part.about = part.about._replace(kept_aside=kept_aside)
    return part


def split(units: int, seed: int = 0) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of so many units are for training, for tuning and for the gate; ascending, int64."""
    order = np.random.RandomState(seed).permutation(units)
    gate, tuning = max(1, round(GATE * units)), max(1, round(TUNING * units))
    judged, tuned, learned = np.split(order, [gate, gate + tuning])
    return np.sort(learned), np.sort(tuned), np.sort(judged)
