"""What the variables of a training are for: slots of optimizers, shadows, statistics."""

from __future__ import annotations

from typing import Dict, FrozenSet, List, Mapping, Sequence, Set, Tuple

from graphslim.checkpoint.averages import averages, is_statistic
from graphslim.checkpoint.formulas import slots_by_formula, statistics_by_use
from graphslim.checkpoint.variables import APPLY, shape_of, variable_at
from graphslim.ir import Graph


def companions(whole: Graph) -> Dict[str, Tuple[str, ...]]:
    """The variables that hold something about another one, element by element.

    They are the slots of optimizers (momentum, mean squares), moving averages, the slots and
    averages of these, and the uncorrected twins of averages that are corrected.

    Args:
        whole: the graph of a training, as its MetaGraph has it.

    Returns:
        for each variable that has any, theirs, sorted; all of its shape, and no scalars.
    """
    direct: Dict[str, Set[str]] = {}
    applied = [
        [variable_at(whole, port) for port in whole.data_inputs(node)]
        for node in whole
        if APPLY.match(node.op)
    ]
    trained = {names[0] for names in applied}
    for variable, *others in applied:
        # The gradient may be the value of another variable, which is then trained itself.
        slots = {name for name in others if name is not None and name not in trained}
        if variable is not None:
            direct.setdefault(variable, set()).update(slots)
    for variable, slots in slots_by_formula(whole).items():
        direct.setdefault(variable, set()).update(slots)
    for one in averages(whole):
        if one.of is not None:
            direct.setdefault(one.of, set()).add(one.variable)
        if one.biased is not None:
            direct.setdefault(one.variable, set()).add(one.biased)
    return _closed(whole, direct)


def _closed(whole: Graph, direct: Mapping[str, Set[str]]) -> Dict[str, Tuple[str, ...]]:
    """Companions with those of companions, as far as they have the variable's shape."""
    found = {}
    for variable in sorted(direct):
        shape = shape_of(whole, variable)
        reached: Set[str] = set()
        waiting = [variable]
        while waiting:
            for name in direct.get(waiting.pop(), ()):
                if name not in reached and name != variable and shape_of(whole, name) == shape:
                    reached.add(name)
                    waiting.append(name)
        if shape and reached:
            found[variable] = tuple(sorted(reached))
    return found


def companion_keys(
    keys: Mapping[str, str],
    shapes: Mapping[str, Sequence[int]],
    found: Mapping[str, Sequence[str]],
) -> Dict[str, Tuple[str, ...]]:
    """Companions over the keys of a checkpoint.

    A key that no variable of the graph has belongs to the variable whose key it goes on from with
    a slash, if it has its shape: `w/Momentum` belongs to `w`, `w2` does not.

    Args:
        keys: the key of each variable node of the graph.
        shapes: of each key of the checkpoint.
        found: the companions of variable nodes, from `companions`.

    Returns:
        for each key that has any, the keys of its companions that the checkpoint has, sorted.
    """
    result: Dict[str, Set[str]] = {}
    for variable, names in found.items():
        own = keys.get(variable, variable)
        others = {keys.get(name, name) for name in names} - {own}
        result.setdefault(own, set()).update(key for key in others if key in shapes)
    known = {*keys.values(), *found, *[name for names in found.values() for name in names]}
    for key in shapes:
        owner = "" if key in known else _owner(key, known)
        if owner in shapes and tuple(shapes[owner]) == tuple(shapes[key]) and shapes[key]:
            for above in [owner, *[one for one, others in result.items() if owner in others]]:
                result.setdefault(above, set()).add(key)
    return {key: tuple(sorted(others)) for key, others in sorted(result.items()) if others}


def _owner(key: str, known: Set[str]) -> str:
    """The longest known key that a key goes on from with a slash, or nothing."""
    parts = key.split("/")
    for end in range(len(parts) - 1, 0, -1):
        if "/".join(parts[:end]) in known:
            return "/".join(parts[:end])
    return ""


def statistics(whole: Graph) -> FrozenSet[str]:
    """The variables that hold moving means and variances of batch norm.

    In the graph of a training they are averages of what sums up a batch; else they are known by
    where they enter: a fused batch norm, or the square root of one that is not fused.
    """
    moved: List[str] = []
    for one in averages(whole):
        if one.of is None and is_statistic(whole, one.source):
            moved.extend([one.variable, *([one.biased] if one.biased is not None else [])])
    return frozenset(moved) | statistics_by_use(whole)
