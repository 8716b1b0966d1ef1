"""Networks of tf.keras.applications as the running TensorFlow freezes them, and published ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from freezing import Network, freeze

import graphslim as gs
from graphslim.testing import assert_identical, assert_mask_equivalent, random_plan, round_trip


@pytest.fixture(scope="module")
def mobilenet_v2(tmp_path_factory: pytest.TempPathFactory) -> Network:
    pytest.importorskip("tensorflow")
    return freeze("MobileNetV2", tmp_path_factory.mktemp("keras"))


def kinds(graph: gs.Graph) -> Counter:
    return Counter(block.kind for block in gs.find_blocks(graph).blocks)


@pytest.mark.tf
def test_mobilenet_v2_has_sixteen_blocks(mobilenet_v2: Network) -> None:
    graph = mobilenet_v2.graph
    assert kinds(graph) == {"inverted_residual": 16}
    expansions = [graph[block.role("expand")] for block in graph.blocks]
    shape = gs.Matcher(graph).input_shape
    widths = [shape(node, 1) for node in expansions]
    assert all(out == 6 * into for _, _, into, out in widths)


@pytest.mark.tf
def test_mobilenet_v2_is_prunable_but_for_the_classifier(mobilenet_v2: Network) -> None:
    graph = mobilenet_v2.graph
    channels = gs.analyse(graph)
    layers = [node.name for node in graph if node.op in ("Conv2D", "DepthwiseConv2dNative")]
    assert len(layers) == 35 + 17
    for name in layers:
        group = channels.group_at(gs.Port(name))
        assert group is not None and group.prunable, name
    pinned = [group for group in channels.groups if not group.prunable]
    assert [len(group) for group in pinned] == [1000]


@pytest.mark.tf
def test_mobilenet_v2_costs_what_keras_and_the_paper_say(mobilenet_v2: Network) -> None:
    cost = gs.cost(mobilenet_v2.graph)
    assert cost.params == mobilenet_v2.params == 3_538_984
    assert cost.macs == pytest.approx(300e6, rel=0.01)


@pytest.mark.tf
def test_an_empty_plan_changes_no_bit(mobilenet_v2: Network) -> None:
    graph = mobilenet_v2.graph
    slim = gs.apply(graph, gs.plan(graph, removed={}))
    assert_identical(graph, round_trip(slim))


@pytest.mark.tf
def test_half_of_every_group_can_go(mobilenet_v2: Network) -> None:
    import tensorflow as tf

    graph = mobilenet_v2.graph
    plan = random_plan(graph)
    slim = assert_mask_equivalent(graph, plan)
    # The logits vary, and the removal changes them: the check is not vacuous.
    assert gs.verify(graph, slim, plan=plan).outputs[0].span > 0.5
    assert gs.verify(graph, slim).outputs[0].relative > 0.1
    before, after = gs.cost(graph), gs.cost(slim)
    assert 1 - after.params / before.params > 0.649
    assert kinds(slim) == {"inverted_residual": 16}

    graph_def = tf.compat.v1.GraphDef.FromString(gs.serialize(slim))
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(graph_def, name="")
        image = np.random.RandomState(0).rand(1, 224, 224, 3).astype(np.float32)
        with tf.compat.v1.Session(graph=imported) as session:
            value = session.run(f"{slim.outputs[-1].node}:0", {f"{slim.inputs[0]}:0": image})
    assert value.shape == (1, 1000)
    assert value.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.tf
@pytest.mark.parametrize(
    "name, expected",
    [
        ("MobileNet", {}),
        ("MobileNetV3Small", {"inverted_residual": 10, "squeeze_excite": 9}),
        ("EfficientNetB0", {"inverted_residual": 15, "squeeze_excite": 16}),
        ("ResNet50", {}),
    ],
)
def test_blocks_of_other_architectures(name: str, expected: dict, tmp_path: Path) -> None:
    """The numbers are those of the architectures' definitions in Keras."""
    tf = pytest.importorskip("tensorflow")
    if not hasattr(tf.keras.applications, name):
        pytest.skip(f"TensorFlow {tf.__version__} has no {name}")
    assert kinds(freeze(name, tmp_path).graph) == expected


@pytest.mark.parametrize(
    "path, expected",
    [
        ("mobilepose/inflated.pb", {"inverted_residual": 16, "squeeze_excite": 4}),
        ("mobilepose/stripped.pb", {"inverted_residual": 16, "squeeze_excite": 4}),
        ("graphs/ildoonet_pose_mnv2_small.pb", {"inverted_residual": 12}),
        ("graphs/portrait_deeplab_mnv2_05.pb", {"inverted_residual": 16}),
        ("graphs/meet_segm_lite_v681.pb", {"inverted_residual": 8, "squeeze_excite": 6}),
    ],
)
def test_blocks_of_published_networks(shared: Path, path: str, expected: dict) -> None:
    assert kinds(gs.load(str(shared / path))) == expected
