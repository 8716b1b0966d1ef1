"""Conversion to TensorFlow Lite by TensorFlow's own converter; runs in the converter's process."""

from __future__ import annotations

import re
import sys
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphslim import runtime
from graphslim.delivery.imported import Named, imported
from graphslim.errors import EmitError
from graphslim.runtime.library import first_line

_MISSING = (
    # TensorFlow 2, with ops that TensorFlow has and that nobody has.
    re.compile(r"^\s*Flex ops: (.*)$", re.MULTILINE),
    re.compile(r"^\s*Custom ops: (.*)$", re.MULTILINE),
    re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op"),
    # TensorFlow 1.15
    re.compile(r"need custom implementations: ([^.\n]*)"),
)
"""What the converters say of ops that TensorFlow Lite has not."""


_PROGRAM = "_toco_from_proto_bin"
"""Where TensorFlow 1.15 keeps the path of its converter; it converts by itself without one."""


def convert(
    definition: bytes,
    inputs: Sequence[str],
    outputs: Sequence[Named],
    quantize: Optional[str],
    io: str,
    select_tf_ops: bool,
    calibration: Sequence[Mapping[str, np.ndarray]],
) -> Dict[str, bytes]:
    """Converts a graph.

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
                converter.representative_dataset = _given(inputs, calibration)
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
                text = str(error)
                if io == "int8" and text.startswith("Unsupported"):
                    raise EmitError(
                        f"its inputs or outputs cannot be integers: {first_line(error)}",
                        None,
                        "leave out --io int8, or convert with another TensorFlow",
                    ) from error
                missing, known = missing_ops(text)
                if not missing:
                    raise
                noun, them = ("ops", "them") if len(missing) > 1 else ("op", "it")
                hint = (
                    f"leave {them} to TensorFlow with --select-tf-ops"
                    if known and not select_tf_ops
                    else f"name --outputs before {them}, or write a .pb"
                )
                raise EmitError(
                    f"TensorFlow Lite has not the {noun} {', '.join(missing)}", None, hint
                ) from error


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


def _given(
    inputs: Sequence[str], calibration: Sequence[Mapping[str, np.ndarray]]
) -> Callable[[], Iterator[List[Any]]]:
    def give() -> Iterator[List[Any]]:
        for feeds in calibration:
            yield [feeds[name] for name in inputs]

    return give
