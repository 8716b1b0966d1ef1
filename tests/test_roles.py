"""What variables of a training are for: slots, shadows, and moving means and variances."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Tuple

import pytest

import graphslim as gs
from graphslim.checkpoint.inference import is_training
from graphslim.checkpoint.roles import companion_keys, companions, moving_averages, statistics
from graphslim.graphdef import parse
from graphslim.testing import from_text

# ------------------------------------------------------------------- formulas, without TensorFlow

START = """
    x = Placeholder() dtype=float32 shape=<?,4>
    axes = Const() dtype=int32 value=int32[1]{0}
    batch = Mean(x, axes) T=float32
    v = VariableV2() dtype=float32 shape=<4>
    v/read = Identity(v) T=float32
    w = VarHandleOp() dtype=float32 shape=<4>
    w/read = ReadVariableOp(w) dtype=float32
    d = Const() dtype=float32 value=float32[]{0.1}
    m = Const() dtype=float32 value=float32[]{0.9}
    n = Const() dtype=float32 value=float32[]{0.5}
    one = Const() dtype=float32 value=float32[]{1}
"""
MOVES: Dict[str, str] = {
    "v -= (v - X) d": "s = Sub(v/read, X)\np = Mul(s, d)\nu = AssignSub(v, p)",
    "v -= d (v - X)": "s = Sub(v, X)\np = Mul(d, s)\nu = AssignSub(v, p)",
    "v += (X - v) d": "s = Sub(X, v/read)\np = Mul(s, d)\nu = AssignAdd(v, p)",
    "v = v m + X d": "p = Mul(v/read, m)\nq = Mul(X, d)\na = AddV2(p, q)\nu = Assign(v, a)",
    "v = d X + m v": "p = Mul(m, v/read)\nq = Mul(d, X)\na = Add(q, p)\nu = Assign(v, a)",
    "v = v m + X (1-m)": (
        "k = Sub(one, m)\np = Mul(v/read, m)\nq = Mul(X, k)\na = Add(p, q)\nu = Assign(v, a)"
    ),
    "v = v - d (v - X)": "s = Sub(v/read, X)\np = Mul(d, s)\na = Sub(v, p)\nu = Assign(v, a)",
    "v = v + d (X - v)": "s = Sub(X, v/read)\np = Mul(d, s)\na = AddV2(v, p)\nu = Assign(v, a)",
}
NO_MOVES: Dict[str, str] = {
    "v += X d": "p = Mul(X, d)\nu = AssignAdd(v, p)",
    "v -= (X - v) d": "s = Sub(X, v/read)\np = Mul(s, d)\nu = AssignSub(v, p)",
    "v = v m + X n": "p = Mul(v/read, m)\nq = Mul(X, n)\na = AddV2(p, q)\nu = Assign(v, a)",
    "v = X": "u = Assign(v, X)",
}


def with_source(text: str, source: str) -> gs.Graph:
    return from_text(START + text.replace("X", source))


@pytest.mark.parametrize("name", sorted(MOVES))
def test_moving_averages_in_every_spelling(name: str) -> None:
    (found,) = moving_averages(with_source(MOVES[name], "batch"))
    assert (found.variable, found.source, found.of) == ("v", gs.Port("batch"), None)
    (found,) = moving_averages(with_source(MOVES[name], "w/read"))
    assert (found.variable, found.of) == ("v", "w")
    resource = re.sub(r"(Assign\w*)\(v, ", r"\1VariableOp(w, ", MOVES[name])
    resource = re.sub(r"\bv(/read)?\b", "w/read", resource)
    (found,) = moving_averages(with_source(resource, "v/read"))
    assert (found.variable, found.of) == ("w", "v")


@pytest.mark.parametrize("name", sorted(NO_MOVES))
def test_other_updates_are_no_moving_averages(name: str) -> None:
    assert moving_averages(with_source(NO_MOVES[name], "batch")) == []


def test_statistics_and_shadows_differ_by_what_is_averaged() -> None:
    moves = MOVES["v -= (v - X) d"]
    assert statistics(with_source(moves, "batch")) == {"v"}
    assert companions(with_source(moves, "batch")) == {}
    assert statistics(with_source(moves, "w/read")) == frozenset()
    assert companions(with_source(moves, "w/read")) == {"w": ("v",)}


def test_an_average_of_gradients_is_no_statistic() -> None:
    gradient = "g = ReluGrad(x, x) T=float32\nsum = Mean(g, axes) T=float32\n"
    graph = with_source(gradient + MOVES["v -= (v - X) d"], "sum")
    assert statistics(graph) == frozenset()
    assert is_training(graph)


def test_statistics_of_inference_by_where_they_enter() -> None:
    text = """
        x = Placeholder() dtype=float32 shape=<?,2,2,4>
        a = VariableV2() dtype=float32 shape=<4>
        b = VariableV2() dtype=float32 shape=<4>
        c = VariableV2() dtype=float32 shape=<4>
        d = VariableV2() dtype=float32 shape=<4>
        d/read = Identity(d) T=float32
        f = FusedBatchNorm(x, a, b, c, d/read) T=float32 is_training=false
        mean = VarHandleOp() dtype=float32 shape=<4>
        mean/read = ReadVariableOp(mean) dtype=float32
        var = VarHandleOp() dtype=float32 shape=<4>
        var/read = ReadVariableOp(var) dtype=float32
        eps = Const() dtype=float32 value=float32[]{0.001}
        s = AddV2(var/read, eps)
        r = Rsqrt(s)
        i = Mul(r, a)
        j = Mul(mean/read, i)
        k = Sub(b, j)
        l = Mul(f, i)
        y = AddV2(l, k)
    """
    assert statistics(from_text(text)) == {"c", "d", "mean", "var"}
    centred = text.replace("j = Mul(mean/read, i)", "j = Sub(f, mean/read)").replace(
        "k = Sub(b, j)", "k = Mul(j, i)"
    )
    assert statistics(from_text(centred)) == {"c", "d", "mean", "var"}


# ------------------------------------------------------------------- keys of checkpoints


def test_companion_keys_that_the_graph_does_not_have() -> None:
    shapes: Dict[str, Tuple[int, ...]] = {
        "w": (3, 4),
        "w/Momentum": (3, 4),
        "w/ExponentialMovingAverage": (3, 4),
        "w/Adam/deep": (3, 4),
        "w/scalar": (),
        "w/other": (4, 3),
        "w2": (3, 4),
        "w_1/Momentum": (3, 4),
        "w/inner": (3, 4),
        "w/inner/Momentum": (3, 4),
        "s": (),
        "s/Momentum": (),
    }
    keys = {"w": "w", "inner": "w/inner", "scalar": "s"}
    assert companion_keys(keys, shapes, {}) == {
        "w": ("w/Adam/deep", "w/ExponentialMovingAverage", "w/Momentum"),
        "w/inner": ("w/inner/Momentum",),
    }


def test_companion_keys_are_those_of_the_graph_where_it_has_them() -> None:
    shapes = {"w": (2,), "opt/m": (2,), "opt/m/EMA": (2,), "w/x": (2,)}
    keys = {"net/w": "w", "net/w/m": "opt/m", "x": "w/x"}
    found = companion_keys(keys, shapes, {"net/w": ("net/w/m", "net/w/v")})
    assert found == {"opt/m": ("opt/m/EMA",), "w": ("opt/m", "opt/m/EMA")}


# ------------------------------------------------------------------- trainings of TensorFlow


def by_hand(tf: Any, loss: Any, trained: List[Any]) -> Any:
    """Momentum with weight decay, written out."""
    steps = []
    for gradient, w in zip(tf.gradients(loss, trained), trained):
        with tf.variable_scope("mine", reuse=tf.AUTO_REUSE):
            name = w.op.name.replace("/", "_")
            slot = tf.get_variable(f"{name}_speed", w.shape, trainable=False)
        speed = tf.assign(slot, slot * 0.9 + gradient + 1e-4 * w)
        steps.append(tf.assign_sub(w, 0.1 * speed))
    return tf.group(*steps)


def by_hand_with_squares(tf: Any, loss: Any, trained: List[Any]) -> Any:
    """Adam as BERT's optimizer writes it: new values are computed first, then assigned."""
    steps = []
    for gradient, w in zip(tf.gradients(loss, trained), trained):
        name = w.op.name.replace("/", "_")
        m, v = [tf.get_variable(f"{name}_{k}", w.shape, trainable=False) for k in "mv"]
        next_m = 0.9 * m + 0.1 * gradient
        next_v = 0.999 * v + 0.001 * tf.square(gradient)
        step = 0.01 * (next_m / (tf.sqrt(next_v) + 1e-6) + 0.01 * w)
        steps += [tf.assign(w, w - step), tf.assign(m, next_m), tf.assign(v, next_v)]
    return tf.group(*steps)


def minimised(name: str, *args: float, **options: Any) -> Callable[..., Any]:
    return lambda tf, loss, trained: getattr(tf.train, name)(*args, **options).minimize(loss)


OPTIMIZERS: Dict[str, Tuple[Callable[..., Any], Tuple[str, ...]]] = {
    "none": (minimised("GradientDescentOptimizer", 0.1), ()),
    "momentum": (minimised("MomentumOptimizer", 0.1, 0.9), ("{}/Momentum",)),
    "nesterov": (
        minimised("MomentumOptimizer", 0.1, 0.9, use_nesterov=True),
        ("{}/Momentum",),
    ),
    "adam": (minimised("AdamOptimizer"), ("{}/Adam", "{}/Adam_1")),
    "rmsprop": (minimised("RMSPropOptimizer", 0.1), ("{}/RMSProp", "{}/RMSProp_1")),
    "centered": (
        minimised("RMSPropOptimizer", 0.1, centered=True),
        ("{}/RMSProp", "{}/RMSProp_1", "{}/RMSProp_2"),
    ),
    "adagrad": (minimised("AdagradOptimizer", 0.1), ("{}/Adagrad",)),
    "ftrl": (minimised("FtrlOptimizer", 0.1), ("{}/Ftrl", "{}/Ftrl_1")),
    "by hand": (by_hand, ("mine/{_}_speed",)),
    "by hand with squares": (by_hand_with_squares, ("{_}_m", "{_}_v")),
}


def training(optimizer: Callable[..., Any], resource: bool, shadows: bool) -> gs.Graph:
    import tensorflow as whole

    tf = whole.compat.v1
    with whole.Graph().as_default() as graph:
        tf.get_variable_scope().set_use_resource(resource)
        x = tf.placeholder(tf.float32, [None, 6, 6, 4])
        w = tf.get_variable("conv/w", [3, 3, 4, 4])
        gamma, beta = [tf.get_variable(name, [4]) for name in ("gamma", "beta")]
        mean, var = [tf.get_variable(name, [4], trainable=False) for name in ("mean", "var")]
        y = tf.nn.conv2d(x, w, strides=[1, 1, 1, 1], padding="SAME")
        y, batch_mean, batch_var = tf.nn.fused_batch_norm(y, gamma, beta, is_training=True)
        updates = [
            tf.assign_sub(moving, 0.01 * (moving - batch))
            for moving, batch in ((mean, batch_mean), (var, batch_var))
        ]
        loss = tf.reduce_mean(tf.square(y)) + 0.01 * tf.nn.l2_loss(w)
        trained = [w, gamma, beta]
        with tf.control_dependencies(updates):
            step = optimizer(tf, loss, trained)
        if shadows:
            average = tf.train.ExponentialMovingAverage(0.9, tf.train.get_or_create_global_step())
            with tf.control_dependencies([step]):
                average.apply([*trained, mean, var])
        tf.train.Saver()
        data = graph.as_graph_def(add_shapes=True).SerializeToString()
    return parse(data, "net", has_variables=True)


@pytest.mark.tf
@pytest.mark.parametrize("shadows", [False, True], ids=["plain", "averages"])
@pytest.mark.parametrize("resource", [False, True], ids=["ref", "resource"])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_companions_of_every_optimizer(name: str, resource: bool, shadows: bool) -> None:
    optimizer, slots = OPTIMIZERS[name]
    graph = training(optimizer, resource, shadows)
    expected = {}
    for one in ("conv/w", "gamma", "beta", "mean", "var"):
        names = [] if one in ("mean", "var") else list(slots)
        names += ["{}/ExponentialMovingAverage"] if shadows else []
        own = [text.replace("{_}", one.replace("/", "_")).format(one) for text in names]
        if own:
            expected[one] = tuple(sorted(own))
    found = companions(graph)
    assert {key: found[key] for key in found if key in expected} == expected
    assert set(found) == set(expected)
    assert statistics(graph) == {"mean", "var"}
    assert is_training(graph)


@pytest.mark.tf
def test_the_twin_of_a_corrected_average_goes_with_it() -> None:
    import tensorflow as whole
    from tensorflow.python.training import moving_averages

    tf = whole.compat.v1
    for resource in (False, True):
        with whole.Graph().as_default() as graph:
            tf.get_variable_scope().set_use_resource(resource)
            x = tf.placeholder(tf.float32, [None, 4])
            v = tf.get_variable("v", [4], trainable=False)
            moving_averages.assign_moving_average(v, tf.reduce_mean(x, 0), 0.9, zero_debias=True)
            data = graph.as_graph_def().SerializeToString()
        net = parse(data, "net", has_variables=True)
        assert companions(net) == {"v": ("v/biased",)}
        assert statistics(net) == {"v", "v/biased"}
        assert not is_training(net)
