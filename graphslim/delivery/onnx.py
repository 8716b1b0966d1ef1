"""Conversion to ONNX by tf2onnx; runs in the converter's process."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Dict, Sequence

from graphslim import runtime
from graphslim.delivery.imported import Named, imported
from graphslim.errors import EmitError, RuntimeUnavailable
from graphslim.support.importing import install_hint

OPSET = 15
"""The version of ONNX's ops: of 2021, which all of its runtimes take."""
_LARGEST = 2**31
"""The bytes of a protobuf message stay below this."""


def convert(definition: bytes, inputs: Sequence[str], outputs: Sequence[Named]) -> Dict[str, bytes]:
    """Converts a graph; open sizes stay open.

    Args:
        definition: a GraphDef.
        inputs: the names of the placeholders.
        outputs: pairs of a name and the tensor that gets it.

    Raises:
        EmitError: the graph holds an op that tf2onnx does not know.
        RuntimeUnavailable: tf2onnx or TensorFlow is not installed.
    """
    tf = runtime.tensorflow("it converts to ONNX")
    try:
        tf2onnx: Any = import_module("tf2onnx")
        convert_graph = import_module("tf2onnx.convert").from_graph_def
    except ImportError as error:
        raise RuntimeUnavailable(
            f"tf2onnx is not there: {error}", "ONNX models are made by it", install_hint("onnx")
        ) from error
    with tf.Graph().as_default() as holder:
        fed, wanted = imported(tf, holder, definition, inputs, outputs)
        complete = holder.as_graph_def().SerializeToString()
    keys = [[tensor.name for tensor in tensors] for tensors in (fed, wanted)]
    model, _ = convert_graph(
        tf.GraphDef.FromString(complete), input_names=keys[0], output_names=keys[1], opset=OPSET
    )
    # It says so in its log alone, and leaves TensorFlow's op where an ONNX op should be.
    has = import_module("onnx.defs").has
    left = {node.op_type for node in model.graph.node if not has(node.op_type, node.domain)}
    if left:
        raise EmitError(
            f"tf2onnx {tf2onnx.__version__} does not know the op {', '.join(sorted(left))}",
            None,
            "name --outputs before it, or write a .pb",
        )
    names = [*inputs, *[name for name, _ in outputs]]
    rename(model.graph, dict(zip([*keys[0], *keys[1]], names)))
    if model.ByteSize() >= _LARGEST:
        raise EmitError("takes more than 2 GB as one ONNX file", None, "write a .pb")
    return {"": model.SerializeToString()}


def rename(graph: Any, names: Dict[str, str]) -> None:
    """Renames the inputs and outputs of an ONNX graph, where the new names are free.

    Args:
        graph: the GraphProto.
        names: by old name the new one.
    """
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    names = {old: new for old, new in names.items() if new not in taken}
    for node in graph.node:
        for side in (node.input, node.output):
            for index, name in enumerate(side):
                side[index] = names.get(name, name)
    for tensor in (*graph.input, *graph.output, *graph.value_info):
        tensor.name = names.get(tensor.name, tensor.name)
