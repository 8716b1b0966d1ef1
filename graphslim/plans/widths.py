"""The widths at which the runtimes that run a network are fast.

Measured by `python -m benchmarks.widths --runtime NAME`; docs/choosing.md shows what came of it.
Kernels compute blocks of channels: a width within a block takes as long as the whole block.
"""

from __future__ import annotations

from typing import Dict, NamedTuple


class Widths(NamedTuple):
    """The widths that a runtime likes.

    Attributes:
        title: the runtime's name in texts.
        multiple: its kernels compute so many channels at once.
        aligned: at widths that are no multiple of this it is slower than at the next larger one.
    """

    title: str
    multiple: int
    aligned: int = 1

    def step_for(self, channels: int) -> int:
        """The multiple for a group: 4 where it is narrower, so that something of it can go."""
        return self.multiple if channels >= self.multiple else 4


TARGETS: Dict[str, Widths] = {
    "tf": Widths("TensorFlow", 8),
    "tflite": Widths("TFLite", 16),
    "tflite-int8": Widths("TFLite in 8 bits", 16),
    "ort": Widths("ONNX Runtime", 16, aligned=4),
    "openvino": Widths("OpenVINO", 16),
}
"""What a plan can be made for, by the name that `--for` takes."""
