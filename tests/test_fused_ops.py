"""What TensorFlow's optimizer fuses, and batch norm in one op: channels, values, folds."""

from __future__ import annotations

from typing import Dict, List

import numpy as np
import pytest
from tiny import constant, dead, groups, pins, prune, tiny, value, zero_filters

import graphslim as gs
from graphslim import runtime
from graphslim.errors import VerifyError
from graphslim.graphdef import parse, signature
from graphslim.runtime import Session
from graphslim.testing import assert_mask_equivalent, random_plan

CONV = 'data_format="NHWC" padding="SAME" strides=[1,1,1,1] epsilon=0.001'
VECTORS = (
    "b = f32[8]{0.5 -1 2 0 1 -2 3 0.25}\ns = f32[8]{random 5}\nm = f32[8]{random 6}\n"
    "v = f32[8]{0.5 1 2 3 1 1 1 0.25}\n"
)
START = "x = input 1,6,6,4\na/w = f32[3,3,4,8]{random 1}\n" + VECTORS
TAIL = "z/w = f32[1,1,8,3]{random 9}\nz = Conv2D(y, z/w)\nq = Relu(z)\noutput q\n"

BIAS = [
    "BiasAdd",
    "BiasAdd Relu",
    "BiasAdd Relu6",
    "BiasAdd Elu",
    "BiasAdd LeakyRelu",
    "BiasAdd Tanh",
    "BiasAdd Sigmoid",
]
NORM = [steps.replace("BiasAdd", "FusedBatchNorm") for steps in BIAS[:5]]


def modern() -> bool:
    """Whether this TensorFlow wants the types of a fused convolution's vectors stated."""
    return runtime.available() and not runtime.version().startswith("1.")


def fused(op: str, inputs: str, steps: str, attrs: str) -> str:
    """A fused op; `steps` are its fused_ops."""
    listed = ",".join([f'"{step}"' for step in steps.split()])
    count = inputs.count(",") - 1
    if op == "_FusedConv2D" and modern():
        attrs += f" TArgs=[{','.join(['float32'] * count)}]"
    slope = " leakyrelu_alpha=0.3" if "LeakyRelu" in steps else ""
    return f"y = {op}({inputs}) fused_ops=[{listed}] num_args={count} {attrs}{slope}\n"


def fused_conv(steps: str, data: str = "x", weights: str = "a/w") -> str:
    vectors = "s, b, m, v" if "FusedBatchNorm" in steps else "b"
    return fused("_FusedConv2D", f"{data}, {weights}, {vectors}", steps, CONV)


def spelled(steps: str) -> str:
    """The same in single ops."""
    lines = ["u = Conv2D(x, a/w)"]
    for place, step in enumerate(steps.split()):
        at, name = ("u" if place == 0 else "k0"), ("y" if place == steps.count(" ") else "k0")
        if step == "FusedBatchNorm":
            lines.append(f"{name} = FusedBatchNorm({at}, s, b, m, v) epsilon=0.001")
        else:
            lines.append(f"{name} = {step}({at}{', b' if step == 'BiasAdd' else ''})")
        if step == "LeakyRelu":
            lines[-1] += " alpha=0.3"
    return "\n".join(lines) + "\n"


def runs_or_skip(graph: gs.Graph) -> None:
    feeds = {
        name: np.ones([size or 1 for size in gs.analyse(graph).fact(gs.Port(name)).shape or ()])
        for name in graph.inputs
    }
    try:
        with Session(graph) as session:
            session.run(feeds)
    except VerifyError as error:
        pytest.skip(f"this TensorFlow runs it on no CPU: {error}")


@pytest.mark.tf
@pytest.mark.parametrize("steps", [*BIAS, *NORM])
def test_fused_convolution_is_pruned(steps: str) -> None:
    graph = tiny(START + fused_conv(steps) + TAIL)
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"y": 8}
    plan = random_plan(graph, seed=2)
    slim = gs.apply(graph, plan)
    assert constant(slim, "b").shape == (4,)
    runs_or_skip(graph)
    assert_mask_equivalent(graph, plan, tolerance=1e-5)


@pytest.mark.parametrize("steps", [*BIAS, *NORM])
def test_fused_convolution_is_known_as_its_parts_are(steps: str) -> None:
    found: List[object] = []
    for text in (fused_conv(steps), spelled(steps)):
        graph = zero_filters(tiny(START + text + TAIL), "a/w", 3, [0, 1, 3, 4])
        zero_filters(graph, "s", 0, [5])
        known = value(graph, "y")
        assert known is not None and np.isfinite(known).sum() in (4, 5)
        removed = list(dead(graph).values())
        found.append([known.tolist(), removed, gs.cost(graph), gs.plan(graph).macs])
    np.testing.assert_equal(found[0], found[1])


@pytest.mark.tf
@pytest.mark.parametrize("steps", [*BIAS, *NORM])
@pytest.mark.parametrize("computed", [False, True])
def test_constant_is_folded_before_the_activation(steps: str, computed: bool) -> None:
    """Into the op's own bias or mean; where that is computed, by a sum."""
    lines = (
        "x = input 1,6,6,4\nh/w = f32[3,3,4,5]{random 3}\nh = Conv2D(x, h/w)\n"
        "h/b = f32[5]{1 2 3 -1 0.5}\ni = BiasAdd(h, h/b)\na/w = f32[1,1,5,8]{random 1}\n" + VECTORS
    )
    text = fused_conv(steps, "i")
    if computed:
        lines += "two = f32[8]{2}\nmm = Mul(m, two)\nbb = Mul(b, two)\n"
        text = text.replace(", m,", ", mm,").replace("a/w, b)", "a/w, bb)")
    graph = zero_filters(tiny(lines + text + TAIL), "h/w", 3, [1, 3])
    runs_or_skip(graph)
    slim = prune(graph, {"h": [1, 3]})
    assert [node.op for node in slim].count("BiasAdd") == 1
    assert ("AddV2" in [node.op for node in slim]) == computed


RESIDUAL = (
    START + "r/w = f32[1,1,4,8]{random 7}\nr = Conv2D(x, r/w)\n"
    + fused("_FusedConv2D", "x, a/w, b, r", "BiasAdd Add Relu", CONV)
)  # fmt: skip


def test_fused_residual_sum_ties_its_sides() -> None:
    graph = tiny(RESIDUAL + TAIL)
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"r": 8}
    zero_filters(graph, "a/w", 3, [1, 2])
    assert value(graph, "y") is None
    zero_filters(graph, "r/w", 3, [1])
    np.testing.assert_equal(value(graph, "y").ravel()[[0, 1, 2]], [np.nan, 0, np.nan])
    assert dead(graph) == {"r": [1]}


def test_unknown_steps_pin() -> None:
    graph = tiny(
        "x = input 1,6,6,4\nh/w = f32[3,3,4,5]{1}\nh = Conv2D(x, h/w)\na/w = f32[1,1,5,8]{1}\n"
        + VECTORS + fused("_FusedConv2D", "h, a/w, b", "BiasAdd Swish", CONV) + TAIL
    )  # fmt: skip
    assert pins(graph, "h") == "a _FusedConv2D computes more than is followed @ y"


@pytest.mark.parametrize("activation", ["_FusedSwish", "_MklSwish", "_FusedHardSwish"])
def test_activations_of_onednn_are_followed(activation: str) -> None:
    """They are steps like any other where shapes and channels go; their values are unknown."""
    graph = tiny(
        "x = input 1,6,6,4\nh/w = f32[3,3,4,5]{1}\nh = Conv2D(x, h/w)\na/w = f32[1,1,5,8]{1}\n"
        + VECTORS + fused("_FusedConv2D", "h, a/w, b", f"BiasAdd {activation}", CONV) + TAIL
    )  # fmt: skip
    assert groups(graph)["h"].prunable and groups(graph)["y"].prunable
    zero_filters(graph, "a/w", 3, [1, 2])
    assert value(graph, "y") is None


def test_ops_of_onednn_are_walls() -> None:
    graph = tiny(START + "h = Conv2D(x, a/w)\ny = _MklFusedConv2D(h, a/w, b)\n")
    assert pins(graph, "h") == "graphslim has no rule for the op _MklFusedConv2D @ y"


# ------------------------------------------------------------------ matrix products

MATRIX = "x = input 1,5\na/w = f32[5,8]{random 1}\n" + VECTORS
MATRIX_TAIL = "z/w = f32[8,3]{random 9}\nz = MatMul(y, z/w)\nq = Relu(z)\noutput q\n"
FLAT = "transpose_a=false transpose_b=false"


@pytest.mark.tf
@pytest.mark.parametrize(
    "steps", [*BIAS[:4], "BiasAdd Tanh", "BiasAdd GeluExact", "BiasAdd GeluApproximate"]
)
def test_fused_matrix_product(steps: str) -> None:
    text = MATRIX + fused("_FusedMatMul", "x, a/w, b", steps, FLAT) + MATRIX_TAIL
    graph = tiny(text)
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"y": 8}
    assert gs.cost(graph).macs == 5 * 8 + 8 * 3
    runs_or_skip(graph)
    assert_mask_equivalent(graph, random_plan(graph, seed=2), tolerance=1e-5)
    zero_filters(graph, "a/w", 1, [0, 2, 3])
    prune(graph, {"y": [0, 2, 3]})


def test_gelu_is_that_of_the_paper() -> None:
    """Its values at 2, -1 and 0.5, from tables of the normal distribution."""
    for steps, expected in (
        ("BiasAdd GeluExact", [1.9544997, -0.1586553, 0.3457312]),
        ("BiasAdd GeluApproximate", [1.9545977, -0.1588080, 0.3457140]),
    ):
        text = MATRIX + fused("_FusedMatMul", "x, a/w, b", steps, FLAT) + MATRIX_TAIL
        graph = zero_filters(tiny(text), "a/w", 1, [*range(8)])
        np.testing.assert_allclose(value(graph, "y").ravel()[[2, 1, 0]], expected, atol=1e-6)


@pytest.mark.tf
def test_constant_is_folded_into_a_fused_matrix_product() -> None:
    text = (
        "x = input 1,5\nh/w = f32[5,6]{random 3}\nh = MatMul(x, h/w)\nh/b = f32[6]{1}\n"
        "i = BiasAdd(h, h/b)\na/w = f32[6,8]{random 1}\n" + VECTORS
        + fused("_FusedMatMul", "i, a/w, b", "BiasAdd Relu", FLAT) + MATRIX_TAIL
    )  # fmt: skip
    graph = zero_filters(tiny(text), "h/w", 1, [2, 5])
    runs_or_skip(graph)
    prune(graph, {"h": [2, 5]})


# ------------------------------------------------------------------ depthwise, batches


def test_fused_depthwise_convolution() -> None:
    text = (
        START + "a = Conv2D(x, a/w)\nd = f32[3,3,8,1]{random 3}\n"
        + fused("_FusedDepthwiseConv2dNative", "a, d, b", "BiasAdd Relu6", CONV) + TAIL
    )  # fmt: skip
    graph = zero_filters(tiny(text), "d", 2, [1, 3])
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == {"a": 8}
    np.testing.assert_array_equal(value(graph, "y").ravel()[[1, 3]], [0, 0])
    assert dead(graph) == {"a": [1, 3]}
    assert gs.cost(graph).macs == 36 * (9 * 4 * 8 + 9 * 8 + 8 * 3)
    slim = gs.apply(graph, gs.plan(graph))
    assert constant(slim, "d").shape == (3, 3, 6, 1) and constant(slim, "b").shape == (6,)


def test_scaled_batch_product_folds_nothing() -> None:
    """What is added to its sums would be scaled as well."""
    text = (
        "x = input 1,6,4\nh/w = f32[4,5]{random 3}\nh = BatchMatMulV2(x, h/w)\n"
        "h/b = f32[5]{1}\ni = AddV2(h, h/b)\nw = f32[5,8]{random 1}\nk = f32[]{0.5}\n"
        "e = f32[1,6,8]{random 2}\n"
        + fused("_FusedBatchMatMulV2", "i, w, k, e", "Mul Add", "adj_x=false adj_y=false")
        + "z/w = f32[8,3]{random 4}\nz = BatchMatMulV2(y, z/w)\nq = Relu(z)\noutput q\n"
    )
    graph = zero_filters(tiny(text), "h/w", 1, [1])
    found = {one.id: len(one) for one in groups(graph).values() if one.prunable}
    assert found == {"h": 5, "y": 8}
    assert dead(graph) == {}


# ------------------------------------------------------------------ batch norm in one op

NORMS: Dict[str, str] = {
    "global": "y = BatchNormWithGlobalNormalization(a, m, v, b, s) variance_epsilon=0.001"
    " scale_after_normalization=true\n",
    "global, no scale": "y = BatchNormWithGlobalNormalization(a, m, v, b, s)"
    " variance_epsilon=0.001 scale_after_normalization=false\n",
}


@pytest.mark.tf
@pytest.mark.parametrize("name", sorted(NORMS))
def test_norms_are_pruned_known_and_folded_into(name: str) -> None:
    text = (
        "x = input 1,6,6,4\nh/w = f32[3,3,4,5]{random 3}\nh = Conv2D(x, h/w)\n"
        "h/b = f32[5]{1 2 3 -1 0.5}\ni = BiasAdd(h, h/b)\na/w = f32[1,1,5,8]{random 1}\n"
        "a = Conv2D(i, a/w)\n" + VECTORS + NORMS[name] + TAIL
    )
    graph = tiny(text)
    expected = {"h": 5, "a": 8}
    assert {one.id: len(one) for one in groups(graph).values() if one.prunable} == expected
    zero_filters(graph, "a/w", 3, [2, 6])
    scale = np.ones(8) if "no scale" in name else constant(graph, "s").astype(float)
    offset, mean, variance = [constant(graph, key).astype(float) for key in "bmv"]
    known = offset - mean * scale / np.sqrt(variance + 0.001)
    np.testing.assert_allclose(value(graph, "y").ravel()[[2, 6]], known[[2, 6]], rtol=1e-6)
    zero_filters(graph, "h/w", 3, [1, 3])
    assert dead(graph) == {"h": [1, 3], "a": [2, 6]}
    runs_or_skip(graph)
    assert_mask_equivalent(graph, random_plan(graph, seed=3), tolerance=1e-5)
    slim = prune(graph, {"h": [1, 3], "a": [2, 6]})
    assert (constant(slim, "b") != np.delete(constant(graph, "b"), [2, 6])).all()


def test_norm_fused_with_an_activation_is_known_and_stays_as_wide() -> None:
    """TensorFlow refuses one whose width is no multiple of 4."""
    text = (
        START + "a = Conv2D(x, a/w)\nr/w = f32[1,1,4,8]{random 7}\nr = Conv2D(x, r/w)\n"
        "y = _FusedBatchNormEx(a, s, b, m, v, r) U=float32 epsilon=0.001 is_training=false"
        ' data_format="NHWC" activation_mode="Relu" num_side_inputs=1\n' + TAIL
    )
    graph = tiny(text)
    assert pins(graph, "a").startswith("a _FusedBatchNormEx takes multiples of 4 channels")
    zero_filters(graph, "s", 0, [1, 7])
    zero_filters(graph, "r/w", 3, [1])
    np.testing.assert_equal(value(graph, "y").ravel()[[1, 7]], [0, np.nan])


# ------------------------------------------------------------------ as grappler leaves it


@pytest.mark.tf
def test_graph_that_the_optimizer_fused_is_pruned() -> None:
    """TensorFlow's own remapper fuses a small network, which is then read and pruned."""
    from tensorflow.core.protobuf import config_pb2
    from tensorflow.python.framework import importer, ops
    from tensorflow.python.grappler import tf_optimizer
    from tensorflow.python.training import saver  # noqa: F401  (registers collections)

    text = (
        START + "u = Conv2D(x, a/w)\nk = FusedBatchNorm(u, s, b, m, v)\nc = Relu(k)\n"
        "d = f32[3,3,8,6]{random 2}\ne = Conv2D(c, d)\ne/b = f32[6]{random 3}\n"
        "f = BiasAdd(e, e/b)\ng = Relu6(f)\nz/w = f32[1,1,6,3]{random 9}\nz = Conv2D(g, z/w)\n"
        "q = Identity(z)\noutput q\n"
    )
    graph = tiny(text)
    from tensorflow.compat.v1 import GraphDef
    from tensorflow.compat.v1.train import export_meta_graph

    holder = ops.Graph()
    with holder.as_default():
        definition = GraphDef.FromString(gs.serialize(graph))
        for node in definition.node:  # the remapper fuses what it knows to run on a CPU
            node.device = "/job:localhost/replica:0/task:0/device:CPU:0"
        importer.import_graph_def(definition, name="")
        meta = export_meta_graph(graph_def=holder.as_graph_def(), graph=holder)
    meta.collection_def["train_op"].node_list.value.append("q")
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1
    options.optimizers.extend(["constfold", "remap"])
    optimised = tf_optimizer.OptimizeGraph(config, meta)
    found = parse(optimised.SerializeToString(), "fused")
    signature.settle(found, ["x"], ["q"], {})
    fused_ops = [node.op for node in found if node.op.startswith("_Fused")]
    assert fused_ops.count("_FusedConv2D") == 2
    prunable = {len(one) for one in groups(found).values() if one.prunable}
    assert prunable == {8, 6}
    assert_mask_equivalent(found, random_plan(found, seed=1), tolerance=1e-5)
