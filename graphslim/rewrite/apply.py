"""Carrying out a plan: fold, cut every binding, mend what states a width."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from graphslim.analysis.channels import Channels, analyse
from graphslim.analysis.shared import Copies, copies_needed
from graphslim.analysis.values import Values
from graphslim.errors import PlanError
from graphslim.ir import IDENTITY_OPS, Graph, Node, Port, Shape
from graphslim.ops.table import Contraction
from graphslim.plans.make import check_removal, cuts_of, model_of
from graphslim.plans.plan import Plan
from graphslim.rewrite.fold import fold_shift


def apply(graph: Graph, plan: Plan, force: bool = False) -> Graph:
    """The graph without the channels of a plan; the graph given stays as it is.

    Args:
        graph: the graph that the plan was made for, or with `force` another of its architecture.
        plan: the plan.
        force: apply it though the model's digest differs.

    Raises:
        PlanError: the plan is of another model, or would leave the graph inconsistent.
    """
    slim = graph.copy()
    _apply(slim, analyse(graph), plan, force)
    return slim


def apply_in_place(graph: Graph, plan: Plan, force: bool = False) -> None:
    """Carries out a plan on the graph itself; else like `apply`. For passes."""
    _apply(graph, analyse(graph), plan, force)


def _apply(graph: Graph, channels: Channels, plan: Plan, force: bool) -> None:
    _check_model(graph, plan, force)
    removed = _mask(channels, plan)
    if plan.folds:
        _fold(graph, channels, plan, removed)
        folded = analyse(graph)
        channels, removed = folded, _carry_over(folded, channels, removed)
    _cut(graph, channels, removed)


def zero_consumers(graph: Graph, plan: Plan, force: bool = False) -> Graph:
    """The graph at its full width, with the weights that read a plan's channels set to zero.

    It computes what the pruned graph must: the reference of the mask equivalence test. The plan's
    folds are added as they are to the pruned graph.

    Raises:
        PlanError: as for `apply`.
    """
    _check_model(graph, plan, force)
    old = analyse(graph)
    removed = _mask(old, plan)
    masked = graph.copy()
    _fold(masked, old, plan, removed)
    channels = analyse(masked)
    gone = _carry_over(channels, old, removed)
    for axis in channels.axes:
        if not channels.is_consumer(axis):
            continue
        dead = gone[channels.label[axis.start : axis.start + axis.size]]
        if dead.any():
            tensor = masked[axis.param].attrs["value"]
            numbers = np.array(tensor.numbers())
            numbers[(slice(None),) * axis.axis + (dead,)] = 0
            masked.set_attr(axis.param, "value", tensor.with_numbers(numbers))
    return masked


def _check_model(graph: Graph, plan: Plan, force: bool) -> None:
    wanted = plan.model.get("sha256")
    if not force and wanted and wanted != model_of(graph)["sha256"]:
        raise PlanError(
            f"the plan was made for {plan.model.get('name')}, and {graph.name} has other bytes",
            "plan",
            "--force applies it to another checkpoint of the same architecture",
        )


def _mask(channels: Channels, plan: Plan) -> np.ndarray:
    """Which channels of the graph go, checked against every binding that the plan names."""
    by_id = {group.id: group for group in channels.groups}
    removed = np.zeros(channels.count, bool)
    for one in plan.groups:
        group = by_id.get(one.id)
        if group is None or len(group) != one.channels:
            there = "has no such group" if group is None else f"has {len(group)} channels there"
            raise PlanError(
                f"the plan cuts a group of {one.channels} channels, this graph {there}",
                one.id,
                "the plan is of another architecture",
            )
        check_removal(group, one.removed)
        removed[group.channels[list(one.removed)]] = True
    for one in plan.groups:
        different = set(cuts_of(channels, by_id[one.id], removed)) ^ set(one.cuts)
        if different:
            first = min(different)
            raise PlanError(
                f"the plan and the graph disagree about axis {first.axis} of {first.param}",
                one.id,
                "the plan was edited, or is of another architecture",
            )
    return removed


def _carry_over(new: Channels, old: Channels, removed: np.ndarray) -> np.ndarray:
    """The removed channels, in the labels of the graph after folding."""
    gone = np.zeros(new.count, bool)
    start = {(axis.param, axis.axis, axis.use): axis.start for axis in new.axes}
    for axis in old.axes:
        dead = np.flatnonzero(removed[old.label[axis.start : axis.start + axis.size]])
        # A vector that one reader now has a copy of is known by the other axes of its channels.
        place = start.get((axis.param, axis.axis, axis.use))
        if len(dead) and place is not None:
            gone[new.label[place + dead]] = True
    return gone


def _fold(graph: Graph, channels: Channels, plan: Plan, removed: np.ndarray) -> None:
    if not plan.folds:
        return
    values = Values(graph, channels, 0.0)
    sums = {one.node: one for one in channels.contractions}
    shifts: List[Tuple[str, np.ndarray]] = []
    for fold in plan.folds:
        one = sums.get(fold.node)
        weights = (
            None if one is None else values.constant(graph.data_inputs(fold.node)[one.weights])
        )
        if one is None or weights is None:
            raise PlanError(
                "has no constant weights to fold with", fold.node, "the plan does not fit"
            )
        indices = list(fold.indices)
        if len(fold.values) != len(indices) or not _all_removed(channels, one, indices, removed):
            raise PlanError(
                "the plan folds channels into it that it does not remove",
                fold.node,
                "the plan was edited, or is of another architecture",
            )
        rows = one.matrix(weights)[:, indices, :].astype(np.float64)
        shifts.append((fold.node, np.einsum("c,tco->o", np.asarray(fold.values), rows)))
    for name, shift in shifts:
        fold_shift(graph, values, name, shift)


def _all_removed(
    channels: Channels, one: Contraction, indices: List[int], removed: np.ndarray
) -> bool:
    width = len(one.into)
    return all(0 <= index < width for index in indices) and bool(
        removed[channels.label[one.into[indices]]].all()
    )


def _cut(graph: Graph, channels: Channels, gone: np.ndarray) -> None:
    shared = copies_needed(channels, gone)
    for axis in channels.axes:
        dead = gone[channels.label[axis.start : axis.start + axis.size]]
        if axis.use is None and dead.any():
            tensor = graph[axis.param].attrs["value"]
            graph.set_attr(axis.param, "value", tensor.take(axis.axis, ~dead))
    for param, cuts in shared.items():
        _cut_shared(graph, param, cuts)
    _resize(graph, channels, gone)
    for node in graph:
        if "_output_shapes" in node.attrs:
            _mend_shapes(graph, node, channels, gone)


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
            graph.set_attr(target, "value", tensor.take(0, ~dead))


def _resize(graph: Graph, channels: Channels, gone: np.ndarray) -> None:
    """Rewrites constants that state a channel count, in private copies where others read them."""
    wishes: Dict[str, Dict[Tuple[str, int], Dict[int, int]]] = {}
    for one in channels.resizes:
        lost = int(np.count_nonzero(gone[channels.label[one.ids]]))
        readers = wishes.setdefault(one.param, {})
        readers.setdefault((one.node, one.slot), {})[one.element] = len(one.ids) - lost
    for param, readers in wishes.items():
        _restate(graph, param, readers)


def _restate(graph: Graph, param: str, readers: Dict[Tuple[str, int], Dict[int, int]]) -> None:
    """Rewrites elements of one constant, as each reader wants them."""
    tensor = graph[param].attrs["value"]
    old = tensor.numbers().ravel()
    changing = {
        reader: numbers
        for reader, numbers in readers.items()
        if any(old[place] != number for place, number in numbers.items())
    }
    wanted = list(readers.values())
    agreed = set(_terminal_uses(graph, param)) == set(readers) and wanted.count(wanted[0]) == len(
        wanted
    )
    for (node, slot), numbers in list(changing.items())[: 1 if agreed else None]:
        fresh = np.array(tensor.numbers())
        fresh.ravel()[list(numbers)] = list(numbers.values())
        target = param if agreed else _private(graph, param, (node, slot))
        graph.set_attr(target, "value", tensor.with_numbers(fresh))


def _terminal_uses(graph: Graph, name: str) -> List[Tuple[str, int]]:
    """Who reads a constant, directly or through identities."""
    found: List[Tuple[str, int]] = []
    for use in graph.uses_of(Port(name)):
        if graph[use.node].op in IDENTITY_OPS:
            found.extend(_terminal_uses(graph, use.node))
        else:
            found.append((use.node, use.index))
    return found


def _private(graph: Graph, param: str, reader: Tuple[str, int]) -> str:
    """The constant that one reader alone gets a size from: itself, or a copy if others read it.

    The reader may get it through ops that only pass it on; those that are shared are copied too.

    Raises:
        PlanError: the reader gets it in another way.
    """
    path = _path(graph, param, reader)
    if path is None:
        raise PlanError(
            "holds a size for several readers that now differ",
            param,
            f"--exclude what {reader[0]} reshapes",
        )
    (above, slot), shared = reader, False
    for name, inner in [*path, (param, 0)]:
        node = graph[name]
        shared = shared or len(graph.uses_of(node)) != 1 or Port(name) in graph.outputs
        if shared:
            copy = Node(graph.fresh_name(f"{name}/resized"), node.op, node.attrs.copy())
            graph.add(copy, graph.inputs_of(node))
            graph.rewire(above, slot, Port(copy.name))
            name = copy.name
        above, slot = name, inner
    return above


def _path(graph: Graph, param: str, reader: Tuple[str, int]) -> Optional[List[Tuple[str, int]]]:
    """The ops between a reader and a constant, each with its input that leads there.

    None if there are several ways, or an op between them does more than pass numbers on.
    """
    found = []
    source = graph.data_inputs(reader[0])[reader[1]].node
    while source != param:
        inputs = graph.data_inputs(source)
        ways = [place for place, port in enumerate(inputs) if _leads(graph, port.node, param)]
        if len(ways) != 1 or graph[source].op not in (*IDENTITY_OPS, "Cast", "Pack", "ConcatV2"):
            return None
        found.append((source, ways[0]))
        source = inputs[ways[0]].node
    return found


def _leads(graph: Graph, source: str, param: str) -> bool:
    """Whether a short way of inputs leads from a node to a constant."""
    return source == param or any(
        _leads(graph, port.node, param)
        for port in graph.data_inputs(source)
        if graph[source].op in (*IDENTITY_OPS, "Cast", "Pack", "ConcatV2")
    )


def _mend_shapes(graph: Graph, node: Node, channels: Channels, gone: np.ndarray) -> None:
    """Brings `_output_shapes` up to date, output by output."""
    stated: Sequence[Optional[Shape]] = node.attrs["_output_shapes"]
    mended = []
    for index, shape in enumerate(stated):
        known = channels.fact(Port(node.name, index))
        dims = None if shape is None or shape.dims is None else list(shape.dims)
        if dims is not None and len(dims) == len(known.ids):
            for axis, ids in enumerate(known.ids):
                size = dims[axis]
                if ids is not None and size is not None:
                    dims[axis] = size - int(np.count_nonzero(gone[channels.label[ids]]))
        mended.append(shape if dims is None else Shape(tuple(dims)))
    if mended != list(stated):
        graph.set_attr(node, "_output_shapes", mended)
