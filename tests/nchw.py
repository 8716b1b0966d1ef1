"""Networks in NCHW, and a plain way to run them on a CPU: each op between Transposes of its own."""

from __future__ import annotations

from typing import Dict, Optional, Sequence, Set

import numpy as np
from networks import Net

import graphslim as gs

_ORDER = (0, 2, 3, 1)
_LISTS = {"strides": 1, "dilations": 1, "ksize": 1, "explicit_paddings": 2}
"""Attributes with so many numbers per axis."""


class NchwNet(Net):
    """As `Net`, with the channels on axis 1."""

    def __init__(self, size: object = 8, channels: int = 8, shuffle: Optional[int] = None) -> None:
        self.vectors: Dict[str, int] = {}
        self.flat: Set[str] = set()
        super().__init__(size, channels, shuffle)
        self.lines[0] = self.lines[0].replace(
            f"<1,{size},{size},{channels}>", f"<1,{channels},{size},{size}>"
        )

    def op(self, op: str, *inputs: str, name: str = "", like: str = "", **attrs: object) -> str:
        if attrs.get("data_format") == "NHWC" and not (op == "BiasAdd" and inputs[0] in self.flat):
            attrs["data_format"] = "NCHW"
            for key in ("strides", "ksize"):
                if key in attrs:
                    n, h, w, c = str(attrs[key]).strip("[]").split(",")
                    attrs[key] = f"[{n},{c},{h},{w}]"
        return super().op(op, *inputs, name=name, like=like, **attrs)

    def f(self, op: str, *inputs: str, **attrs: object) -> str:
        """A vector that meets a tensor stands for channels: it is written with two axes more."""
        tensors = [one for one in inputs if self.width.get(one) and one not in self.vectors]
        if len(inputs) == 2 and tensors and op != "BiasAdd":
            inputs = tuple([self._upright(one) for one in inputs])
        made = super().f(op, *inputs, **attrs)
        widths = [self.vectors[one] for one in inputs if one in self.vectors]
        if widths and not tensors:
            self.vectors[made] = widths[0]
        return made

    def _upright(self, name: str) -> str:
        width = self.vectors.get(name)
        return super().reshape(name, width, 1, 1) if width else name

    def const(self, shape: Sequence[int] = (), value: object = "random") -> str:
        name = super().const(shape, value)
        if len(shape) == 1:
            self.vectors[name] = shape[0]
        return name

    def matmul(self, x: str, filters: int, name: str = "") -> str:
        y = super().matmul(x, filters, name)
        self.flat.add(y)
        return y

    def pad(self, x: str) -> str:
        return self.f("Pad", x, self.ints(0, 0, 0, 0, 1, 1, 1, 1, shape=(4, 2)), Tpaddings="int32")

    def mean(
        self, x: str, keep: bool = True, axes: Sequence[int] = (1, 2), op: str = "Mean"
    ) -> str:
        return super().mean(x, keep, [axis + 1 for axis in axes], op)

    def concat(self, x: str, y: str) -> str:
        z = self.op("ConcatV2", x, y, self.ints(1, shape=()), T="float32", Tidx="int32", N=2)
        self.width[z] = self.width[x] + self.width[y]
        return z

    def reshape(self, x: str, *target: int) -> str:
        return super().reshape(x, *_channels_second(target))

    def reshape_by_batch(self, x: str, *rest: int) -> str:
        return super().reshape_by_batch(x, *_channels_second((0, *rest))[1:])


def _channels_second(target: Sequence[int]) -> Sequence[int]:
    return (target[0], target[3], *target[1:3]) if len(target) == 4 else target


def naive(graph: gs.Graph) -> gs.Graph:
    """A copy in which each NCHW op is an NHWC op between two Transposes of its own."""
    twin = graph.copy()
    for node in list(graph):
        if node.text("data_format") == "NCHW":
            _wrap(twin, twin[node.name])
    return twin


def _wrap(graph: gs.Graph, node: gs.Node) -> None:
    for key, count in _LISTS.items():
        numbers = node.ints(key)
        if numbers:
            rows = [numbers[count * axis : count * axis + count] for axis in _ORDER]
            graph.set_attr(node, key, [number for row in rows for number in row])
    graph.set_attr(node, "data_format", b"NHWC")
    inputs = list(graph.data_inputs(node))
    tensors = [2] if node.op == "Conv2DBackpropInput" else [0]
    if node.op == "_FusedConv2D" and b"Add" in node.attrs["fused_ops"]:
        tensors.append(3)
    for index in tensors:
        moved = _made(graph, node, f"in{index}", "Transpose", inputs[index], _ORDER)
        graph.rewire(node, index, moved)
    numbers_at = {"Conv2DBackpropInput": (0,), "MaxPoolV2": (1, 2)}.get(node.op, ())
    for index in numbers_at:
        graph.rewire(node, index, _made(graph, node, f"n{index}", "Gather", inputs[index], _ORDER))
    uses = graph.uses_of(gs.Port(node.name))
    back = _made(graph, node, "out", "Transpose", gs.Port(node.name), (0, 3, 1, 2))
    for use in uses:
        graph.rewire(use.node, use.index, back)
    graph.outputs = [back if port == gs.Port(node.name) else port for port in graph.outputs]


def _made(
    graph: gs.Graph, node: gs.Node, end: str, op: str, source: gs.Port, order: Sequence[int]
) -> gs.Port:
    tensor = gs.Tensor.of(np.array(order, np.int32))
    axes = gs.Node(
        f"{node.name}/{end}/axes", "Const", gs.Attrs({"dtype": tensor.dtype, "value": tensor})
    )
    # Behind its like, so that it is in the same loop, if any.
    graph.add(axes, [gs.Port(source.node, gs.CONTROL)])
    attrs = {"T": gs.DType.float32, "Tperm": gs.DType.int32}
    if op == "Gather":
        attrs = {"Tparams": gs.DType.int32, "Tindices": gs.DType.int32}
    made = gs.Node(f"{node.name}/{end}", op, gs.Attrs(attrs))
    graph.add(made, [source, gs.Port(axes.name)])
    return gs.Port(made.name)
