"""Graphs after grappler's layout optimizer: axes and sizes rewritten by the ops that it puts in."""

from __future__ import annotations

from typing import Dict

import numpy as np
import pytest
from networks import Net, blocks
from tiny import groups, tiny, value

import graphslim as gs
from graphslim.graphdef import serialize
from graphslim.runtime import Session, version
from graphslim.testing import assert_mask_equivalent, check_pass, random_plan


def for_gpu(graph: gs.Graph) -> gs.Graph:
    """The graph as grappler's layout optimizer turns it to NCHW for a GPU, which need not exist."""
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2, device_properties_pb2
    from tensorflow.python.grappler import cluster, tf_optimizer

    where = "/job:localhost/replica:0/task:0/device:GPU:0"
    card = device_properties_pb2.DeviceProperties(type="GPU", environment={"architecture": "6"})
    device = device_properties_pb2.NamedDevice(name=where, properties=card)
    definition = tf.compat.v1.GraphDef.FromString(serialize(graph))
    for node in definition.node:
        node.device = where
    holder = tf.Graph()
    with holder.as_default():
        tf.import_graph_def(definition, name="")
        meta = tf.compat.v1.train.export_meta_graph(
            graph_def=holder.as_graph_def(add_shapes=True), graph=holder
        )
    names = [port.node for port in graph.outputs]
    meta.collection_def["train_op"].node_list.value.extend(names)
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.optimizers.append("layout")
    options.min_graph_nodes = -1
    optimized = tf_optimizer.OptimizeGraph(
        config, meta, cluster=cluster.Cluster(devices=[device], disable_detailed_stats=True)
    )
    for node in optimized.node:
        node.device = ""
    return gs.load(optimized, outputs=[str(port) for port in graph.outputs])


def prunable(graph: gs.Graph) -> Dict[str, int]:
    return {group.id: len(group) for group in gs.analyse(graph).groups if group.prunable}


HEAD = "x = input 1,8,8,4\nw = f32[3,3,4,8]{random 1}\nc = Conv2D(x, w)\n"
TAIL = "v = f32[1,1,%d,3]{random 9}\ny = Conv2D(%s, v)\n"
DENSE = "v = f32[8,3]{random 9}\ny = MatMul(%s, v)\n"
READERS = {
    "mean": "a = i32[2]{1 2}\nm = Mean(c, a) Tidx=int32 keep_dims=false\n" + DENSE % "m",
    "mean over axes counted from the end": (
        "a = i32[2]{-3 -2}\nm = Mean(c, a) Tidx=int32 keep_dims=false\n" + DENSE % "m"
    ),
    "pad": "a = i32[4,2]{0 0 1 2 3 0 0 0}\np = Pad(c, a) Tpaddings=int32\n" + TAIL % (8, "p"),
    "pad of channels": (
        "a = i32[4,2]{0 0 1 2 3 0 2 1}\np = Pad(c, a) Tpaddings=int32\n" + TAIL % (11, "p")
    ),
    "concatenation": (
        "a = i32[]{3}\nr = Relu(c)\nd = ConcatV2(c, r, a) Tidx=int32\n" + TAIL % (16, "d")
    ),
    "split": "a = i32[]{3}\nd = Split(a, c) num_split=2\ne = AddV2(d, d:1)\n" + TAIL % (4, "e"),
    "split by sizes": (
        "a = i32[]{3}\nn = i32[2]{3 5}\nd = SplitV(c, n, a) num_split=2\n" + TAIL % (5, "d:1")
    ),
    "slice": "b = i32[4]{0 1 2 3}\nn = i32[4]{1 4 3 5}\nd = Slice(c, b, n)\n" + TAIL % (5, "d"),
    "strided slice": (
        "b = i32[4]{0 1 0 0}\ne = i32[4]{1 7 8 8}\ns = i32[4]{1 2 1 1}\n"
        "d = StridedSlice(c, b, e, s)\n" + TAIL % (8, "d")
    ),
    "transposed convolution": (
        "n = i32[4]{1 16 16 5}\nk = f32[2,2,5,8]{random 3}\n"
        "d = Conv2DBackpropInput(n, k, c) strides=[1,2,2,1]\n" + TAIL % (5, "d")
    ),
    "tile": "n = i32[4]{1 2 1 1}\nd = Tile(c, n)\n" + TAIL % (8, "d"),
    "reverse": "a = i32[1]{1}\nd = ReverseV2(c, a) Tidx=int32\n" + TAIL % (8, "d"),
}


@pytest.mark.tf
@pytest.mark.parametrize("case", sorted(READERS))
def test_what_grappler_turned_can_be_cut_as_before(case: str) -> None:
    graph = tiny(HEAD + READERS[case])
    turned = for_gpu(graph)
    assert "NCHW" in [node.text("data_format") for node in turned], "grappler turned nothing"
    assert prunable(turned) == prunable(graph)
    assert_mask_equivalent(turned, random_plan(turned))
    twin = turned.copy()
    check_pass(twin, "to-nhwc")
    assert [node.name for node in twin if node.text("data_format") == "NCHW"] == []


@pytest.mark.tf
def test_blocks_are_found_behind_grappler() -> None:
    net = Net(16)
    y = net.f("Relu", net.conv(net.x, 8, 3, name="stem"))
    y = net.inverted_residual(y, 16, norm="primitive", depthwise=net.padded_depthwise)
    net.conv(y, 4, name="last")
    graph = net.graph()
    turned = for_gpu(graph)
    assert [block.name for block in blocks(turned, "inverted_residual")] == ["expand"]
    assert prunable(turned) == prunable(graph) == {"stem": 8, "expand": 16, "project": 8}


def test_a_padding_of_the_wrong_format_pins() -> None:
    graph = tiny(
        HEAD
        + "a = i32[4,2]{0 0 1 2 3 0 0 0}\n"
        + 'f = DataFormatVecPermute(a) T=int32 src_format="NHWC" dst_format="NCDHW"\n'
        + "p = Pad(c, f) Tpaddings=int32\ny = Relu(p)\n"
    )
    assert not groups(graph)["c"].prunable


VECTORS = (
    *("i32[4]{5 6 7 8}", "i32[4,2]{1 2 3 4 5 6 7 8}"),
    *("i32[2]{5 6}", "i32[2,2]{5 6 7 8}"),
)


@pytest.mark.tf
@pytest.mark.parametrize("formats", ["NHWC NCHW", "NCHW NHWC", "NHWC HWNC"])
@pytest.mark.parametrize("vector", VECTORS)
def test_the_numbers_are_those_of_tensorflow(vector: str, formats: str) -> None:
    if version().startswith("1.") and vector.startswith(("i32[2]", "i32[2,2]")):
        pytest.skip("TensorFlow 1 takes the numbers of all four axes only")
    source, target = formats.split()
    attrs = f'T=int32 src_format="{source}" dst_format="{target}"'
    graph = tiny(
        f"v = {vector}\ny = DataFormatVecPermute(v) {attrs}\n"
        f"a = i32[8]{{-4 -3 -2 -1 0 1 2 3}}\nz = DataFormatDimMap(a) {attrs}\n"
        "output y\noutput z\n"
    )
    with Session(graph) as session:
        for port, want in zip(("y", "z"), session.run({})):
            np.testing.assert_array_equal(value(graph, port), want, err_msg=port)
