"""The reference of mask equivalence: a graph at full width that does without a plan's channels.

Norms that a plan's channels go through are taken over the channels that stay.
"""

from __future__ import annotations

import numpy as np

from graphslim.analysis.values import Values
from graphslim.channels.facts import laid_out
from graphslim.channels.groups import Channels, Removal, analyse, as_asked
from graphslim.channels.notes import Contraction, Statistic
from graphslim.ir import Attrs, DType, Graph, Node, Port, Tensor
from graphslim.ir.query import is_output, uses_behind
from graphslim.plans.fit import fit
from graphslim.plans.plan import Plan
from graphslim.rewrite.apply import carry_over, fold_constants


def zero_consumers(graph: Graph, plan: Plan, force: bool = False) -> Graph:
    """The graph at its full width, with the weights that read a plan's channels set to zero.

    It computes what the pruned graph must: the reference of the mask equivalence test. The plan's
    folds are added as they are to the pruned graph. Where the weights are no constant of their
    own, the channels themselves are multiplied by zero before they are read. Norms over channels,
    which only a plan that goes through norms touches, get the channels that stay alone.

    Raises:
        PlanError: as for `apply`.
    """
    graph = as_asked(graph, plan)
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
    for statistic in channels.statistics:
        dead = removal.of(statistic.ids)
        if dead.any():
            _normalise_rest(masked, channels, statistic, dead)
    return masked


def _zero_weights(graph: Graph, channels: Channels, removal: Removal) -> None:
    """Sets to zero what constants that are nothing but weights have for channels that are gone."""
    slots = {(contraction.node, contraction.weights) for contraction in channels.contractions}
    for axis in channels.axes:
        dead, param = removal.along(axis), Port(axis.param)
        if graph[axis.param].op != "Const" or not dead.any() or not channels.is_consumer(axis):
            continue
        if slots.issuperset(uses_behind(graph, param)) and not is_output(graph, param):
            tensor = graph[axis.param].attrs["value"]
            numbers = np.array(tensor.numbers())
            numbers[(slice(None),) * axis.axis + (dead,)] = 0
            graph.set_attr(axis.param, "value", tensor.with_numbers(numbers))


def _reads_none(
    values: Values, channels: Channels, contraction: Contraction, dead: np.ndarray
) -> bool:
    """Whether the weights of a contraction are known to be zero for channels that are gone."""
    port = channels.graph.data_inputs(contraction.node)[contraction.weights]
    weights = laid_out(values.constant(port), channels.fact(port).shape)
    return weights is not None and not contraction.matrix(weights)[:, dead].any()


def _mask_data(
    graph: Graph, channels: Channels, contraction: Contraction, dead: np.ndarray
) -> None:
    """Multiplies what a contraction reads by zero where channels are gone."""
    source = graph.data_inputs(contraction.node)[contraction.data]
    attrs = graph[contraction.node].attrs
    dtype = attrs.get("T", attrs.get("Tb" if contraction.data else "Ta"))
    shape = [1] * (channels.fact(source).rank or 0)
    shape[contraction.axis] = len(dead)
    ones = Tensor.from_numbers((~dead).astype(np.float64).reshape(shape), dtype)
    mask = graph.add_constant(f"{contraction.node}/mask", ones)
    masked = Node(graph.fresh_name(f"{contraction.node}/masked"), "Mul", Attrs({"T": dtype}))
    graph.add(masked, [source, Port(mask.name)])
    graph.rewire(contraction.node, contraction.data, Port(masked.name))


def _normalise_rest(
    graph: Graph, channels: Channels, statistic: Statistic, dead: np.ndarray
) -> None:
    """Lets a norm, or a reduction in one, see only the channels that stay.

    What a norm in one op gives is put back at its old places; nothing reads the others.
    """
    name = statistic.node
    kept = np.flatnonzero(~dead)
    source = graph.data_inputs(name)[0]
    rest = _gather(graph, f"{name}/rest", source, kept, statistic)
    if statistic.keeps:
        places = np.where(dead, 0, np.cumsum(~dead) - 1)
        spread = _gather(graph, f"{name}/spread", Port(name), places, statistic)
        for use in graph.uses_of(Port(name)):
            if use.node != spread.node:
                graph.rewire(use.node, use.index, spread)
    graph.rewire(name, 0, rest)


def _gather(
    graph: Graph, wish: str, source: Port, places: np.ndarray, statistic: Statistic
) -> Port:
    """Positions of a tensor along the axis of a norm."""
    dtype = graph[statistic.node].attrs["T"]
    numbers = [
        graph.add_constant(f"{wish}/{what}", Tensor.from_numbers(np.asarray(value), DType.int32))
        for what, value in (("places", places), ("axis", statistic.axis))
    ]
    attrs = {"Tparams": dtype, "Tindices": DType.int32, "Taxis": DType.int32, "batch_dims": 0}
    node = Node(graph.fresh_name(wish), "GatherV2", Attrs(attrs))
    graph.add(node, [source, *[Port(number.name) for number in numbers]])
    return Port(node.name)
