"""What ops between a layer and its activation make of each channel: slope times it, plus offset."""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np

from graphslim.analysis.values import Values
from graphslim.channels.facts import channel_axis
from graphslim.ir import Node, Port, Use
from graphslim.ir.families import BIASES, NORM_INPUTS
from graphslim.match.activations import ADD, DIV, MUL
from graphslim.ops.norm import FUSED_NORMS, epsilon_of


class Affine(NamedTuple):
    """A map of channels: float64 vectors of one number per channel, shape (c,).

    Attributes:
        slope: what a channel is multiplied by.
        offset: what is added then.
    """

    slope: np.ndarray
    offset: np.ndarray

    def then(self, after: Affine) -> Affine:
        """This map and another one after it, as one."""
        return Affine(after.slope * self.slope, after.slope * self.offset + after.offset)


def affine(values: Values, use: Use, axis: int) -> Optional[Affine]:
    """The map of channels that an op is for the tensor that it reads, if it is no more than that.

    Known are batch norm in inference (also where only its slope is wanted: a `_FusedBatchNormEx`
    may add and activate behind it), biases, and sums, differences, products and quotients with
    constants that lie along the channel axis, in whatever way those constants are computed.

    Args:
        values: known values of the graph.
        use: which input of which node.
        axis: the channel axis of the tensor that is read, 0 or more.

    Returns:
        the map, or None where the op does something else or its vectors are not known.
    """
    node = values.graph[use.node]
    inputs = values.graph.data_inputs(node)
    read = values.channels.fact(inputs[use.index])
    width = read.size(axis)
    if width is None or read.rank is None:
        return None
    if node.op in NORM_INPUTS or node.op in BIASES:
        if use.index != 0 or channel_axis(node) % read.rank != axis:
            return None
        return _bias(values, inputs[1], width) if node.op in BIASES else _norm(values, node, width)
    if len(inputs) != 2 or node.op not in (*ADD, *MUL, *DIV, "Sub"):
        return None
    other = _along(values, inputs[1 - use.index], axis, read.rank, width)
    return None if other is None else _sound(_arithmetic(node.op, other, use.index == 0))


def _bias(values: Values, port: Port, width: int) -> Optional[Affine]:
    offset = _vector(values, port, width)
    return None if offset is None else _sound(Affine(np.ones(width), offset))


def _norm(values: Values, node: Node, width: int) -> Optional[Affine]:
    """Batch norm in one op (Ioffe and Szegedy 2015, arXiv 1502.03167)."""
    if node.op in FUSED_NORMS and node.attrs.get("is_training", True):
        return None
    inputs = values.graph.data_inputs(node)
    vectors = [_vector(values, inputs[place], width) for place in NORM_INPUTS[node.op]]
    scale, offset, mean, variance = vectors
    if not node.attrs.get("scale_after_normalization", True):
        scale = np.ones(width)
    if scale is None or offset is None or mean is None or variance is None:
        return None
    with np.errstate(all="ignore"):
        slope = scale / np.sqrt(variance + epsilon_of(node))
    return _sound(Affine(slope, offset - mean * slope))


def _arithmetic(op: str, other: np.ndarray, first: bool) -> Affine:
    """A sum, difference, product or quotient; `first` where the tensor is the first operand.

    A number over a tensor is no such map: its slope is NaN.
    """
    ones, zeros = np.ones(len(other)), np.zeros(len(other))
    if op in ADD:
        return Affine(ones, other)
    if op in MUL:
        return Affine(other, zeros)
    if op == "Sub":
        return Affine(ones, -other) if first else Affine(-ones, other)
    with np.errstate(all="ignore"):
        return Affine(1 / other if first else np.full(len(other), np.nan), zeros)


def _sound(known: Affine) -> Optional[Affine]:
    """The map, or None where a number of it is not finite."""
    return known if np.isfinite(known).all() else None


def _vector(values: Values, port: Port, width: int) -> Optional[np.ndarray]:
    """One number for each channel; float64 of shape (width,)."""
    value = values.constant(port)
    if value is None or value.size not in (1, width):
        return None
    return np.broadcast_to(np.asarray(value, np.float64).ravel(), (width,))


def _along(values: Values, port: Port, axis: int, rank: int, width: int) -> Optional[np.ndarray]:
    """A constant that is one number, or lies along an axis and widens no other."""
    shape = values.channels.fact(port).shape
    if shape is None or len(shape) > rank:
        return None
    sizes = [1] * (rank - len(shape)) + list(shape)
    if any(size != 1 for place, size in enumerate(sizes) if place != axis):
        return None
    return _vector(values, port, width) if sizes[axis] in (1, width) else None
