"""The only import of TensorFlow, made when something has to run; serves 1.15 and 2.x alike."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import sys
import warnings
from typing import Any, Callable, Dict, Iterator, List, Optional

from graphslim.errors import RuntimeUnavailable
from graphslim.support.garbage import pause_gc
from graphslim.support.importing import install_hint

INSTALL = install_hint("tf")

GRADIENT_ERRORS = (AttributeError, LookupError, NotImplementedError, TypeError, ValueError)
"""What TensorFlow raises where it has no gradient; AttributeError for loops of TensorFlow 1."""
_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_LEGACY_KERAS = "TF_USE_LEGACY_KERAS"
_HIDDEN = "CUDA_VISIBLE_DEVICES"
_as_shipped = False
_trains = False
_before_import: Optional[Callable[[], None]] = None
"""What a command says before TensorFlow is imported; None outside of commands."""


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
    # Where somebody else has loaded it, it would be theirs that this sets up.
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        if not _trains:
            os.environ.setdefault(_HIDDEN, "-1")
        if not _as_shipped:
            # oneDNN changes the order of sums between widths, which looks like a difference.
            os.environ.setdefault(_ONEDNN, "0")
    with pause_gc(), _command_import(), _hushed():
        tf = plain_tensorflow(purpose)
    tf.logging.set_verbosity(tf.logging.ERROR)
    return tf


def plain_tensorflow(purpose: str = "this trains networks") -> Any:
    """The `tf.compat.v1` module, with nothing set: for use inside a process that trains.

    Args:
        purpose: what it is needed for, to be told where it is not there.

    Raises:
        RuntimeUnavailable: TensorFlow is not installed, or does not load.
    """
    if not available():
        raise RuntimeUnavailable("TensorFlow is not installed", purpose, INSTALL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow.compat.v1 as tf
    except Exception as error:  # a broken install may raise anything
        raise RuntimeUnavailable(
            f"TensorFlow does not load: {error}", sys.executable, INSTALL
        ) from error
    return tf


def import_for_command(tell: Callable[[], None]) -> None:
    """Lets TensorFlow load faster in a process that runs nothing but commands.

    Keras, which TensorFlow imports though no graph needs it, is left to whoever uses it. What is
    there once TensorFlow is stays until the process ends, so it is not searched for garbage again.

    Args:
        tell: called before TensorFlow is imported, which takes seconds.
    """
    global _before_import
    _before_import = tell


@contextlib.contextmanager
def _command_import() -> Iterator[None]:
    """Does what `import_for_command` promises for the import that is made within."""
    if _before_import is None or "tensorflow" in sys.modules or not available():
        yield
        return
    _before_import()
    # With tf_keras installed, that would be imported instead.
    skips_keras = _LEGACY_KERAS not in os.environ and importlib.util.find_spec("tf_keras") is None
    if skips_keras:
        os.environ[_LEGACY_KERAS] = "1"
    try:
        yield
    finally:
        if skips_keras:
            del os.environ[_LEGACY_KERAS]
    gc.freeze()


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Drops what TensorFlow writes to stderr as it loads: with oneDNN on it says so, twice."""
    if not _as_shipped or "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    standard_error, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)
        os.close(nowhere)


def run_as_shipped() -> None:
    """Leaves TensorFlow's kernels as it ships them, for timing; to be called before it loads."""
    global _as_shipped
    _as_shipped = True


def runs_as_shipped() -> bool:
    """Whether `run_as_shipped` was called."""
    return _as_shipped


def train_on_gpus() -> None:
    """Leaves graphics cards visible, for training alone; to be called before TensorFlow loads."""
    global _trains
    _trains = True


def gpus() -> List[str]:
    """The graphics cards that TensorFlow may train on, by its own names for them.

    Raises:
        RuntimeUnavailable: it is not installed.
    """
    devices = tensorflow().config.experimental.list_physical_devices("GPU")
    return [device.name for device in devices]


def without_gpus() -> Dict[str, int]:
    """The `device_count` of sessions that compare or time: graphics cards would round otherwise.

    Cards that the user made visible are used for all that runs.
    """
    return {"GPU": 0} if _trains and _HIDDEN not in os.environ else {}


def without_onednn() -> bool:
    """Whether oneDNN was turned off in a TensorFlow that may have it."""
    return os.environ.get(_ONEDNN) == "0" and not version().startswith("1.")


def version() -> str:
    """TensorFlow's version.

    Raises:
        RuntimeUnavailable: it is not installed.
    """
    return str(tensorflow().__version__)


def has_op(op: str) -> bool:
    """Whether TensorFlow has an op of a type, its own or one that was loaded into it.

    Raises:
        RuntimeUnavailable: it is not installed.
    """
    tf = tensorflow()
    from tensorflow.python.framework import op_def_registry

    if hasattr(op_def_registry, "get"):
        return op_def_registry.get(op) is not None
    if op in op_def_registry.get_registered_ops():
        return True
    # TensorFlow 1 lists no ops that only its optimiser writes, as _FusedConv2D.
    try:
        tf.Graph()._get_op_def(op)
    except tf.errors.NotFoundError:
        return False
    return True


def unoptimized(tf: Any, **options: Any) -> Any:
    """A configuration by which a session runs graphs as they stand, for what runs only once.

    TensorFlow's rewriting of a graph takes longer than one run of it.

    Args:
        tf: TensorFlow, as `tensorflow` gives it.
        **options: further fields of the ConfigProto.
    """
    config = tf.ConfigProto(**options)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = -1
    return config


def first_line(error: Exception) -> str:
    """What an error says in its first line, or behind the place that current TensorFlow tells."""
    text = str(getattr(error, "message", None) or error)
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if lines and lines[0] == "Graph execution error:":
        places = [at for at, line in enumerate(lines[:-1]) if line.startswith("Node: ")]
        lines = lines[places[-1] + 1 :] if places else lines[1:]
    return lines[0][:300] if lines else type(error).__name__
