"""Training graphs of small networks, which TensorFlow builds at any widths, for tests of narrowing.

A network is a function from TensorFlow, a `Layers` and the images to the logits.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence

import numpy as np

CLASSES = 3
SIZE = 8
"""Height and width of the images, which have 3 channels."""


class Setting(NamedTuple):
    """How a network is trained.

    Attributes:
        optimizer: a key of `OPTIMIZERS`.
        resource: whether variables are of the newer flavour.
        batch: the batch size that the placeholder states; None for any.
        average: whether moving averages of the weights are kept.
        penalty: a key of `PENALTIES`, or None.
        clip: whether gradients are clipped by their global norm.
    """

    optimizer: str = "momentum"
    resource: bool = False
    batch: Optional[int] = None
    average: bool = False
    penalty: Optional[str] = None
    clip: bool = False


class Layers:
    """Layers whose weights are variables; `widths` says how wide each is.

    Args:
        tf: TensorFlow 1, or `compat.v1`.
        widths: by name of a layer; a layer asks for its width by `width(name)`.
        resource: whether variables are of the newer flavour.
    """

    def __init__(self, tf: Any, widths: Dict[str, int], resource: bool = False) -> None:
        self.tf, self._widths, self._resource = tf, widths, resource
        self.updates = []  # type: list[Any]

    def width(self, name: str) -> int:
        """How wide a layer is."""
        return self._widths[name]

    def variable(
        self, name: str, shape: Sequence[int], start: Any = None, train: bool = True
    ) -> Any:
        """A variable; its values are drawn at random, or all `start`."""
        tf = self.tf
        draw = tf.truncated_normal_initializer(stddev=0.3, seed=1)
        initializer = draw if start is None else tf.constant_initializer(start)
        return tf.get_variable(
            name, shape, tf.float32, initializer, trainable=train, use_resource=self._resource
        )

    def conv(self, x: Any, name: str, width: int, size: int = 3, stride: int = 1) -> Any:
        """A convolution without bias."""
        kernel = self.variable(f"{name}/w", [size, size, int(x.shape[3]), width])
        return self.tf.nn.conv2d(x, kernel, [1, stride, stride, 1], "SAME", name=name)

    def depthwise(self, x: Any, name: str, times: int = 1) -> Any:
        """A depthwise convolution."""
        kernel = self.variable(f"{name}/w", [3, 3, int(x.shape[3]), times])
        return self.tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME", name=name)

    def dense(self, x: Any, name: str, width: int) -> Any:
        """A matrix product with a bias."""
        kernel = self.variable(f"{name}/w", [int(x.shape[1]), width])
        product = self.tf.matmul(x, kernel, name=name)
        return self.tf.nn.bias_add(product, self.variable(f"{name}/b", [width], 0.0))

    def bias(self, x: Any, name: str) -> Any:
        """A bias."""
        return self.tf.nn.bias_add(x, self.variable(f"{name}/b", [int(x.shape[-1])], 0.1))

    def norm(self, x: Any, name: str, fused: bool = True) -> Any:
        """Batch norm by the statistics of the batch, which it also averages."""
        tf, width = self.tf, int(x.shape[-1])
        gamma = self.variable(f"{name}/gamma", [width], 1.0)
        beta = self.variable(f"{name}/beta", [width], 0.1)
        means = self.variable(f"{name}/mean", [width], 0.0, False)
        variances = self.variable(f"{name}/variance", [width], 1.0, False)
        if fused:
            y, mean, variance = tf.nn.fused_batch_norm(x, gamma, beta, epsilon=1e-3, name=name)
        else:
            mean, variance = tf.nn.moments(x, [0, 1, 2])
            y = tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3, name=name)
        for old, new in ((means, mean), (variances, variance)):
            self.updates.append(tf.assign_sub(old, (old - new) * 0.1))
        return y


Network = Callable[[Any, Layers, Any], Any]


def mobile(tf: Any, layers: Layers, x: Any) -> Any:
    """An inverted residual with squeeze-and-excitation and a residual sum."""
    x = tf.nn.relu6(layers.norm(layers.conv(x, "stem", layers.width("stem")), "stem_bn"))
    y = layers.conv(x, "expand", layers.width("expand"), 1)
    y = tf.nn.relu6(layers.norm(y, "expand_bn"))
    y = tf.nn.relu6(layers.norm(layers.depthwise(y, "deep"), "deep_bn"))
    pooled = tf.reduce_mean(y, [1, 2], keepdims=True)
    gate = layers.bias(layers.conv(pooled, "squeeze", layers.width("squeeze"), 1), "squeeze")
    gate = layers.bias(layers.conv(tf.nn.relu(gate), "excite", int(y.shape[3]), 1), "excite")
    y = y * tf.sigmoid(gate)
    y = layers.norm(layers.conv(y, "project", int(x.shape[3]), 1), "project_bn") + x
    return layers.dense(tf.reduce_mean(y, [1, 2]), "head", CLASSES)


def plain(tf: Any, layers: Layers, x: Any) -> Any:
    """Unfused batch norm, both pools, flattening, a dense SE block and dropout."""
    x = layers.norm(layers.conv(x, "a", layers.width("a")), "a_bn", fused=False)
    x = tf.nn.max_pool(tf.nn.elu(x), [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    x = tf.nn.leaky_relu(layers.bias(layers.conv(x, "b", layers.width("b")), "b"))
    gate = layers.dense(tf.reduce_mean(x, [1, 2]), "in", layers.width("in"))
    gate = layers.dense(tf.nn.tanh(gate), "out", int(x.shape[3]))
    x = x * tf.reshape(tf.nn.softplus(gate), [-1, 1, 1, int(x.shape[3])])
    x = tf.nn.avg_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
    flat = tf.reshape(x, [-1, 4 * int(x.shape[3])])
    hidden = tf.nn.selu(layers.dense(flat, "c", layers.width("c")))
    return layers.dense(tf.nn.dropout(hidden, rate=0.5, seed=3), "head", CLASSES)


def branches(tf: Any, layers: Layers, x: Any) -> Any:
    """Concatenation, a split, padding, slices, upsampling and a transposed convolution."""
    left = tf.nn.relu(layers.conv(x, "left", layers.width("left"), stride=2))
    right = tf.nn.relu(layers.bias(layers.conv(x, "right", layers.width("right"), stride=2), "r"))
    joined = tf.concat([left, right, left], 3)
    y = tf.pad(joined, [[0, 0], [1, 1], [1, 1], [0, 0]])[:, :-1, 1:]
    y = layers.conv(y, "mix", layers.width("mix"), 1)
    one, other = tf.split(y, 2, 3)
    y = tf.maximum(one, other) - tf.sqrt(tf.square(other) + 1.0)
    y = tf.image.resize_bilinear(y, [10, 10])
    y = tf.image.resize_nearest_neighbor(layers.conv(y, "late", layers.width("late")), [5, 5])
    kernel = layers.variable("up/w", [2, 2, layers.width("up"), int(y.shape[3])])
    shape = tf.stack([tf.shape(y)[0], 10, 10, layers.width("up")])
    y = tf.nn.conv2d_transpose(y, kernel, shape, [1, 2, 2, 1], "SAME")
    y = tf.reshape(y, [-1, 10, 10, layers.width("up")])
    return layers.dense(tf.reduce_max(y, [1, 2]), "head", CLASSES)


def _by_hand(tf: Any, loss: Any, variables: Sequence[Any], clip: bool) -> Any:
    gradients = tf.gradients(loss, variables)
    with tf.control_dependencies(gradients):  # no gradient may see another variable's new value
        pairs = list(zip(gradients, variables))
        return tf.group(*[tf.assign(one, one - 0.01 * gradient) for gradient, one in pairs])


def _minimised(make: Callable[[Any], Any]) -> Callable[..., Any]:
    def minimise(tf: Any, loss: Any, variables: Sequence[Any], clip: bool) -> Any:
        optimizer = make(tf.train)
        gradients, found = zip(*optimizer.compute_gradients(loss, variables, optimizer.GATE_GRAPH))
        if clip:
            gradients, _ = tf.clip_by_global_norm(gradients, 0.1)
        return optimizer.apply_gradients(zip(gradients, found))

    return minimise


OPTIMIZERS: Dict[str, Callable[..., Any]] = {
    "sgd": _minimised(lambda train: train.GradientDescentOptimizer(0.01)),
    "momentum": _minimised(lambda train: train.MomentumOptimizer(0.01, 0.9)),
    "nesterov": _minimised(lambda train: train.MomentumOptimizer(0.01, 0.9, use_nesterov=True)),
    "adam": _minimised(lambda train: train.AdamOptimizer(0.001)),
    "rmsprop": _minimised(lambda train: train.RMSPropOptimizer(0.001, momentum=0.9)),
    "rmsprop-centered": _minimised(lambda train: train.RMSPropOptimizer(0.001, centered=True)),
    "adagrad": _minimised(lambda train: train.AdagradOptimizer(0.01)),
    "ftrl": _minimised(lambda train: train.FtrlOptimizer(0.01)),
    "by-hand": _by_hand,
}
PENALTIES: Dict[str, Callable[[Any, Any], Any]] = {
    "l2": lambda tf, kernel: tf.nn.l2_loss(kernel),
    "lasso": lambda tf, kernel: tf.reduce_sum(
        tf.sqrt(tf.reduce_sum(tf.square(kernel), list(range(len(kernel.shape) - 1))) + 1e-6)
    ),
    "mean": lambda tf, kernel: tf.reduce_mean(tf.abs(kernel)),
    "norm": lambda tf, kernel: tf.norm(tf.reshape(kernel, [-1])),
}


def build(tf: Any, network: Network, widths: Dict[str, int], setting: Setting) -> Any:
    """The training graph: placeholders `image` and `label`, `loss`, and the ops `init`, `train`."""
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        layers = Layers(tf, widths, setting.resource)
        x = tf.placeholder(tf.float32, [setting.batch, SIZE, SIZE, 3], "image")
        label = tf.placeholder(tf.int64, [setting.batch], "label")
        logits = network(tf, layers, x)
        loss = tf.losses.sparse_softmax_cross_entropy(label, logits)
        if setting.penalty:
            for one in tf.trainable_variables():
                if one.op.name.endswith("/w"):
                    loss += 1e-3 * PENALTIES[setting.penalty](tf, one)
        loss = tf.identity(loss, "loss")
        with tf.control_dependencies(layers.updates):
            step = OPTIMIZERS[setting.optimizer](tf, loss, tf.trainable_variables(), setting.clip)
        if setting.average:
            with tf.control_dependencies([step]):
                step = tf.train.ExponentialMovingAverage(0.9).apply(tf.trainable_variables())
        tf.group(step, name="train")
        tf.summary.histogram("logits", logits)
        tf.train.Saver(name="save")
        tf.group(tf.global_variables_initializer(), name="init")
    return graph


def feeds(seed: int = 0) -> Dict[str, np.ndarray]:
    """Four images and their labels."""
    random = np.random.RandomState(seed)
    images = random.rand(4, SIZE, SIZE, 3).astype(np.float32)
    return {"image:0": images, "label:0": random.randint(0, CLASSES, 4)}
