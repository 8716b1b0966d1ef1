"""The bundled network is what its sidecar says, and graphslim finds what a naive count found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import graphslim as gs
from graphslim.testing import (
    assert_equivalent,
    assert_identical,
    assert_mask_equivalent,
    random_plan,
)

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
NETWORK = FIXTURES / "digits_mobilenet_v2_se.pb"
SIDECAR = json.loads((FIXTURES / "digits_mobilenet_v2_se.json").read_text())


@pytest.fixture(scope="module")
def network() -> gs.Graph:
    return gs.find_blocks(gs.load(NETWORK))


@pytest.fixture(scope="module")
def images() -> dict:
    return {"image": np.load(FIXTURES / "digits_sample.npz")["image"]}


def test_the_sidecar_is_of_this_file(network: gs.Graph) -> None:
    assert hashlib.sha256(NETWORK.read_bytes()).hexdigest() == SIDECAR["sha256"]
    assert len(network) == SIDECAR["nodes"]
    assert [str(port) for port in network.outputs] == SIDECAR["outputs"]


@pytest.mark.parametrize("kind", ["inverted_residual", "squeeze_excite"])
def test_the_blocks_are_found(network: gs.Graph, kind: str) -> None:
    found = [block.name for block in network.blocks if block.kind == kind]
    assert len(found) == SIDECAR["blocks"][kind]


def test_the_dead_are_those_of_the_naive_count(network: gs.Graph) -> None:
    plan = gs.plan(network, scope="blocks", multiple_of=1)
    found = {group.block: len(group.removed) for group in plan.groups}
    naive = {name: counts["removable"] for name, counts in SIDECAR["dead"].items()}
    assert found == {name: count for name, count in naive.items() if count}


@pytest.mark.tf
def test_the_three_oracles_hold(network: gs.Graph, images: dict) -> None:
    assert_identical(network, gs.apply(network, gs.plan(network, removed={})), images)
    slim = gs.apply(network, gs.plan(network))
    assert_equivalent(network, slim, images)
    assert gs.plan(slim).removed == 0
    for seed in range(3):
        assert_mask_equivalent(network, random_plan(network, seed), images)
