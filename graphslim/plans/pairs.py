"""Which layer of a graph is which of a plan's: the same place, and among equals the same name."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from graphslim.errors import PlanError
from graphslim.plans.plan import Layer, Plan
from graphslim.support.text import plural


class Pairs(NamedTuple):
    """The layers of a plan and of a graph, one to one.

    Attributes:
        nodes: for each layer of the plan, the graph's.
        params: for each of the plan's weights, the graph's; more than one where layers that share
            weights in the plan have their own here.
        notes: how many were matched how.
    """

    nodes: Dict[str, str]
    params: Dict[str, Set[str]]
    notes: Tuple[str, ...]


def pair(plan: Plan, layers: Sequence[Layer]) -> Pairs:
    """Matches the layers of a plan with those of a graph.

    Layers that stand in the same place as others, such as those of twin branches, are told apart
    by their names; where nothing is cut, or the same in each, it does not matter which is which.

    Raises:
        PlanError: there is a layer in one that is not in the other, or twins cannot be told apart.
    """
    theirs, ours = _by_structure(plan.layers), _by_structure(layers)
    _same_layers(theirs, ours, len(plan.layers))
    cuts = _cuts(plan)
    folds = {fold.node: fold for fold in plan.folds}
    nodes: Dict[str, str] = {}
    params: Dict[str, Set[str]] = {}
    named = 0
    for structure, twins in theirs.items():
        found = ours[structure]
        if len(twins) > 1:
            by_name = _by_name(twins, found)
            named += len(twins) if by_name else 0
            done = {(tuple(cuts.get(one.param, ())), folds.get(one.node)) for one in twins}
            if by_name is None and (len(done) > 1 or any(fold for _, fold in done)):
                raise PlanError(
                    f"{plural(len(twins), 'layer')} stand in the same place of the network as it, "
                    "and have other names here: which is which cannot be told",
                    twins[0].node,
                    "make a plan for this graph",
                )
            found = by_name or found
        for one, other in zip(twins, found):
            nodes[one.node] = other.node
            params.setdefault(one.param, set()).add(other.param)
    notes = [f"{plural(len(nodes), 'layer')} matched by their place in the network"]
    if named:
        notes.append(f"{named} of them stand where others do, and were told apart by their names")
    return Pairs(nodes, params, tuple(notes))


def _by_structure(layers: Sequence[Layer]) -> Dict[str, List[Layer]]:
    found: Dict[str, List[Layer]] = {}
    for layer in layers:
        found.setdefault(layer.structure, []).append(layer)
    return found


def _same_layers(theirs: Dict[str, List[Layer]], ours: Dict[str, List[Layer]], total: int) -> None:
    """Refuses networks that do not have the same layers in the same places.

    Raises:
        PlanError: so.
    """
    missing = [
        layer
        for structure, layers in theirs.items()
        for layer in layers[len(ours.get(structure, ())) :]
    ]
    surplus = [
        layer
        for structure, layers in ours.items()
        for layer in layers[len(theirs.get(structure, ())) :]
    ]
    if not missing and not surplus:
        return
    named = [layer for layer in missing if _kind_of_each(layer, surplus)] or missing or surplus
    shape = "x".join(map(str, named[0].shape))
    raise PlanError(
        f"{len(missing)} of the plan's {plural(total, 'layer')} have no counterpart in this graph, "
        f"and {len(surplus)} of the graph's none in the plan; the first has weights of {shape}",
        named[0].node,
        "the plan is of another architecture",
    )


def _kind_of_each(layer: Layer, others: Sequence[Layer]) -> bool:
    """Whether weights of that shape are in none of the others: there the networks differ."""
    return all(layer.shape != other.shape for other in others)


def _cuts(plan: Plan) -> Dict[str, List[Tuple[int, Tuple[int, ...]]]]:
    """For each parameter of a plan, what goes along each axis."""
    merged: Dict[str, Dict[int, Set[int]]] = {}
    for group in plan.groups:
        for cut in group.cuts:
            if cut.role not in ("shape", "index"):
                merged.setdefault(cut.param, {}).setdefault(cut.axis, set()).update(cut.removed)
    return {
        param: [(axis, tuple(sorted(gone))) for axis, gone in sorted(axes.items())]
        for param, axes in merged.items()
    }


def _by_name(twins: Sequence[Layer], found: Sequence[Layer]) -> Optional[List[Layer]]:
    """The counterpart of each of the twins by the end of its name; None unless all are clear."""
    chosen: List[Layer] = []
    for one in twins:
        shared = [_shared_end(one.node, other.node) for other in found]
        best = max(shared)
        if shared.count(best) > 1:
            return None
        chosen.append(found[shared.index(best)])
    return chosen if len({layer.node for layer in chosen}) == len(found) else None


def _shared_end(one: str, other: str) -> int:
    """How many parts two names have in common, counted from the end."""
    first, second = one.split("/")[::-1], other.split("/")[::-1]
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return count
