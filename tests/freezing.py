"""Freezes networks of tf.keras.applications in every way that the installed TensorFlow offers.

`WAYS` holds the ways by name: one set under TensorFlow 1.15, another under 2.x.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

import graphslim as gs
from graphslim.runtime import unoptimized

_RANGES = {
    "gamma": (0.8, 1.4),
    "beta": (-0.3, 0.5),
    "bias": (-0.2, 0.2),
    "moving_mean": (-0.2, 0.2),
    "moving_variance": (0.5, 1.5),
    "variable": (0.8, 1.4),  # the layer scale of ConvNeXt, to which Keras gives no name
}
"""What vectors hold instead of ones and zeros, which would let channels look alike and let grappler
merge the biases of unrelated layers."""

_GENTLE = (0.3, 0.6)
"""Scales of the batch norms of Keras 3, whose means and variances are measured.

Else a deep network of random weights amplifies the rounding of its first layer to half the range of
its outputs (EfficientNetV2S does).
"""


class Network(NamedTuple):
    """A frozen network, the file or folder that it was read from, and the parameters by Keras."""

    graph: gs.Graph
    path: Path
    params: int


class Way(NamedTuple):
    """A way of freezing.

    Attributes:
        write: writes a model into a folder; gives the file or folder written.
        channels_first: whether the model is built with its channels on the first axis.
        training: whether it is left open at run time if the network trains or infers.
    """

    write: Callable[[Any, Any, Path], Path]
    channels_first: bool = False
    training: bool = False

    @property
    def build(self) -> Tuple[bool, bool]:
        """How the model is built: all but how it is written."""
        return self.channels_first, self.training


def freeze(name: str, folder: Path, size: int = 224, way: str = "frozen") -> Network:
    """A network with random weights, frozen for inference, written and read again.

    The outputs are its own and the logits: the softmax of a random network is nearly flat and would
    hide any difference.
    """
    (path,), params = write_network(name, {way: folder}, size)
    return Network(load(path), path, params)


def write_network(
    name: str, folders: Mapping[str, Path], size: int = 224
) -> Tuple[List[Path], int]:
    """Writes a network with random weights, built once, in several ways.

    Args:
        name: of the network.
        folders: by way the folder to write into; the model is built alike for all of the ways.
        size: height and width of the images.

    Returns:
        what was written, and the network's parameters by Keras.
    """
    import tensorflow as tf

    ((channels_first, training),) = {WAYS[way].build for way in folders}
    keras = tf.keras
    keras.backend.clear_session()
    if _is_first(tf):
        tf.compat.v1.reset_default_graph()
        keras.backend.clear_session()
        v1 = tf.compat.v1
        v1.keras.backend.set_session(v1.Session(config=unoptimized(v1)))
        if not training:
            keras.backend.set_learning_phase(0)
    keras.backend.set_image_data_format("channels_first" if channels_first else "channels_last")
    shape = (3, size, size) if channels_first else (size, size, 3)
    try:
        model = getattr(keras.applications, name)(weights=None, input_shape=shape)
        randomise(model)
        paths = [WAYS[way].write(tf, model, folder) for way, folder in folders.items()]
        return paths, model.count_params()
    finally:
        keras.backend.set_image_data_format("channels_last")
        keras.backend.clear_session()


def load(path: Path) -> gs.Graph:
    """A frozen network with its logits as outputs beside its own."""
    plain = gs.load(str(path))
    outputs = [str(port) for port in plain.outputs]
    logits = [str(plain.data_inputs(node)[0]) for node in plain if node.op == "Softmax"]
    return gs.load(str(path), outputs=[*logits, *outputs])


def write(model: Any, path: Path, batch: int = 1) -> None:
    """Freezes a Keras model as it is; TensorFlow 1.15 leaves the batch open.

    Under TensorFlow 1.15 the session must have been told that it infers (learning phase 0).
    """
    import tensorflow as tf

    if _is_first(tf):
        _written(_session_1(tf, model), path)
    else:
        _written(_function_2(tf, model, batch), path)


def _is_first(tf: Any) -> bool:
    return bool(tf.__version__.startswith("1."))


def randomise(model: Any) -> None:
    """Gives a Keras model random numbers for what Keras makes all ones or zeros."""
    import tensorflow as tf

    rng = np.random.RandomState(0)
    measured = not _is_first(tf) and tf.keras.backend.image_data_format() == "channels_last"
    ranges = {**_RANGES, "gamma": _GENTLE} if measured else _RANGES
    values = []
    for weight in model.weights:
        kind = getattr(weight, "path", weight.name).split("/")[-1].split(":")[0]
        if kind in ranges:
            values.append((weight, rng.uniform(*ranges[kind], [int(n) for n in weight.shape])))
    if _is_first(tf):
        tf.keras.backend.batch_set_value(values)
        return
    for weight, value in values:
        weight.assign(value)
    if measured:
        _measure(model)


def _measure(model: Any) -> None:
    """Gives the batch norms of a Keras 3 model the means and variances of some random images."""
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    for layer in norms:
        layer.momentum = 0.0
    if norms:
        images = np.random.RandomState(0).uniform(0, 255, (4, *model.input_shape[1:]))
        model(images.astype(np.float32), training=True)


def _written(graph_def: Any, path: Path) -> Path:
    path.write_bytes(graph_def.SerializeToString())
    return path


def _session_1(tf: Any, model: Any) -> Any:
    """A Keras model of TensorFlow 1.15, its variables turned into constants."""
    session = tf.compat.v1.keras.backend.get_session()
    return tf.compat.v1.graph_util.convert_variables_to_constants(
        session, session.graph.as_graph_def(), [model.output.op.name]
    )


def _frozen_1(tf: Any, model: Any, folder: Path) -> Path:
    return _written(_session_1(tf, model), folder / "frozen.pb")


def _saved_model_1(tf: Any, model: Any, folder: Path) -> Path:
    path = folder / "saved_model"
    session = tf.compat.v1.keras.backend.get_session()
    tf.compat.v1.saved_model.simple_save(
        session, str(path), {"image": model.input}, {"classes": model.output}
    )
    return path


def _function_2(tf: Any, model: Any, batch: int = 1, **options: Any) -> Any:
    """A Keras 3 model as one function, its variables turned into constants."""
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    shape = (batch, *model.input_shape[1:])
    call = tf.function(lambda image: model(image, training=False), autograph=False)
    function = call.get_concrete_function(tf.TensorSpec(shape, tf.float32, name="image"))
    return convert_variables_to_constants_v2(function, **options).graph.as_graph_def()


def _frozen_2(tf: Any, model: Any, folder: Path) -> Path:
    return _written(_function_2(tf, model), folder / "frozen.pb")


def _functions_2(tf: Any, model: Any, folder: Path) -> Path:
    """As converters to other formats ask for: functional control flow is left as it is."""
    graph_def = _function_2(tf, model, lower_control_flow=False, aggressive_inlining=True)
    return _written(graph_def, folder / "functional.pb")


def _saved_model_2(tf: Any, model: Any, folder: Path) -> Path:
    path = folder / "saved_model"
    model.export(str(path), verbose=False)
    return path


def _session_2(tf: Any, model: Any, folder: Path) -> Path:
    """By the API of TensorFlow 1 from a SavedModel: calls of functions are left in the graph."""
    saved = _saved_model_2(tf, model, folder)
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        meta = v1.saved_model.loader.load(session, ["serve"], str(saved))
        outputs = meta.signature_def["serving_default"].outputs.values()
        graph_def = v1.graph_util.convert_variables_to_constants(
            session, session.graph.as_graph_def(), [one.name.split(":")[0] for one in outputs]
        )
    return _written(graph_def, folder / "session.pb")


def _optimized(tf: Any, graph_def: Any, path: Path, fuse: bool = False) -> Path:
    """What grappler makes of a frozen graph.

    Constants are folded, batch norms with them, or else ops are fused, which it does for nodes that
    have been placed on a CPU.
    """
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
    from tensorflow.python.grappler import tf_optimizer

    v1 = tf.compat.v1
    for node in graph_def.node:
        node.device = "/job:localhost/replica:0/task:0/device:CPU:0" if fuse else ""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        softmax = [node.name for node in graph_def.node if node.op == "Softmax"]
        read_by = {name.split(":")[0]: node.name for node in graph_def.node for name in node.input}
        for name in softmax:
            graph.add_to_collection(
                "train_op", graph.get_operation_by_name(read_by.get(name, name))
            )
        meta = v1.train.export_meta_graph(graph_def=graph.as_graph_def(), graph=graph)
    config = v1.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    rewrites.min_graph_nodes = -1
    rewrites.remapping = RewriterConfig.ON
    if fuse:
        rewrites.constant_folding = RewriterConfig.OFF
    return _written(tf_optimizer.OptimizeGraph(config, meta), path)


def _grappler_1(tf: Any, model: Any, folder: Path) -> Path:
    return _optimized(tf, _session_1(tf, model), folder / "grappler.pb")


def _fused_1(tf: Any, model: Any, folder: Path) -> Path:
    return _optimized(tf, _session_1(tf, model), folder / "fused.pb", fuse=True)


def _grappler_2(tf: Any, model: Any, folder: Path) -> Path:
    return _optimized(tf, _function_2(tf, model), folder / "grappler.pb")


def _fused_2(tf: Any, model: Any, folder: Path) -> Path:
    return _optimized(tf, _function_2(tf, model), folder / "fused.pb", fuse=True)


def _transformed(tf: Any, model: Any, path: Path, transforms: List[str]) -> Path:
    """What the Graph Transform Tool makes; it knows the first version of FusedBatchNorm alone."""
    from tensorflow.tools.graph_transforms import TransformGraph

    graph_def = _session_1(tf, model)
    for node in graph_def.node:
        if node.op == "FusedBatchNormV3":
            node.op = "FusedBatchNorm"
            del node.attr["U"]
    transforms = ["fold_constants(ignore_errors=true)", *transforms]
    return _written(
        TransformGraph(graph_def, [model.input.op.name], [model.output.op.name], transforms), path
    )


def _folded_1(tf: Any, model: Any, folder: Path) -> Path:
    transforms = ["fold_batch_norms", "fold_old_batch_norms"]
    return _transformed(tf, model, folder / "folded.pb", transforms)


def _quantized_1(tf: Any, model: Any, folder: Path) -> Path:
    return _transformed(tf, model, folder / "quantized.pb", ["quantize_weights"])


_WAYS_1: Dict[str, Way] = {
    "frozen": Way(_frozen_1),
    "learning phase": Way(_frozen_1, training=True),
    "channels first": Way(_frozen_1, channels_first=True),
    "grappler": Way(_grappler_1),
    "fused": Way(_fused_1),
    "batch norm folded": Way(_folded_1),
    "quantized weights": Way(_quantized_1),
    "SavedModel": Way(_saved_model_1),
}
_WAYS_2: Dict[str, Way] = {
    "frozen": Way(_frozen_2),
    "functional": Way(_functions_2),
    "channels first": Way(_frozen_2, channels_first=True),
    "grappler": Way(_grappler_2),
    "fused": Way(_fused_2),
    "session": Way(_session_2),
    "SavedModel": Way(_saved_model_2),
}


def _installed() -> Optional[str]:
    """TensorFlow's version without importing it; None where it is not installed."""
    if importlib.util.find_spec("tensorflow") is None:
        return None
    try:
        from importlib.metadata import version
    except ImportError:  # Python 3.7
        from importlib_metadata import version
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            return str(version(name))
        except Exception:
            continue
    return None


WAYS: Dict[str, Way] = _WAYS_1 if (_installed() or "").startswith("1.") else _WAYS_2
