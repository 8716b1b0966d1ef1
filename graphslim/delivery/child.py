"""What runs in the process of a converter: requests come in on its input, answers go out."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, Dict, Mapping, Tuple, Union

from graphslim import runtime
from graphslim.delivery.converter import reason, receive, send
from graphslim.errors import EmitError, GraphslimError

_MODULES = {"tflite": "tflite", "onnx": "onnx", "saved model": "saved_model"}
"""By format, the module of this package that converts to it."""

Answer = Union[Dict[str, bytes], Tuple[str, str, str, str]]


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
    """The files of a converted graph, or an error: its class, what, where and what to do."""
    try:
        module = import_module(f"graphslim.delivery.{_MODULES[kind]}")
        files: Dict[str, bytes] = module.convert(**request)
        return files
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
