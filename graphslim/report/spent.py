"""What each block, or layer outside blocks, costs: every parameter and MAC belongs to one."""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Optional

from graphslim.analysis.channels import analyse
from graphslim.analysis.cost import macs_of
from graphslim.ir import Graph, Node
from graphslim.ir.query import needed
from graphslim.ops.table import COST_RULES, product

REST = ""
"""Name of what belongs to no block and no layer."""


class Spent(NamedTuple):
    """Parameters and multiply-accumulates; the latter None where a size is open."""

    params: int
    macs: Optional[int]


def is_layer(node: Node) -> bool:
    """Whether a node is a convolution or a matrix product."""
    return node.op in COST_RULES


def owners(graph: Graph, inside: Mapping[str, str]) -> Dict[str, str]:
    """For each node, the block or layer that it is counted with.

    A node outside blocks belongs to the layer before it, and a constant to what reads it.

    Args:
        graph: the graph.
        inside: for nodes in blocks, the block.

    Returns:
        by node, the name of a block, of a layer, or `REST`.
    """
    order = graph.order()
    found = {node.name: inside[node.name] for node in order if node.name in inside}
    for node in order:
        if node.name not in found and is_layer(node):
            found[node.name] = node.name
        elif node.name not in found:
            known = [port.node for port in graph.data_inputs(node) if port.node in found]
            if known:
                found[node.name] = found[known[0]]
    for node in reversed(order):
        if node.name not in found:
            readers = [use.node for use in graph.uses_of(node) if use.node in found]
            found[node.name] = found[readers[0]] if readers else REST
    return found


def spent(graph: Graph, owner: Mapping[str, str]) -> Dict[str, Spent]:
    """What each owner costs, counted as `analysis.cost` counts the whole graph."""
    channels, used = analyse(graph), needed(graph)
    found: Dict[str, Spent] = {}
    for node in graph.order():
        if node.name not in used:
            continue
        params, macs = 0, 0  # type: int, Optional[int]
        outs = channels.facts[node.name]
        if node.op == "Const" and outs[0].shape and node.attrs["value"].dtype.is_real:
            params = product(outs[0].shape) or 0
        if is_layer(node):
            inputs = [channels.fact(port) for port in graph.data_inputs(node)]
            macs = macs_of(graph, node, inputs, outs)
        one = found.get(owner[node.name], Spent(0, 0))
        both = None if macs is None or one.macs is None else one.macs + macs
        found[owner[node.name]] = Spent(one.params + params, both)
    return found
