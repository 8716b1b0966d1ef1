"""The images that a repair learns from, those that it is tuned by, and those that judge it."""

from __future__ import annotations

from typing import NamedTuple, Tuple

import numpy as np

from graphslim.errors import GraphslimError
from graphslim.measure.samples import Examples
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
        gate: those that no stage looks at, on which what it gave is kept or thrown away.
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
            f"holds {plural(examples.count, 'example')}, and a repair needs "
            f"{FEWEST * examples.at_once} at least: to learn from, to tune by, to be judged by",
            examples.about.where,
            "give some hundred typical images, without labels",
        )
    # In the order of the folder, since files are read fastest as they lie.
    return Shares(*[examples.part(part, batch) for part in split(units, seed)])


def split(units: int, seed: int = 0) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of so many units are for training, for tuning and for the gate; ascending, int64."""
    order = np.random.RandomState(seed).permutation(units)
    gate, tuning = max(1, round(GATE * units)), max(1, round(TUNING * units))
    judged, tuned, learned = np.split(order, [gate, gate + tuning])
    return np.sort(learned), np.sort(tuned), np.sort(judged)
