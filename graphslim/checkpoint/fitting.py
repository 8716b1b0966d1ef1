"""A plan in the terms of a checkpoint: what it takes from each variable, and what it folds.

Stripping adds no variables to a checkpoint: the constant that a removed channel leaves has to go
into an offset that is a variable already. In front of a batch norm the constant goes into the
moving mean instead. That is exact for inference, as the offset would be, and for training too,
where batch norm subtracts the mean of the batch.
"""

from __future__ import annotations

from typing import Collection, Dict, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from graphslim.channels.groups import Channels, Removal, analyse, as_asked, copies_needed
from graphslim.checkpoint.model import Trained
from graphslim.errors import PlanError
from graphslim.ir import IDENTITIES, Graph, Node, Port, Tensor
from graphslim.ir.families import BATCH_NORMS, NORM_INPUTS
from graphslim.ops.norm import epsilon_of
from graphslim.plans import GroupPlan, Plan, fit
from graphslim.plans.fit import removal_of
from graphslim.plans.make import cuts_of
from graphslim.rewrite.apply import fold_constants

WEIGHT_ROLES = ("producer", "consumer", "follower")
"""Roles of bindings to weights; other roles are sizes and indices, which are in the graph."""

Places = Dict[str, Dict[int, Tuple[int, ...]]]
"""For axes of variables, the positions that go, in order."""


class Fitting(NamedTuple):
    """A plan in the names of a checkpoint's variables.

    Attributes:
        plan: the plan; every group says what it cuts.
        channels: the channel analysis of the inference graph.
        removed: which of its channels go; bool of shape (channels.count,).
        notes: how the plan was matched, line by line.
    """

    plan: Plan
    channels: Channels
    removed: np.ndarray
    notes: Tuple[str, ...]


def fitting(trained: Trained, plan: Plan, folds: bool = False) -> Fitting:
    """A plan in the names of a checkpoint's variables, whose values may have changed since.

    Args:
        trained: the checkpoint.
        plan: a plan of it, or of another checkpoint of the same architecture.
        folds: keep the plan's folds, which then have to hold for these values. Else they are left
            out: soft pruning has done them already.

    Raises:
        PlanError: the plan does not fit, or cuts one variable in two ways.
    """
    if plan.through_norms:
        raise PlanError(
            "takes channels through norms, and in a checkpoint channels that are zero go on to "
            "count in the norms",
            "the plan",
            "make it without --through-norms, or prune the frozen graph",
        )
    graph = as_asked(trained.graph, plan)
    fitted = fit(graph, plan if folds else plan._replace(folds=()), force=True)
    channels = analyse(graph)
    removed = removal_of(channels, fitted.plan)
    _refuse_copies(trained, channels, removed)
    by_id = {group.id: group for group in channels.groups}
    groups: List[GroupPlan] = [
        planned._replace(cuts=tuple(cuts_of(channels, by_id[planned.id], removed)))
        for planned in fitted.plan.groups
    ]
    return Fitting(fitted.plan._replace(groups=tuple(groups)), channels, removed, fitted.notes)


def places(plan: Plan, without: Collection[str] = ()) -> Places:
    """By parameter and axis, the positions that a plan removes; sizes and indices left out.

    For each removed channel these are the filters that compute it, the depthwise filters, scales
    and offsets that it passes, and the weights that read it.

    Args:
        plan: the plan; every group has to say what it cuts.
        without: parameters to leave out, as moving means and variances where channels are set to
            zero.
    """
    gone_by_axis: Dict[str, Dict[int, Set[int]]] = {}
    for group in plan.groups:
        for cut in group.cuts:
            if cut.role in WEIGHT_ROLES and cut.param not in without:
                gone_by_axis.setdefault(cut.param, {}).setdefault(cut.axis, set()).update(
                    cut.removed
                )
    return {
        param: {axis: tuple(sorted(gone)) for axis, gone in sorted(axes.items())}
        for param, axes in gone_by_axis.items()
    }


def _refuse_copies(trained: Trained, channels: Channels, removed: np.ndarray) -> None:
    """Refuses a plan by which the readers of one variable would need different parts of it.

    Raises:
        PlanError: several readers of a variable would need different parts of it.
    """
    for param, copies in copies_needed(Removal(channels, removed)).items():
        if len(copies) > 1 and param in trained.keys:
            readers = [use.node for _, uses in copies for use in uses]
            raise PlanError(
                f"the plan would cut it in {len(copies)} ways, for {', '.join(readers[:3])}, and a "
                "checkpoint holds it once",
                param,
                "--exclude the groups of all these readers but one",
            )


# ------------------------------------------------------------------ what removed channels leave
_HINT = "--exclude its group, or remove it from the frozen graph with `graphslim prune`"


def folded(trained: Trained, fitted: Fitting) -> Dict[str, Tensor]:
    """The variables that take the constants of a plan's folds, with their new values.

    Args:
        trained: the checkpoint.
        fitted: the plan; its folds hold for this checkpoint.

    Returns:
        by variable's node, its new value; empty for a plan without folds.

    Raises:
        PlanError: no variable of the checkpoint is an offset that could take a constant.
    """
    if not fitted.plan.folds:
        return {}
    graph = trained.graph.copy()
    removal = Removal(fitted.channels, fitted.removed)
    fold_constants(graph, fitted.channels, fitted.plan, removal)
    for node in graph:
        if node.name not in trained.graph:
            raise PlanError(
                "a removed channel leaves a constant here, and no variable of the checkpoint is an "
                "offset that could take it",
                node.name.rpartition("/folded")[0] or node.name,
                _HINT,
            )
    values: Dict[str, Tensor] = {}
    for node in trained.graph:
        if node.op != "Const" or graph[node.name].attrs["value"] is node.attrs["value"]:
            continue
        if node.name not in trained.keys:
            raise PlanError(
                "would take the constant that a removed channel leaves, and is no variable of the "
                "checkpoint",
                node.name,
                _HINT,
            )
        values.update(_moved(trained, node.name, graph[node.name].attrs["value"]))
    return values


def with_values(graph: Graph, values: Dict[str, Tensor]) -> Graph:
    """A graph whose constants have other values; the graph given stays as it is."""
    if not values:
        return graph
    changed = graph.copy()
    for name, tensor in values.items():
        changed.set_attr(name, "value", tensor)
    return changed


def _moved(trained: Trained, offset: str, value: Tensor) -> Dict[str, Tensor]:
    """The new value of an offset, or of the moving mean that takes the constant instead."""
    graph = trained.graph
    norm = _norm_behind(graph, offset)
    if norm is None:
        return {offset: value}
    inputs = [_constant(graph, port) for port in graph.data_inputs(norm)]
    scale, _, mean, variance = [inputs[place] for place in NORM_INPUTS[norm.op]]
    if mean is None or mean.name not in trained.statistics or scale is None or variance is None:
        return {offset: value}
    gained = value.numbers().astype(np.float64) - graph[offset].attrs["value"].numbers()
    factor = scale.attrs["value"].numbers().astype(np.float64)
    spread = variance.attrs["value"].numbers().astype(np.float64)
    step = np.sqrt(spread + epsilon_of(norm))
    # Where the factor is zero the offset has gained nothing.
    shift = np.divide(gained * step, factor, out=np.zeros_like(gained), where=factor != 0)
    before = mean.attrs["value"]
    return {mean.name: before.with_numbers(before.numbers().astype(np.float64) - shift)}


def _norm_behind(graph: Graph, offset: str) -> Optional[Node]:
    """The fused batch norm whose offset a constant is, if nothing else reads the constant."""
    at = Port(offset)
    while True:
        uses = graph.uses_of(at)
        if len(uses) != 1:
            return None
        user = graph[uses[0].node]
        if user.op in BATCH_NORMS and uses[0].index == NORM_INPUTS[user.op].offset:
            return user
        if user.op not in IDENTITIES:
            return None
        at = Port(user.name)


def _constant(graph: Graph, port: Port) -> Optional[Node]:
    """The constant behind a port and identities, if it has one reader; else None."""
    while graph[port.node].op in IDENTITIES and len(graph.uses_of(port)) == 1:
        port = graph.data_inputs(port.node)[0]
    node = graph[port.node]
    return node if node.op == "Const" and len(graph.uses_of(node)) == 1 else None
