"""The intermediate representation: a networkx graph of nodes, ports, attributes and tensors."""

from __future__ import annotations

from graphslim.ir.families import IDENTITIES
from graphslim.ir.graph import Block, Graph, Use
from graphslim.ir.node import (
    CONTROL,
    Attrs,
    Func,
    Node,
    Opaque,
    Port,
    Shape,
    is_float_cast,
)
from graphslim.ir.tensor import DType, Tensor

__all__ = [
    "CONTROL",
    "IDENTITIES",
    "Attrs",
    "Block",
    "DType",
    "Func",
    "Graph",
    "Node",
    "Opaque",
    "Port",
    "Shape",
    "Tensor",
    "Use",
    "is_float_cast",
]
