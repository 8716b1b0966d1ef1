"""What runs in the process of a converter: requests come in on its input, answers go out."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from importlib import import_module
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from graphslim import runtime
from graphslim.delivery.converter import reason, receive, send
from graphslim.delivery.formats import ONNX, SAVED_MODEL, TFLITE
from graphslim.errors import EmitError, GraphslimError, RuntimeUnavailable
from graphslim.runtime.library import first_line
from graphslim.runtime.session import tensor_name
from graphslim.support.importing import install_hint

Named = Tuple[str, str]
"""The name of an output, and the tensor (`node` or `node:port`) that it is."""
Answer = Union[Dict[str, bytes], Tuple[str, str, str, str]]
"""The files by path, or of an error its class, what, where and what to do."""

OPSET = 15
"""The version of ONNX's ops: of 2021, which all of its runtimes take."""
_LARGEST = 2**31
"""The bytes of a protobuf message stay below this."""
_MISSING = (
    # TensorFlow 2, with ops that TensorFlow has and that nobody has.
    re.compile(r"^\s*Flex ops: (.*)$", re.MULTILINE),
    re.compile(r"^\s*Custom ops: (.*)$", re.MULTILINE),
    re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op"),
    # TensorFlow 1.15
    re.compile(r"need custom implementations: ([^.\n]*)"),
)
"""How the converters' messages name ops that TensorFlow Lite does not have."""
_PROGRAM = "_toco_from_proto_bin"
"""Where TensorFlow 1.15 keeps the path of its converter; it converts by itself without one."""


def main() -> None:
    """Answers requests until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what converters print goes where their complaints go
    runtime.import_for_command(lambda: None)
    while True:
        try:
            kind, request = receive(sys.stdin.buffer)
        except EOFError:
            return
        send(answers, answer(kind, request))


def answer(kind: str, request: Mapping[str, Any]) -> Answer:
    """Converts a graph, or says why it cannot be converted."""
    try:
        return _CONVERSIONS[kind](**request)
    except GraphslimError as error:
        return type(error).__name__, error.what, error.where or "", error.hint or ""
    except MemoryError:
        what, hint = "there is not enough memory to convert it", "give a smaller graph"
        return EmitError.__name__, what, "", hint
    except Exception as error:  # converters raise whatever they stumble over
        import traceback

        traceback.print_exc()
        what = f"the converter fails: {reason(str(error), 0) or type(error).__name__}"
        return EmitError.__name__, what, "", "convert with another TensorFlow, or write a .pb"


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


# --- The formats.


def to_saved_model(
    definition: bytes, inputs: Sequence[str], outputs: Sequence[Named]
) -> Dict[str, bytes]:
    """Writes a SavedModel with the signature `serving_default`; gives its files.

    Args:
        definition: a GraphDef.
        inputs: the names of the placeholders.
        outputs: pairs of a name and the tensor that has it in the signature.

    Raises:
        EmitError: TensorFlow refuses the graph.
    """
    tf = runtime.tensorflow("it writes SavedModels")
    with tempfile.TemporaryDirectory() as place, tf.Graph().as_default() as holder:
        # The signature has the names, so that no tensor needs to be renamed.
        fed, wanted = imported(
            tf, holder, definition, inputs, [(name, name) for _, name in outputs]
        )
        folder = os.path.join(place, "model")
        with tf.Session(graph=holder) as session:
            builder = tf.saved_model.Builder(folder)
            signature = tf.saved_model.predict_signature_def(
                dict(zip(inputs, fed)), dict(zip([name for name, _ in outputs], wanted))
            )
            builder.add_meta_graph_and_variables(
                session, [tf.saved_model.tag_constants.SERVING], {"serving_default": signature}
            )
            builder.save()
        files = {}
        for parent, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(parent, name)
                with open(path, "rb") as file:
                    files[os.path.relpath(path, folder)] = file.read()
        return files


def to_onnx(definition: bytes, inputs: Sequence[str], outputs: Sequence[Named]) -> Dict[str, bytes]:
    """Converts a graph to ONNX by tf2onnx; open sizes stay open.

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


def to_tflite(
    definition: bytes,
    inputs: Sequence[str],
    outputs: Sequence[Named],
    quantize: Optional[str],
    io: str,
    select_tf_ops: bool,
    calibration: Sequence[Mapping[str, np.ndarray]],
) -> Dict[str, bytes]:
    """Converts a graph to TensorFlow Lite by TensorFlow's own converter.

    Args:
        definition: a GraphDef whose inputs state their shapes.
        inputs: the names of the placeholders.
        outputs: pairs of a name and the tensor that gets it.
        quantize: `dynamic`, `float16`, `int8` or None.
        io: the element type of inputs and outputs of an int8 model, `float` or `int8`.
        select_tf_ops: whether TensorFlow's ops may stay.
        calibration: for int8, the inputs that the ranges of tensors are taken from.

    Raises:
        EmitError: an op has no place in a TensorFlow Lite model.
    """
    tf = runtime.tensorflow("it converts to TensorFlow Lite")
    _stay_in_process(tf)
    with tf.Graph().as_default() as holder:
        fed, wanted = imported(tf, holder, definition, inputs, outputs)
        with tf.Session(graph=holder) as session:
            converter = tf.lite.TFLiteConverter.from_session(session, fed, wanted)
            if quantize is not None:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if quantize == "float16":
                converter.target_spec.supported_types = [tf.float16]
            if quantize == "int8":
                converter.representative_dataset = lambda: (
                    [feeds[name] for name in inputs] for feeds in calibration
                )
            if quantize == "int8" and io == "int8":
                converter.inference_input_type = converter.inference_output_type = tf.int8
            if select_tf_ops:
                sets = tf.lite.OpsSet
                own = [sets.TFLITE_BUILTINS_INT8] if quantize == "int8" else []
                converter.target_spec.supported_ops = [
                    *own,
                    sets.TFLITE_BUILTINS,
                    sets.SELECT_TF_OPS,
                ]
            try:
                return {"": bytes(converter.convert())}
            except Exception as error:  # each version has classes of its own
                refusal = _refusal(error, io, select_tf_ops)
                if refusal is None:
                    raise
                raise refusal from error


def _refusal(error: Exception, io: str, select_tf_ops: bool) -> Optional[EmitError]:
    """What TensorFlow Lite's converter says of a graph, in a line; None where it fails otherwise.

    Args:
        error: what the converter raised.
        io, select_tf_ops: as for `to_tflite`.
    """
    if io == "int8" and str(error).startswith("Unsupported"):
        return EmitError(
            f"its inputs or outputs cannot be integers: {first_line(error)}",
            None,
            "leave out --io int8, or convert with another TensorFlow",
        )
    missing, known = missing_ops(str(error))
    if not missing:
        return None
    noun, them = ("ops", "them") if len(missing) > 1 else ("op", "it")
    hint = (
        f"leave {them} to TensorFlow with --select-tf-ops"
        if known and not select_tf_ops
        else f"name --outputs before {them}, or write a .pb"
    )
    return EmitError(f"TensorFlow Lite does not have the {noun} {', '.join(missing)}", None, hint)


def _stay_in_process(tf: Any) -> None:
    """Has TensorFlow 1.15 convert in this process, which is a child of its own already.

    It would start `toco_from_protos`, which loads TensorFlow once more, if that is on PATH.
    """
    module = sys.modules.get(tf.lite.TFLiteConverter.__module__.rpartition(".")[0] + ".convert")
    if hasattr(module, _PROGRAM):
        setattr(module, _PROGRAM, "")


def missing_ops(text: str) -> Tuple[List[str], bool]:
    """The ops that a converter's message says are missing, and whether TensorFlow has them."""
    flex: List[str] = []
    custom: List[str] = []
    for number, pattern in enumerate(_MISSING):
        for listed in pattern.findall(text):
            words = [word.strip().split("(")[0].strip() for word in listed.split(",")]
            (custom if number == 1 else flex).extend(
                [re.sub("^Flex", "", word) for word in words if word]
            )
    own = list(dict.fromkeys(custom)) or list(dict.fromkeys(flex))
    return own, not custom


_CONVERSIONS: Mapping[str, Callable[..., Dict[str, bytes]]] = {
    TFLITE: to_tflite,
    ONNX: to_onnx,
    SAVED_MODEL: to_saved_model,
}
