"""What attributes state of sizes and counts: true of every graph that is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from sessions import plain_config
from tiny import tiny

import graphslim as gs
from graphslim import runtime
from graphslim.errors import EmitError
from graphslim.plans import plan_given

SHARED = """
x = input 1,4,4,2
y = input 1,4,4,2
k = f32[1,1,2,8]{random 1} _output_shapes=[<1,1,2,8>]
b = f32[8]{random 2} _output_shapes=[<8>]
b/read = Identity(b) _output_shapes=[<8>]
h = f32[1,1,8,3]{random 3} _output_shapes=[<1,1,8,3>]
x1 = Conv2D(x, k) _output_shapes=[<1,4,4,8>]
x2 = BiasAdd(x1, b/read) _output_shapes=[<1,4,4,8>]
x3 = Conv2D(x2, h) _output_shapes=[<1,4,4,3>]
y1 = Conv2D(y, k) _output_shapes=[<1,4,4,8>]
y2 = BiasAdd(y1, b/read) _output_shapes=[<?,?,?,8>]
y3 = Conv2D(y2, h) _output_shapes=[<1,4,4,3>]
out = Sub(x3, y3) _output_shapes=[<1,4,4,3>]
"""


def stated(graph: gs.Graph, name: str, attr: str = "_output_shapes") -> Any:
    value = graph[name].attrs[attr]
    return value.dims if isinstance(value, gs.Shape) else [one.dims for one in value]


def test_an_identity_behind_a_shared_vector_states_its_new_size() -> None:
    graph = tiny(SHARED)
    slim = gs.apply(graph, plan_given(graph, {"x1": [0, 3, 7]}))
    for node in slim:
        if "_output_shapes" in node.attrs:
            sizes = [size for size in stated(slim, node.name)[0] if size]
            found = gs.analyse(slim).fact(gs.Port(node.name)).shape
            assert sizes == list(found or ())[-len(sizes) :], node.name
    assert stated(slim, "b/read") == [(5,)]
    assert stated(slim, "y2") == [(None, None, None, 5)], "what was open stays open"
    assert "_output_shapes" not in slim["out"].attrs.changed


@pytest.mark.parametrize("op", ["AccumulateNV2", "AddN"])
def test_the_shape_that_an_op_states_of_its_sum(op: str, tmp_path: Path) -> None:
    shape = "shape=<1,4,4,8> " if op == "AccumulateNV2" else ""
    graph = tiny(
        "x = input 1,4,4,2\na/w = f32[1,1,2,8]{random 1}\nb/w = f32[1,1,2,8]{random 2}\n"
        f"a = Conv2D(x, a/w)\nb = Conv2D(x, b/w)\ns = {op}(a, b) {shape}N=2\n"
        "z/w = f32[1,1,8,3]{random 3}\nz = Conv2D(s, z/w)"
    )
    slim = gs.apply(graph, plan_given(graph, {"a": [1, 2]}))
    if shape:
        assert stated(slim, "s", "shape") == (1, 4, 4, 6)
    gs.save(slim, tmp_path / "slim.pb")


def test_what_no_cut_reaches_is_stated_as_it_was() -> None:
    """What stands behind an op without a rule is known by its statement alone."""
    graph = tiny(
        "x = input 1,4,4,2\na/w = f32[1,1,2,8]{random 1}\na = Conv2D(x, a/w)\n"
        "z/w = f32[1,1,8,3]{random 3}\nz = Conv2D(a, z/w)\n"
        "r = Strange(z) _output_shapes=[<1,4,4,3>]\nq = Relu(r) _output_shapes=[<1,4,4,3>]"
    )
    slim = gs.apply(graph, plan_given(graph, {"a": [0]}))
    assert stated(slim, "r") == [(1, 4, 4, 3)]
    assert stated(slim, "q") == [(1, 4, 4, 3)]


def _retyped(graph: gs.Graph) -> None:
    graph.set_attr("b", "dtype", gs.DType.float64)


def _widened(graph: gs.Graph) -> None:
    graph.set_attr("k", "value", gs.Tensor.of(np.zeros((1, 1, 2, 9), np.float32)))


def _half_cut(graph: gs.Graph) -> None:
    for name, shape in (("k", (1, 1, 2, 4)), ("b", (4,)), ("h", (1, 1, 4, 3))):
        graph.set_attr(name, "value", gs.Tensor.of(np.zeros(shape, np.float32)))


def _recounted(graph: gs.Graph) -> None:
    joined = gs.Node("joined", "AddN", gs.Attrs({"N": 3, "T": gs.DType.float32}))
    graph.add(joined, [gs.Port("x3"), gs.Port("y3")])


def _read_beyond(graph: gs.Graph) -> None:
    axis = graph.add_constant("axis", gs.Tensor.of(np.array(3, np.int32)))
    attrs = gs.Attrs({"num_split": 3, "T": gs.DType.float32})
    graph.add(gs.Node("parts", "Split", attrs), [gs.Port(axis.name), gs.Port("x3")])
    graph.rewire("out", 1, gs.Port("parts", 3))


@pytest.mark.parametrize(
    "change, message",
    [
        (_retyped, "^b: its attribute dtype states float64, and its value is float32"),
        (_half_cut, "^k: its attribute _output_shapes states .1,1,2,8. for output 0.*1,1,2,4"),
        (_widened, "9 channels meet 8"),
        (_recounted, "^joined: its attribute N states 3, which makes 3 inputs, and it has 2"),
        (_read_beyond, "^out: reads output 3 of parts, whose attribute num_split states 3"),
    ],
)
def test_a_graph_that_contradicts_itself_is_not_written(
    change: Callable[[gs.Graph], None], message: str, tmp_path: Path
) -> None:
    graph, target = tiny(SHARED), tmp_path / "out.pb"
    target.write_bytes(b"as it was")
    change(graph)
    with pytest.raises(EmitError, match=message):
        gs.save(graph, target)
    assert target.read_bytes() == b"as it was" and len(list(tmp_path.iterdir())) == 1


def test_a_graph_that_nobody_changed_is_written_as_it_came(tmp_path: Path) -> None:
    """Whatever it states: it is the user's, and the same bytes."""
    data = gs.serialize(tiny(SHARED.replace("<8>", "<9>")))
    (tmp_path / "in.pb").write_bytes(data)
    gs.save(gs.load(tmp_path / "in.pb"), tmp_path / "out.pb")
    assert (tmp_path / "out.pb").read_bytes() == data


@pytest.mark.tf
def test_a_checkpoint_whose_layers_share_a_bias_is_stripped(tmp_path: Path) -> None:
    """A MetaGraph always states the shapes of all outputs."""
    tf = runtime.tensorflow()
    with tf.Graph().as_default(), tf.Session(config=plain_config(tf)) as session:
        kernel, bias, head = [
            tf.get_variable(name, shape, initializer=tf.random_normal_initializer(seed=1))
            for name, shape in (("k", (3, 3, 3, 16)), ("b", (16,)), ("h", (1, 1, 16, 4)))
        ]

        def branch(image: Any) -> Any:
            found = tf.nn.conv2d(image, kernel, [1, 1, 1, 1], "SAME")
            found = tf.nn.relu(tf.nn.bias_add(found, bias))
            return tf.nn.conv2d(found, head, [1, 1, 1, 1], "SAME")

        left, right = [tf.placeholder(tf.float32, [1, 8, 8, 3], name) for name in ("l", "r")]
        tf.subtract(branch(left), branch(right), name="out")
        saver = tf.train.Saver()
        session.run(tf.global_variables_initializer())
        prefix = saver.save(session, str(tmp_path / "model"))
    opened = gs.open_checkpoint(prefix, inputs=["l", "r"], outputs=["out"])
    plan = gs.plan(opened.graph, criterion="l2", ratio=0.5)
    done = gs.strip(opened, plan, tmp_path / "slim", allow_unconverged=True)
    assert done.agreement.ok and plan.removed == 8
    shapes = {
        node.name: node.attrs["value"].shape
        for node in gs.load(done.graph_path)
        if node.op == "Const"
    }
    assert shapes == {"k": (3, 3, 3, 8), "b": (8,), "h": (1, 1, 8, 4)}
