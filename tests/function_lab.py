"""Graphs with functions of their own, for tests: a GraphDef in the making, and how to check it."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

import graphslim as gs
from graphslim.graphdef import load
from graphslim.graphdef.protos import GraphDef
from graphslim.graphdef.values import encode_attr
from graphslim.ir import DType, Func, Opaque, Shape, Tensor
from graphslim.testing import assert_equivalent, assert_mask_equivalent, random_plan

F32, BOOL, I32 = DType.float32, DType.bool, DType.int32
CONV = {"strides": [1, 1, 1, 1], "padding": b"SAME", "data_format": b"NHWC", "T": F32}


def open_attr(name: str) -> Opaque:
    """An attribute that a call fills in."""
    return Opaque(encode_attr(1).__class__(placeholder=name))


def put(nodes: Any, name: str, op: str, *inputs: str, device: str = "", **attrs: Any) -> str:
    """Adds a node to a graph or to a function's body."""
    node = nodes.add(name=name, op=op, input=inputs, device=device)
    for key, value in attrs.items():
        node.attr[key].CopyFrom(encode_attr(value))
    return name


def const(nodes: Any, name: str, array: Any, dtype: DType = F32) -> str:
    numbers = np.asarray(array)
    value = Tensor.from_numbers(numbers, dtype)
    return put(nodes, name, "Const", dtype=dtype, value=value)


def weights(nodes: Any, name: str, *shape: int, seed: int = 0) -> str:
    return const(nodes, name, np.random.RandomState(seed).randn(*shape))


class Lab:
    """A GraphDef in the making, with an input `x` of 1,5,5,4 and a convolution `a` to 8."""

    def __init__(self) -> None:
        self.proto = GraphDef()
        self.proto.versions.producer = 24
        self.node = self.proto.node
        put(self.node, "x", "Placeholder", dtype=F32, shape=Shape((1, 5, 5, 4)))
        weights(self.node, "a/w", 3, 3, 4, 8)
        put(self.node, "a", "Conv2D", "x", "a/w", **CONV)

    def function(
        self,
        name: str,
        args: Sequence[str],
        results: Dict[str, str],
        ends: Sequence[str] = (),
        types: Optional[Dict[str, DType]] = None,
    ) -> Any:
        """Declares a function of float tensors; gives the list of its nodes."""
        function = self.proto.library.function.add()
        function.signature.name = name
        for one in args:
            function.signature.input_arg.add(name=one, type=int((types or {}).get(one, F32)))
        for result, source in results.items():
            function.signature.output_arg.add(name=result, type=int(F32))
            function.ret[result] = source
        for end in ends:
            function.signature.control_output.append(end)
            function.control_ret[end] = end
        return function.node_def

    def call(self, name: str, function: str, *inputs: str, results: int = 1, **more: Any) -> str:
        data = [one for one in inputs if not one.startswith("^")]
        kinds = {"Tin": [F32] * len(data), "Tout": [F32] * results}
        return put(
            self.node, name, "PartitionedCall", *inputs, f=Func(function), **{**kinds, **more}
        )

    def end(self, source: str, channels: int = 8) -> Tuple[gs.Graph, gs.Graph]:
        """Ends it in a convolution `z`; gives the graph as it is, and inlined."""
        weights(self.node, "z/w", 1, 1, channels, 3, seed=9)
        put(self.node, "z", "Conv2D", source, "z/w", **CONV)
        return self.both()

    def both(self, **options: Any) -> Tuple[gs.Graph, gs.Graph]:
        return load(self.proto, inline=False, **options), load(self.proto, **options)


def names(graph: gs.Graph) -> List[str]:
    return [node.name for node in graph]


def calls(graph: gs.Graph) -> List[str]:
    return [node.name for node in graph if "Call" in node.op or node.op in ("If", "Case")]


def check(
    pair: Tuple[gs.Graph, gs.Graph],
    feeds: Optional[Dict[str, Any]] = None,
    tolerance: float = 0.0,
) -> gs.Graph:
    """The inlined graph, which computes the same bits as the one with calls; pruned by a mask."""
    whole, flat = pair
    assert [str(port) for port in whole.outputs] == [str(port) for port in flat.outputs]
    assert whole.inputs == flat.inputs
    assert_equivalent(whole, flat, feeds, tolerance)
    plan = random_plan(flat)
    assert plan.removed > 0
    assert_mask_equivalent(flat, plan, feeds, tolerance=1e-5)
    return flat


def relu_conv(lab: Lab, name: str = "f") -> None:
    """A function with weights of its own."""
    body = lab.function(name, ["t"], {"r": "relu:activations:0"})
    weights(body, "w", 1, 1, 8, 8, seed=1)
    put(body, "conv", "Conv2D", "t", "w:output:0", **CONV)
    put(body, "relu", "Relu", "conv:output:0", T=F32)
