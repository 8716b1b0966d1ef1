"""Trains a tiny MobileNetV2 with squeeze-and-excitation, as a training script of TF1 does.

`train` writes a checkpoint with the MetaGraph of its training graph; `train_on` trains it further,
from the MetaGraph or from the same code at the sizes of the checkpoint.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from once import made_once
from sessions import plain_config

CLASSES = 4
OUTPUT = "logits/BiasAdd"
"""The node of the network's output; its input is the placeholder `image`, 8x8x3."""

BLOCKS = ("block_0", "block_1", "block_2")
"""Inverted residuals: the first with a residual sum, the second with an SE block as well."""

OPTIMIZERS: Dict[str, Callable[[Any], Any]] = {
    "momentum": lambda tf: tf.train.MomentumOptimizer(0.01, 0.9),
    "adam": lambda tf: tf.train.AdamOptimizer(0.001),
}


def train(
    folder: Any,
    variables: str = "ref",
    optimizer: Optional[str] = None,
    averages: bool = False,
    steps: int = 3,
    name: str = "model",
    dropout: bool = False,
) -> str:
    """Trains from the beginning, and saves.

    Args:
        folder: where the checkpoint is written; made where it is not there.
        variables: "ref" (VariableV2) or "resource" (VarHandleOp).
        optimizer: a name of `OPTIMIZERS`; None for plain gradient descent, which keeps no slots.
        averages: whether a moving average of every weight is kept.
        steps: of training.
        name: of the checkpoint.
        dropout: whether there is dropout before the last layer.

    Returns:
        the checkpoint's prefix.
    """
    how = (variables, optimizer, averages, steps, dropout)
    made_once(
        f"trained {name} {how}", lambda place: _train(str(place / name), *how), Path(str(folder))
    )
    prefix = os.path.join(str(folder), name)
    state = {"model_checkpoint_path": prefix, "all_model_checkpoint_paths": prefix}
    with open(os.path.join(str(folder), "checkpoint"), "w", encoding="utf-8") as file:
        file.writelines([f'{key}: "{path}"\n' for key, path in state.items()])
    return prefix


def _train(
    prefix: str,
    variables: str,
    optimizer: Optional[str],
    averages: bool,
    steps: int,
    dropout: bool,
) -> None:
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        _training_graph(tf, variables, optimizer, averages, dropout, {})
        saver = tf.train.Saver()
        with tf.Session(graph=graph, config=plain_config(tf)) as session:
            _initialise(tf, session)
            _run(session, graph, steps)
            saver.save(session, prefix)


def train_on(prefix: str, steps: int = 2, to: Optional[str] = None, rebuild: bool = False) -> float:
    """Restores a checkpoint of `train`, trains on, and saves, as its training script would.

    Args:
        prefix: the checkpoint.
        steps: of training.
        to: where the result is saved; by default the same place.
        rebuild: whether the graph is made anew, by the code of the network at the sizes that the
            checkpoint has, and not taken from the MetaGraph.

    Returns:
        the loss after the last step.
    """
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        if rebuild:
            reader = tf.train.NewCheckpointReader(prefix)
            shapes = reader.get_variable_to_shape_map()
            _training_graph(tf, *_options(tf, prefix), shapes)
            saver = tf.train.Saver()
        else:
            saver = tf.train.import_meta_graph(prefix + ".meta")
        with tf.Session(graph=graph, config=plain_config(tf)) as session:
            saver.restore(session, prefix)
            loss = _run(session, graph, steps)
            saver.save(session, to or prefix)
    return loss


def write_inference_meta(path: Any, prefix: str) -> None:
    """Writes the MetaGraph of the network for inference alone, at the sizes of a checkpoint."""
    import tensorflow.compat.v1 as tf

    shapes = tf.train.NewCheckpointReader(prefix).get_variable_to_shape_map()
    with tf.Graph().as_default():
        image = tf.placeholder(tf.float32, [None, 8, 8, 3], "image")
        Network(tf, _options(tf, prefix)[0], False, shapes).logits(image, dropout=False)
        tf.train.Saver()
        tf.train.export_meta_graph(str(path))


def values(prefix: str) -> Dict[str, np.ndarray]:
    """Every tensor of a checkpoint by key."""
    import tensorflow.compat.v1 as tf

    reader = tf.train.NewCheckpointReader(prefix)
    return {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}


def images(count: int = 8) -> np.ndarray:
    """The images that it is trained on: float32 of [count, 8, 8, 3]."""
    return np.random.RandomState(0).uniform(-1, 1, (count, 8, 8, 3)).astype(np.float32)


class Network:
    """The network, layer by layer, with variables as `tf.get_variable` makes them.

    Args:
        tf: the `compat.v1` module.
        variables: "ref" or "resource".
        training: whether batch norms measure the batch.
        shapes: of variables by name, instead of those in the code.
    """

    def __init__(
        self, tf: Any, variables: str, training: bool, shapes: Mapping[str, Sequence[int]]
    ) -> None:
        self.tf = tf
        self.resource = {"ref": False, "resource": True}[variables]
        self.training = training
        self.shapes = shapes
        self.updates: List[Any] = []

    def variable(
        self, name: str, shape: Sequence[int], value: Optional[float] = None, trainable: bool = True
    ) -> Any:
        """A variable of the current scope; of random numbers where no value is given."""
        tf = self.tf
        scope = tf.get_variable_scope().name
        shape = self.shapes.get(f"{scope}/{name}", shape)
        if value is None:
            seed = sum(map(ord, scope))
            first = tf.glorot_uniform_initializer(seed=seed)
        else:
            first = tf.constant_initializer(value)
        return tf.get_variable(
            name, shape, initializer=first, trainable=trainable, use_resource=self.resource
        )

    def conv(self, x: Any, filters: int, kernel: int, stride: int, bias: bool = False) -> Any:
        w = self.variable("weights", [kernel, kernel, int(x.shape[-1]), filters])
        y = self.tf.nn.conv2d(x, w, strides=[1, stride, stride, 1], padding="SAME")
        return self.tf.nn.bias_add(y, self._biases(y)) if bias else y

    def depthwise(self, x: Any, stride: int) -> Any:
        w = self.variable("depthwise_weights", [3, 3, int(x.shape[-1]), 1])
        return self.tf.nn.depthwise_conv2d(x, w, strides=[1, stride, stride, 1], padding="SAME")

    def norm(self, x: Any) -> Any:
        """A fused batch norm; in training its moving statistics follow by `assign_sub`."""
        tf = self.tf
        with tf.variable_scope("BatchNorm"):
            size = [int(x.shape[-1])]
            gamma, beta = self.variable("gamma", size, 1.0), self.variable("beta", size, 0.1)
            mean = self.variable("moving_mean", size, 0.0, trainable=False)
            variance = self.variable("moving_variance", size, 1.0, trainable=False)
            if not self.training:
                return tf.nn.fused_batch_norm(
                    x, gamma, beta, mean, variance, epsilon=1e-3, is_training=False
                )[0]
            y, now, spread = tf.nn.fused_batch_norm(x, gamma, beta, epsilon=1e-3)
            for moving, measured in ((mean, now), (variance, spread)):
                self.updates.append(tf.assign_sub(moving, 0.1 * (moving - measured)))
            return y

    def block(self, x: Any, width: int, filters: int, stride: int, excite: bool = False) -> Any:
        """An inverted residual, with an SE block of a quarter of its width where asked for."""
        tf = self.tf
        with tf.variable_scope("expand"):
            y = tf.nn.relu6(self.norm(self.conv(x, width, 1, 1)))
        with tf.variable_scope("depthwise"):
            y = tf.nn.relu6(self.norm(self.depthwise(y, stride)))
        if excite:
            y = self.excite(y, width // 4)
        with tf.variable_scope("project"):
            y = self.norm(self.conv(y, filters, 1, 1))
        return tf.add(x, y, name="sum") if stride == 1 else y

    def excite(self, x: Any, width: int) -> Any:
        tf = self.tf
        with tf.variable_scope("SE"):
            pooled = tf.reduce_mean(x, [1, 2], keepdims=True)
            with tf.variable_scope("squeeze"):
                small = tf.nn.relu(self.conv(pooled, width, 1, 1, bias=True))
            with tf.variable_scope("excite"):
                gate = tf.nn.sigmoid(self.conv(small, int(x.shape[-1]), 1, 1, bias=True))
            return tf.multiply(x, gate)

    def logits(self, image: Any, dropout: bool) -> Any:
        tf = self.tf
        with tf.variable_scope("stem"):
            x = tf.nn.relu6(self.norm(self.conv(image, 8, 3, 1)))
        with tf.variable_scope("block_0"):
            x = self.block(x, 16, 8, 1)
        with tf.variable_scope("block_1"):
            x = self.block(x, 24, 8, 1, excite=True)
        with tf.variable_scope("block_2"):
            x = self.block(x, 16, 12, 2)
        with tf.variable_scope("last"):
            x = tf.nn.relu6(self.norm(self.conv(x, 24, 1, 1)))
        x = tf.reduce_mean(x, [1, 2])
        if dropout and self.training:
            x = tf.nn.dropout(x, rate=0.2, seed=1)
        with tf.variable_scope("logits"):
            y = tf.matmul(x, self.variable("weights", [int(x.shape[-1]), CLASSES]))
            return tf.nn.bias_add(y, self._biases(y), name="BiasAdd")

    def _biases(self, y: Any) -> Any:
        return self.variable("biases", [int(y.shape[-1])], 0.05)


def _training_graph(
    tf: Any,
    variables: str,
    optimizer: Optional[str],
    averages: bool,
    dropout: bool,
    shapes: Mapping[str, Sequence[int]],
) -> None:
    """Builds what a training script does; the ops are found by name: `loss`, `train_op`."""
    image = tf.placeholder(tf.float32, [None, 8, 8, 3], "image")
    label = tf.placeholder(tf.int64, [None], "label")
    net = Network(tf, variables, True, shapes)
    step = tf.get_variable(
        "global_step", [], tf.int64, tf.zeros_initializer(), trainable=False,
        use_resource=net.resource,
        collections=[tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.GLOBAL_STEP],
    )  # fmt: skip
    logits = net.logits(image, dropout)
    terms = [
        tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label, logits=logits))
    ]
    weights = [one for one in tf.trainable_variables() if "weights" in one.op.name]
    terms += [1e-4 * tf.nn.l2_loss(one) for one in weights]
    loss = tf.add_n(terms, name="loss")
    tf.summary.scalar("loss_now", loss)
    make = OPTIMIZERS[optimizer] if optimizer else lambda tf: tf.train.GradientDescentOptimizer(0.1)
    with tf.control_dependencies(net.updates):
        ops = [make(tf).minimize(loss, global_step=step)]
    if averages:
        with tf.control_dependencies(ops):
            ops = [tf.train.ExponentialMovingAverage(0.9).apply(tf.trainable_variables())]
    tf.group(*ops, name="train_op")


def _options(tf: Any, prefix: str) -> Tuple[str, Optional[str], bool, bool]:
    """What `train` was asked for, as its MetaGraph and the keys of its checkpoint tell."""
    found = tf.MetaGraphDef()
    with open(prefix + ".meta", "rb") as file:
        found.ParseFromString(file.read())
    ops = {node.op for node in found.graph_def.node}
    keys = {key.split("/")[-1] for key in values(prefix)}
    optimizer = "adam" if "Adam" in keys else "momentum" if "Momentum" in keys else None
    dropout = any("dropout" in node.name for node in found.graph_def.node)
    variables = "resource" if "VarHandleOp" in ops else "ref"
    return variables, optimizer, "ExponentialMovingAverage" in keys, dropout


def _initialise(tf: Any, session: Any) -> None:
    """Averages come last: current TensorFlow reads a ref variable for them before it is there."""
    shadows = [one for one in tf.global_variables() if "ExponentialMovingAverage" in one.op.name]
    others = [
        one for one in tf.global_variables() if one.op.name not in {s.op.name for s in shadows}
    ]
    session.run(tf.variables_initializer(others))
    session.run(tf.variables_initializer(shadows))


def _run(session: Any, graph: Any, steps: int) -> float:
    """Runs the train op on the same images again and again; gives the loss after it."""
    feeds = {"image:0": images(), "label:0": np.arange(8) % CLASSES}
    train_op = graph.get_operation_by_name("train_op")
    for _ in range(steps):
        session.run(train_op, feeds)
    return float(session.run("loss:0", feeds))
