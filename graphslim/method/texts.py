"""The dictionaries and texts that the published class left beside its checkpoints."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from graphslim.checkpoint import Trained
from graphslim.ir import Graph, Tensor
from graphslim.ir.families import PLAIN_ASSIGNMENTS, VARIABLES
from graphslim.method.dictionaries import Filters
from graphslim.method.scopes import Scope
from graphslim.plans import DEAD_BELOW

Entries = Dict[str, Any]


def scope_convolutions(scopes: Mapping[str, Scope]) -> Entries:
    """By scope, `[convolution, axis]` for each convolution that its channels touch, in order."""
    return {
        name: [[layer.node, layer.axis] for layer in scope.convolutions]
        for name, scope in scopes.items()
    }


def convolution_variables(scopes: Mapping[str, Scope]) -> Entries:
    """By convolution, the tensor of its weights (`name:0`)."""
    return {
        layer.node: f"{layer.variable}:0"
        for scope in scopes.values()
        for layer in scope.convolutions
    }


def vector_variables(scopes: Mapping[str, Scope]) -> Entries:
    """By convolution, `[tensors, axis]` of the bias or batch norm behind it.

    The axis is None where they are not of a scope's channels, as behind a project convolution.
    """
    vectors: Entries = {}
    for layer in [layer for scope in scopes.values() for layer in scope.convolutions]:
        # An SE block inside an inverted residual ends with channels of that.
        inside = layer.inside or vectors.get(layer.node, [[], None])[1] == 0
        if layer.vectors:
            vectors[layer.node] = [[f"{name}:0" for name in layer.vectors], 0 if inside else None]
    return vectors


def strip_variables(scopes: Mapping[str, Scope]) -> Entries:
    """By scope, `[tensor, axis]` for each variable that is cut, moving statistics among them."""
    entries: Entries = {}
    for name, scope in scopes.items():
        entries[name] = []
        for layer in scope.convolutions:
            entries[name].append([f"{layer.variable}:0", layer.axis])
            vectors = (*layer.vectors, *layer.statistics) if layer.inside else ()
            entries[name].extend([[f"{vector}:0", 0] for vector in vectors])
    return entries


def strip_nodes(scopes: Mapping[str, Scope], whole: Graph) -> Entries:
    """By scope, `[node, axis]` for each node that states a size that is cut.

    Args:
        scopes: the scopes.
        whole: the MetaGraph's graph: its variables, and the constants that initialise them.
    """
    return {
        name: [
            [node, axis]
            for tensor, axis in entries
            for node in _sized(whole, tensor.rpartition(":")[0])
        ]
        for name, entries in strip_variables(scopes).items()
    }


def _sized(whole: Graph, variable: str) -> List[str]:
    """A variable, and the constants of its initialiser that have its shape or hold it."""
    if variable not in whole or whole[variable].op not in VARIABLES:
        return [variable]
    shape = whole[variable].attrs["shape"].dims
    sized, waiting, seen = [variable], [], {variable}
    for use in whole.uses_of(variable):
        if whole[use.node].op in PLAIN_ASSIGNMENTS:
            waiting.append(whole.data_inputs(use.node)[1].node)
            break  # the first is the initialiser, the others restore
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        value = whole[name].attrs.get("value")
        if isinstance(value, Tensor) and _states(value, shape):
            sized.append(name)
        waiting.extend([port.node for port in whole.data_inputs(name)])
    return sized


def _states(value: Tensor, shape: Sequence[int]) -> bool:
    """Whether a constant has a shape, or is a list of its sizes."""
    if value.shape == tuple(shape):
        return True
    whole = value.shape == (len(shape),) and np.issubdtype(value.dtype.storage, np.integer)
    return bool(whole and value.numbers().tolist() == list(shape))


def pruned_text(
    source: str,
    target: str,
    filters: Filters,
    scopes: Mapping[str, Scope],
    threshold: float,
    given: Optional[str],
) -> str:
    """What `Pruned_Filters.txt` says: what was pruned, by what, and which filters.

    Args:
        source, target: the checkpoint before and after.
        filters: by scope, those that went.
        scopes: theirs.
        threshold: by which they were chosen.
        given: the file that they were read from instead, if any.
    """
    why = f"Pruning dict is {given}" if given else f"Pruning sparsity threshold: {threshold}"
    counts = [
        f"{name} Pruned filters/ Total filters: {len(gone)}/{len(scopes[name].places)}"
        for name, gone in filters.items()
    ]
    lists = [f"{name} : {gone}" for name, gone in filters.items()]
    lines = [f"Input ckpt is {source}", f"Pruning ckpt is {target}", why, *counts, *lists]
    return "\n".join(lines) + "\n"


def summary_text(trained: Trained, filters: Filters, scopes: Mapping[str, Scope]) -> str:
    """What `Pruning_Summary.txt` says: per convolution how many failed; then filter by filter.

    Args:
        trained: the checkpoint after retraining.
        filters: by scope, those that were set to zero.
        scopes: theirs.
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
    binding = scope.bindings[variable]
    values = trained.graph[variable].attrs["value"].numbers().astype(np.float64)
    rows = np.abs(np.moveaxis(values, binding.axis, 0))[binding.positions]
    sums = np.zeros(len(scope.group))
    np.add.at(sums, binding.channels, rows.reshape(len(rows), -1).sum(axis=1))
    return ["1" if sums[scope.places[number]] < DEAD_BELOW else "failed" for number in gone]
