"""TensorFlow.js graph models: a GraphDef in JSON, whose constants stand in files of weights."""

from __future__ import annotations

import os
from operator import index
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Set, Tuple

import numpy as np

from graphslim.errors import LoadError
from graphslim.graphdef.protos import GraphDef, NodeDef, json_format
from graphslim.graphdef.saved_model import folder_of
from graphslim.ir import DType, Port
from graphslim.support.reading import parse_json, read_bytes, read_text

_NAME = "model.json"
_AGAIN = "copy or convert it again"
_LAYERS = (
    "give the Keras model that it was converted from, or the SavedModel that "
    "`tensorflowjs_converter --input_format=tfjs_layers_model "
    "--output_format=keras_saved_model model.json FOLDER` writes"
)
_FUSED = {
    "_FusedConv2D": "Conv2D",
    "_FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
    "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
    "_FusedMatMul": "MatMul",
}
"""By fused op, of which TensorFlow does not know or does not run each, the op without its steps."""
_TAKES = {"BiasAdd": 1, "Prelu": 1}
"""How many further inputs a step takes; the others take none."""
_STEPS = (
    "fused_ops",
    "num_args",
    "epsilon",
    "leakyrelu_alpha",
    "num_host_args",
    "host_args",
    "TArgs",
)
"""Attributes that only fused ops have."""


_DAMAGES = (
    json_format.ParseError,
    AttributeError,
    LookupError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What a file that states other things than it should makes its reader raise."""


class WebModel(NamedTuple):
    """A graph model.

    Attributes:
        graph: its GraphDef, as bytes.
        names: under `inputs` and `outputs`, the tensors by the names that its signature has.
    """

    graph: bytes
    names: Mapping[str, Mapping[str, str]]


def file_of(path: str) -> Optional[str]:
    """The `model.json` that a path means, itself or the one in the folder; else None."""
    if os.path.isdir(path):
        file = os.path.join(path, _NAME)
        return file if os.path.isfile(file) and folder_of(path) is None else None
    return path if path.lower().endswith(".json") and os.path.isfile(path) else None


def files_of(path: str) -> List[str]:
    """The files that a model consists of; none if the path means no such model."""
    file = file_of(path)
    if file is None:
        return []
    folder = os.path.dirname(file)
    shards = [name for name in os.listdir(folder or ".") if name.endswith(".bin")]
    return [file, *[os.path.join(folder, name) for name in shards]]


def read(file: str) -> WebModel:
    """Reads a model; weights that were quantised become the numbers that they stand for.

    Ops that the converter fused are the ops that they were before: TensorFlow knows these.

    Args:
        file: the path of the `model.json`.

    Raises:
        LoadError: it is no graph model, is damaged, or lacks a file.
    """
    tree = parse_json(read_text(file), file, _AGAIN)
    topology = tree.get("modelTopology") if isinstance(tree, dict) else None
    if not isinstance(topology, dict):
        raise LoadError(
            "a JSON file, and no TensorFlow.js model", file, "give a model, not its plan or report"
        )
    if tree.get("format") == "layers-model" or "node" not in topology:
        raise LoadError("a layers model of TensorFlow.js, no graph model", file, _LAYERS)
    graph = GraphDef()
    try:
        json_format.ParseDict(topology, graph, ignore_unknown_fields=True)
        signature = tree.get("signature") or tree.get("userDefinedMetadata", {}).get("signature")
        names = {
            side: {
                key: str(Port.parse(tensor["name"]))
                for key, tensor in (signature or {}).get(side, {}).items()
            }
            for side in ("inputs", "outputs")
        }
        values = _weights(tree.get("weightsManifest") or [], os.path.dirname(file))
        bodies = [function.node_def for function in graph.library.function]
        for nodes in (graph.node, *bodies):
            for node in nodes:
                if node.op == "Const":
                    _fill(node, values, file)
        _split(graph)
    except _DAMAGES as error:
        raise LoadError(
            f"a damaged TensorFlow.js model: {type(error).__name__}: {error}", file, _AGAIN
        ) from None
    return WebModel(graph.SerializeToString(deterministic=True), names)


def _weights(manifest: Any, folder: str) -> Dict[str, np.ndarray]:
    """The values of weights by name."""
    values: Dict[str, np.ndarray] = {}
    for group in manifest:
        shards = [_shard(folder, name) for name in group["paths"]]
        data, at = b"".join(shards), 0
        for weight in group["weights"]:
            values[weight["name"]], at = _weight(weight, data, at)
        if at != len(data):
            raise LoadError(
                f"its files hold {len(data):,} bytes, and its weights {at:,}",
                os.path.join(folder, group["paths"][0]),
                _AGAIN,
            )
    return values


def _shard(folder: str, name: str) -> bytes:
    """The bytes of a file of weights, which lies beside the `model.json` or below."""
    if os.path.isabs(name) or os.path.normpath(name).split(os.sep)[0] == "..":
        raise LoadError("a file of weights outside of the model's folder", name, _AGAIN)
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        raise LoadError("a file of its weights is missing", path, "copy it too")
    return read_bytes(path)


def _weight(weight: Mapping[str, Any], data: bytes, at: int) -> Tuple[np.ndarray, int]:
    """The values of a weight whose bytes begin at `at`, and where they end."""
    shape, name = [index(size) for size in weight["shape"]], weight["name"]
    size = int(np.prod(shape, dtype=np.int64))
    if weight["dtype"] == "string":
        texts: List[bytes] = []
        for _ in range(size):
            _require(at + 4 <= len(data), name)
            length = int.from_bytes(data[at : at + 4], "little")
            texts.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        _require(at <= len(data), name)
        return np.array(texts, object).reshape(shape), at
    stored = weight.get("quantization") or {}
    kind = np.dtype(stored.get("dtype", weight["dtype"])).newbyteorder("<")
    end = at + size * kind.itemsize
    _require(size >= 0 and end <= len(data), name)
    array = np.frombuffer(data, kind, size, at).reshape(shape)
    if "scale" in stored:
        array = array.astype(np.float32) * np.float32(stored["scale"]) + np.float32(stored["min"])
        array = np.rint(array) if weight["dtype"] == "int32" else array
    return array, end


def _require(fits: bool, name: str) -> None:
    if not fits:
        raise LoadError(f"its files are too short for the weight {name}", name, _AGAIN)


def _fill(node: Any, values: Mapping[str, np.ndarray], file: str) -> None:
    """Gives a constant its value."""
    tensor = node.attr["value"].tensor
    if node.name not in values:
        # Small constants may have stayed; without elements it would be all zeros.
        if len(tensor.ListFields()) > 2 or not tensor.tensor_shape.ListFields():
            return
        raise LoadError(f"no weights for the constant {node.name}", file, _AGAIN)
    array, dtype = values[node.name], DType(node.attr["dtype"].type)
    tensor.Clear()
    tensor.dtype = int(dtype)
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if dtype is DType.string:
        tensor.string_val.extend(array.ravel().tolist())
    else:
        tensor.tensor_content = array.astype(dtype.storage).tobytes()


def _split(graph: Any) -> None:
    """Replaces fused ops by the ops that they were before, the last of which keeps the name."""
    names = {node.name for node in graph.node}
    nodes: List[Any] = []
    for node in graph.node:
        steps = (
            [text.decode() for text in node.attr["fused_ops"].list.s] if node.op in _FUSED else []
        )
        if node.op in _FUSED:
            nodes += _parts(node, _FUSED[node.op], steps, names)
        elif node.op == "Prelu":
            nodes += _prelu(node.name, node.input[0], node.input[1], names)
        else:
            nodes.append(node)
    copies = [NodeDef.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _parts(node: Any, op: str, steps: List[str], names: Set[str]) -> List[Any]:
    """The op of a fused node and its steps."""
    data = [name for name in node.input if not name.startswith("^")]
    waits = [name for name in node.input if name.startswith("^")]
    taken = [_TAKES.get(step, 0) for step in steps]
    if len(data) != 2 + sum(taken):
        raise ValueError(f"{node.name} has {len(data)} inputs for {', '.join([op, *steps])}")
    parts = [NodeDef(name=node.name, op=op, input=[*data[:2], *waits])]
    for key, value in node.attr.items():
        if key not in _STEPS:
            parts[0].attr[key].CopyFrom(value)
    at = 2
    for step, count in zip(steps, taken):
        before = parts[-1]
        before.name = _free(f"{node.name}/{before.op}", names)
        if step == "Prelu":
            parts += _prelu(node.name, before.name, data[at], names)
        else:
            after = NodeDef(name=node.name, op=step, input=[before.name, *data[at : at + count]])
            after.attr["T"].CopyFrom(parts[0].attr["T"])
            if step == "BiasAdd" and "data_format" in node.attr:
                after.attr["data_format"].CopyFrom(node.attr["data_format"])
            if step == "LeakyRelu" and "leakyrelu_alpha" in node.attr:
                after.attr["alpha"].CopyFrom(node.attr["leakyrelu_alpha"])
            parts.append(after)
        at += count
    return parts


def _prelu(name: str, data: str, slope: str, names: Set[str]) -> List[Any]:
    """What TensorFlow has no op for: x where it is positive, and slope times x elsewhere."""
    relu, negative, below, scaled = [
        _free(f"{name}/{part}", names) for part in ("Relu", "Neg", "Relu_1", "Mul")
    ]
    nodes = [
        NodeDef(name=relu, op="Relu", input=[data]),
        NodeDef(name=negative, op="Neg", input=[data]),
        NodeDef(name=below, op="Relu", input=[negative]),
        NodeDef(name=scaled, op="Mul", input=[slope, below]),
        NodeDef(name=name, op="Sub", input=[relu, scaled]),
    ]
    for node in nodes:
        node.attr["T"].type = int(DType.float32)
    return nodes


def _free(name: str, names: Set[str]) -> str:
    """A name that no node has yet, made of this one."""
    while name in names:
        name += "_1"
    names.add(name)
    return name
