"""A small MobileNetV2 with squeeze-and-excitation blocks, and how it is trained.

Written as TensorFlow 1 networks are: plain ops, variables by `get_variable`, one graph. Nothing
in it knows of graphslim. It runs in TensorFlow 1.15 and, through `compat.v1`, in current ones.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

CLASSES = 10
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4
L1_STRENGTH = 1e-3
STATISTICS_DECAY = 0.95


class Block(NamedTuple):
    """An inverted residual block.

    Attributes:
        hidden: its width, inside; this is what is pruned.
        out: its width, outside.
        stride: of its depthwise convolution.
        gated: whether it holds a squeeze-and-excitation block.
    """

    hidden: int
    out: int
    stride: int
    gated: bool


STEM = 16
LAST = 96
BLOCKS = (
    Block(64, 16, 1, False),
    Block(96, 24, 2, True),
    Block(144, 24, 1, True),
    Block(144, 32, 2, True),
    Block(192, 32, 1, True),
)


def logits(images: Any, training: bool) -> Any:
    """The network: images [batch, 32, 32, 1] to logits [batch, 10]."""
    x = conv(images, STEM, "stem", training, kernel=3, stride=2)
    for number, block in enumerate(BLOCKS, 1):
        with tf.variable_scope(f"block_{number}"):
            x = inverted_residual(x, block, training)
    x = conv(x, LAST, "last", training)
    x = tf.reduce_mean(x, axis=[1, 2], name="pool")
    with tf.variable_scope("logits"):
        return tf.nn.bias_add(tf.matmul(x, weights([LAST, CLASSES], LAST)), bias(CLASSES))


def inverted_residual(x: Any, block: Block, training: bool) -> Any:
    """Widens, filters each channel, gates, projects; adds the input where the shapes agree."""
    y = conv(x, block.hidden, "expand", training)
    y = depthwise(y, block.stride, training)
    if block.gated:
        y = squeeze_excite(y)
    y = conv(y, block.out, "project", training, activation=False)
    return tf.add(x, y, name="add") if x.shape[1:] == y.shape[1:] else y


def conv(
    x: Any, out: int, scope: str, training: bool, kernel: int = 1, stride: int = 1, activation=True
) -> Any:
    """A convolution, batch norm and, if asked, ReLU6."""
    with tf.variable_scope(scope):
        channels = int(x.shape[-1])
        w = weights([kernel, kernel, channels, out], kernel * kernel * channels)
        x = batch_norm(tf.nn.conv2d(x, w, strides=[1, stride, stride, 1], padding="SAME"), training)
        return tf.nn.relu6(x) if activation else x


def depthwise(x: Any, stride: int, training: bool) -> Any:
    """A 3x3 filter for each channel, batch norm and ReLU6."""
    with tf.variable_scope("depthwise"):
        w = weights([3, 3, int(x.shape[-1]), 1], 9)
        x = tf.nn.depthwise_conv2d(x, w, strides=[1, stride, stride, 1], padding="SAME")
        return tf.nn.relu6(batch_norm(x, training))


def squeeze_excite(x: Any) -> Any:
    """Scales each channel by a gate that is computed from all of them."""
    with tf.variable_scope("squeeze_excite"):
        channels = int(x.shape[-1])
        y = tf.reduce_mean(x, axis=[1, 2], keepdims=True)
        y = tf.nn.relu(conv_with_bias(y, channels // 4, "squeeze"))
        return x * tf.nn.sigmoid(conv_with_bias(y, channels, "excite"))


def conv_with_bias(x: Any, out: int, scope: str) -> Any:
    """A 1x1 convolution with a bias."""
    with tf.variable_scope(scope):
        channels = int(x.shape[-1])
        w = weights([1, 1, channels, out], channels)
        return tf.nn.bias_add(tf.nn.conv2d(x, w, strides=[1, 1, 1, 1], padding="SAME"), bias(out))


def batch_norm(x: Any, training: bool) -> Any:
    """Batch norm; in training, the updates of its moving statistics join `UPDATE_OPS`."""
    with tf.variable_scope("batch_norm"):
        size = [int(x.shape[-1])]
        gamma = tf.get_variable("gamma", size, initializer=tf.ones_initializer())
        beta = tf.get_variable("beta", size, initializer=tf.zeros_initializer())
        mean = tf.get_variable("moving_mean", size, None, tf.zeros_initializer(), trainable=False)
        variance = tf.get_variable(
            "moving_variance", size, None, tf.ones_initializer(), trainable=False
        )
        if not training:
            return tf.nn.fused_batch_norm(x, gamma, beta, mean, variance, is_training=False)[0]
        x, batch_mean, batch_variance = tf.nn.fused_batch_norm(x, gamma, beta)
        for moving, now in ((mean, batch_mean), (variance, batch_variance)):
            update = tf.assign_sub(moving, (1 - STATISTICS_DECAY) * (moving - now))
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
        return x


def weights(shape: list, inputs: int) -> Any:
    """A weight variable with He's initial values."""
    initial = tf.truncated_normal_initializer(stddev=math.sqrt(2.0 / inputs))
    return tf.get_variable("weights", shape, initializer=initial)


def bias(size: int) -> Any:
    """A bias variable."""
    return tf.get_variable("bias", [size], initializer=tf.zeros_initializer())


def loss_of(outputs: Any, labels: Any) -> Any:
    """Cross entropy, weight decay, and an L1 penalty on the convolutions that graphslim scores.

    Pruning works without the penalty, too. With it, weights that matter little sink towards zero,
    so that there is more that can go: see the README of this folder.
    """
    kernels = [v for v in tf.trainable_variables() if v.op.name.endswith("weights")]
    scored = [v for v in kernels if v.op.name.endswith(("expand/weights", "squeeze/weights"))]
    decay = WEIGHT_DECAY * tf.add_n([tf.nn.l2_loss(v) for v in kernels])
    penalty = L1_STRENGTH * tf.add_n([tf.reduce_sum(tf.abs(v)) for v in scored])
    return tf.losses.sparse_softmax_cross_entropy(labels, outputs) + decay + penalty


def train_op_of(loss: Any, rate: Any, global_step: Any) -> Any:
    """One step: momentum, and the moving statistics of the batch norms."""
    optimizer = tf.train.MomentumOptimizer(rate, MOMENTUM)
    # All gradients before the first update, so that none is of weights half updated.
    all_first = tf.train.Optimizer.GATE_GRAPH
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        return optimizer.minimize(loss, global_step, gate_gradients=all_first)


def rate_at(step: Any, steps: int, rate: float) -> Any:
    """The learning rate at a step, of so many: a short rise, then half a cosine down to zero."""
    done = tf.cast(step, tf.float32) / steps
    return rate * tf.minimum(1.0, 10 * done + 0.01) * 0.5 * (1 + tf.cos(math.pi * done))


def one_thread() -> Any:
    """Settings of a session that takes its sums in the same order every time."""
    return tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
