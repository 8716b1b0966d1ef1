"""Which constants of a graph are weights that may be fitted: kernels, biases, scales, offsets."""

from __future__ import annotations

from typing import AbstractSet, Dict, List, NamedTuple, Tuple

from graphslim.channels.groups import analyse
from graphslim.ir import DType, Graph, Node, Port, Use
from graphslim.ir.families import BIASES, FAKE_QUANTIZERS, NORM_INPUTS, SUMS, WEIGHT_CARRIERS
from graphslim.ir.query import constant_nodes

_STORED = (DType.float32, DType.float16, DType.bfloat16)
"""Element types whose numbers may be fitted: in float32, and rounded when they are stored."""


class Weights(NamedTuple):
    """The weights of a graph.

    Attributes:
        names: the constants that may be fitted, in the order of the graph.
        refused: by constant that holds weights but is left as it is, a clause that says why.
    """

    names: Tuple[str, ...]
    refused: Dict[str, str]


def weights_of(graph: Graph) -> Weights:
    """The constants that are weights, by the ops that compute with them in the end.

    Mean and variance of a batch norm in one op are no weights: a fitted variance could turn
    negative, and scale and offset say the same. Neither are numbers that belong to no channel:
    bounds, sizes, anchors of boxes.
    """
    kernels = {
        (contraction.node, contraction.weights)
        for contraction in analyse(graph).contractions
        if contraction.weights != contraction.data
    }
    names: List[str] = []
    refused: Dict[str, str] = {}
    for node in graph.order():
        if node.op != "Const" or not node.attrs["value"].shape or node.name in graph.inputs:
            continue
        ends = _ends(graph, node)
        if any(graph[use.node].op == "Dequantize" and not use.index for use in ends):
            refused[node.name] = "its numbers are stored as integers, with a range beside them"
        elif ends and all(_is_weight(graph, node, use, kernels) for use in ends):
            dtype = node.attrs["value"].dtype
            if dtype in _STORED:
                names.append(node.name)
            else:
                refused[node.name] = f"it is of type {dtype.name}, and fitting is done in float32"
    return Weights(tuple(names), refused)


def _ends(graph: Graph, constant: Node) -> List[Use]:
    """The inputs at which a constant, or what is computed from it, is more than carried on."""
    computed = constant_nodes(graph)
    ends: List[Use] = []
    waiting, visited = [constant.name], {constant.name}
    while waiting:
        for use in graph.uses_of(Port(waiting.pop())):
            op = graph[use.node].op
            # A range is not what passes through it, and stays as it was calibrated.
            is_range = op in FAKE_QUANTIZERS and use.index > 0
            if use.node not in computed or op not in WEIGHT_CARRIERS or is_range:
                ends.append(use)
            elif use.node not in visited:
                visited.add(use.node)
                waiting.append(use.node)
    return ends


def _is_weight(
    graph: Graph, constant: Node, use: Use, kernels: AbstractSet[Tuple[str, int]]
) -> bool:
    """Whether a constant is a weight to the op that computes with it."""
    op, shape = graph[use.node].op, constant.attrs["value"].shape
    if use in kernels or (op == "DepthwiseConv2dNative" and use.index == 1):
        return True
    if op in NORM_INPUTS:
        return use.index in (NORM_INPUTS[op].scale, NORM_INPUTS[op].offset)
    if op in BIASES:
        return use.index == 1
    # An offset or a scale along one axis. What has more axes, as anchors have, is none.
    is_vector = max(shape) > 1 and sorted(shape)[:-1] == [1] * (len(shape) - 1)
    return op in SUMS | {"Sub", "Mul"} and is_vector and use.node not in constant_nodes(graph)
