"""What each block, or layer outside blocks, costs: every parameter and MAC belongs to one."""

from __future__ import annotations

from typing import Dict, List, Mapping

from graphslim.analysis.cost import NOTHING, Cost, costs_of, total
from graphslim.channels.rules import COST_RULES
from graphslim.ir import Graph, Node
from graphslim.ir.query import needed

REST = ""
"""Name of what belongs to no block and no layer."""


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


def spent(graph: Graph, owner: Mapping[str, str]) -> Dict[str, Cost]:
    """What each owner costs, counted as `analysis.cost` counts the whole graph."""
    costs, used = costs_of(graph), needed(graph)
    parts: Dict[str, List[Cost]] = {}
    for node in graph.order():
        if node.name in used:
            parts.setdefault(owner[node.name], []).append(costs.get(node.name, NOTHING))
    return {name: total(own) for name, own in parts.items()}
