"""A graph that is to be converted, as TensorFlow has it; runs in the converter's process."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

from graphslim.errors import EmitError
from graphslim.runtime.library import first_line
from graphslim.runtime.session import tensor_name

Named = Tuple[str, str]
"""The name of an output, and the tensor (`node` or `node:port`) that it is."""


def imported(
    tf: Any, holder: Any, definition: bytes, inputs: Sequence[str], outputs: Sequence[Named]
) -> Tuple[List[Any], List[Any]]:
    """Loads a graph; gives the tensors that are fed and those that are wanted.

    Args:
        tf: TensorFlow, as `runtime.tensorflow` gives it.
        holder: the graph to load it into, which is the default one.
        definition: the GraphDef.
        inputs: the names of the nodes that are fed.
        outputs: the tensors that are wanted; one whose name is free is given it.

    Raises:
        EmitError: TensorFlow refuses the graph.
    """
    try:
        tf.import_graph_def(tf.GraphDef.FromString(definition), name="")
    except (ValueError, tf.errors.OpError) as error:
        raise EmitError(
            f"TensorFlow {tf.__version__} refuses the graph: {first_line(error)}",
            None,
            "is it from a newer TensorFlow?",
        ) from error
    fed = [holder.get_tensor_by_name(f"{name}:0") for name in inputs]
    wanted = []
    for name, port in outputs:
        tensor = holder.get_tensor_by_name(tensor_name(port))
        if name != port and ":" not in name:
            twin = tf.identity(tensor, name=name)
            tensor = twin if twin.op.name == name else tensor
        wanted.append(tensor)
    return fed, wanted
