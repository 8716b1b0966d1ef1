"""A graph run beside the one that it is to imitate, and the gradients of what tells them apart."""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from graphslim.errors import VerifyError
from graphslim.graphdef import serialize
from graphslim.ir import DType, Graph
from graphslim.runtime.library import GRADIENT_ERRORS, first_line, gpus, tensorflow
from graphslim.runtime.session import tensor_name

ALONE = "repair it by least squares alone: --stage least-squares"
"""What can be done for a graph that TensorFlow cannot differentiate."""
_SCOPES = ("teacher", "pupil")
"""What the names of both graphs' nodes begin with."""
Arrays = Dict[str, np.ndarray]
"""By the name of a constant, its numbers; float32 of the constant's shape."""


class Target(NamedTuple):
    """A tensor of the pupil that is to become what the teacher's of the same name is.

    Attributes:
        port: the tensor (`node` or `node:port`).
        factor: what the mean of the squared differences counts in the loss.
        kept: the positions along `axis` of the teacher's tensor that the pupil's has, int64 of
            shape (n,); None for all of them.
        axis: the axis that `kept` is about.
        classes: whether the last axes are logits, so that the divergence (Kullback and Leibler) of
            the probabilities of classes counts too; it needs no factor, being a share of one bit.
    """

    port: str
    factor: float
    kept: Optional[np.ndarray] = None
    axis: int = -1
    classes: bool = False


class Pupil:
    """Teacher and pupil in one session; a context manager.

    The pupil's weights are fed, so that whoever trains it keeps them.

    Args:
        teacher: the graph that gives the targets.
        pupil: the graph that is to imitate it, with the same inputs.
        constants: the names of the pupil's constants that are weights.
        targets: the tensors to imitate.
        threads: threads within one op; 0 for as many as there are cores.

    Attributes:
        gpus: the graphics card that it computes on, by TensorFlow's name; empty without one.

    Raises:
        VerifyError: TensorFlow refuses a graph, or has no gradient for an op on the way.
        RuntimeUnavailable: TensorFlow is not there.
    """

    def __init__(
        self,
        teacher: Graph,
        pupil: Graph,
        constants: Sequence[str],
        targets: Sequence[Target],
        threads: int = 0,
    ) -> None:
        tf = tensorflow()
        self._name, self._errors = pupil.name, tf.errors.OpError
        holder = tf.Graph()
        try:
            with holder.as_default():
                self._fed = {name: _placeholder(tf, pupil, name) for name in constants}
                stored = {name: _stored(tf, pupil, name, fed) for name, fed in self._fed.items()}
                _import(tf, teacher, _SCOPES[0], {})
                _import(tf, pupil, _SCOPES[1], stored)
                self._loss = tf.add_n([_term(tf, holder, target) for target in targets])
                slopes = tf.gradients(self._loss, list(self._fed.values()))
        except (*GRADIENT_ERRORS, tf.errors.OpError) as error:
            raise VerifyError(
                f"TensorFlow {tf.__version__} cannot train it: {first_line(error)}",
                pupil.name,
                ALONE,
            ) from error
        # What no output depends on has no gradient.
        self._slopes = {
            name: tf.convert_to_tensor(slope)
            for name, slope in zip(constants, slopes)
            if slope is not None
        }
        # One card: TensorFlow would hold the memory of all, and compute on the first.
        self.gpus = gpus()[:1]
        config = tf.ConfigProto(
            allow_soft_placement=True,
            device_count={"GPU": len(self.gpus)},
            intra_op_parallelism_threads=threads,
            inter_op_parallelism_threads=1,
        )
        config.gpu_options.allow_growth = True
        self._session = tf.Session(graph=holder, config=config)

    def __enter__(self) -> Pupil:
        return self

    def __exit__(self, *error: object) -> None:
        self._session.close()

    def loss(self, feeds: Mapping[str, np.ndarray], weights: Arrays) -> float:
        """The loss with some weights over one run; not finite where the pupil's numbers are not."""
        return float(self._run(self._loss, feeds, weights))

    def slopes(self, feeds: Mapping[str, np.ndarray], weights: Arrays) -> Arrays:
        """By constant the gradient of the loss over one run, of the constant's shape."""
        slopes: Arrays = self._run(self._slopes, feeds, weights)
        return slopes

    def _run(self, fetched: Any, feeds: Mapping[str, np.ndarray], weights: Arrays) -> Any:
        # Both inputs, since a node may wait for its own without reading it.
        fed = {f"{scope}/{name}:0": feeds[name] for name in feeds for scope in _SCOPES}
        fed.update({self._fed[name]: weights[name] for name in self._fed})
        try:
            return self._session.run(fetched, fed)
        except self._errors as error:
            # A CPU has no gradient of a convolution in groups, and says so only now.
            raise VerifyError(
                f"cannot be trained: {first_line(error)}", self._name, ALONE
            ) from error


def _import(tf: Any, graph: Graph, scope: str, mapped: Mapping[str, Any]) -> None:
    """Loads a graph below a scope, with tensors in the place of some of its constants."""
    definition = tf.GraphDef.FromString(serialize(graph))
    tensors = {f"{name}:0": tensor for name, tensor in mapped.items()}
    tf.import_graph_def(definition, input_map=tensors, name=scope)


def _placeholder(tf: Any, graph: Graph, name: str) -> Any:
    return tf.placeholder(tf.float32, graph[name].attrs["value"].shape)


def _stored(tf: Any, graph: Graph, name: str, fed: Any) -> Any:
    """What is fed for a constant, rounded as the constant's element type stores it."""
    dtype = graph[name].attrs["value"].dtype
    return fed if dtype is DType.float32 else tf.cast(fed, dtype.name)


def _term(tf: Any, holder: Any, target: Target) -> Any:
    """The share of a target in the loss."""
    name = tensor_name(target.port)
    wanted, actual = [
        tf.cast(holder.get_tensor_by_name(f"{scope}/{name}"), tf.float32) for scope in _SCOPES
    ]
    wanted = tf.stop_gradient(wanted)
    if target.kept is not None:
        wanted = tf.gather(wanted, target.kept, axis=target.axis)
    term = target.factor * tf.reduce_mean(tf.square(actual - wanted))
    if not target.classes:
        return term
    told, said = tf.nn.log_softmax(wanted), tf.nn.log_softmax(actual)
    return term + tf.reduce_mean(tf.reduce_sum(tf.exp(told) * (told - said), -1))
