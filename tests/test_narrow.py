"""Training graphs at a smaller size, against the same code built by TensorFlow at that size."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
import pytest
import training_nets as nets
from sessions import plain_config
from training_nets import Setting

from graphslim.channels.facts import Fact
from graphslim.channels.groups import Labels
from graphslim.checkpoint.narrow import narrow
from graphslim.checkpoint.training_walk import TRAINING_RULES, TrainingVisit, TrainingWalk
from graphslim.errors import PlanError
from graphslim.graphdef.emit import serialize
from graphslim.graphdef.load import parse
from graphslim.ir import Graph
from graphslim.ir.families import VARIABLES
from graphslim.testing import from_text

Case = Tuple[Any, Dict[str, int], Dict[str, Dict[int, Tuple[int, ...]]], Dict[str, int]]

CASES: Dict[str, Case] = {
    "mobile": (
        nets.mobile,
        {"stem": 5, "expand": 12, "squeeze": 4},
        {
            "stem/w": {3: (1, 3)},
            "expand/w": {2: (1, 3), 3: (0, 5, 11)},
            "squeeze/w": {2: (0, 5, 11), 3: (2,)},
        },
        {"stem": 3, "expand": 9, "squeeze": 3},
    ),
    "plain": (
        nets.plain,
        {"a": 6, "b": 5, "c": 8, "in": 4},
        {
            "a/w": {3: (0,)},
            "b/w": {2: (0,), 3: (1, 4)},
            "c/w": {0: (1, 4, 6, 9, 11, 14, 16, 19), 1: (2, 3)},
            "in/w": {0: (1, 4), 1: (0,)},
        },
        {"a": 5, "b": 3, "c": 6, "in": 3},
    ),
    "branches": (
        nets.branches,
        {"left": 4, "right": 5, "mix": 8, "late": 6, "up": 5},
        {
            "left/w": {3: (1,)},
            "right/w": {3: (0, 4)},
            "mix/w": {2: (1, 4, 8, 10), 3: (1, 5)},
            "late/w": {2: (1,), 3: (0,)},
            "up/w": {2: (3,), 3: (0,)},
        },
        {"left": 3, "right": 3, "mix": 6, "late": 5, "up": 4},
    ),
}
SETTINGS: Dict[str, Setting] = {
    "momentum": Setting("momentum"),
    "adam, l2, averages, clipped, batch 4": Setting("adam", True, 4, True, "l2", True),
    "rmsprop, lasso, averages, batch 4": Setting("rmsprop", False, 4, True, "lasso"),
    "centered rmsprop, norm": Setting("rmsprop-centered", True, None, False, "norm"),
    "adagrad, mean, batch 4": Setting("adagrad", True, 4, False, "mean"),
    "nesterov, norm, batch 4": Setting("nesterov", False, 4, False, "norm"),
    "ftrl, clipped": Setting("ftrl", False, None, False, None, True),
    "sgd, averages": Setting("sgd", True, None, True),
    "by hand, batch 4": Setting("by-hand", False, 4),
}


PAIRS = [
    *[(list(CASES)[place % 3], name) for place, name in enumerate(SETTINGS)],
    ("plain", "adam, l2, averages, clipped, batch 4"),
    ("branches", "nesterov, norm, batch 4"),
    ("mobile", "centered rmsprop, norm"),
]
"""Networks, and how they are trained: each setting with one network, the hardest with two."""


@pytest.fixture(scope="module")
def tf() -> Any:
    """TensorFlow 1, or `compat.v1` without eager execution."""
    tensorflow = pytest.importorskip("tensorflow.compat.v1")
    tensorflow.logging.set_verbosity(tensorflow.logging.ERROR)
    return tensorflow


def load(graph: Any) -> Graph:
    """The IR of a TensorFlow graph, as the MetaGraph of a saver holds it."""
    return parse(graph.as_graph_def(add_shapes=True).SerializeToString(), "x", has_variables=True)


def imported(tf: Any, graph: Graph) -> Any:
    """A TensorFlow graph of the IR."""
    with tf.Graph().as_default() as made:
        tf.import_graph_def(tf.GraphDef.FromString(serialize(graph)), name="")
    return made


def values(graph: Any, session: Any) -> Dict[str, np.ndarray]:
    """What the variables hold, by name."""
    tensors = {}
    for op in graph.get_operations():
        if op.type == "VariableV2":
            tensors[op.name] = op.outputs[0]
        elif op.type == "VarHandleOp":
            tensors[op.name] = f"{op.name}/Read/ReadVariableOp:0"
    return session.run(tensors)


def trained(tf: Any, graph: Any, start: Mapping[str, np.ndarray]) -> Any:
    """Initial values (those given, or the graph's own), losses and values after two steps."""
    with tf.Session(graph=graph, config=plain_config(tf)) as session:
        for op in graph.get_operations():
            if op.type in VARIABLES:
                # One by one: TensorFlow does not wait with an average for what it averages.
                assign = graph.get_operation_by_name(f"{op.name}/Assign")
                session.run(assign, {assign.inputs[1]: start[op.name]} if start else {})
        before = values(graph, session)
        losses = [session.run(["loss:0", "train"], nets.feeds(seed))[0] for seed in range(2)]
        return before, losses, values(graph, session)


def shapes(graph: Any) -> Dict[str, Any]:
    """The shape of every tensor that TensorFlow infers one for."""
    return {
        tensor.name: tensor.shape.as_list()
        for op in graph.get_operations()
        for tensor in op.outputs
        if tensor.shape.rank is not None
    }


def contradict(found: Sequence[Optional[int]], wanted: Sequence[Optional[int]]) -> bool:
    """Whether two shapes differ; TensorFlow 1 need not find the sizes that code has stated."""
    sizes = zip(found, wanted)
    return len(found) != len(wanted) or any(one not in (None, other) for one, other in sizes)


@pytest.mark.tf
@pytest.mark.parametrize("case, how", PAIRS)
def test_like_the_code_at_smaller_widths(tf: Any, case: str, how: str) -> None:
    """Every shape, the losses and the values after two steps are those of the code itself."""
    network, widths, cuts, small = CASES[case]
    setting = SETTINGS[how]
    whole = load(nets.build(tf, network, widths, setting))
    slim = imported(tf, narrow(whole, cuts).graph)
    wanted = nets.build(tf, network, small, setting)
    found = shapes(slim)
    pairs = {name: (found.get(name, [None]), shape) for name, shape in shapes(wanted).items()}
    assert {name: pair for name, pair in pairs.items() if contradict(*pair)} == {}
    start, losses, after = trained(tf, slim, {})
    _, wanted_losses, wanted_after = trained(tf, wanted, start)
    np.testing.assert_allclose(losses, wanted_losses, rtol=1e-6)
    assert set(after) == set(wanted_after)
    for name, value in after.items():
        np.testing.assert_allclose(value, wanted_after[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.tf
def test_cuts_of_slots_and_averages(tf: Any) -> None:
    network, widths, cuts, _ = CASES["mobile"]
    whole = load(nets.build(tf, network, widths, Setting("adam", average=True)))
    found = narrow(whole, cuts).cuts
    for name in ("deep/w", "deep/w/Adam", "deep/w/Adam_1", "deep/w/ExponentialMovingAverage"):
        assert {axis: gone.tolist() for axis, gone in found[name].items()} == {2: [0, 5, 11]}
    assert found["expand_bn/mean"][0].tolist() == [0, 5, 11]
    assert "head/b" not in found and "beta1_power" not in found


@pytest.mark.tf
def test_nothing_cut_is_nothing_changed(tf: Any) -> None:
    network, widths, _, _ = CASES["branches"]
    whole = load(nets.build(tf, network, widths, Setting("adam", True, 4)))
    before = serialize(whole)
    narrowed = narrow(whole, {})
    assert narrowed.cuts == {} and serialize(narrowed.graph) == before


@pytest.mark.tf
def test_the_graph_given_stays(tf: Any) -> None:
    network, widths, cuts, _ = CASES["plain"]
    whole = load(nets.build(tf, network, widths, Setting()))
    before = serialize(whole)
    assert serialize(narrow(whole, cuts).graph) != before
    assert serialize(whole) == before


@pytest.mark.tf
def test_a_tie_of_the_training_graph_alone(tf: Any) -> None:
    """A penalty on the difference of two layers keeps them equally wide."""
    with tf.Graph().as_default() as graph:
        layers = nets.Layers(tf, {})
        one, other = layers.variable("one", [3, 4]), layers.variable("other", [3, 4])
        tf.reduce_sum(tf.square(tf.subtract(one, other, name="apart")))
    with pytest.raises(PlanError, match="other: position 2 along axis 1 .* apart"):
        narrow(load(graph), {"one": {1: [1, 2]}, "other": {1: [1]}})


@pytest.mark.tf
def test_variables_and_positions_that_are_not_there(tf: Any) -> None:
    with tf.Graph().as_default() as graph:
        nets.Layers(tf, {}).variable("one", [3, 4])
    whole = load(graph)
    for cuts in ({"two": {0: [1]}}, {"one": {2: [0]}}, {"one": {1: [4]}}, {"one/Assign": {0: [0]}}):
        with pytest.raises(PlanError):
            narrow(whole, cuts)


@pytest.mark.tf
@pytest.mark.parametrize(
    "sizes",
    [
        ([1, 3], [1, 3]), ([1, 3], [1, 1]), ([1, 1, 1, 8], []), ([2, 1, 8], [1, 1, 8]), ([1], []),
        ([4, 1], [3]), ([], []),
    ],
)  # fmt: skip
def test_the_axes_that_gradients_of_broadcasts_are_summed_over(
    tf: Any, sizes: Tuple[Sequence[int], Sequence[int]]
) -> None:
    with tf.Graph().as_default() as graph:
        shapes = [tf.constant(one, tf.int32) for one in sizes]
        axes = tf.raw_ops.BroadcastGradientArgs(s0=shapes[0], s1=shapes[1], name="axes")
    with tf.Session(graph=graph, config=plain_config(tf)) as session:
        wanted = session.run(axes)
    for found, one in zip(Labels(TrainingWalk(load(graph))).facts["axes"], wanted):
        np.testing.assert_array_equal(found.value, one)


def test_a_table_of_more_rows_than_are_followed() -> None:
    """Its other axis is cut all the same."""
    graph = from_text(
        "v = VariableV2() dtype=float32 shape=<9000000,4>\n"
        "w = VariableV2() dtype=float32 shape=<9000000,4>\n"
        "step = AssignSub(v, w) T=float32"
    )
    narrowed = narrow(graph, {"v": {1: [0, 2]}})
    assert narrowed.graph["w"].attrs["shape"].dims == (9000000, 2)
    assert {name: list(axes) for name, axes in narrowed.cuts.items()} == {"v": [1], "w": [1]}


def test_a_rule_that_fails_ties_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even in what other rules are told of the ties so far."""

    def failing(op: TrainingVisit) -> Fact:
        op.tie(op[0].ids[0], op[1].ids[0])
        op.walk.merged(op[0].ids[0])
        raise ValueError

    monkeypatch.setitem(TRAINING_RULES, "Wall", failing)
    graph = from_text(
        "v = VariableV2() dtype=float32 shape=<3>\n"
        "w = VariableV2() dtype=float32 shape=<3>\n"
        "y = Wall(v, w) T=float32"
    )
    walk = TrainingWalk(graph)
    Labels(walk)  # which runs it
    first, second = [walk.facts[name][0].ids[0] for name in "vw"]
    assert not walk.ties and not set(walk.merged(first)) & set(walk.merged(second))


@pytest.mark.tf
def test_partitioned_variables_are_refused(tf: Any) -> None:
    with tf.Graph().as_default() as graph:
        whole = tf.get_variable(
            "w", [4, 6], partitioner=tf.fixed_size_partitioner(2, 1), use_resource=False
        )
        tf.identity(whole)
        tf.train.Saver()
    with pytest.raises(PlanError, match="part_0.*partitioned"):
        narrow(load(graph), {"w/part_0": {0: [1]}})


@pytest.mark.tf
@pytest.mark.parametrize("initial", ["orthogonal", "constant", "glorot", "zeros"])
def test_initial_values_have_the_new_shape(tf: Any, initial: str) -> None:
    make = {
        "orthogonal": tf.orthogonal_initializer(),
        "constant": tf.constant_initializer(np.arange(144).reshape(3, 3, 4, 4)),
        "glorot": tf.glorot_uniform_initializer(),
        "zeros": tf.zeros_initializer(),
    }[initial]
    with tf.Graph().as_default() as graph:
        tf.get_variable("w", [3, 3, 4, 4], initializer=make, use_resource=True)
        tf.group(tf.global_variables_initializer(), name="init")
    slim = imported(tf, narrow(load(graph), {"w": {2: [0], 3: [1, 3]}}).graph)
    with tf.Session(graph=slim, config=plain_config(tf)) as session:
        session.run("init")
        value = values(slim, session)["w"]
    assert value.shape == (3, 3, 3, 2)
    if initial == "constant":
        kept = np.arange(144).reshape(3, 3, 4, 4)[:, :, 1:][..., [0, 2]]
        np.testing.assert_array_equal(value, kept)


@pytest.mark.tf
def test_a_placeholder_for_channels(tf: Any) -> None:
    """A mask that is fed is as wide as the layer."""
    with tf.Graph().as_default() as graph:
        kernel = nets.Layers(tf, {}).variable("w", [1, 1, 3, 4])
        mask = tf.placeholder(tf.float32, [4], "mask")
        tf.multiply(kernel, mask, name="masked")
    slim = imported(tf, narrow(load(graph), {"w": {3: [0]}}).graph)
    assert slim.get_tensor_by_name("mask:0").shape.as_list() == [3]
