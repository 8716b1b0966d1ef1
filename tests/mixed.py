"""Networks in mixed precision: some ops compute in 16 bits, between casts, as Keras writes them."""

from __future__ import annotations

from typing import Container

import graphslim as gs

CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative", "MatMul")
ALL_BUT_NORMS = (*CONVOLUTIONS, "Relu6", "Relu", "Pad", "BiasAdd", "Mean")
"""What Keras computes in 16 bits under its policy `mixed_float16`."""


def in_16_bits(graph: gs.Graph, ops: Container[str], dtype: gs.DType) -> gs.Graph:
    """A copy in which ops compute in 16 bits: what they read is cast to it, what they give back."""
    twin = graph.copy()
    for node in graph.order():
        if node.op not in ops:
            continue
        for index, port in enumerate(twin.data_inputs(node.name)):
            if twin[port.node].attrs.get("dtype") != gs.DType.int32:
                narrow = _cast(f"{node.name}/cast_{index}", gs.DType.float32, dtype)
                twin.add(narrow, [port])
                twin.rewire(node.name, index, gs.Port(narrow.name))
        twin.set_attr(node.name, "T", dtype)
        if gs.Port(node.name) not in twin.outputs:
            uses = twin.uses_of(gs.Port(node.name))
            wide = _cast(f"{node.name}/wide", dtype, gs.DType.float32)
            twin.add(wide, [gs.Port(node.name)])
            for use in uses:
                twin.rewire(use.node, use.index, gs.Port(wide.name))
    return twin


def _cast(name: str, source: gs.DType, target: gs.DType) -> gs.Node:
    return gs.Node(name, "Cast", gs.Attrs({"SrcT": source, "DstT": target}))
