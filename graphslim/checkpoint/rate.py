"""The failed rate: how many of the filters that a plan set to zero are zero no more.

That of soft filter pruning (He et al. 2018, arXiv 1808.06866) as the published method counts it.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from graphslim.analysis.channels import Binding, Group
from graphslim.checkpoint.cuts import WEIGHT_ROLES, Fitting, fitting
from graphslim.checkpoint.model import Trained
from graphslim.plans import DEAD_BELOW, GroupPlan, Plan


class BlockRate(NamedTuple):
    """What became of one block's channels.

    Attributes:
        name: the block, or the group where it is in none.
        removed: how many of its channels the plan removes.
        failed: filters of these channels that are not zero, over all its convolutions.
        of: filters of these channels, over all its convolutions.
    """

    name: str
    removed: int
    failed: int
    of: int

    @property
    def rate(self) -> float:
        """The share that failed; 0 where nothing is removed."""
        return self.failed / self.of if self.of else 0.0


class Unconverged(NamedTuple):
    """Filters that are not zero, of one convolution.

    Attributes:
        block: as in `BlockRate`.
        convolution: the variable that holds its filters.
        channels: which of the group's channels.
    """

    block: str
    convolution: str
    channels: Tuple[int, ...]


class Summary(NamedTuple):
    """The failed rate, block by block.

    Attributes:
        blocks: the blocks that lose channels, in the order of the plan.
        failed, of: their sums.
        unconverged: what failed.
    """

    blocks: Tuple[BlockRate, ...]
    failed: int
    of: int
    unconverged: Tuple[Unconverged, ...]

    @property
    def rate(self) -> float:
        """The share that failed; 0 where nothing is removed."""
        return self.failed / self.of if self.of else 0.0


def summarise(trained: Trained, plan: Plan, below: float = DEAD_BELOW) -> Summary:
    """The failed rate of a plan in a checkpoint.

    A filter is what one weight tensor of two axes or more holds for one channel: a convolution's
    output filter, a depthwise filter, or the weights of a later layer that read the channel. It has
    failed where the sum of its absolute values is not less than `below`.

    Args:
        trained: the checkpoint, after retraining.
        plan: what was set to zero before.
        below: the sum from which on a filter is not zero.

    Raises:
        PlanError: the plan does not fit the checkpoint.
        LoadError: a value cannot be read.
    """
    return summary_of(trained, fitting(trained, plan), below)


def summary_of(trained: Trained, fitted: Fitting, below: float = DEAD_BELOW) -> Summary:
    """The same for a plan that has been fitted; see `summarise`."""
    by_id = {group.id: group for group in fitted.channels.groups}
    blocks: Dict[str, BlockRate] = {}
    unconverged: List[Unconverged] = []
    for one in fitted.plan.groups:
        name = one.block or one.id
        before = blocks.get(name, BlockRate(name, 0, 0, 0))
        failed, of = 0, 0
        for param, missed, count in _counted(trained, fitted, by_id[one.id], one, below):
            failed, of = failed + len(missed), of + count
            if missed:
                unconverged.append(Unconverged(name, param, missed))
        blocks[name] = BlockRate(
            name, before.removed + len(one.removed), before.failed + failed, before.of + of
        )
    sums = blocks.values()
    failed, of = sum([one.failed for one in sums]), sum([one.of for one in sums])
    return Summary(tuple(sums), failed, of, tuple(unconverged))


def summary_tree(summary: Summary) -> Dict[str, Any]:
    """What `summary --json` prints."""
    return {
        "rate": summary.rate,
        "failed": summary.failed,
        "of": summary.of,
        "blocks": [{**one._asdict(), "rate": one.rate} for one in summary.blocks],
        "unconverged": [
            {**one._asdict(), "channels": list(one.channels)} for one in summary.unconverged
        ],
    }


def _counted(
    trained: Trained, fitted: Fitting, group: Group, plan: GroupPlan, below: float
) -> List[Tuple[str, Tuple[int, ...], int]]:
    """By convolution of a group: its name, the channels that failed, and how many there are."""
    found = []
    for binding in fitted.channels.bindings(group):
        if not _holds_filters(trained, binding):
            continue
        numbers = trained.graph[binding.param].attrs["value"].numbers()
        rows = np.abs(np.moveaxis(numbers, binding.axis, 0)[binding.positions].astype(np.float64))
        sums = np.zeros(len(group))
        np.add.at(sums, binding.channels, rows.reshape(len(rows), -1).sum(axis=1))
        present = np.intersect1d(binding.channels, np.asarray(plan.removed, int))
        # What is no number is not zero either.
        missed = present[~(sums[present] < below)]
        if len(present):
            found.append((binding.param, tuple(missed.tolist()), len(present)))
    return found


def _holds_filters(trained: Trained, binding: Binding) -> bool:
    """Whether a binding is of a convolution's or matrix product's weights in the checkpoint.

    A vector may be spelled with more axes, as [1, 1, 1, C]; it is a follower all the same.
    """
    if binding.param not in trained.keys or binding.role not in WEIGHT_ROLES:
        return False
    tensor = trained.graph[binding.param].attrs["value"]
    vector = binding.role == "follower" and tensor.size == tensor.shape[binding.axis]
    return len(tensor.shape) >= 2 and not vector
