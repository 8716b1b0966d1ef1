"""drop-debris: removes arithmetic that changes nothing, and dropout that drops nothing."""

from __future__ import annotations

from typing import List, Optional, Set, Tuple

import numpy as np

import graphslim as gs


@gs.register
class DropDebris(gs.Pass):
    """Removes what training and exporters leave behind, and what computes nothing.

    Sums with zeros, products with and quotients by ones, casts to the same type, the masks of a
    dropout whose rate is zero, and waiting for constants. Inputs and outputs of the graph stay.
    `fold-identity` removes the ops that only pass a tensor on.

    Before (a dropout that keeps all):
        x = Placeholder() dtype=float32 shape=<1,4>
        one = Const() dtype=float32 value=float32[]{1}
        scaled = RealDiv(x, one) T=float32
        shape = Shape(scaled) T=float32 out_type=int32
        random = RandomUniform(shape) T=int32 dtype=float32
        kept = AddV2(random, one) T=float32
        mask = Floor(kept) T=float32
        dropout = Mul(scaled, mask) T=float32
        y = Relu(dropout) T=float32

    After:
        x = Placeholder() dtype=float32 shape=<1,4>
        y = Relu(x) T=float32
    """

    name = "drop-debris"

    def run(self, graph: gs.Graph) -> gs.Outcome:
        """Decides by values and shapes as they were; what goes passes on what it read."""
        values = gs.Values(graph)
        signature = {*graph.inputs, *[port.node for port in graph.outputs]}
        waits = drop_waits(graph)
        removed = 0
        for node in graph.order():
            if node.name not in graph or node.name in signature:
                continue
            inputs = graph.inputs_of(node)
            source = unchanged(values, node)
            if source is None or any(port.port == gs.CONTROL for port in inputs):
                continue
            gs.bypass(graph, node.name, source)
            gs.remove_unread(graph, [node.name])
            removed += 1
        notes = (f"ops removed: {removed}", f"waits for constants removed: {waits}")
        return gs.Outcome(removed + waits > 0, notes if waits else notes[:1])


def drop_waits(graph: gs.Graph) -> int:
    """Removes control edges from what runs at once and does nothing; gives how many."""
    idle: Set[str] = set()
    removed = 0
    for node in graph.order():
        inputs = graph.inputs_of(node)
        left = [port for port in inputs if port.port != gs.CONTROL or port.node not in idle]
        if len(left) < len(inputs):
            graph.set_inputs(node, left)
            removed += len(inputs) - len(left)
        quiet = node.op in ("Const", "NoOp") or node.op in gs.IDENTITIES
        if quiet and node.name not in graph.inputs and all(port.node in idle for port in left):
            idle.add(node.name)
    return removed


def unchanged(values: gs.Values, node: gs.Node) -> Optional[gs.Port]:
    """The input that a node gives back as it is, or None."""
    graph, inputs = values.graph, values.graph.data_inputs(node)
    if node.op == "Cast":
        same = node.attrs.get("SrcT") == node.attrs.get("DstT")
        return inputs[0] if same else None
    if node.op in gs.families.SELECTS and len(inputs) == 3:
        keeps = keeps_all(values, inputs[0], inputs[1])
        return inputs[1] if keeps and as_wide(values, inputs[1], inputs[2]) else None
    for x, other in pairs(node, inputs):
        number = 0.0 if node.op in gs.families.SUMS | {"Sub"} else 1.0
        known = values.constant(other)
        same = known is not None and known.size > 0 and bool((known == number).all())
        if same and graph[x.node].op != "Const" and as_wide(values, x, other):
            return x
        if node.op == "Mul" and keeps_all(values, other, x):
            return x
    return None


def pairs(node: gs.Node, inputs: Tuple[gs.Port, ...]) -> List[Tuple[gs.Port, gs.Port]]:
    """The operands of a sum, difference, product or quotient: what may stay, and what may not."""
    if len(inputs) != 2 or node.op not in gs.families.SUMS | gs.families.QUOTIENTS | {"Sub", "Mul"}:
        return []
    orders = [(inputs[0], inputs[1]), (inputs[1], inputs[0])]
    return orders if node.op in gs.families.SUMS | {"Mul"} else orders[:1]


def as_wide(values: gs.Values, x: gs.Port, other: gs.Port) -> bool:
    """Whether another operand spreads a tensor over no more positions than it has."""
    shape, small = values.channels.fact(x).shape, values.channels.fact(other).shape
    if small is None:
        return False
    if all(size == 1 for size in small):
        return len(small) == 0 or (shape is not None and len(small) <= len(shape))
    if shape is None or len(small) > len(shape):
        return False
    ends = shape[len(shape) - len(small) :]
    return all(size in (1, end) and size is not None for size, end in zip(small, ends))


# ------------------------------------------------------------------ dropout


def keeps_all(values: gs.Values, mask: gs.Port, x: gs.Port) -> bool:
    """Whether a tensor is the mask of a dropout of `x` that keeps every element.

    TF1 writes it floor(keep + uniform), later versions cast(uniform >= rate).
    """
    graph = values.graph
    node = graph[behind(graph, mask).node]
    if node.op == "Cast":
        node = graph[behind(graph, graph.data_inputs(node)[0]).node]
    inputs = [behind(graph, port) for port in graph.data_inputs(node)]
    if node.op == "GreaterEqual":
        is_from_zero = is_number(values, inputs[1], 0.0)
        return is_from_zero and is_uniform(graph, inputs[0], x)
    if node.op != "Floor" or graph[inputs[0].node].op not in gs.families.SUMS:
        return False
    terms = [behind(graph, port) for port in graph.data_inputs(inputs[0].node)]
    for keep, random in (terms, terms[::-1]):
        if is_number(values, keep, 1.0) and is_uniform(graph, random, x):
            return True
    return False


def is_uniform(graph: gs.Graph, port: gs.Port, x: gs.Port) -> bool:
    """Whether a tensor is random between 0 and 1, and of the shape of `x`."""
    node = graph[port.node]
    if node.op != "RandomUniform":
        return False
    shape = graph[behind(graph, graph.data_inputs(node)[0]).node]
    return shape.op == "Shape" and behind(graph, graph.data_inputs(shape)[0]) == behind(graph, x)


def is_number(values: gs.Values, port: gs.Port, number: float) -> bool:
    """Whether a tensor is that number."""
    known = values.constant(port)
    return known is not None and known.size == 1 and float(np.ravel(known)[0]) == number


def behind(graph: gs.Graph, port: gs.Port) -> gs.Port:
    """The port that a value comes from, behind identities."""
    while graph[port.node].op in gs.IDENTITIES:
        port = graph.data_inputs(port.node)[0]
    return port
