"""Every architecture of tf.keras.applications, in every way of freezing, under the three oracles.

A few run in every test run; all of them do under the marker `exhaustive` (`make test-all`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, List, Set

import pytest
from architectures import ARCHITECTURES, LARGE, Architecture, is_quick, ways_of
from freezing import WAYS
from keras_networks import freeze
from oracles import check_dead, check_identity, check_masked, kinds, run

import graphslim as gs
from graphslim.measure.feeds import random_feeds
from graphslim.measure.fidelity import difference
from graphslim.testing import random_plan

pytestmark = pytest.mark.tf

CLASSES = 1000
CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative", "_FusedConv2D", "_FusedDepthwiseConv2dNative")

SHARES = {
    "MobileNetV2": 65,
    "MobileNetV3Small": 64,
    "EfficientNetB0": 67,
    "ResNet50": 72,
    "DenseNet121": 71,
}
"""Percent of the parameters that go with one half of each group.

The widths of MobileNetV2 are all even: exactly half of each group goes, which is 64.995% of all the
parameters, 65.1% of the trainable ones (batch norm's means and variances left out) and 65.3% of the
weights of its layers. The first is checked as a whole number, the last as it is.
"""


def networks() -> List[Any]:
    """Every architecture frozen in the usual way, and some of them in every way."""
    pairs = [(name, way) for name in ARCHITECTURES for way in ways_of(name, list(WAYS))]
    return [
        pytest.param(
            name,
            way,
            id=f"{name}-{way}",
            marks=() if is_quick(name, way) else (pytest.mark.exhaustive,),
        )
        for name, way in pairs
    ]


def applications() -> Any:
    """The module of the TensorFlow that is installed."""
    return pytest.importorskip("tensorflow").keras.applications


def test_the_table_has_every_architecture() -> None:
    offered = {name for name in dir(applications()) if name[0].isupper()}
    assert len(offered) >= 18
    assert not offered - set(ARCHITECTURES)


@pytest.mark.parametrize("name, way", networks())
def test_architecture(name: str, way: str) -> None:
    if not hasattr(applications(), name):
        pytest.skip(f"this TensorFlow has no {name}")
    architecture = ARCHITECTURES[name]
    with tempfile.TemporaryDirectory() as folder:
        graph, path, _ = freeze(name, Path(folder), architecture.size, way)
        check_loading(graph, path)
    assert kinds(graph) == architecture.kinds
    check_pins(graph, architecture)
    check_identity(graph)
    if name not in LARGE:  # to save memory
        check_dead(graph)
    plan = random_plan(graph)
    slim = check_masked(graph, plan)
    assert kinds(slim) == architecture.kinds
    check_import(slim)
    if name in SHARES and way == "frozen":
        assert round(100 * (1 - plan.params[1] / plan.params[0])) >= SHARES[name]
        assert 100 * (1 - kernels(slim) / kernels(graph)) >= SHARES[name]


def check_loading(graph: gs.Graph, path: Path) -> None:
    """What was changed on loading (calls inlined, variables frozen) computes what the file does."""
    import tensorflow as tf

    v1 = tf.compat.v1
    if path.is_file() and path.read_bytes() == gs.serialize(graph):
        return
    feeds, output = random_feeds(graph), graph.outputs[-1]
    with tf.Graph().as_default(), v1.Session() as session:
        if path.is_dir():
            v1.saved_model.loader.load(session, ["serve"], str(path))
        else:
            v1.import_graph_def(v1.GraphDef.FromString(path.read_bytes()), name="")
        named = {f"{name}:0": value for name, value in feeds.items()}
        value = session.run(f"{output.node}:{output.port}", named)
    found = difference(str(output), value, run(graph, feeds)[-1])
    assert found.relative <= 1e-5, found


def check_pins(graph: gs.Graph, architecture: Architecture) -> None:
    """All convolutions are prunable but the classifier, and those that layer norms read."""
    channels = gs.analyse(graph)
    pinned = [group for group in channels.groups if not group.prunable]
    classifier = [group for group in pinned if len(group) == CLASSES]
    assert len(classifier) == 1
    assert classifier[0].pinned_at in outputs_and_softmax(graph), classifier[0]
    held = set() if not architecture.hidden else {"Conv2D", "DepthwiseConv2dNative"}
    free = channels.pinned()
    free[classifier[0].channels] = False
    for node in graph:
        if node.op in CONVOLUTIONS:
            labels = channels.channels_at(gs.Port(node.name))
            assert labels is not None, f"{node.name} is not followed"
            assert free[labels].any() == (node.op in held), node.name
    if not architecture.hidden:
        assert pinned == classifier, [(one.id, one.pinned_by, one.pinned_at) for one in pinned]
        return
    assert [len(group) for group in channels.groups if group.prunable] == [*architecture.hidden]
    for group in pinned:
        if group is not classifier[0]:
            assert "layer norm" in str(group.pinned_by), group
            assert "norm" in str(group.pinned_at), group


def outputs_and_softmax(graph: gs.Graph) -> Set[str]:
    """The nodes that may pin the classifier."""
    return {port.node for port in graph.outputs} | {
        node.name for node in graph if node.op == "Softmax"
    }


def kernels(graph: gs.Graph) -> int:
    """The weights of convolutions and dense layers."""
    tensors = [node.attrs["value"] for node in graph if node.op == "Const"]
    return sum([one.size for one in tensors if len(one.shape) > 1 and one.dtype.is_floating])


def check_import(graph: gs.Graph) -> None:
    """TensorFlow takes the graph itself, not just a twin that its kernels can run."""
    import tensorflow as tf

    with tf.Graph().as_default():
        tf.import_graph_def(tf.compat.v1.GraphDef.FromString(gs.serialize(graph)), name="")


def test_mobilenet_v2_as_its_paper_says(tmp_path: Path) -> None:
    """Expansions by six, the parameters that Keras counts and the paper's cost."""
    applications()
    graph, _, params = freeze("MobileNetV2", tmp_path)
    shape = gs.Matcher(gs.find_blocks(graph)).input_shape
    widths = [shape(graph[block.role("expand")], 1) for block in graph.blocks]
    assert len(widths) == 16
    assert all(out == 6 * into for _, _, into, out in widths)
    cost = gs.cost(graph)
    assert cost.params == params == 3_538_984
    assert cost.macs == pytest.approx(300e6, rel=0.01)
