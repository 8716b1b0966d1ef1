"""Whether TensorFlow takes a checkpoint with its MetaGraph, as a training script would load it."""

from __future__ import annotations

import re
from typing import Any

from graphslim import runtime
from graphslim.errors import VerifyError
from graphslim.runtime.library import first_line

_HINT = "--no-meta writes the checkpoint and the .pb alone; please report it"
_NODE = re.compile(r"node (?:\{\{node )?'?([\w./>-]+)|([\w./>-]+) = \w+\[|\[\[\{\{node ([\w./>-]+)")
"""How TensorFlow's messages name a node."""


def check_restores(prefix: str) -> None:
    """Imports the MetaGraph beside a checkpoint, and restores the checkpoint into it.

    Args:
        prefix: of the checkpoint; `.meta` is appended for the MetaGraph.

    Raises:
        VerifyError: TensorFlow refuses one of them; the message names the node if TensorFlow does.
        RuntimeUnavailable: TensorFlow is not there.
    """
    tf = runtime.tensorflow("the stripped checkpoint is tried with it")
    config = runtime.unoptimized(tf, allow_soft_placement=True, device_count={"GPU": 0})
    with tf.Graph().as_default() as graph:
        try:
            saver = tf.train.import_meta_graph(prefix + ".meta", clear_devices=True)
        except (tf.errors.OpError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise _refusal(tf, "the MetaGraph", error) from None
        if saver is None:
            return
        with tf.Session(graph=graph, config=config) as session:
            try:
                saver.restore(session, prefix)
            except (tf.errors.OpError, ValueError, TypeError) as error:
                raise _refusal(tf, "the checkpoint", error) from None


def _refusal(tf: Any, what: str, error: Exception) -> VerifyError:
    found = _NODE.search(str(error))
    names = [name for name in found.groups() if name] if found else []
    return VerifyError(
        f"TensorFlow {tf.__version__} refuses {what} at the smaller size: {first_line(error)}",
        names[0] if names else None,
        _HINT,
    )
