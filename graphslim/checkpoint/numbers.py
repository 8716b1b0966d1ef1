"""Small formulas of a graph, calculated: rates, scales and masks made of random numbers."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

import numpy as np

from graphslim.ir import IDENTITIES, Graph, Node, Port

Leaf = Callable[[Node], Optional[np.ndarray]]
"""Gives the value of a node that no formula here gives, or None if it has none."""

_FORMULAS: Dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "AddV2": np.add,
    "Ceil": np.ceil,
    "Div": np.divide,
    "Floor": np.floor,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Inv": np.reciprocal,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "LogicalNot": np.logical_not,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Pow": np.power,
    "RealDiv": np.divide,
    "Reciprocal": np.reciprocal,
    "Round": np.rint,
    "Select": np.where,
    "SelectV2": np.where,
    "Sign": np.sign,
    "Sqrt": np.sqrt,
    "Square": np.square,
    "Sub": np.subtract,
}
_LONGEST = 200
"""Formulas of more ops are given up."""


def calculate(graph: Graph, port: Port, leaf: Leaf) -> Optional[np.ndarray]:
    """The value of a port that is a formula of scalar constants and leaves, None if it is not.

    Args:
        graph: the graph.
        port: where.
        leaf: gives the values of nodes that are neither constants nor formulas, as float64.

    Returns:
        float64 of any shape that the leaves broadcast to; truth values are 0 and 1.
    """
    known: Dict[str, Optional[np.ndarray]] = {}

    def value(port: Port) -> Optional[np.ndarray]:
        if port.node not in known:
            # Stands for the node while its inputs are looked at, and for all when it gets long.
            known[port.node] = None
            if len(known) <= _LONGEST:
                known[port.node] = of(graph[port.node])
        return known[port.node]

    def of(node: Node) -> Optional[np.ndarray]:
        if node.op == "Const":
            tensor = node.attrs["value"]
            if tensor.size != 1 or tensor.dtype.storage.kind not in "biuf":
                return None
            return np.asarray(tensor.numbers().astype(np.float64).ravel()[0])
        inputs = graph.data_inputs(node)
        if node.op in IDENTITIES or node.op in ("Cast", "Fill", "Reshape", "ZerosLike"):
            if node.op == "ZerosLike":
                return np.zeros(())
            return value(inputs[1 if node.op == "Fill" else 0])
        if node.op not in _FORMULAS:
            return leaf(node)
        operands = [value(one) for one in inputs]
        if any(one is None for one in operands):
            return None
        with np.errstate(all="ignore"):
            return np.asarray(_FORMULAS[node.op](*operands), np.float64)

    return value(port)
