"""Ops that weigh positions of an axis against each other: reductions, softmax, segment sums."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

import numpy as np

from graphslim.channels.facts import UNKNOWN, Fact, fact, integers, laid_out
from graphslim.channels.reasons import AcrossChannels, InNorm, OpenSize
from graphslim.channels.rules import ValueVisit, channel_rule, value_rule
from graphslim.channels.visit import OpVisit
from graphslim.ir.families import DIVISIONS, QUOTIENTS, RECIPROCALS, REPEATS, RESHAPES, SUMS
from graphslim.ops.numeric import settled

_REDUCTIONS: Dict[str, Callable[..., np.ndarray]] = {
    "Mean": np.mean,
    "Max": np.max,
    "Min": np.min,
    "Sum": np.sum,
    "Prod": np.prod,
    "Any": np.max,
    "All": np.min,
    "EuclideanNorm": lambda value, axis, keepdims: np.sqrt(
        np.sum(np.square(value), axis=axis, keepdims=keepdims)
    ),
}


@channel_rule(*_REDUCTIONS)
def reduction(op: OpVisit) -> Fact:
    """Reducing over space keeps the channels; over the channels themselves it pins them.

    A Sum is an exception: it is a contraction with ones. A Mean is none, since it divides by how
    many channels there are, nor is a sum that the channels are then divided by. Where channels may
    go through norms, the statistics of a norm run over those that stay.
    """
    data, keep = op[0], bool(op.node.attrs.get("keep_dims"))
    if data.shape is None:
        return UNKNOWN
    axes = integers(op[1])
    if axes is None:
        op.pin_all(OpenSize("it is reduced over axes that are not constant"))
        return UNKNOWN
    gone = {axis % len(data.shape) for axis in axes}
    weighs = _normalises(op)
    is_normed = any(data.ids[axis] is not None for axis in gone) and op.is_statistic()
    for axis in gone:
        if is_normed and op.through_norms:
            op.normalise(axis)
        elif op.node.op == "Sum" and weighs is None:
            op.sum_over(0, axis)
        else:
            article = "an" if op.node.op[0] in "AE" else "a"
            plain = f"it is reduced by {article} {op.node.op} over channels"
            reason = InNorm if is_normed else AcrossChannels
            op.pin(data.channels(axis), reason(weighs or plain))
    axes_left = [axis for axis in range(len(data.shape)) if keep or axis not in gone]
    return Fact(
        tuple([1 if axis in gone else data.shape[axis] for axis in axes_left]),
        tuple([None if axis in gone else data.ids[axis] for axis in axes_left]),
    )


def _normalises(op: OpVisit) -> Optional[str]:
    """The layer that a reduction over channels is a part of, if that divides the channels by it."""
    kind, readers = op.node.op, op.readers()
    source = op.sources(op.node)[0]
    meets = {node.op for node in readers if source in op.sources(node)}
    before = op.maker(0).op
    if kind == "Mean" and meets & {"Sub", "SquaredDifference"}:
        return "it is normalised over channels (layer norm)"
    if kind in ("Mean", "Sum") and before == "SquaredDifference":
        return "it is normalised over channels (layer norm)"
    if kind == "Max" and "Sub" in meets or kind == "Sum" and meets & QUOTIENTS:
        return "it is divided by a sum over channels (softmax)"
    if before in ("Square", "Mul", "Pow") and kind in ("Mean", "Sum"):
        onward = {later.op for node in readers for later in (node, *op.readers(node))}
        if onward & {"Rsqrt", "Sqrt"}:
            return "it is divided by its length over channels (L2 or RMS norm)"
    if kind == "Sum" and _is_divisor(op):
        return "something is divided by its sum over channels"
    return None


def _is_divisor(op: OpVisit) -> bool:
    """Whether something is divided by what an op gives, perhaps after a root or an epsilon."""
    waiting, seen = [op.node], {op.node.name}
    while waiting:
        node = waiting.pop()
        for reader in op.readers(node):
            sources = [port.node for port in op.sources(reader)]
            if reader.op in RECIPROCALS or (reader.op in DIVISIONS and node.name in sources[1:]):
                return True
            on_the_way = reader.op in SUMS | RESHAPES | REPEATS | {"Sqrt", "Maximum"}
            if on_the_way and reader.name not in seen:
                seen.add(reader.name)
                waiting.append(reader)
    return False


@value_rule(*_REDUCTIONS)
def reduction_value(op: ValueVisit) -> Any:
    """A constant is its own mean and extreme; sums need the sizes."""
    if op[0] is None or op[1] is None or np.isnan(op[1]).any():
        return None
    full = op.facts[0].shape
    axes = tuple(sorted({int(axis) % op[0].ndim for axis in op[1].ravel()}))
    value = np.asarray(op[0], np.float64)
    if op.node.op in ("Sum", "Prod", "EuclideanNorm"):
        if full is None or any(full[axis] is None for axis in axes):
            return None
        sizes = [(full[i] or 0) if i in axes else n for i, n in enumerate(value.shape)]
        spread = laid_out(value, sizes)
        if spread is None:
            return None
        value = spread
    keep = bool(op.node.attrs.get("keep_dims"))
    return settled(op, _REDUCTIONS[op.node.op](value, axis=axes, keepdims=keep))


@channel_rule("L2Loss")
def sum_of_squares(op: OpVisit) -> Fact:
    """Half the sum of all squares: squares summed with ones."""
    for axis in range(op[0].rank or 0):
        op.sum_over(0, axis)
    return fact(())


@value_rule("L2Loss")
def sum_of_squares_value(op: ValueVisit) -> Any:
    """Known where all is."""
    value = laid_out(op[0], op.facts[0].shape)
    return None if value is None else settled(op, np.square(value, dtype=np.float64).sum() / 2)


@channel_rule("Softmax", "LogSoftmax", "LRN")
def across_channels(op: OpVisit) -> Fact:
    """Pins the last axis, whose positions it weighs against each other."""
    for ids in op[0].ids[-1:]:
        op.pin(ids, AcrossChannels("its value depends on every channel beside it"))
    return op[0].without_value()


@value_rule("Softmax", "LogSoftmax")
def softmax_value(op: ValueVisit) -> Any:
    """Known where all of the last axis is."""
    value, width = op[0], op.facts[0].size(-1)
    x = None if value is None or not value.ndim else laid_out(value, (*value.shape[:-1], width))
    if x is None:
        return None
    x = x.astype(np.float64)
    shifted = x - x.max(axis=-1, keepdims=True)
    total = np.exp(shifted).sum(axis=-1, keepdims=True)
    log = shifted - np.log(total)
    return settled(op, log if op.node.op == "LogSoftmax" else np.exp(log))


@channel_rule("SegmentSum", "SegmentMean", "SegmentMax", "SegmentMin", "SegmentProd")
def segments(op: OpVisit) -> Fact:
    """Joins positions of the first axis, as many as the data says."""
    return _joined(op, 1)


@channel_rule(
    "UnsortedSegmentSum", "UnsortedSegmentMax", "UnsortedSegmentMin", "UnsortedSegmentProd"
)
def unsorted_segments(op: OpVisit) -> Fact:
    """Joins positions of the first axes, as many as `segment_ids` has."""
    return _joined(op, op[1].rank or 0)


def _joined(op: OpVisit, count: int) -> Fact:
    data, why = op[0], "its positions are joined in segments"
    op.pin_others(1, (), why)
    if data.shape is None or count == 0:
        op.pin_all(why)
        return UNKNOWN
    for ids in data.ids[:count]:
        op.pin(ids, why)
    return Fact((None, *data.shape[count:]), (None, *data.ids[count:]))


@channel_rule("InTopK", "InTopKV2")
def in_top_k(op: OpVisit) -> List[Fact]:
    """Pins the classes, each of which may be the best."""
    op.pin_all(AcrossChannels("its rank among all channels is asked for"))
    return [Fact((op[0].size(0),), (None,))]
