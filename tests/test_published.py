"""Published, trained networks beside the checkout: their blocks, and the three oracles on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict

import pytest
from oracles import check_identity, check_masked, kinds

import graphslim as gs
from graphslim.errors import VerifyError
from graphslim.measure.feeds import random_feeds
from graphslim.runtime import Session
from graphslim.testing import assert_equivalent, random_plan, round_trip

GRAPHS = ["ildoonet_pose_mnv2_small", "meet_segm_lite_v681", "portrait_deeplab_mnv2_05"]
POSE = ["inflated", "stripped"]

PINNED: Dict[str, Dict[str, str]] = {
    "ildoonet_pose_mnv2_small": {
        "Openpose/MConv_Stage6_L1_5_pointwise/Conv2D": "Openpose/concat_stage7",
        "Openpose/MConv_Stage6_L2_5_pointwise/Conv2D": "Openpose/concat_stage7",
    },
    "meet_segm_lite_v681": {"conv2d_transpose": "segment"},
    "portrait_deeplab_mnv2_05": {"logits/semantic/Conv2D": "ArgMax"},
    "inflated": {"output/Conv2D": "output/BiasAdd"},
    "stripped": {"output/Conv2D": "output/BiasAdd"},
}
"""The last layers: group, and the node that pins it."""

DEAD = {
    "ildoonet_pose_mnv2_small": 3,
    "meet_segm_lite_v681": 0,
    "portrait_deeplab_mnv2_05": 2,
    "inflated": 1944 + 7,
    "stripped": 7,
}
"""Channels that training left dead: filters of the stem, but for one of `stripped`."""


def by_kind(expansions: int, gates: int) -> Dict[str, int]:
    both = {"inverted_residual": expansions, "squeeze_excite": gates}
    return {kind: number for kind, number in both.items() if number}


def open_graph(shared: Path, name: str) -> gs.Graph:
    """A network with the inputs and outputs that its sidecar names."""
    if name in POSE:
        return gs.load(str(shared / "mobilepose" / f"{name}.pb"))
    about = json.loads((shared / "graphs" / f"{name}.json").read_text(encoding="utf-8"))
    return gs.load(
        str(shared / "graphs" / f"{name}.pb"),
        inputs=[one["name"] for one in about["inputs"]],
        outputs=about["outputs"],
        input_shapes={one["name"]: one["shape"] for one in about["inputs"]},
    )


def runnable(graph: gs.Graph) -> gs.Graph:
    """The graph, where the TensorFlow that is installed takes it."""
    tf = pytest.importorskip("tensorflow")
    try:
        Session(graph).__exit__()
    except VerifyError as error:
        if "refuses" not in error.what:
            raise
        pytest.skip(f"TensorFlow {tf.__version__} does not import it: {error.what}")
    return graph


@pytest.mark.parametrize("name", GRAPHS)
def test_the_blocks_are_those_of_the_sidecar(shared: Path, name: str) -> None:
    about = json.loads((shared / "graphs" / f"{name}.json").read_text(encoding="utf-8"))
    truth = about["ground_truth"]
    assert kinds(open_graph(shared, name)) == by_kind(truth["ir"], truth["se"])


@pytest.mark.parametrize("name", POSE)
def test_the_blocks_of_the_pose_network(shared: Path, name: str) -> None:
    """MobileNetV2 with SE blocks: 17 bottlenecks, one of them without expansion."""
    assert kinds(open_graph(shared, name)) == by_kind(16, 4)


@pytest.mark.parametrize("name", GRAPHS + POSE)
def test_only_the_last_layers_are_pinned(shared: Path, name: str) -> None:
    graph = open_graph(shared, name)
    groups = gs.analyse(graph).groups
    assert len(groups) > 20
    pinned = {group.id: group.pinned_at for group in groups if not group.prunable}
    assert pinned == PINNED[name]


@pytest.mark.tf
@pytest.mark.parametrize("name", GRAPHS + POSE)
def test_the_dead_go_and_nothing_changes(shared: Path, name: str) -> None:
    graph = runnable(open_graph(shared, name))
    check_identity(graph)
    plan = gs.plan(graph)
    assert plan.removed == DEAD[name]
    slim = round_trip(gs.apply(graph, plan))
    # Batch norm by the batch's own statistics, on maps of a few pixels, magnifies rounding.
    trains = name == "ildoonet_pose_mnv2_small"
    tolerance = 1e-4 if trains else 1e-5
    assert_equivalent(graph, slim, random_feeds(graph), tolerance=tolerance)
    assert gs.plan(slim).removed == 0


@pytest.mark.tf
@pytest.mark.parametrize("name", GRAPHS + POSE)
def test_half_of_every_group_passes_mask_equivalence(shared: Path, name: str) -> None:
    graph = runnable(open_graph(shared, name))
    plan = random_plan(graph)
    assert kinds(check_masked(graph, plan)) == kinds(graph)
    if name == "inflated":
        assert 1 - plan.params[1] / plan.params[0] >= 0.73
