"""A pass of one's own: two scalings in a row become one.

Converters and preprocessing leave such pairs, as in `image * (1 / 255) * 2`. Run it with

    graphslim prune model.pb -o slim.pb --pass examples/custom_pass.py:MergeScales

A pass may do what it likes to the graph through the graph's own methods; it must leave the inputs
and outputs alone and report truly whether it changed anything. `graphslim.testing` has the helpers
to test one: `check_drawing(MergeScales)` runs the two graphs drawn below.
"""

from __future__ import annotations

from typing import Optional, Tuple

import graphslim as gs


@gs.register
class MergeScales(gs.Pass):
    """Merges a product with one number and a product with another into one.

    Before:
        x = Placeholder() dtype=float32
        a = Const() dtype=float32 value=float32[]{3}
        b = Const() dtype=float32 value=float32[]{0.5}
        y = Mul(x, a) T=float32
        z = Mul(b, y) T=float32
        output z

    After:
        x = Placeholder() dtype=float32
        z = Mul(z/scale, x) T=float32
        z/scale = Const() dtype=float32 value=float32[]{1.5}
        output z
    """

    name = "merge-scales"

    def run(self, graph: gs.Graph) -> gs.Outcome:
        """Walks down the graph, so that a chain of scalings ends up in its last."""
        merged = 0
        for node in graph.order():
            outer = scaling(graph, node)
            inner = scaling(graph, graph[outer[0].node]) if outer else None
            if outer and inner and only_reader(graph, outer[0]):
                merge(graph, node, outer, inner)
                merged += 1
        return gs.Outcome(merged > 0, (f"{merged} scalings merged",))


def scaling(graph: gs.Graph, node: gs.Node) -> Optional[Tuple[gs.Port, gs.Port]]:
    """What a node scales, and the constant number by which; None if it does something else."""
    inputs = graph.data_inputs(node)
    if node.op != "Mul" or len(inputs) != len(graph.inputs_of(node)):
        return None
    for x, factor in (inputs, inputs[::-1]):
        constant = graph[factor.node]
        if constant.op == "Const" and constant.attrs["value"].shape == ():
            return x, factor
    return None


def only_reader(graph: gs.Graph, port: gs.Port) -> bool:
    """Whether a node could go if its one reader did."""
    fixed = {*graph.inputs, *[output.node for output in graph.outputs]}
    return len(graph.uses_of(port.node)) == 1 and port.node not in fixed


def merge(
    graph: gs.Graph,
    node: gs.Node,
    outer: Tuple[gs.Port, gs.Port],
    inner: Tuple[gs.Port, gs.Port],
) -> None:
    """Lets a node scale what the node before it scales, by the product of their numbers."""
    first, second = (graph[factor.node].attrs["value"] for _, factor in (inner, outer))
    product = second.with_numbers(first.numbers() * second.numbers())
    scale = gs.Node(
        graph.fresh_name(f"{node.name}/scale"),
        "Const",
        gs.Attrs({"dtype": product.dtype, "value": product}),
    )
    graph.add(scale)
    swapped = graph.data_inputs(node)[0] == outer[1]
    x, factor = inner[0], gs.Port(scale.name)
    graph.set_inputs(node, [factor, x] if swapped else [x, factor])
    for gone in (outer[0], inner[1], outer[1]):
        if gone.node in graph and not graph.uses_of(gone.node):
            graph.remove(gone.node)
