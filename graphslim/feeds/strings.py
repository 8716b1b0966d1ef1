"""Inputs of encoded bytes: what decodes them, and where their numbers begin."""

from __future__ import annotations

from typing import List, Optional, Set

from graphslim.analysis.channels import analyse
from graphslim.feeds.shapes import dtype_of
from graphslim.ir import Graph, Port
from graphslim.ir.query import needed
from graphslim.ops.table import Dims

_WEIGHTED = ("MatMul", "BatchMatMul", "Conv", "DepthwiseConv", "_Fused", "Fused")
"""What the names of ops with weights begin with."""


def decoder_of(graph: Graph, name: str) -> Optional[str]:
    """The op that decodes an input of strings, such as `DecodeJpeg`; None where there is none."""
    ops = [graph[reader].op for reader in _behind(graph, name)]
    return next((op for op in sorted(ops) if op.startswith("Decode")), None)


def cut_hint(graph: Graph, name: str) -> str:
    """What to do about an input of strings where none are given: the option that passes it over."""
    node = cut_behind(graph, name)
    if node is None:
        return "give it with --data"
    others = [other for other in graph.inputs if other != name]
    names = ",".join([*others, node])
    shape = analyse(graph).fact(Port(node)).shape
    if _is_known(shape):
        return f"give it with --data, or start behind what decodes it: --inputs {names}"
    sizes = ",".join(["1"] + ["?" if size is None else str(size) for size in (shape or ())[1:]])
    return (
        f"give it with --data, or start behind what decodes it: --inputs {names} with the sizes in "
        f"--input-shape {node}={sizes if shape else '1,...'}"
    )


def cut_behind(graph: Graph, name: str) -> Optional[str]:
    """The first node of floats that all outputs see an input through, the best known in shape.

    Looked for up to the first op with weights.
    """
    behind = _behind(graph, name)
    found: List[str] = []
    for node in graph.order():
        if node.name not in behind or node.name == name:
            continue
        if node.op.startswith(_WEIGHTED):
            break
        if dtype_of(node).is_floating and _is_passed_by_all(graph, name, node.name):
            found.append(node.name)
    known = [name for name in found if _is_known(analyse(graph).fact(Port(name)).shape)]
    return next(iter([*known, *found[::-1]]), None)


def _is_known(shape: Dims) -> bool:
    """Whether inputs of a shape can be made up: all but the batch and an image's size is known."""
    if shape is None:
        return False
    return None not in shape[1:] or (len(shape) == 4 and shape[3] in (1, 3))


def _behind(graph: Graph, name: str) -> Set[str]:
    """The nodes that depend on an input and that an output depends on."""
    used, reached = needed(graph), {name}
    for node in graph.order():
        if node.name in used and any(port.node in reached for port in graph.data_inputs(node)):
            reached.add(node.name)
    return reached


def _is_passed_by_all(graph: Graph, name: str, cut: str) -> bool:
    """Whether no output depends on an input once the first output of a node is given."""
    waiting, seen = [port for port in graph.outputs], set()
    while waiting:
        port = waiting.pop()
        if port in seen or port == Port(cut):
            continue
        seen.add(port)
        if port.node == name:
            return False
        waiting.extend(graph.data_inputs(port.node))
    return True
