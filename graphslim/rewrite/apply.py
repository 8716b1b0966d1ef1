"""Carrying out a plan: fold, cut every binding, mend what states a width."""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np

from graphslim.analysis.statements import is_stated, restate
from graphslim.analysis.values import Values
from graphslim.channels.facts import laid_out
from graphslim.channels.groups import Channels, Copies, Removal, analyse, as_asked, copies_needed
from graphslim.channels.notes import Contraction
from graphslim.errors import PlanError
from graphslim.ir import Attrs, Graph, Node, Port, Shape
from graphslim.ir.query import remove_unread
from graphslim.plans.fit import Fitted, fit
from graphslim.plans.plan import Plan
from graphslim.rewrite.fold import fold_shift
from graphslim.rewrite.resize import resize
from graphslim.support.garbage import pause_gc


@pause_gc()
def apply(graph: Graph, plan: Plan, force: bool = False) -> Graph:
    """The graph without the channels of a plan; the graph given stays as it is.

    Args:
        graph: the graph that the plan was made for, or with `force` another of its architecture.
        plan: the plan.
        force: apply it though the model's digest differs; `graphslim.plans.fit` says how it fits.

    Raises:
        PlanError: the plan is of another model, or would leave the graph inconsistent.
    """
    slim, known = graph.copy(), as_asked(graph, plan)
    _apply(slim, analyse(known), fit(known, plan, force))
    return slim


def apply_in_place(graph: Graph, plan: Plan, force: bool = False) -> None:
    """Carries out a plan on the graph itself; else like `apply`. For passes."""
    known = as_asked(graph, plan)
    _apply(graph, analyse(known), fit(known, plan, force))


def _apply(graph: Graph, channels: Channels, fitted: Fitted) -> None:
    asked, graph.asked = graph.asked, channels.graph.asked
    try:
        _carry_out(graph, channels, fitted)
    finally:
        graph.asked = asked


def _carry_out(graph: Graph, channels: Channels, fitted: Fitted) -> None:
    removal = Removal(channels, fitted.removed)
    if fitted.plan.folds:
        order = graph.order()
        fold_constants(graph, channels, fitted.plan, removal)
        # A fold into a constant that is there leaves every channel where it was.
        if graph.order() is not order or removal.to_store():
            channels = analyse(graph)
            removal = carry_over(channels, removal)
    idle = store_computed(graph, channels, removal)
    name_squeezed_axes(graph, channels, removal)
    cut(graph, removal)
    remove_unread(graph, idle)
    if is_stated(graph):
        restate(graph, channels, analyse(graph))


def name_squeezed_axes(graph: Graph, channels: Channels, removal: Removal) -> None:
    """Lets a Squeeze drop the axes that it drops now, and not that of a channel that is left alone.

    Args:
        graph: the graph, changed in place.
        channels: its channels.
        removal: which of them go.
    """
    for node in list(graph):
        data = channels.fact(graph.data_inputs(node)[0]) if node.op == "Squeeze" else None
        if data is None or data.shape is None or node.ints("squeeze_dims") or node.ints("axis"):
            continue
        alone = [
            ids is not None and len(ids) > 1 and int((~removal.of(ids)).sum()) == 1
            for ids in data.ids
        ]
        dropped = [axis for axis, size in enumerate(data.shape) if size == 1]
        if any(alone) and dropped:
            graph.set_attr(node.name, "squeeze_dims", dropped)
        elif any(alone):
            identity = Node(node.name, "Identity", Attrs({"T": node.attrs["T"]}), node.device)
            graph.replace(identity, graph.inputs_of(node))


def carry_over(new: Channels, old: Removal) -> Removal:
    """What goes from the graph after folding, by what goes from the one before."""
    removal = Removal.none(new)
    places = {(axis.param, axis.axis, axis.use): axis for axis in new.axes}
    for axis in old.channels.axes:
        dead = np.flatnonzero(old.along(axis))
        # A vector that one reader now has a copy of is known by the other axes of its channels.
        place = places.get((axis.param, axis.axis, axis.use))
        if len(dead) and place is not None:
            removal.add(place, dead)
    new.completed(removal.mask)
    return removal


def fold_constants(graph: Graph, channels: Channels, plan: Plan, removal: Removal) -> None:
    """Folds the constants that a plan names into the offsets behind their contractions.

    Raises:
        PlanError: a fold is not one of this graph and plan.
    """
    if not plan.folds:
        return
    # On demand, unless what is looked at changes while offsets do.
    values = Values(channels.graph, channels, 0.0, at_once=channels.graph is graph)
    contractions = {contraction.node: contraction for contraction in channels.contractions}
    shifts: List[Tuple[str, np.ndarray]] = []
    for fold in plan.folds:
        contraction, weights = contractions.get(fold.node), None
        if contraction is not None:
            port = graph.data_inputs(fold.node)[contraction.weights]
            weights = laid_out(values.constant(port), channels.fact(port).shape)
        if contraction is None or weights is None:
            raise PlanError(
                "has no constant weights to fold with", fold.node, "the plan does not fit"
            )
        indices = list(fold.indices)
        if len(fold.values) != len(indices) or not _all_removed(removal, contraction, indices):
            raise PlanError(
                "the plan folds channels into it that it does not remove",
                fold.node,
                "the plan was edited: delete its `folds`; or it is of another architecture",
            )
        rows = contraction.matrix(weights)[:, indices, :].astype(np.float64)
        shifts.append((fold.node, np.einsum("c,tco->o", np.asarray(fold.values), rows)))
    for name, shift in shifts:
        fold_shift(graph, values, name, shift)


def _all_removed(removal: Removal, summed: Contraction, indices: List[int]) -> bool:
    width = len(summed.into)
    inside = all(0 <= index < width for index in indices)
    return inside and bool(removal.of(summed.into[indices]).all())


def cut(graph: Graph, removal: Removal) -> None:
    """Takes channels out of all parameters, and rewrites the numbers that count them.

    Args:
        graph: the graph, changed in place.
        removal: which of its channels go.
    """
    shared = copies_needed(removal)
    for param, kept in _kept(removal).items():
        _cut_param(graph, param, kept)
    for param, cuts in shared.items():
        _cut_shared(graph, param, cuts)
    resize(graph, removal)


def _kept(removal: Removal) -> Dict[str, Dict[int, np.ndarray]]:
    """By parameter that is cut, along each axis that loses positions, those that stay."""
    axes = [axis for axis in removal.channels.axes if axis.use is None]
    starts = np.array([axis.start for axis in axes], np.int64)
    ends = starts + np.array([axis.size for axis in axes], np.int64)
    staying = ~removal.of(slice(None))
    before = np.append(0, np.cumsum(staying))
    kept: Dict[str, Dict[int, np.ndarray]] = {}
    places: Dict[bytes, np.ndarray] = {}
    for at in np.flatnonzero(before[ends] - before[starts] < ends - starts).tolist():
        axis = axes[at]
        mask = staying[axis.start : axis.start + axis.size]
        key = mask.tobytes()
        if key not in places:
            places[key] = np.flatnonzero(mask)
        kept.setdefault(axis.param, {})[axis.axis] = places[key]
    return kept


def _cut_param(graph: Graph, param: str, kept: Dict[int, np.ndarray]) -> None:
    """Cuts a constant, or the shape that a variable states."""
    attrs = graph[param].attrs
    if "value" in attrs:
        graph.set_attr(param, "value", attrs["value"].at(kept))
        return
    sizes = list(attrs["shape"].dims)
    for axis, positions in kept.items():
        sizes[axis] = len(positions)
    graph.set_attr(param, "shape", Shape(tuple(sizes)))


def _cut_shared(graph: Graph, param: str, cuts: Copies) -> None:
    """Cuts a vector that several ops read, in copies where they do not lose the same positions."""
    tensor = graph[param].attrs["value"]
    for place, (dead, readers) in enumerate(cuts):
        target = param
        if place:
            copy = Node(graph.fresh_name(f"{param}/cut"), "Const", graph[param].attrs.copy())
            target = graph.add(copy).name
            for use in readers:
                graph.rewire(use.node, use.index, Port(target))
        if dead.any():
            left = tensor.take(tensor.shape.index(tensor.size), ~dead)
            graph.set_attr(target, "value", left)


# --- Storing what is computed from constants, where the computation would change with the channels.


def store_computed(graph: Graph, channels: Channels, removal: Removal) -> List[str]:
    """Makes constants, at their full size, of ops that are parameters and lose channels.

    Args:
        graph: the graph, changed in place.
        channels: its channels, as they were before any change.
        removal: which of them go.

    Returns:
        the nodes that may be unread now.

    Raises:
        PlanError: the numbers are not known.
    """
    names, idle = removal.to_store(), []  # type: List[str], List[str]
    values = Values(graph, channels, at_once=False) if names else None
    tensors = [None if values is None else values.tensor(Port(name)) for name in names]
    for name, tensor in zip(names, tensors):
        if tensor is None:
            raise PlanError("is computed from constants to numbers that are not known", name)
        idle.extend([port.node for port in graph.inputs_of(name)])
        attrs = Attrs({"dtype": tensor.dtype, "value": tensor})
        graph.replace(Node(name, "Const", attrs, graph[name].device), [])
    return idle
