"""Switch, Merge, loops and other walls: what stays prunable around them, and what is folded."""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np
import pytest
from networks import Net, blocks
from tiny import groups, pins, prune, tiny, value

import graphslim as gs
from graphslim.channels.rules import wall
from graphslim.match import Matcher
from graphslim.testing import (
    assert_equivalent,
    assert_mask_equivalent,
    random_plan,
)

START = """
x = input 1,6,6,4
p = Placeholder() dtype=bool shape=<>
a/w = f32[3,3,4,8]{random 1}
a = Conv2D(x, a/w)
"""
END = """
z/w = f32[1,1,8,3]{random 9}
z = Conv2D(y, z/w)
output z
"""
NORMS = """
g = f32[8]{random 2}
b = f32[8]{random 3}
m = f32[8]{random 4}
v = f32[8]{2}
e = f32[0]{}
s = Switch(a, p)
sg = Switch(g, p)
sb = Switch(b, p)
sm = Switch(m, p)
sv = Switch(v, p)
n0 = FusedBatchNorm(s, sg, sb, sm, sv)
n1 = FusedBatchNorm(s:1, sg:1, sb:1, e, e) is_training=true
o = Merge(n0, n1) N=2
y = Relu(o)
"""
"""Batch norm as TensorFlow 1 leaves it with an open learning phase: twice, sharing two vectors."""


def feeds(phase: bool) -> Dict[str, np.ndarray]:
    image = np.random.RandomState(0).randn(1, 6, 6, 4).astype(np.float32)
    return {"x": image, "p": np.array(phase)}


def check(graph: gs.Graph, prunable: List[str]) -> None:
    """Those groups and no others are prunable; mask equivalence holds in both phases."""
    assert sorted(one.id for one in groups(graph).values() if one.prunable) == prunable
    plan = random_plan(graph)
    for phase in (False, True):
        assert_mask_equivalent(graph, plan, feeds(phase), tolerance=1e-5)


# ---------------------------------------------------------------------- Switch and Merge


@pytest.mark.tf
def test_branches_are_pruned_alike() -> None:
    text = "s = Switch(a, p)\nu = Neg(s)\nr = Relu(s:1)\ny = Merge(u, r) N=2\n"
    check(tiny(START + text + END), ["a"])


@pytest.mark.tf
def test_convolutions_in_branches_are_tied() -> None:
    text = (
        "u/w = f32[1,1,8,6]{random 5}\nv/w = f32[3,3,8,6]{random 6}\ns = Switch(a, p)\n"
        "u = Conv2D(s, u/w)\nv = Conv2D(s:1, v/w)\nm = Merge(u, v) N=2\n"
        "c/w = f32[1,1,6,8]{random 7}\ny = Conv2D(m, c/w)\n"
    )
    graph = tiny(START + text + END)
    check(graph, ["a", "u", "y"])
    assert len(groups(graph)["u"]) == 6


@pytest.mark.tf
def test_batch_norm_in_both_phases() -> None:
    check(tiny(START + NORMS + END), ["a"])


@pytest.mark.tf
def test_a_channel_that_both_branches_make_constant_is_dead() -> None:
    """In training the norm subtracts the mean of a zero channel; its offset is what is left."""
    graph = tiny(
        START
        + "k = f32[8]{0 1 1 1 1 1 1 0}\nt = Mul(a, k)\ns = Switch(t, p)\nu = Neg(s)\n"
        + "r = Relu(s:1)\ny = Merge(u, r) N=2\n"
        + END
    )
    slim = prune(graph, {"a": [0, 7]})
    for phase in (False, True):
        assert_equivalent(graph, slim, feeds(phase))


@pytest.mark.tf
def test_a_constant_of_one_branch_alone_is_not_folded() -> None:
    graph = tiny(
        START
        + "k = f32[8]{0 1 1 1 1 1 1 1}\nt = Mul(a, k)\ns = Switch(t, p)\nu = Exp(s)\n"
        + "y = Merge(u, s:1) N=2\n"
        + END
    )
    known = value(graph, "y")
    assert known is None or np.isnan(known).all()
    prune(graph, {})


def test_values_pass_a_switch_and_meet_in_a_merge() -> None:
    graph = tiny(
        START + "k = f32[3]{1 2 3}\nl = f32[3]{1 5 3}\ns = Switch(k, p)\nt = Switch(l, p)\n"
        "m = Merge(s:1, t) N=2\ny = Neg(m)\n"
    )
    np.testing.assert_array_equal(value(graph, "s:1"), [1, 2, 3])
    np.testing.assert_array_equal(value(graph, "m"), [1, np.nan, 3])
    assert gs.analyse(graph).fact(gs.Port("m", 1)).shape == ()


@pytest.mark.parametrize(
    "other, why",
    [
        ("q = input *", "it meets a tensor of unknown shape in a Merge @ y"),
        ("q = input 1,6,8", "the branches that meet in a Merge give it different sizes @ y"),
        ("q = input 1,6,6,1", "the branches that meet in a Merge give it different sizes @ y"),
        ("q = input 1,6,6,?", "it meets an axis that is not followed @ y"),
    ],
)
def test_a_branch_that_is_not_known_pins_the_other(other: str, why: str) -> None:
    graph = tiny(START + f"s = Switch(a, p)\n{other}\ny = Merge(s, q) N=2\n" + "o = Neg(y)\n")
    assert pins(graph, "a") == why


@pytest.mark.tf
def test_a_width_that_passes_a_switch_is_not_rewritten() -> None:
    text = "n = i32[2]{-1 288}\ns = Switch(n, p) T=int32\nf = Reshape(a, s:1) Tshape=int32\n"
    end = "z/w = f32[288,3]{random 9}\nz = MatMul(f, z/w)\noutput z\n"
    graph = tiny(START + text + end)
    assert pins(graph, "a").endswith("@ f")


# ---------------------------------------------------------------------- walls


@pytest.mark.parametrize(
    "op, word",
    [
        ("While", "While loop"),
        ("Enter", "While loop"),
        ("Case", "If or Case"),
        ("TensorArrayScatterV3", "array of tensors"),
        ("NonMaxSuppressionV5", "non-maximum suppression"),
        ("TRTEngineOp", "TensorRT"),
        ("PyFunc", "Python"),
        ("Odd", "graphslim has no rule for the op Odd"),
    ],
)
def test_walls_say_what_they_are(op: str, word: str) -> None:
    assert word in wall(gs.Node("n", op))
    graph = tiny(START + f"y = {op}(a)\n")
    assert word in pins(graph, "a")


def test_a_width_that_enters_a_wall_is_pinned() -> None:
    graph = tiny(
        START + "h = Shape(a)\nw = Odd(h) T=int32\ny = Relu(a)\n" + END.replace("output z", "")
    )
    assert pins(graph, "a") == "its size is used by a Odd @ w"


def test_a_stack_of_tensors_states_the_size_of_each() -> None:
    """As detection models read their images: what comes out of the loop has its channels known."""
    graph = tiny(
        "x = input ?,6,6,4\nl = TensorListFromTensor(x)\nn = i32[3]{6 6 4}\n"
        "s = TensorListStack(l, n)\na/w = f32[3,3,4,8]{random 1}\na = Conv2D(s, a/w)\n"
        "b/w = f32[1,1,8,3]{random 2}\nb = Conv2D(a, b/w)\noutput b\n"
    )
    assert gs.analyse(graph).fact(gs.Port("s")).shape == (None, 6, 6, 4)
    assert groups(graph)["a"].prunable


# ---------------------------------------------------------------------- graphs of TensorFlow


@pytest.mark.tf
def test_a_conditional_and_a_loop_of_tensorflow_1() -> None:
    import tensorflow as tf

    tf1 = tf.compat.v1
    control_flow_v2 = tf1.control_flow_v2_enabled()
    tf1.disable_control_flow_v2()
    rng = np.random.RandomState(1)

    def conv(y: Any, *shape: int) -> Any:
        kernel = tf.constant(rng.randn(*shape).astype(np.float32) / 4)
        return tf.nn.conv2d(y, kernel, strides=[1, 1, 1, 1], padding="SAME")

    try:
        with tf.Graph().as_default() as graph:
            x = tf1.placeholder(tf.float32, [1, 6, 6, 4], name="x")
            phase = tf1.placeholder_with_default(False, [], name="p")
            vector = tf.constant(rng.rand(8).astype(np.float32) + 1)
            first = conv(x, 3, 3, 4, 8)

            def norm(training: bool) -> Any:
                rest = {} if training else {"mean": vector, "variance": vector * 2}
                return tf1.nn.fused_batch_norm(first, vector, vector, is_training=training, **rest)[
                    0
                ]

            y = tf.nn.relu(tf1.cond(phase, lambda: norm(True), lambda: norm(False)))
            small = conv(y, 1, 1, 8, 6)
            looped = tf1.while_loop(
                lambda i, t: i < 3, lambda i, t: [i + 1, t * 1.5], [tf.constant(0), small]
            )[1]
            behind = conv(looped, 3, 3, 6, 8)
            last = conv(conv(behind, 1, 1, 8, 6), 1, 1, 6, 3)
            proto = graph.as_graph_def()
    finally:
        if control_flow_v2:
            tf1.enable_control_flow_v2()
    loaded = gs.load(proto, inputs=["x", "p"], outputs=[last.op.name])
    assert any(node.op == "Merge" for node in loaded), "nothing is conditional"
    found = groups(loaded)
    prunable = [one.id for one in found.values() if one.prunable]
    # What a loop gives has a shape that is not known: the filters behind it tell how wide it is.
    assert prunable == [
        first.op.name,
        behind.op.name,
        loaded.data_inputs(last.op.name)[0].node,
    ]
    assert "While loop" in pins(loaded, small.op.name)
    plan = random_plan(loaded)
    for training in (False, True):
        assert_mask_equivalent(loaded, plan, feeds(training), tolerance=1e-5)


@pytest.mark.tf
@pytest.mark.parametrize("lowered", [False, True])
def test_a_conditional_and_a_loop_of_tensorflow_2(lowered: bool) -> None:
    import tensorflow as tf

    if tf.__version__.startswith("1."):
        pytest.skip("tf.function of TensorFlow 2")
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    rng = np.random.RandomState(1)
    kernels = [
        tf.constant(rng.randn(*shape).astype(np.float32) / 4)
        for shape in ((3, 3, 4, 8), (1, 1, 8, 8), (3, 3, 8, 8), (1, 1, 8, 8), (1, 1, 8, 3))
    ]

    def conv(y: Any, index: int) -> Any:
        return tf.nn.conv2d(y, kernels[index], strides=1, padding="SAME")

    @tf.function
    def network(x: Any, p: Any) -> Any:
        y = conv(tf.nn.relu(conv(x, 0)), 1)
        y = tf.cond(p, lambda: y * 2.0, lambda: tf.nn.relu(y))
        _, y = tf.while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t * 1.5), (0, y))
        return conv(tf.nn.relu(conv(conv(y, 2), 3)), 4)

    call = network.get_concrete_function(
        tf.TensorSpec((1, 6, 6, 4), name="x"), tf.TensorSpec((), tf.bool, name="p")
    )
    frozen = convert_variables_to_constants_v2(
        call, lower_control_flow=lowered, aggressive_inlining=False
    )
    graph = gs.load(frozen.graph.as_graph_def())
    assert any(node.op == "Switch" if lowered else "While" in node.op for node in graph)
    # A loop that is still one op states the shape of what comes out of it; else the filters do.
    assert sum(one.prunable for one in groups(graph).values()) == 3
    reasons = {one.pinned_by for one in groups(graph).values() if not one.prunable}
    assert any(why and ("While loop" in why or "If or Case" in why) for why in reasons), reasons
    plan = random_plan(graph)
    for phase in (False, True):
        assert_mask_equivalent(graph, plan, feeds(phase), tolerance=1e-5)


# ---------------------------------------------------------------------- blocks in conditionals


def conditional_norm(net: Net, x: str) -> str:
    """Batch norm in a conditional on `p`; the branch that trains comes first here."""
    width = (net.width[x],)
    switches = [net.f("Switch", x, "p")]
    switches += [
        net.f("Switch", net.const(width, one), "p") for one in ("1.25", "random", "0.5", "2")
    ]
    attrs: Dict[str, Any] = {"data_format": "NHWC", "epsilon": 0.001}
    empty = net.const((0,), "")
    training = [*[one + ":1" for one in switches[:3]], empty, empty]
    trained = net.f("FusedBatchNorm", *training, is_training=True, like=switches[0], **attrs)
    plain = net.f("FusedBatchNorm", *switches, is_training=False, **attrs)
    return net.f("Merge", trained, plain, N=2)


def test_a_block_is_found_through_conditionals() -> None:
    net = Net()
    net.op("Placeholder", name="p", dtype="bool", shape="<>")
    y = net.f("Relu6", conditional_norm(net, net.conv(net.x, 32, name="expand")))
    y = net.f("Relu6", conditional_norm(net, net.depthwise(y, name="depthwise")))
    y = conditional_norm(net, net.conv(y, 8, name="project"))
    net.f("Identity", net.f("AddV2", y, net.x))
    graph = net.graph()
    (block,) = blocks(graph, "inverted_residual")
    assert dict(block.roles)["expand"] == "expand" and dict(block.roles)["project"] == "project"
    assert groups(graph)["expand"].prunable


def test_the_branch_for_inference() -> None:
    graph = tiny(
        START + "s = Switch(x, p)\nd = Relu(s)\nt = Neg(s:1)\nm = Merge(t, d) N=2\n"
        "h = i32[1]{4}\nr = RandomUniform(h) T=int32 dtype=float32\nn = Mul(s, r)\n"
        "k = Merge(n, t) N=2\nenter = Enter(x)\nl = Merge(enter, x) N=2\n"
        "y = AddN(m, k, l)\n"
    )
    matcher = Matcher(graph)
    assert matcher.resolve(gs.Port("m")) == gs.Port("d"), "the Switch's false output"
    assert matcher.resolve(gs.Port("k")) == gs.Port("t"), "not the one with dropout"
    assert matcher.resolve(gs.Port("l")) == gs.Port("l"), "a loop"
    assert matcher.resolve(gs.Port("m", 1)) == gs.Port("m", 1), "the index of the branch"
    assert matcher.resolve(gs.Port("s", 1)) == gs.Port("x")


def test_readers_stand_behind_conditionals() -> None:
    """A value that meets itself again is followed once, however often that happens."""
    lines = [START, "m0 = Identity(x)"]
    for step in range(40):
        lines.append(f"s{step} = Switch(m{step}, p)")
        lines.append(f"m{step + 1} = Merge(s{step}, s{step}:1) N=2")
    graph = tiny("\n".join([*lines, "y = Relu(m40)"]))
    found = [node.name for node in Matcher(graph).readers(gs.Port("x"))]
    assert sorted(found) == ["a", "y"]


@pytest.mark.parametrize("stray", ["", "n = NoOp(^u)\n"])
def test_a_placeholder_that_no_output_needs_is_no_input(stray: str) -> None:
    """TensorFlow leaves such placeholders where it wraps control flow in functions."""
    text = "u = Placeholder() dtype=int32 shape=<>\nx = input 1,4\n" + stray
    graph = gs.load(gs.to_graph_def(tiny(text + "y = Relu(x)\noutput y\n")), outputs=["y"])
    assert graph.inputs == ["x"] and "u" in graph
    waiting = tiny(text + "y = Relu(x, ^u)\noutput y\n")
    assert gs.load(gs.to_graph_def(waiting), outputs=["y"]).inputs == ["u", "x"]
