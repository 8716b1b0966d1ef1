"""Soft pruning: a plan's channels set to zero in a checkpoint, so that training can go on.

The method is soft filter pruning (He et al. 2018, arXiv 1808.06866).
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Tuple

import numpy as np

from graphslim.channels.groups import Binding, Group
from graphslim.checkpoint.files import PLAN, write_bytes, write_state, write_text
from graphslim.checkpoint.fitting import WEIGHT_ROLES, Fitting, Places, fitting, folded, places
from graphslim.checkpoint.model import Trained, window
from graphslim.plans import DEAD_BELOW, GroupPlan, Plan
from graphslim.runtime import write_checkpoint
from graphslim.support.writing import replacing_folder


def soft_prune(trained: Trained, plan: Plan, folder: Any, *, force: bool = False) -> str:
    """Writes a checkpoint in which a plan's channels are zero, and returns its prefix.

    Arguments and errors are those of `soft_pruning`.
    """
    with soft_pruning(trained, plan, folder, force=force) as prefix:
        return prefix


@contextlib.contextmanager
def soft_pruning(
    trained: Trained, plan: Plan, folder: Any, *, force: bool = False
) -> Iterator[str]:
    """Writes a checkpoint in which a plan's channels are zero; all other values stay.

    A context manager: the folder appears when the block ends, and only if it raises nothing.

    The entries of optimizer slots and moving averages for these channels are set to zero too, so
    that they do not bring channels back. The constants that a plan of dead channels folds are added
    to offsets of the checkpoint (see `graphslim.checkpoint.fitting`); the plan that is written
    beside it therefore has no folds.

    Args:
        trained: the checkpoint.
        plan: a plan of it, or of another checkpoint of the same architecture.
        folder: the folder to write: the checkpoint under its old name, its MetaGraph, the state
            file that `tf.train.latest_checkpoint` reads, and `plan.json`.
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
    zero = places(fitted.plan, without=trained.statistics)
    values = pruned_values(trained, zero, folded(trained, fitted))
    name = os.path.basename(trained.prefix)
    with replacing_folder(os.fspath(folder), force) as fresh:
        target = os.path.join(fresh, name)
        write_checkpoint(target, values)
        write_bytes(f"{target}.meta", trained.meta.data)
        write_text(os.path.join(fresh, PLAN), fitted.plan._replace(folds=()).to_json())
        write_state(fresh, name)
        yield os.path.join(os.fspath(folder), name)


def pruned_values(
    trained: Trained, zero: Places, offsets: Mapping[str, Any]
) -> Dict[str, np.ndarray]:
    """Every value of a checkpoint by key, with some slices zero and some offsets replaced.

    Args:
        trained: the checkpoint.
        zero: by variable's node and axis, the positions; slots and averages follow.
        offsets: by variable's node, its new value.

    Returns:
        by key, an array of the shape and dtype that the checkpoint has.
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
        for holder in (key, *trained.companions.get(key, ())):
            if holder in values and values[holder].shape == values[key].shape:
                values[holder] = _zeroed(values[holder], part, axes)
    return values


def _zeroed(
    array: np.ndarray, part: Tuple[slice, ...], axes: Mapping[int, Tuple[int, ...]]
) -> np.ndarray:
    """A copy with zeros at some positions along some axes of a part of it."""
    changed = array.copy()
    for axis, gone in axes.items():
        changed[part][(slice(None),) * axis + (list(gone),)] = 0
    return changed


# ------------------------------------------------------------------ the failed rate
class BlockRate(NamedTuple):
    """How many filters of one block's removed channels are not zero.

    Attributes:
        name: the block, or the group where it is in none.
        removed: how many of its channels the plan removes.
        failed: the number of filters of these channels that are not zero, in all convolutions.
        of: the number of filters of these channels, in all convolutions.
    """

    name: str
    removed: int
    failed: int
    of: int

    @property
    def rate(self) -> float:
        """The failed rate: `failed` divided by `of`; 0 where nothing is removed."""
        return self.failed / self.of if self.of else 0.0


class Unconverged(NamedTuple):
    """The removed channels whose filters in one convolution are not zero.

    Attributes:
        block: the block, or the group where it is in none.
        convolution: the variable that holds the filters.
        channels: the channels' positions in their group.
    """

    block: str
    convolution: str
    channels: Tuple[int, ...]


class Summary(NamedTuple):
    """The failed rate, block by block.

    Attributes:
        blocks: the blocks that lose channels, in the order of the plan.
        failed, of: the sums over the blocks.
        unconverged: by convolution, the channels that failed.
    """

    blocks: Tuple[BlockRate, ...]
    failed: int
    of: int
    unconverged: Tuple[Unconverged, ...]

    @property
    def rate(self) -> float:
        """The failed rate: `failed` divided by `of`; 0 where nothing is removed."""
        return self.failed / self.of if self.of else 0.0


def summarise(trained: Trained, plan: Plan, below: float = DEAD_BELOW) -> Summary:
    """The failed rate of a plan in a checkpoint.

    A filter is what one weight tensor of two axes or more holds for one channel: a convolution's
    output filter, a depthwise filter, or the weights of a later layer that read the channel. It has
    failed where the sum of its absolute values is not less than `below`.

    Args:
        trained: the checkpoint, after retraining.
        plan: the plan whose channels were set to zero before.
        below: a filter counts as zero if the sum of its absolute values is below this.

    Raises:
        PlanError: the plan does not fit the checkpoint.
        LoadError: a value cannot be read.
    """
    return summary_of(trained, fitting(trained, plan), below)


def summary_of(trained: Trained, fitted: Fitting, below: float = DEAD_BELOW) -> Summary:
    """The failed rate of a plan that has been fitted to the checkpoint; see `summarise`."""
    by_id = {group.id: group for group in fitted.channels.groups}
    blocks: Dict[str, BlockRate] = {}
    unconverged: List[Unconverged] = []
    for planned in fitted.plan.groups:
        name = planned.block or planned.id
        before = blocks.get(name, BlockRate(name, 0, 0, 0))
        failed, of = 0, 0
        for param, missed, count in _counted(trained, fitted, by_id[planned.id], planned, below):
            failed, of = failed + len(missed), of + count
            if missed:
                unconverged.append(Unconverged(name, param, missed))
        blocks[name] = BlockRate(
            name, before.removed + len(planned.removed), before.failed + failed, before.of + of
        )
    rates = tuple(blocks.values())
    failed, of = sum([block.failed for block in rates]), sum([block.of for block in rates])
    return Summary(rates, failed, of, tuple(unconverged))


def summary_tree(summary: Summary) -> Dict[str, Any]:
    """What `summary --json` prints."""
    return {
        "rate": summary.rate,
        "failed": summary.failed,
        "of": summary.of,
        "blocks": [{**block._asdict(), "rate": block.rate} for block in summary.blocks],
        "unconverged": [
            {**layer._asdict(), "channels": list(layer.channels)} for layer in summary.unconverged
        ],
    }


def _counted(
    trained: Trained, fitted: Fitting, group: Group, plan: GroupPlan, below: float
) -> List[Tuple[str, Tuple[int, ...], int]]:
    """By convolution of a group: its name, the channels that failed, and how many there are."""
    counts = []
    for binding in fitted.channels.bindings(group):
        if not _holds_filters(trained, binding):
            continue
        norms = absolute_sums(trained, group, binding)
        present = np.intersect1d(binding.channels, np.asarray(plan.removed, int))
        # NaN counts as not zero.
        missed = present[~(norms[present] < below)]
        if len(present):
            counts.append((binding.param, tuple(missed.tolist()), len(present)))
    return counts


def absolute_sums(trained: Trained, group: Group, binding: Binding) -> np.ndarray:
    """The sums of absolute values that a variable holds for each channel of a group.

    Args:
        trained: the checkpoint.
        group: the group.
        binding: a binding of the group to a variable.

    Returns:
        float64 of shape (len(group),).
    """
    numbers = trained.graph[binding.param].attrs["value"].numbers()
    rows = np.abs(np.moveaxis(numbers, binding.axis, 0)[binding.positions].astype(np.float64))
    sums = np.zeros(len(group))
    np.add.at(sums, binding.channels, rows.reshape(len(rows), -1).sum(axis=1))
    return sums


def _holds_filters(trained: Trained, binding: Binding) -> bool:
    """Whether a binding is of a convolution's or matrix product's weights in the checkpoint.

    A vector may have further axes of size 1, as [1, 1, 1, C], and is then no filter.
    """
    if binding.param not in trained.keys or binding.role not in WEIGHT_ROLES:
        return False
    tensor = trained.graph[binding.param].attrs["value"]
    vector = binding.role == "follower" and tensor.size == tensor.shape[binding.axis]
    return len(tensor.shape) >= 2 and not vector
