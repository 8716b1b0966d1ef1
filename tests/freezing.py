"""Freezes networks of tf.keras.applications with the TensorFlow that is installed, 1.15 or 2.x."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, NamedTuple

import numpy as np

import graphslim as gs

_RANGES = {
    "gamma": (0.8, 1.4),
    "beta": (-0.3, 0.5),
    "moving_mean": (-0.2, 0.2),
    "moving_variance": (0.5, 1.5),
}
"""What batch norm holds instead of ones and zeros, which would let channels look alike."""


class Network(NamedTuple):
    """A frozen network and the parameters that Keras counts."""

    graph: gs.Graph
    params: int


def freeze(name: str, folder: Path, size: int = 224) -> Network:
    """A network with random weights, frozen for inference, written and read again.

    The outputs are its own and the logits: the softmax of a random network is nearly flat and would
    hide any difference.
    """
    import tensorflow as tf

    keras = tf.keras
    keras.backend.clear_session()
    if tf.__version__.startswith("1."):
        keras.backend.set_learning_phase(0)
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    model.set_weights(_randomised(model))
    graph_def = _freeze_1(tf, model) if tf.__version__.startswith("1.") else _freeze_2(tf, model)
    path = folder / f"{name}.pb"
    path.write_bytes(graph_def.SerializeToString())
    plain = gs.load(str(path))
    outputs = [str(port) for port in plain.outputs]
    logits = [str(plain.data_inputs(node)[0]) for node in plain if node.op == "Softmax"]
    graph = gs.load(str(path), outputs=[*logits, *outputs])
    return Network(graph, model.count_params())


def _randomised(model: Any) -> List[np.ndarray]:
    rng = np.random.RandomState(0)
    values = []
    for weight, value in zip(model.weights, model.get_weights()):
        kind = getattr(weight, "path", weight.name).split("/")[-1].split(":")[0]
        low, high = _RANGES.get(kind, (0, 0))
        values.append(rng.uniform(low, high, value.shape) if high else value)
    return values


def _freeze_1(tf: Any, model: Any) -> Any:
    session = tf.compat.v1.keras.backend.get_session()
    return tf.compat.v1.graph_util.convert_variables_to_constants(
        session, session.graph.as_graph_def(), [model.output.op.name]
    )


def _freeze_2(tf: Any, model: Any) -> Any:
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    shape = (1, *model.input_shape[1:])
    call = tf.function(lambda image: model(image, training=False))
    frozen = convert_variables_to_constants_v2(
        call.get_concrete_function(tf.TensorSpec(shape, tf.float32, name="image"))
    )
    return frozen.graph.as_graph_def()
