"""The only import of TensorFlow, made when something has to run; serves 1.15 and 2.x alike."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

import numpy as np

from graphslim.errors import LoadError, RuntimeUnavailable, VerifyError
from graphslim.graphdef import serialize
from graphslim.ir import Graph

INSTALL = "pip install 'graphslim[tf]'"

_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_as_shipped = False


def available() -> bool:
    """Whether TensorFlow is installed (it is not imported to find out)."""
    return importlib.util.find_spec("tensorflow") is not None


def tensorflow(purpose: str = "this command runs graphs") -> Any:
    """The `tf.compat.v1` module of whatever TensorFlow is installed, its chatter turned off.

    Args:
        purpose: what it is needed for, to be told where it is not there.

    Raises:
        RuntimeUnavailable: none is, or it does not load.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    if not _as_shipped:
        # oneDNN changes the order of sums between widths, which would be taken for a difference.
        os.environ.setdefault(_ONEDNN, "0")
    if not available():
        raise RuntimeUnavailable("TensorFlow is not installed", purpose, INSTALL)
    try:
        import warnings

        with warnings.catch_warnings(), _hushed():
            warnings.simplefilter("ignore")
            import tensorflow.compat.v1 as tf
    except Exception as error:  # a broken install may raise anything
        raise RuntimeUnavailable(
            f"TensorFlow does not load: {error}", sys.executable, INSTALL
        ) from error
    tf.logging.set_verbosity(tf.logging.ERROR)
    return tf


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Drops what TensorFlow writes to stderr as it loads: with oneDNN on it says so, twice."""
    if not _as_shipped or "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def run_as_shipped() -> None:
    """Leaves TensorFlow's kernels as it ships them, for timing; to be called before it loads."""
    global _as_shipped
    _as_shipped = True


def without_onednn() -> bool:
    """Whether oneDNN was turned off in a TensorFlow that may have it."""
    return os.environ.get(_ONEDNN) == "0" and not version().startswith("1.")


def version() -> str:
    """TensorFlow's version.

    Raises:
        RuntimeUnavailable: it is not installed.
    """
    return str(tensorflow().__version__)


class Session:
    """A graph loaded into TensorFlow, ready to run; a context manager.

    Args:
        graph: the graph.
        threads: threads within one op; 0 for as many as there are cores.
        optimize: whether TensorFlow may rewrite the graph before it runs it.

    Raises:
        VerifyError: TensorFlow refuses the graph.
        RuntimeUnavailable: TensorFlow is not there.
    """

    def __init__(self, graph: Graph, threads: int = 1, optimize: bool = True) -> None:
        tf = tensorflow()
        self._graph = graph
        definition = tf.GraphDef.FromString(serialize(graph))
        holder = tf.Graph()
        try:
            with holder.as_default():
                tf.import_graph_def(definition, name="")
        except (ValueError, tf.errors.OpError) as error:
            raise VerifyError(
                f"TensorFlow {tf.__version__} refuses the graph: {_first_line(error)}",
                graph.name,
                "is it from a newer TensorFlow? --no-verify prunes without running it",
            ) from error
        # Soft placement: a graph may name the GPU that it was trained on.
        config = tf.ConfigProto(
            allow_soft_placement=True,
            intra_op_parallelism_threads=threads,
            inter_op_parallelism_threads=1,
        )
        if not optimize:
            config.graph_options.rewrite_options.disable_meta_optimizer = True
            config.graph_options.optimizer_options.opt_level = -1
        self._errors = tf.errors.OpError
        self._session = tf.Session(graph=holder, config=config)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self._session.close()

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Optional[Sequence[str]] = None
    ) -> List[np.ndarray]:
        """The values at ports (`node` or `node:port`); by default the graph's outputs.

        Raises:
            VerifyError: the graph fails when it runs.
        """
        names = [str(port) for port in self._graph.outputs] if fetches is None else list(fetches)
        tensors = [name if ":" in name else f"{name}:0" for name in names]
        try:
            found: List[np.ndarray] = self._session.run(
                tensors, {f"{name}:0": value for name, value in feeds.items()}
            )
        except (self._errors, TypeError, ValueError) as error:
            raise VerifyError(
                f"does not run: {_first_line(error)}", self._graph.name, _advice(str(error))
            ) from error
        return found

    def prepare(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]
    ) -> Callable[[], Any]:
        """A function that runs the graph once with little around it, to be timed.

        Args:
            feeds: by input name.
            fetches: ports (`node:port`), whose values are given, or nodes, which are only run.

        The function raises VerifyError where the graph fails.
        """
        holder = self._session.graph
        wanted = [holder.as_graph_element(name) for name in fetches]
        fed = [holder.get_tensor_by_name(f"{name}:0") for name in feeds]
        run, values = self._session.make_callable(wanted, fed), list(feeds.values())

        def once() -> Any:
            try:
                return run(*values)
            except self._errors as error:
                raise VerifyError(
                    f"does not run: {_first_line(error)}", self._graph.name, _advice(str(error))
                ) from error

        return once

    def gradients(
        self, loss: Mapping[str, Optional[float]], ports: Sequence[str]
    ) -> List[Optional[str]]:
        """Adds to the graph the gradients of a loss with regard to the values at ports.

        Args:
            loss: by tensor that has a share in it: a factor, by which half the sum of its squares
                counts, or None to take the sum of its elements as they are.
            ports: tensors (`node` or `node:port`).

        Returns:
            for each port the name of the gradient, for `run`; None where the loss does not depend
            on it in a way that has one.

        Raises:
            VerifyError: an op on the way has no gradient in this TensorFlow.
        """
        tf = tensorflow()
        holder = self._session.graph
        with holder.as_default():
            try:
                terms = []
                for name, factor in loss.items():
                    value = tf.cast(_tensor(holder, name), tf.float32)
                    half = value if factor is None else 0.5 * factor * tf.square(value)
                    terms.append(tf.reduce_sum(half))
                given = [_tensor(holder, port) for port in ports]
                found = tf.gradients(tf.add_n(terms), given) if terms else [None] * len(given)
                # A gradient by rows that were gathered is spread over the whole tensor.
                return [None if one is None else tf.convert_to_tensor(one).name for one in found]
            except (LookupError, TypeError, ValueError) as error:
                raise VerifyError(
                    f"no gradient can be taken: {_first_line(error)}",
                    self._graph.name,
                    "name a tensor before that op with --loss-output, or score by the weights",
                ) from error


def saved_variables(
    folder: str, tags: Sequence[str], names: Sequence[str]
) -> Dict[str, np.ndarray]:
    """The values of variables of a SavedModel.

    Args:
        folder: the SavedModel.
        tags: those of the graph.
        names: names of `VarHandleOp` or `VariableV2` nodes of that graph.

    Raises:
        LoadError: TensorFlow cannot load it, or the values are not there.
        RuntimeUnavailable: TensorFlow is not there.
    """
    if not os.path.isdir(os.path.join(folder, "variables")):
        raise LoadError("its variables are missing", folder, "copy its folder variables/ too")
    tf = tensorflow("the variables of a SavedModel are read with it")
    holder = tf.Graph()
    config = tf.ConfigProto(allow_soft_placement=True)
    failures = (tf.errors.OpError, ValueError, KeyError, TypeError, RuntimeError, OSError)
    with tf.Session(graph=holder, config=config) as session:
        try:
            tf.saved_model.loader.load(session, list(tags), folder)
            with holder.as_default():
                tensors = {name: _value_of(tf, holder, name) for name in names}
            found: Dict[str, np.ndarray] = session.run(tensors)
        except failures as error:
            raise LoadError(
                f"TensorFlow {tf.__version__} cannot read its variables: {_first_line(error)}",
                folder,
                "use the TensorFlow that exported it, and check that all its files are there",
            ) from error
    return found


def _value_of(tf: Any, holder: Any, name: str) -> Any:
    """The tensor of a variable's value, given the name of its node."""
    node = holder.get_operation_by_name(name)
    if node.type != "VarHandleOp":
        return node.outputs[0]
    return tf.raw_ops.ReadVariableOp(resource=node.outputs[0], dtype=node.get_attr("dtype"))


def _tensor(holder: Any, name: str) -> Any:
    """The tensor at a port.

    Raises:
        LookupError: it is not there.
    """
    return holder.get_tensor_by_name(name if ":" in name else f"{name}:0")


def _first_line(error: Exception) -> str:
    """What an error says in its first line, or behind the place that current TensorFlow tells."""
    text = str(getattr(error, "message", None) or error)
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if lines and lines[0] == "Graph execution error:":
        places = [at for at, line in enumerate(lines[:-1]) if line.startswith("Node: ")]
        lines = lines[places[-1] + 1 :] if places else lines[1:]
    return lines[0][:300] if lines else type(error).__name__


def _advice(text: str) -> str:
    if "NHWC" in text or "NCHW" in text:
        return (
            "TensorFlow's CPU kernels take NHWC only, and the pass to-nhwc does not turn this op; "
            "run it on a GPU, or pass --no-verify"
        )
    if "feed" in text.lower() or "shape" in text.lower():
        return "give the sizes with --input-shape NAME=1,224,224,3, or real data with --data"
    return "does the graph given run at all?"
