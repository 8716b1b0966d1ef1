"""The values of the variables of a SavedModel."""

from __future__ import annotations

import os
from typing import Any, Dict, Sequence

import numpy as np

from graphslim.errors import LoadError
from graphslim.reading import require_regular
from graphslim.runtime.failures import first_line
from graphslim.runtime.library import tensorflow, unoptimized


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
    for place, _, files in os.walk(folder):
        for name in files:
            require_regular(os.path.join(place, name))
    tf = tensorflow("the variables of a SavedModel are read with it")
    holder = tf.Graph()
    config = unoptimized(tf, allow_soft_placement=True)
    failures = (tf.errors.OpError, ValueError, KeyError, TypeError, RuntimeError, OSError)
    with tf.Session(graph=holder, config=config) as session:
        try:
            tf.saved_model.loader.load(session, list(tags), folder)
            with holder.as_default():
                tensors = {name: _value_of(tf, holder, name) for name in names}
            found: Dict[str, np.ndarray] = session.run(tensors)
        except failures as error:
            raise LoadError(
                f"TensorFlow {tf.__version__} cannot read its variables: {first_line(error)}",
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
