"""The published method's choice, against its own steps written down naively."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from networks import Net

import graphslim as gs

METHOD: Dict[str, Any] = {
    "criterion": "redundancy",
    "multiple_of": 4,
    "rounding": "removed",
    "scope": "blocks",
}


@pytest.fixture(scope="module")
def inflated(shared: Path) -> gs.Graph:
    return gs.load(str(shared / "mobilepose" / "inflated.pb"))


def picked(graph: gs.Graph, threshold: float, **options: Any) -> Dict[str, List[int]]:
    plan = gs.plan(graph, threshold=threshold, **METHOD, **options)
    return {str(group.block): list(group.removed) for group in plan.groups}


def steps(weights: np.ndarray, threshold: float) -> List[int]:
    """The method on one scoring layer, filter by filter."""
    mean = np.abs(weights).mean()
    redundancy = []
    for index in range(weights.shape[-1]):
        small = np.abs(weights[..., index]) < mean
        redundancy.append(np.count_nonzero(small) / small.size)
    count = len([share for share in redundancy if share > threshold])
    if count % 4 == 1:
        count -= 1
    elif count % 4:
        count += 4 - count % 4
    while count >= len(redundancy):
        count -= 4
    worst_first = sorted(range(len(redundancy)), key=lambda index: (-redundancy[index], index))
    return sorted(worst_first[: max(0, count)])


def scoring_layers(graph: gs.Graph) -> Dict[str, np.ndarray]:
    """By block: the expand convolution of inverted residuals, the squeeze one of SE blocks."""
    found = {}
    for node in graph:
        scope, _, rest = node.name.rpartition("/expand/")
        if rest == "weights":
            found[scope] = node.attrs["value"].numbers()
        if node.name.startswith("SE") and node.name.endswith("/conv1/kernel"):
            found[node.name.split("/")[0]] = node.attrs["value"].numbers()
    return found


@pytest.mark.parametrize("threshold", [0.9, 0.8, 0.7, 0.6, 0.55, 0.5, 0.45])
def test_picks_what_the_steps_pick(inflated: gs.Graph, threshold: float) -> None:
    layers = scoring_layers(inflated)
    assert len(layers) == 20
    wanted = {name: steps(weights, threshold) for name, weights in layers.items()}
    assert picked(inflated, threshold) == {name: gone for name, gone in wanted.items() if gone}


@pytest.mark.parametrize("threshold", [0.8, 0.7, 0.6, 0.55])
def test_picks_what_was_published(inflated: gs.Graph, shared: Path, threshold: float) -> None:
    """The publishers gave the method every block but the last SE block."""
    file = shared / "mobilepose" / "removed.json"
    wanted = json.loads(file.read_text(encoding="utf-8"))
    assert picked(inflated, threshold, exclude=("SE4",)) == wanted


def test_the_settings_are_the_methods_defaults(inflated: gs.Graph) -> None:
    """--rounding removed means a multiple of 4 unless told otherwise."""
    plan = gs.plan(
        inflated, criterion="redundancy", threshold=0.6, rounding="removed", scope="blocks"
    )
    assert plan.settings["multiple_of"] == 4
    assert {group.block: list(group.removed) for group in plan.groups} == picked(inflated, 0.6)


def test_an_se_block_inside_does_not_score_the_expansion() -> None:
    """Its excite convolution makes the same channels, and the method looks at expand alone."""
    net = Net()
    net.inverted_residual(net.x, hidden=24, se=net.squeeze_excite)
    graph = net.graph()
    plan = gs.plan(graph, threshold=0.45, **METHOD)
    block = next(block for block in graph.blocks if block.kind == "inverted_residual")
    expand = graph[graph.data_inputs(block.role("expand"))[1].node].attrs["value"].numbers()
    gone = {group.block: list(group.removed) for group in plan.groups}
    assert gone[block.name] == steps(expand, 0.45)
    assert gone[block.name]
