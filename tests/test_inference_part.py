"""The inference part of training graphs: it computes what the same code builds for inference."""

from __future__ import annotations

import zlib
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

import numpy as np
import pytest

import graphslim as gs
from graphslim.checkpoint.inference import inference_part, is_training, output_candidates
from graphslim.checkpoint.roles import statistics
from graphslim.errors import LoadError
from graphslim.graphdef import parse
from graphslim.graphdef.freeze import freeze
from graphslim.testing import assert_equivalent, assert_text, from_text

Network = Callable[[Any, Any, Any], Any]
"""A network from compat.v1, the image and whether to train (bool or a placeholder) to logits."""

# ------------------------------------------------------------------- patterns, without TensorFlow

X = "x = Placeholder() dtype=float32 shape=<?,4>\n"
DRAWN = "sh = Shape(x) T=float32\nu = RandomUniform(sh) dtype=float32\n"


def number(name: str, value: float) -> str:
    return f"{name} = Const() dtype=float32 value=float32[]{{{value}}}\n"


DROPOUTS: Dict[str, str] = {
    "current": number("rate", 0.25)
    + number("scale", 1 / 0.75)
    + number("zero", 0)
    + "ge = GreaterEqual(u, rate)\nm = Mul(x, scale) T=float32\n"
    + "y = SelectV2(ge, m, zero) T=float32\n",
    "cast": number("rate", 0.5)
    + number("scale", 2)
    + "ge = GreaterEqual(u, rate)\nc = Cast(ge) SrcT=bool DstT=float32\n"
    + "m = Mul(x, scale) T=float32\ny = Mul(m, c) T=float32\n",
    "computed": number("rate", 0.1)
    + number("one", 1)
    + "keep = Sub(one, rate)\nscale = RealDiv(one, keep)\nge = GreaterEqual(u, rate)\n"
    + "c = Cast(ge) SrcT=bool DstT=float32\nm = Mul(x, scale) T=float32\ny = Mul(m, c) T=float32\n",
    "floor": number("keep", 0.8)
    + "a = Add(keep, u)\nf = Floor(a)\nd = RealDiv(x, keep) T=float32\ny = Mul(d, f) T=float32\n",
    "fed": "keep = Placeholder() dtype=float32 shape=<*>\n"
    + "a = Add(keep, u)\nf = Floor(a)\nd = RealDiv(x, keep) T=float32\ny = Mul(d, f) T=float32\n",
    "scaled after": number("rate", 0.5)
    + number("scale", 2)
    + "ge = GreaterEqual(u, rate)\nc = Cast(ge) SrcT=bool DstT=float32\n"
    + "m = Mul(x, c) T=float32\ny = Mul(m, scale) T=float32\n",
    "scaled mask": number("keep", 0.5)
    + "a = Add(u, keep)\nf = Floor(a)\nd = Div(f, keep)\ny = Mul(x, d) T=float32\n",
}


@pytest.mark.parametrize("name", sorted(DROPOUTS))
def test_dropout_in_every_spelling(name: str) -> None:
    part = inference_part(
        from_text(X + DRAWN + DROPOUTS[name] + "z = Relu(y) T=float32"), None, "z"
    )
    assert_text(part, X + "z = Relu(x) T=float32\noutput z")
    assert part.inputs == ["x"]


def test_a_dropout_that_is_the_output() -> None:
    part = inference_part(from_text(X + DRAWN + DROPOUTS["cast"]), None, ["y"])
    assert_text(part, X + "y = Identity(x) T=float32\noutput y")


def test_a_factor_before_a_dropout_stays() -> None:
    text = X + number("three", 3) + "t = Mul(x, three) T=float32\n"
    text += (DRAWN + DROPOUTS["cast"]).replace("Mul(x, scale)", "Mul(t, scale)")
    part = inference_part(from_text(text + "z = Relu(y) T=float32"), None, ["z"])
    assert part.data_inputs("z") == (gs.Port("t"),)
    assert "u" not in part


@pytest.mark.parametrize(
    "text",
    [
        DRAWN + "y = AddV2(x, u) T=float32",
        DRAWN + "y = Mul(x, u) T=float32",
        DRAWN + DROPOUTS["cast"].replace("{2}", "{3}"),
        DRAWN.replace("RandomUniform", "RandomStandardNormal") + DROPOUTS["cast"],
    ],
)
def test_other_random_numbers_are_refused(text: str) -> None:
    with pytest.raises(LoadError, match="node u: .*random.*inputs.*inference_meta"):
        inference_part(from_text(X + text), None, ["y"])


def test_a_training_batch_norm_without_statistics_is_refused() -> None:
    empty = "e = Const() dtype=float32 value=float32[0]{}\n"
    one = "g = Const() dtype=float32 value=float32[4]{1}\n"
    image = "x = Placeholder() dtype=float32 shape=<?,2,2,4>\n"
    fused = "b = FusedBatchNormV3(x, g, g, e, e) T=float32 is_training=true"
    with pytest.raises(LoadError, match="node b: .*kept nowhere.*inference_meta"):
        inference_part(from_text(image + one + empty + fused), None, ["b"])


def test_an_average_of_what_is_no_batch_statistic_stands_for_nothing() -> None:
    text = """
        x = Placeholder() dtype=float32 shape=<2,3,4>
        axes = Const() dtype=int32 value=int32[1]{1}
        pooled = Mean(x, axes) T=float32
        v = VariableV2() dtype=float32 shape=<2,4>
        d = Const() dtype=float32 value=float32[]{0.1}
        s = Sub(v, pooled)
        p = Mul(s, d)
        u = AssignSub(v, p)
        y = Relu(pooled) T=float32
    """
    part = inference_part(from_text(text), None, ["y"])
    assert part.data_inputs("y") == (gs.Port("pooled"),)


def test_pipelines_become_placeholders_of_their_shape() -> None:
    text = """
        it = IteratorV2()
        next = IteratorGetNext(it) output_types=[float32,int32] output_shapes=[<?,4>,<?>]
        y = Relu(next) T=float32
        labels = Identity(next:1) T=int32
    """
    part = inference_part(from_text(text), None, ["y"])
    assert part.inputs == ["next"]
    node = part["next"]
    assert (node.op, node.attrs["dtype"]) == ("Placeholder", gs.DType.float32)
    assert node.attrs["shape"] == gs.Shape((None, 4))


def test_a_second_port_gets_a_name_of_its_own() -> None:
    text = """
        it = IteratorV2()
        next = IteratorGetNext(it) output_types=[int32,float32] output_shapes=[<?>,<?,4>]
        y = Relu(next:1) T=float32
    """
    part = inference_part(from_text(text), None, ["y"])
    assert part.inputs == ["next_1"] and "next" not in part
    assert part["next_1"].attrs["shape"] == gs.Shape((None, 4))


def test_given_inputs_become_placeholders() -> None:
    text = X + "a = Relu(x) T=float32\nb = Neg(a) T=float32"
    part = inference_part(from_text(text), ["a:0"], ["b"])
    assert_text(part, "a = Placeholder() dtype=float32 shape=<*>\nb = Neg(a) T=float32")
    with pytest.raises(LoadError, match="no node 'nowhere'"):
        inference_part(from_text(text), ["nowhere"], ["b"])


def test_decoding_of_a_fed_string_stays() -> None:
    text = "s = Placeholder() dtype=string\nd = DecodeJpeg(s)\ny = Relu(d) T=uint8"
    assert inference_part(from_text(text), None, ["y"]).inputs == ["s"]
    text = 'n = Const() dtype=string value=string[]{"f"}\n' + text.split("\n", 1)[1]
    text = "s = ReadFile(n)\n" + text
    assert inference_part(from_text(text), None, ["y"]).inputs == ["d"]


@pytest.mark.parametrize("phase", ["Placeholder() dtype=bool shape=<>", "Placeholder() dtype=bool"])
def test_learning_phases_are_off(phase: str) -> None:
    text = (
        X + f"p = {phase}\nsw = Switch(p, p)\npivot = Identity(sw:1)\nid = Identity(p) T=bool\n"
        "s = Switch(x, id) T=float32\nn = Exp(s:1, ^pivot) T=float32\n"
        "r = Relu(s) T=float32\nm = Merge(r, n) N=2 T=float32\n"
    )
    part = inference_part(from_text(text), None, ["m"])
    assert_text(part, X + "r = Relu(x) T=float32\nm = Identity(r) T=float32\noutput m")
    kept = inference_part(from_text(text), ["x", "p"], ["m"])
    assert {node.op for node in kept} >= {"Switch", "Merge"}


def test_a_truth_value_that_is_calculated_with_stays_an_input() -> None:
    text = X + (
        "p = Placeholder() dtype=bool shape=<>\nc = Cast(p) SrcT=bool DstT=float32\n"
        "y = Mul(x, c) T=float32"
    )
    assert inference_part(from_text(text), None, ["y"]).inputs == ["x", "p"]


# ---------------------------------------------------------------- networks that TensorFlow builds


def variable(tf: Any, name: str, shape: Sequence[int], trainable: bool = True) -> Any:
    return tf.get_variable(name, shape, initializer=tf.zeros_initializer(), trainable=trainable)


def convolved(tf: Any, x: Any, name: str, width: int) -> Any:
    with tf.variable_scope(name):
        w = variable(tf, "w", [3, 3, int(x.shape[3]), width])
        return tf.nn.conv2d(x, w, strides=[1, 2, 2, 1], padding="SAME")


def pooled(tf: Any, x: Any, classes: int = 5) -> Any:
    y = tf.reduce_mean(x, [1, 2])
    return tf.matmul(y, variable(tf, "dense", [int(x.shape[3]), classes]), name="logits")


def averaged(tf: Any, moving: Any, value: Any) -> Any:
    return tf.assign_sub(moving, (moving - value) * 0.1)


def vectors(tf: Any, width: int) -> Any:
    found = [variable(tf, name, [width]) for name in ("gamma", "beta")]
    return found + [variable(tf, name, [width], False) for name in ("mean", "variance")]


def fused(tf: Any, x: Any, training: Any) -> Any:
    with tf.variable_scope("norm"):
        gamma, beta, mean, var = vectors(tf, int(x.shape[3]))
        if not training:
            return tf.nn.fused_batch_norm(x, gamma, beta, mean, var, is_training=False)[0]
        y, batch_mean, batch_var = tf.nn.fused_batch_norm(x, gamma, beta, is_training=True)
        tf.add_to_collection("updates", averaged(tf, mean, batch_mean))
        tf.add_to_collection("updates", tf.assign(var, var * 0.9 + batch_var * (1 - 0.9)))
        return y


def unfused(tf: Any, x: Any, training: Any) -> Any:
    with tf.variable_scope("norm"):
        gamma, beta, mean, var = vectors(tf, int(x.shape[3]))
        if training:
            batch_mean, batch_var = tf.nn.moments(x, [0, 1, 2])
            tf.add_to_collection("updates", averaged(tf, mean, batch_mean))
            tf.add_to_collection("updates", tf.assign_add(var, 0.1 * (batch_var - var)))
            mean, var = batch_mean, batch_var
        return tf.nn.batch_normalization(x, mean, var, beta, gamma, 1e-3)


def unfused_wide(tf: Any, x: Any, training: Any) -> Any:
    """The mean of the batch is used before it is squeezed for the moving average."""
    with tf.variable_scope("norm"):
        gamma, beta, mean, var = vectors(tf, int(x.shape[3]))
        if training:
            wide = tf.reduce_mean(x, [0, 1, 2], keepdims=True)
            deviation = tf.reduce_mean(tf.square(x - wide), [0, 1, 2], keepdims=True)
            for moving, batch in ((mean, wide), (var, deviation)):
                tf.add_to_collection("updates", averaged(tf, moving, tf.squeeze(batch)))
            mean, var = wide, deviation
        return (x - mean) / tf.sqrt(var + 1e-3) * gamma + beta


def by_average_class(tf: Any, x: Any, training: Any) -> Any:
    """Batch norm of TF1 tutorials: an ExponentialMovingAverage of the moments, and tf.cond."""
    with tf.variable_scope("norm"):
        gamma, beta = vectors(tf, int(x.shape[3]))[:2]
        batch = tf.nn.moments(x, [0, 1, 2], name="moments")
        average = tf.train.ExponentialMovingAverage(decay=0.5)

        def update() -> Any:
            with tf.control_dependencies([average.apply(batch)]):
                return tf.identity(batch[0]), tf.identity(batch[1])

        def kept() -> Any:
            return average.average(batch[0]), average.average(batch[1])

        average.apply(batch)
        if isinstance(training, bool):
            mean, var = update() if training else kept()
        else:
            mean, var = tf.cond(training, update, kept)
        return tf.nn.batch_normalization(x, mean, var, beta, gamma, 1e-3)


def simple(norm: Network, dropout: Optional[str] = None) -> Network:
    def network(tf: Any, x: Any, training: Any) -> Any:
        y = tf.nn.relu(norm(tf, convolved(tf, x, "first", 8), training))
        if dropout == "rate" and training is not False:
            y = tf.nn.dropout(y, rate=0.3)
        if dropout == "keep_prob" and training is not False:
            y = tf.nn.dropout(y, keep_prob=0.6)
        if dropout == "channels" and training is not False:
            y = tf.nn.dropout(y, rate=0.3, noise_shape=[tf.shape(y)[0], 1, 1, 8])
        if dropout == "fed" and training is not False:
            y = tf.nn.dropout(y, rate=tf.placeholder(tf.float32, name="rate"))
        return pooled(tf, tf.nn.relu(convolved(tf, y, "second", 6)))

    return network


def conditional(tf: Any, x: Any, training: Any) -> Any:
    y = convolved(tf, x, "first", 8)
    with tf.variable_scope("norm"):
        gamma, beta, mean, var = vectors(tf, 8)

        def trained() -> Any:
            out, batch_mean, batch_var = tf.nn.fused_batch_norm(y, gamma, beta, is_training=True)
            return out, batch_mean, batch_var

        def kept() -> Any:
            out = tf.nn.fused_batch_norm(y, gamma, beta, mean, var, is_training=False)[0]
            return out, tf.identity(mean), tf.identity(var)

        if training is False:
            y = kept()[0]
        else:
            y, new_mean, new_var = tf.cond(training, trained, kept)
            tf.add_to_collection("updates", averaged(tf, mean, new_mean))
            tf.add_to_collection("updates", averaged(tf, var, new_var))
            y = tf.cond(training, lambda: tf.nn.dropout(y, rate=0.5), lambda: tf.identity(y))
    return pooled(tf, tf.nn.relu(y))


def layers(tf: Any, x: Any, training: Any, **options: Any) -> Any:
    y = tf.layers.conv2d(x, 8, 3, activation=None, name="conv")
    y = tf.nn.relu(tf.layers.batch_normalization(y, training=training, name="bn", **options))
    y = tf.layers.dropout(y, 0.4, training=training)
    y = tf.layers.separable_conv2d(y, 6, 3, name="sep")
    y = tf.layers.batch_normalization(y, training=training, name="bn2", **options)
    return tf.layers.dense(tf.layers.flatten(tf.nn.relu(y)), 5, name="dense")


def slim_network(tf: Any, x: Any, training: Any, **params: Any) -> Any:
    import tensorflow as whole

    slim = whole.contrib.slim
    params = {"is_training": training, "decay": 0.9, **params}
    with slim.arg_scope([slim.conv2d], normalizer_fn=slim.batch_norm, normalizer_params=params):
        y = slim.conv2d(x, 8, 3, stride=2, scope="one")
        y = slim.dropout(y, 0.7, is_training=training)
        y = slim.conv2d(y, 6, 3, scope="two")
    return slim.conv2d(y, 5, 1, activation_fn=None, normalizer_fn=None, scope="logits")


def keras_network(tf: Any, x: Any, training: Any) -> Any:
    keras = tf.keras.layers
    y = keras.Conv2D(8, 3, name="conv")(x)
    y = keras.BatchNormalization(name="bn")(y, training=training)
    y = keras.Dropout(0.4)(keras.ReLU(6.0)(y), training=training)
    return keras.Dense(5, name="dense")(keras.GlobalAveragePooling2D()(y))


NETWORKS: Dict[str, Network] = {
    "fused": simple(fused, "rate"),
    "unfused": simple(unfused, "channels"),
    "unfused wide": simple(unfused_wide, "fed"),
    "average class": simple(by_average_class, "rate"),
    "conditional": conditional,
    "conditional average class": simple(by_average_class),
}
FIRST: Dict[str, Network] = {
    "keep_prob": simple(fused, "keep_prob"),
    "layers": layers,
    "layers conditional": layers,
    "layers unfused": lambda tf, x, training: layers(tf, x, training, fused=False),
    "layers unfused conditional": lambda tf, x, training: layers(tf, x, training, fused=False),
    "slim": slim_network,
    "slim conditional": slim_network,
    "slim unfused": lambda tf, x, training: slim_network(tf, x, training, fused=False),
    "slim corrected": lambda tf, x, training: slim_network(
        tf, x, training, zero_debias_moving_mean=True, scale=True
    ),
    "slim in place": lambda tf, x, training: slim_network(
        tf, x, training, updates_collections=None
    ),
    "keras": keras_network,
    "keras conditional": keras_network,
}
"""Networks of libraries that only TensorFlow 1 has."""


def built(
    network: Network, training: Any, resource: bool, conditional: bool = False, fit: bool = True
) -> gs.Graph:
    """The graph of a training (with a loss and Momentum), or the same code for inference."""
    import tensorflow as whole

    tf = whole.compat.v1
    with whole.Graph().as_default() as graph:
        tf.get_variable_scope().set_use_resource(resource)
        x = tf.placeholder(tf.float32, [None, 16, 16, 3], name="x")
        if conditional and training:
            training = tf.placeholder(tf.bool, name="training")
        logits = tf.identity(network(tf, x, training), name="out")
        if training is not False and fit:
            labels = tf.placeholder(tf.int32, [None], name="labels")
            flat = tf.reshape(tf.reduce_mean(tf.reshape(logits, [-1, 1, 5]), 1), [-1, 5])
            loss = tf.losses.sparse_softmax_cross_entropy(labels, flat)
            updates = tf.get_collection("updates") + tf.get_collection(tf.GraphKeys.UPDATE_OPS)
            with tf.control_dependencies(updates):
                tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
            tf.train.Saver()
        data = graph.as_graph_def(add_shapes=True).SerializeToString()
    return parse(data, "net", inline=True, outputs=["out"], has_variables=True)


def values(graph: gs.Graph) -> Callable[[Sequence[str]], Mapping[str, np.ndarray]]:
    """Random values of variables, the same for the same name."""

    def give(names: Sequence[str]) -> Mapping[str, np.ndarray]:
        found = {}
        for name in names:
            shape = graph[name].attrs["shape"].dims
            rng = np.random.RandomState(zlib.crc32(name.encode()) % 2**31)
            low, high = (-0.5, 0.5)
            if any(word in name.lower() for word in ("var", "moments/squeeze_1")):
                low, high = 0.5, 1.5
            found[name] = rng.uniform(low, high, shape).astype(np.float32)
        return found

    return give


def check(network: Network, resource: bool, conditional: bool) -> None:
    trained = built(network, True, resource, conditional)
    plain = built(network, False, resource)
    part = inference_part(trained, None, ["out"])
    assert part.inputs == ["x"]
    left = {node.op for node in part}
    assert not left & {"Switch", "Merge", "If", "StatelessIf", "RandomUniform"}, left
    assert is_training(trained) and not is_training(plain)
    expected = inference_part(plain, None, ["out"])
    assert_equivalent(
        freeze(expected, values(plain)), freeze(part, values(trained)), tolerance=1e-6
    )
    moving = [name for name in statistics(trained) if "biased" not in name]
    assert sorted(moving) == sorted(statistics(plain))


@pytest.mark.tf
@pytest.mark.parametrize("resource", [False, True], ids=["ref", "resource"])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_part_is_what_is_built_for_inference(name: str, resource: bool) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    is_first = tensorflow.__version__.startswith("1.")
    if name == "conditional average class" and not resource and not is_first:
        pytest.skip("a function of TensorFlow 2 cannot assign to a reference")
    check(NETWORKS[name], resource, "conditional" in name)


@pytest.mark.tf
@pytest.mark.parametrize("resource", [False, True], ids=["ref", "resource"])
@pytest.mark.parametrize("name", sorted(FIRST))
def test_the_libraries_of_the_first_tensorflow(name: str, resource: bool) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    if not tensorflow.__version__.startswith("1."):
        pytest.skip("tf.layers, contrib and Keras of TensorFlow 1")
    check(FIRST[name], resource or name.startswith("keras"), "conditional" in name)


@pytest.mark.tf
@pytest.mark.parametrize("loss", ["sparse", "softmax", "sigmoid", "squares", "absolute"])
def test_output_candidates_and_an_iterator(loss: str) -> None:
    import tensorflow as whole

    tf = whole.compat.v1
    with whole.Graph().as_default() as graph:
        images = np.zeros((4, 16, 16, 3), np.float32)
        data = tf.data.Dataset.from_tensor_slices((images, np.zeros((4, 5), np.float32)))
        x, labels = tf.data.make_one_shot_iterator(data.batch(2)).get_next()
        logits = simple(fused, "rate")(tf, x, True)
        out = tf.nn.softmax(logits, name="probabilities")
        flat = tf.reshape(logits, [-1, 5])
        if loss == "sparse":
            classes = tf.argmax(labels, 1)
            value = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=classes, logits=flat)
        elif loss == "softmax":
            value = tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=flat)
        elif loss == "sigmoid":
            value = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=flat)
        elif loss == "squares":
            value = tf.losses.mean_squared_error(labels, out)
        else:
            value = tf.abs(labels - out)
        with tf.control_dependencies(tf.get_collection("updates")):
            tf.train.AdamOptimizer().minimize(tf.reduce_mean(value))
        net = parse(graph.as_graph_def().SerializeToString(), "net", has_variables=True)
    candidates = output_candidates(net)
    name = "probabilities" if loss in ("squares", "absolute") else "logits"
    assert candidates[0] == name and len(candidates) <= 5
    part = inference_part(net, None, [name])
    assert part.inputs == ["IteratorGetNext"]
    node = part["IteratorGetNext"]
    assert node.op == "Placeholder" and node.attrs["shape"] == gs.Shape((None, 16, 16, 3))
