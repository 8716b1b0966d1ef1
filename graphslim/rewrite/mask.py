"""The reference of mask equivalence: a graph at full width that does without a plan's channels."""

from __future__ import annotations

from typing import Any, Iterator, Tuple

import numpy as np

from graphslim.analysis.values import Values
from graphslim.channels.groups import Channels, Removal, analyse
from graphslim.channels.visit import Contraction
from graphslim.ir import IDENTITIES, Attrs, Graph, Node, Port, Tensor
from graphslim.plans.fit import fit
from graphslim.plans.plan import Plan
from graphslim.rewrite.apply import carry_over, fold_constants


def zero_consumers(graph: Graph, plan: Plan, force: bool = False) -> Graph:
    """The graph at its full width, with the weights that read a plan's channels set to zero.

    It computes what the pruned graph must: the reference of the mask equivalence test. The plan's
    folds are added as they are to the pruned graph. Where the weights are no constant of their
    own, the channels themselves are multiplied by zero before they are read.

    Raises:
        PlanError: as for `apply`.
    """
    fitted, old = fit(graph, plan, force), analyse(graph)
    removal = Removal(old, fitted.removed)
    masked = graph.copy()
    fold_constants(masked, old, fitted.plan, removal)
    channels = analyse(masked)
    removal = carry_over(channels, removal)
    _zero_weights(masked, channels, removal)
    values = Values(masked, channels, 0.0)
    for contraction in channels.contractions:
        dead = removal.of(contraction.into)
        if dead.any() and not _reads_none(values, channels, contraction, dead):
            _mask_data(masked, channels, contraction, dead)
    return masked


def _zero_weights(graph: Graph, channels: Channels, removal: Removal) -> None:
    """Sets to zero what constants that are nothing but weights have for channels that are gone."""
    slots = {(contraction.node, contraction.weights) for contraction in channels.contractions}
    for axis in channels.axes:
        dead = removal.along(axis)
        if graph[axis.param].op != "Const":
            continue
        if dead.any() and channels.is_consumer(axis) and set(_readers(graph, axis.param)) <= slots:
            tensor = graph[axis.param].attrs["value"]
            numbers = np.array(tensor.numbers())
            numbers[(slice(None),) * axis.axis + (dead,)] = 0
            graph.set_attr(axis.param, "value", tensor.with_numbers(numbers))


def _readers(graph: Graph, name: str) -> Iterator[Tuple[str, int]]:
    """Who reads a constant, directly or through identities, and with which input."""
    for use in graph.uses_of(graph[name]):
        if graph[use.node].op in IDENTITIES:
            yield from _readers(graph, use.node)
        else:
            yield use.node, use.index
    if Port(name) in graph.outputs:
        yield name, 0


def _reads_none(
    values: Values, channels: Channels, contraction: Contraction, dead: np.ndarray
) -> bool:
    """Whether the weights of a contraction are known to be zero for channels that are gone."""
    port = channels.graph.data_inputs(contraction.node)[contraction.weights]
    weights = values.constant(port)
    shape: Any = channels.fact(port).shape
    if weights is None or shape is None or None in shape:
        return False
    whole = np.broadcast_to(weights, shape)
    return not contraction.matrix(whole)[:, dead].any()


def _mask_data(
    graph: Graph, channels: Channels, contraction: Contraction, dead: np.ndarray
) -> None:
    """Multiplies what a contraction reads by zero where channels are gone."""
    source = graph.data_inputs(contraction.node)[contraction.data]
    attrs = graph[contraction.node].attrs
    dtype = attrs.get("T", attrs.get("Tb" if contraction.data else "Ta"))
    shape = [1] * (channels.fact(source).rank or 0)
    shape[contraction.axis] = len(dead)
    mask_value = Tensor.from_numbers((~dead).astype(np.float64).reshape(shape), dtype)
    mask = graph.add(
        Node(
            graph.fresh_name(f"{contraction.node}/mask"),
            "Const",
            Attrs({"dtype": dtype, "value": mask_value}),
        )
    )
    masked = Node(graph.fresh_name(f"{contraction.node}/masked"), "Mul", Attrs({"T": dtype}))
    graph.add(masked, [source, Port(mask.name)])
    graph.rewire(contraction.node, contraction.data, Port(masked.name))
