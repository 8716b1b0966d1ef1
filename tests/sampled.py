"""Graphs, inputs and scores that the tests of sampling share."""

from __future__ import annotations

from typing import Any, List

import numpy as np
from tiny import groups

import graphslim as gs
from graphslim.measure.sampled_scores import measure
from graphslim.measure.samples import Samples
from graphslim.scoring.registry import find_criterion

SMALL = """
    x = input ?,3,3,2
    w = f32[1,1,2,4]{random 1}
    b = f32[4]{-0.2 0.1 0 0.3}
    conv = Conv2D(x, w)
    biased = BiasAdd(conv, b)
    relu = Relu(biased)
    v = f32[1,1,4,3]{random 2}
    y = Conv2D(relu, v)
"""


def inputs(count: int = 5, *shape: int) -> np.ndarray:
    rng = np.random.RandomState(3)
    return rng.uniform(-1, 1, (count, *(shape or (3, 3, 2)))).astype(np.float32)


def measured(graph: gs.Graph, name: str, group: str = "conv", **given: Any) -> List[np.ndarray]:
    """The scores of one group, one array for each tensor that shows it."""
    channels = gs.analyse(graph)
    seed = given.pop("seed", 0)
    loss = given.pop("loss_output", None)
    scores = measure(
        graph,
        channels,
        [groups(graph)[group]],
        find_criterion(name),
        data=Samples(**given),
        loss_output=loss,
        seed=seed,
    )
    return list(scores[group])
