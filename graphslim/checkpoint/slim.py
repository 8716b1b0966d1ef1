"""A checkpoint and its MetaGraph at the size that a plan leaves."""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Optional

import numpy as np

from graphslim.checkpoint.cuts import Places
from graphslim.checkpoint.model import Trained
from graphslim.checkpoint.narrow import Narrowed, narrow
from graphslim.checkpoint.soft import pruned_values
from graphslim.errors import PlanError
from graphslim.graphdef import serialize
from graphslim.graphdef.meta_graph import keys_of, with_graph
from graphslim.ir import Tensor

Axes = Mapping[int, np.ndarray]
"""By axis, the positions that go."""


class Slim(NamedTuple):
    """What a stripped checkpoint holds.

    Attributes:
        values: by key.
        meta: the bytes of its MetaGraph; None if none is wanted.
    """

    values: Dict[str, np.ndarray]
    meta: Optional[bytes]


def cut_checkpoint(
    trained: Trained, cuts: Places, offsets: Mapping[str, Tensor], meta: bool
) -> Slim:
    """A checkpoint without some positions of its variables; names stay as they are.

    Optimizer slots and moving averages are cut with their variables: those that the MetaGraph has
    by what it does with them, others by their keys (`Trained.companions`).

    Args:
        trained: the checkpoint.
        cuts: by variable of the inference graph and axis, the positions that go; what is no
            variable is passed over.
        offsets: variables that have other values.
        meta: whether the MetaGraph is wanted.

    Raises:
        PlanError: a variable cannot be cut where it stands.
    """
    wanted = {name: axes for name, axes in cuts.items() if name in trained.keys}
    for name in wanted:
        if name in trained.parts:
            raise PlanError(
                "the checkpoint holds it as one part of a larger tensor, and such parts cannot be "
                "cut",
                name,
                "train without a partitioner, or --exclude its group",
            )
    gone: Dict[str, Axes] = {}
    for name, axes in wanted.items():
        key = trained.keys[name]
        for one in (key, *trained.companions.get(key, ())):
            if trained.values.shapes.get(one) == trained.values.shapes[key]:
                gone[one] = {axis: np.asarray(cut, int) for axis, cut in axes.items()}
    data: Optional[bytes] = None
    if meta:
        keys = keys_of(trained.whole, trained.meta)
        narrowed = _narrowed(trained, _in_whole(trained, keys, wanted))
        gone.update({keys[node]: axes for node, axes in narrowed.cuts.items() if node in keys})
        data = with_graph(trained.meta, serialize(narrowed.graph))
    values = pruned_values(trained, {}, offsets)
    for key in values:
        values[key] = _cut(values[key], gone.get(key, {}))
    return Slim(values, data)


def _narrowed(trained: Trained, cuts: Places) -> Narrowed:
    try:
        return narrow(trained.whole, cuts)
    except PlanError as error:
        hint = f"{error.hint}; --no-meta writes the checkpoint and the .pb alone"
        raise PlanError(error.what, error.where, hint) from None


def _in_whole(trained: Trained, keys: Mapping[str, str], cuts: Places) -> Places:
    """The cuts in the names of the MetaGraph's own variables.

    Those of the inference graph may be others: its MetaGraph may be another one, and moving
    averages may stand for the variables.
    """
    nodes = {key: node for node, key in keys.items()}
    found: Places = {}
    for name, axes in cuts.items():
        key = trained.keys[name]
        own = [name] if name in keys else []
        own += [nodes[one] for one in (*trained.companions.get(key, ()), key) if one in nodes]
        if own:
            found[own[0]] = axes
    return found


def _cut(array: np.ndarray, axes: Axes) -> np.ndarray:
    """An array without some positions along some axes."""
    for axis, gone in axes.items():
        array = np.delete(array, np.asarray(gone, int), axis)
    return array
