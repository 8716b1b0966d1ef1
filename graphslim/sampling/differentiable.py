"""Graphs that TensorFlow refuses gradients of, in a form of which it takes them."""

from __future__ import annotations

import numpy as np

from graphslim.analysis.channels import Channels, analyse
from graphslim.ir import CONTROL, Attrs, DType, Graph, Node, Port, Tensor

_CUSTOM = "_gradient_op_type"
"""Names a gradient that the program had registered which built the graph; it is there no more."""


def differentiable(graph: Graph) -> Graph:
    """A copy that computes the same, with nothing in it that only lacks a gradient by its form.

    Custom gradients, such as that of swish, were functions of the program that built the graph:
    what they belong to is differentiated as it stands. A convolution in as many groups as it has
    channels, of which TensorFlow takes no gradient on a CPU, becomes the depthwise convolution that
    it is. Every node keeps its name.
    """
    twin, channels = graph.copy(), analyse(graph)
    for node in graph:
        if _CUSTOM in node.attrs:
            twin.drop_attr(node.name, _CUSTOM)
        if node.op == "Conv2D" and _groups(channels, node) > 1:
            _make_depthwise(twin, channels, node)
    return twin


def _groups(channels: Channels, node: Node) -> int:
    """How many groups of one channel a convolution in NHWC has; 0 if it has others."""
    data, filters = (channels.fact(port) for port in channels.graph.data_inputs(node)[:2])
    width, made = data.size(3), filters.size(3)
    is_plain = node.text("data_format", "NHWC") == "NHWC" and data.rank == 4
    strides = node.attrs.get("strides", [1, 1, 1, 1])
    # A depthwise kernel steps as far down as across.
    if not is_plain or filters.size(2) != 1 or not width or not made or strides[1] != strides[2]:
        return 0
    return width if made % width == 0 and None not in (filters.size(0), filters.size(1)) else 0


def _make_depthwise(graph: Graph, channels: Channels, node: Node) -> None:
    """Replaces a convolution; its filter of shape (h, w, 1, n * m) is read as (h, w, n, m)."""
    inputs = graph.data_inputs(node.name)
    filters, groups = channels.fact(inputs[1]), _groups(channels, node)
    height, width, _, made = filters.shape or ()
    numbers = np.array([height, width, groups, (made or 0) // groups])
    sizes = Tensor.from_numbers(numbers, DType.int32)
    shape = Node(
        graph.fresh_name(f"{node.name}/filter/shape"),
        "Const",
        Attrs({"dtype": DType.int32, "value": sizes}),
    )
    dtype = node.attrs.get("T", DType.float32)
    turned = Node(
        graph.fresh_name(f"{node.name}/filter"),
        "Reshape",
        Attrs({"T": dtype, "Tshape": DType.int32}),
    )
    graph.add(shape)
    graph.add(turned, [inputs[1], Port(shape.name)])
    kept = ("T", "strides", "padding", "data_format", "dilations", "explicit_paddings")
    attrs = {key: value for key, value in node.attrs.items() if key in kept}
    if attrs.get("explicit_paddings") == []:
        del attrs["explicit_paddings"]
    depthwise = Node(node.name, "DepthwiseConv2dNative", Attrs(attrs), node.device)
    others = [port for port in graph.inputs_of(node.name) if port.port == CONTROL]
    graph.replace(depthwise, [inputs[0], Port(turned.name), *others])
