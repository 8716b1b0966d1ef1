"""The dictionaries and texts that the published class left beside its checkpoints."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from graphslim.checkpoint import Trained
from graphslim.checkpoint.soft import absolute_sums
from graphslim.ir import Graph, Tensor
from graphslim.ir.families import PLAIN_ASSIGNMENTS, VARIABLES
from graphslim.method.dictionaries import Filters
from graphslim.method.scopes import Scope
from graphslim.plans import DEAD_BELOW

Dictionary = Dict[str, Any]
"""A dictionary as the published class wrote it: by scope or convolution, lists and names."""


def scope_convolutions(scopes: Mapping[str, Scope]) -> Dictionary:
    """By scope, `[convolution, axis]` for each convolution that its channels touch, in order."""
    return {
        name: [[layer.node, layer.axis] for layer in scope.convolutions]
        for name, scope in scopes.items()
    }


def convolution_variables(scopes: Mapping[str, Scope]) -> Dictionary:
    """By convolution, the tensor of its weights (`name:0`)."""
    return {
        layer.node: f"{layer.variable}:0"
        for scope in scopes.values()
        for layer in scope.convolutions
    }


def vector_variables(scopes: Mapping[str, Scope]) -> Dictionary:
    """By convolution, `[tensors, axis]` of the bias or batch norm behind it.

    The axis is None where the tensors hold no channels of a scope, as behind the project
    convolution of an inverted residual block.
    """
    vectors: Dictionary = {}
    for layer in [layer for scope in scopes.values() for layer in scope.convolutions]:
        # The last convolution of an SE block has the channels of the block around it.
        inside = layer.inside or vectors.get(layer.node, [[], None])[1] == 0
        if layer.vectors:
            vectors[layer.node] = [[f"{name}:0" for name in layer.vectors], 0 if inside else None]
    return vectors


def strip_variables(scopes: Mapping[str, Scope]) -> Dictionary:
    """By scope, `[tensor, axis]` for each variable that is cut, moving statistics among them."""
    cuts: Dictionary = {}
    for name, scope in scopes.items():
        cuts[name] = []
        for layer in scope.convolutions:
            cuts[name].append([f"{layer.variable}:0", layer.axis])
            vectors = (*layer.vectors, *layer.statistics) if layer.inside else ()
            cuts[name].extend([[f"{vector}:0", 0] for vector in vectors])
    return cuts


def strip_nodes(scopes: Mapping[str, Scope], whole: Graph) -> Dictionary:
    """By scope, `[node, axis]` for each node that states a size that is cut.

    Args:
        scopes: the scopes.
        whole: the MetaGraph's graph: its variables, and the constants that initialise them.
    """
    return {
        name: [
            [node, axis]
            for tensor, axis in cuts
            for node in _sized(whole, tensor.rpartition(":")[0])
        ]
        for name, cuts in strip_variables(scopes).items()
    }


def _sized(whole: Graph, variable: str) -> List[str]:
    """A variable, and the constants of its initialiser that have its shape or hold it."""
    if variable not in whole or whole[variable].op not in VARIABLES:
        return [variable]
    shape = whole[variable].attrs["shape"].dims
    sized, waiting, visited = [variable], [], {variable}
    for use in whole.uses_of(variable):
        if whole[use.node].op in PLAIN_ASSIGNMENTS:
            waiting.append(whole.data_inputs(use.node)[1].node)
            break  # the first is the initialiser, the others restore
    while waiting:
        name = waiting.pop()
        if name in visited:
            continue
        visited.add(name)
        value = whole[name].attrs.get("value")
        if isinstance(value, Tensor) and _states(value, shape):
            sized.append(name)
        waiting.extend([port.node for port in whole.data_inputs(name)])
    return sized


def _states(value: Tensor, shape: Sequence[int]) -> bool:
    """Whether a constant has a shape, or is the vector of its sizes."""
    if value.shape == tuple(shape):
        return True
    is_size_list = value.shape == (len(shape),) and np.issubdtype(value.dtype.storage, np.integer)
    return bool(is_size_list and value.numbers().tolist() == list(shape))


def pruned_text(
    source: str,
    target: str,
    filters: Filters,
    scopes: Mapping[str, Scope],
    threshold: float,
    filters_path: Optional[str],
) -> str:
    """The text of `Pruned_Filters.txt`: the checkpoints, the threshold and the filters.

    Args:
        source, target: the checkpoint before and after.
        filters: by scope, the filters that were removed.
        scopes: the scopes that `filters` names.
        threshold: the redundancy by which the filters were chosen.
        filters_path: the file that the filters were read from instead, if any.
    """
    why = (
        f"Pruning dict is {filters_path}"
        if filters_path
        else f"Pruning sparsity threshold: {threshold}"
    )
    counts = [
        f"{name} Pruned filters/ Total filters: {len(gone)}/{len(scopes[name].places)}"
        for name, gone in filters.items()
    ]
    lists = [f"{name} : {gone}" for name, gone in filters.items()]
    lines = [f"Input ckpt is {source}", f"Pruning ckpt is {target}", why, *counts, *lists]
    return "\n".join(lines) + "\n"


def summary_text(trained: Trained, filters: Filters, scopes: Mapping[str, Scope]) -> str:
    """The text of `Pruning_Summary.txt`: failed filters by convolution, then one by one.

    Args:
        trained: the checkpoint after retraining.
        filters: by scope, the filters that were set to zero.
        scopes: the scopes that `filters` names.
    """
    counts: List[str] = []
    lists: List[str] = []
    for name, gone in filters.items():
        lists.append(f"{name} : {gone}")
        for layer in scopes[name].convolutions:
            marks = _marks(trained, scopes[name], layer.variable, gone)
            counts.append(f"{layer.variable}:0 : {marks.count('failed')}/{len(gone)}")
            lists.append(f"{layer.variable}:0 : {marks}")
            for vector in layer.vectors if layer.inside else ():
                lists.append(f"{vector}:0 : {_marks(trained, scopes[name], vector, gone)}")
    return "".join([f"{line}\n" for line in [*counts, *lists]])


def _marks(trained: Trained, scope: Scope, variable: str, gone: Sequence[int]) -> List[str]:
    """For each filter that should be zero in a variable, '1' where it is and 'failed' elsewhere."""
    sums = absolute_sums(trained, scope.group, scope.bindings[variable])
    return ["1" if sums[scope.places[number]] < DEAD_BELOW else "failed" for number in gone]
