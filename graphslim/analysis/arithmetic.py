"""Arithmetic with numbers of channels: which results are still a share of one count."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.ops.table import Fact

MEASURES = frozenset(("Shape", "ShapeN", "Size", "Rank"))
"""Ops that need not know the numbers in a tensor, only its shape."""
JOINING = frozenset(("Pack", "ConcatV2", "Concat"))
"""Ops that join numbers into a shape, of which some may be unknown."""
PASSES_ON = frozenset(("Switch", "RefSwitch", "IdentityN"))
"""Ops that pass numbers on beside tensors that are not followed."""
_DIVISIONS = frozenset(("FloorDiv", "Div", "RealDiv", "TruncateDiv"))
_ELEMENTWISE = _DIVISIONS | {"Mul", "Add", "AddV2", "Sub", "Maximum", "Minimum", "FloorMod"}
_KEEPS_BATCH = """
    Abs Add AddV2 AvgPool BiasAdd Cast Conv2D DepthToSpace DepthwiseConv2dNative Elu Exp
    FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Identity LeakyRelu LogSoftmax Maximum MaxPool
    Minimum Mul Neg RealDiv Relu Relu6 ResizeBilinear ResizeNearestNeighbor Rsqrt Selu Sigmoid
    Snapshot Softmax Softplus SpaceToDepth Sqrt Square SquaredDifference StopGradient Sub Tanh
    _FusedBatchNormEx _FusedConv2D _FusedDepthwiseConv2dNative
"""
KEEPS_BATCH = frozenset(_KEEPS_BATCH.split())
"""Ops whose first axis, where it is open, is that of their input."""


class Counted(NamedTuple):
    """A number that changes with channels: `share` times how many there are of `ids`.

    Without a share it is some other function of them.
    """

    ids: np.ndarray
    share: Optional[Fraction]


def is_elementwise(op: str) -> bool:
    """Whether an op of shape arithmetic works number by number."""
    return op in _ELEMENTWISE


def combined(op: str, counts: Sequence[Counted], number: float, first: bool) -> Counted:
    """What a computed number counts.

    Args:
        op: how it is computed.
        counts: what the numbers that it is computed from count; not empty.
        number: its value, NaN if unknown.
        first: whether the first operand is among those that count.
    """
    one = counts[0]
    whole = not np.isnan(number) and number == int(number) and len(one.ids) > 0
    if len(counts) == 1 and one.share is not None and whole:
        share = Fraction(int(number), len(one.ids))
        # What a division cut off would not come back: only a count that divides stays a share.
        grows = op in ("Mul", "Prod") and (one.share.denominator == 1 or share == one.share)
        if share > 0 and (grows or (op in _DIVISIONS and first)):
            return Counted(one.ids, share)
    return Counted(np.concatenate([counted.ids for counted in counts]), None)


def holds(counted: Counted, ids: np.ndarray, label: np.ndarray) -> bool:
    """Whether a number remains the size of an axis whatever channels go.

    Args:
        counted: the number.
        ids: the axis.
        label: the channel of each id.
    """
    if counted.share is None:
        return False
    source, times = np.unique(label[counted.ids], return_counts=True)
    target, copies = np.unique(label[ids], return_counts=True)
    share = counted.share
    return np.array_equal(source, target) and np.array_equal(
        times * share.numerator, copies * share.denominator
    )


def pair(counted: Counted, ids: np.ndarray) -> Optional[Tuple[np.ndarray, np.ndarray]]:
    """Two arrays that have to be tied for a number to go on to be the size of an axis.

    None if there is no such pair.
    """
    source, share = counted.ids, counted.share
    if share is None or not len(ids) or share * len(source) != len(ids):
        return None
    if share == 1:
        return source, ids
    few, many = (source, ids) if share > 1 else (ids, source)
    if len(many) % len(few):
        return None
    times = len(many) // len(few)
    tiled, repeated = np.tile(few, times), np.repeat(few, times)
    if (repeated == many).all() or (many.reshape(-1, times)[:, 0] == few).all():
        return repeated, many
    if (tiled == many).all() or (many[: len(few)] == few).all():
        return tiled, many
    return None


def as_sizes(op: str, inputs: Sequence[Fact], origin: float) -> List[Fact]:
    """Facts in which unknown numbers, joined with known ones, are put down as unknown sizes.

    Args:
        op: the op that joins them.
        inputs: what it reads.
        origin: what to say of where the unknown numbers come from.
    """
    first, last = {"Pack": (0, 0), "ConcatV2": (0, 1), "Concat": (1, 0)}[op]
    found = list(inputs)
    parts = range(first, len(inputs) - last)
    if all(inputs[place].value is None for place in parts):
        return found
    for place in parts:
        shape: Any = inputs[place].shape
        if inputs[place].value is None and shape in ((), (1,), (2,), (3,), (4,)):
            found[place] = inputs[place]._replace(
                value=np.full(shape, np.nan), atoms=np.full(shape, origin)
            )
    return found
