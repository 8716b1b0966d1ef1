"""Axes and per-axis numbers rewritten from one data format to another, as grappler leaves them.

Its layout optimizer turns convolutions to NCHW, and puts a `DataFormatDimMap` before every axis
and a `DataFormatVecPermute` before every list of sizes, paddings or bounds that was written for
NHWC.
"""

from __future__ import annotations

from typing import Any, List, Optional

import numpy as np

from graphslim.ir import Node
from graphslim.ops.table import Fact, OpVisit, ValueVisit, channel_rule, value_rule


def _order(node: Node, count: Optional[int]) -> Optional[List[int]]:
    """For each axis of the new format, its place in the old one.

    Args:
        node: the op.
        count: how many numbers there are, of all axes or of those of space alone.

    Returns:
        the places; None where the formats do not have so many axes, or not the same ones.
    """
    source, target = node.text("src_format", "NHWC"), node.text("dst_format", "NCHW")
    if count == len(source) - 2:
        source, target = [text.replace("N", "").replace("C", "") for text in (source, target)]
    if count != len(source) or sorted(source) != sorted(target):
        return None
    return [source.index(axis) for axis in target]


@channel_rule("DataFormatDimMap")
def map_axis(op: OpVisit) -> Fact:
    """Names the same axes in the other format."""
    return op[0]._replace(value=None, atoms=None)


@value_rule("DataFormatDimMap")
def map_axis_value(op: ValueVisit) -> Any:
    """The place of each axis in the other format; of no axis, nothing is known."""
    rank = len(op.node.text("src_format", "NHWC"))
    order = _order(op.node, rank)
    if op[0] is None or order is None:
        return None
    axes = np.where(np.abs(op[0] + 0.5) < rank, op[0], np.nan)  # from -rank to rank - 1
    places = np.append(np.argsort(order).astype(np.float64), np.nan)
    return places[np.where(np.isnan(axes), rank, axes % rank).astype(np.int64)]


@channel_rule("DataFormatVecPermute")
def permute_vector(op: OpVisit) -> Fact:
    """Lists what belongs to each axis in the order of the other format."""
    data = op[0]
    order, numbers = _order(op.node, data.size(0)), data.channels(0)
    if order is None or numbers is None:
        return data._replace(value=None, atoms=None)
    return data._replace(value=None, atoms=None).with_ids({0: numbers[order]})


@value_rule("DataFormatVecPermute", structural=True)
def permute_vector_value(op: ValueVisit) -> Any:
    """Moves the numbers in the same way."""
    order = _order(op.node, op.facts[0].size(0))
    if op[0] is None or order is None:
        return None
    return op[0] if op[0].shape[0] == 1 else op[0][order]
