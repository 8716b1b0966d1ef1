"""Convolutions in groups: each group of channels has filters of its own."""

from __future__ import annotations

import numpy as np

from graphslim.errors import AnalysisError
from graphslim.ops.sums import stacked
from graphslim.ops.table import Ids, OpVisit, channel_axis


def groups_of(op: OpVisit, rank: int) -> int:
    """How many groups a convolution has: its channels by those that one filter reads.

    Raises:
        AnalysisError: the one is no multiple of the other.
    """
    width, per_group = op[0].size(channel_axis(op.node)), op[1].size(rank - 2)
    if width is None or not per_group:
        return 1
    groups, rest = divmod(width, per_group)
    if rest or (op[1].size(rank - 1) or 0) % max(groups, 1):
        filters = "" if rest else f" in {groups} groups that make {op[1].size(rank - 1)}"
        raise AnalysisError(
            f"{width} channels meet a filter for {per_group}{filters}", op.node.name
        )
    return groups


def grouped(op: OpVisit, groups: int, rank: int) -> Ids:
    """The ids that leave a convolution in groups.

    All groups have to stay equally wide. Of what goes in, channel j of each goes or whole groups,
    whichever there are more of; of what comes out, either may. Where each group reads a single
    channel, as a depthwise convolution does, whole groups go: a channel with its filters.
    """
    channel = channel_axis(op.node)
    entering, inside, out = op[0].channels(channel), op[1].channels(rank - 2), op[1].channels(-1)
    if inside is None or out is None:
        for ids in (entering, inside, out):
            op.pin(ids, f"it is convolved in {groups} groups with filters that are not followed")
        return out
    if len(inside) == 1:
        op.tie(entering, out[:: len(out) // groups])
        op.tie(np.repeat(out[:: len(out) // groups], len(out) // groups), out)
        op.pin(inside, "each group reads one channel")
        return out
    group, _ = op.split(out, (groups, len(out) // groups), None)
    if entering is None:
        op.tie(None, inside)
        op.pin(group, "it is convolved in groups of channels that are not followed")
    else:
        longer = 0 if groups > len(inside) else 1
        whole, of_each = op.split(entering, (groups, len(inside)), longer)
        op.tie(whole, group)
        op.tie(of_each, inside)
    op.mark(inside, "consumer")
    op.mark(out, "producer")
    # No constant is folded: TensorFlow would fuse a new BiasAdd with the convolution, and its fused
    # kernels take no groups.
    op.contract(
        data=0,
        weights=1,
        axis=channel,
        into=np.tile(inside, groups) if entering is None else entering,
        out=out,
        matrix=lambda weights: spread(weights, groups),
        uniform=False,
    )
    return out


def spread(weights: np.ndarray, groups: int) -> np.ndarray:
    """Filters in groups as those of one convolution: (taps, c_in, c_out), zero between groups."""
    per_group, c_out = weights.shape[-2:]
    filters = stacked(weights, per_group, groups, c_out // groups)
    wide = np.zeros((len(filters), groups, per_group, groups, c_out // groups), weights.dtype)
    for group in range(groups):
        wide[:, group, :, group, :] = filters[:, :, group, :]
    return wide.reshape(len(filters), groups * per_group, c_out)
