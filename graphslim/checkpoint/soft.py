"""Soft pruning: a plan's channels set to zero in a checkpoint, so that training can go on.

The method is soft filter pruning (He et al. 2018, arXiv 1808.06866).
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Collection, Dict, Iterator, Mapping, Tuple

import numpy as np

from graphslim.checkpoint.beside import copy_meta, write_plan, write_state
from graphslim.checkpoint.cuts import Places, fitting, places
from graphslim.checkpoint.folding import folded
from graphslim.checkpoint.model import Trained
from graphslim.checkpoint.values import window
from graphslim.plans import Plan
from graphslim.runtime import write_checkpoint
from graphslim.support.writing import replacing_folder


def slices_to_zero(plan: Plan, statistics: Collection[str]) -> Places:
    """What a plan sets to zero: by variable's node and axis, the positions.

    For each removed channel these are the filters that make it, the depthwise filters, scales and
    offsets that it passes, and the weights that read it.

    Args:
        plan: the plan; every group has to say what it cuts.
        statistics: variables that hold moving means and variances, which stay as they are.
    """
    return places(plan, statistics)


def soft_prune(trained: Trained, plan: Plan, folder: Any, *, force: bool = False) -> str:
    """Writes a checkpoint in which a plan's channels are zero; see `soft_pruning`.

    Raises:
        PlanError, EmitError, RuntimeUnavailable, LoadError: as there.
    """
    with soft_pruning(trained, plan, folder, force=force) as prefix:
        return prefix


@contextlib.contextmanager
def soft_pruning(
    trained: Trained, plan: Plan, folder: Any, *, force: bool = False
) -> Iterator[str]:
    """Writes a checkpoint in which a plan's channels are zero, and all else is as it was.

    The folder appears when, and only if, what is done inside succeeds; the prefix of the checkpoint
    there is given.

    The entries of optimizer slots and moving averages for these channels are set to zero too, so
    that they do not bring channels back. What a plan of dead channels folds goes into the offsets
    of the checkpoint (see `graphslim.checkpoint.folding`); the plan written beside has it done.

    Args:
        trained: the checkpoint.
        plan: what goes; of it, or of another checkpoint of the same architecture.
        folder: where to; it then holds the checkpoint under the name that it had, its MetaGraph,
            the state file that `tf.train.latest_checkpoint` reads, and `plan.json`.
        force: allow a folder that is not empty.

    Yields:
        the prefix of the new checkpoint.

    Raises:
        PlanError: the plan does not fit, cuts one variable in two ways, or leaves a constant that
            no variable can take.
        EmitError: the folder cannot be written.
        LoadError: a value of the checkpoint cannot be read.
    """
    fitted = fitting(trained, plan, folds=True)
    values = pruned_values(
        trained, slices_to_zero(fitted.plan, trained.statistics), folded(trained, fitted)
    )
    name = os.path.basename(trained.prefix)
    with replacing_folder(os.fspath(folder), force) as fresh:
        target = os.path.join(fresh, name)
        write_checkpoint(target, values)
        copy_meta(trained, target)
        write_plan(fitted.plan._replace(folds=()), fresh)
        write_state(fresh, name)
        yield os.path.join(os.fspath(folder), name)


def pruned_values(
    trained: Trained, zero: Places, offsets: Mapping[str, Any]
) -> Dict[str, np.ndarray]:
    """Every value of a checkpoint by key, with some slices zero and some offsets replaced.

    Args:
        trained: the checkpoint.
        zero: by variable's node and axis, the positions; slots and averages follow.
        offsets: by variable's node, the tensor that takes its place.
    """
    values = {key: trained.values.read(key) for key in trained.values.shapes}
    for name, tensor in offsets.items():
        key = trained.keys[name]
        changed = values[key].copy()
        changed[window(trained.parts.get(name, ""))] = tensor.numbers()
        values[key] = changed
    for name, axes in zero.items():
        if name not in trained.keys:
            continue
        key, part = trained.keys[name], window(trained.parts.get(name, ""))
        for one in (key, *trained.companions.get(key, ())):
            if one in values and values[one].shape == values[key].shape:
                values[one] = _zeroed(values[one], part, axes)
    return values


def _zeroed(
    array: np.ndarray, part: Tuple[slice, ...], axes: Mapping[int, Tuple[int, ...]]
) -> np.ndarray:
    """A copy with zeros at some positions along some axes of a part of it."""
    changed = array.copy()
    for axis, gone in axes.items():
        changed[part][(slice(None),) * axis + (list(gone),)] = 0
    return changed
