"""What a graph itself says of the numbers that it is made for: how it scales what it is fed.

A graph that begins by dividing by 127.5 and subtracting 1 wants numbers from 0 to 255: these are
the ones that it brings to a range that networks are trained on. The steps behind the input are
followed as one linear map; the range among the usual ones that this map brings nearest to such a
range is the answer. Which mean is subtracted from which channel tells the order of colours.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Tuple

import numpy as np

from graphslim.analysis.channels import analyse
from graphslim.analysis.probe import Probe
from graphslim.feeds.shapes import dtype_of
from graphslim.ir import DType, Graph, Node, Port
from graphslim.match.vocabulary import NORMS

_RANGES = ((0.0, 255.0), (0.0, 1.0), (-1.0, 1.0))
"""What images are usually scaled to before they are fed."""
_WIDTHS = (1.0, 2.0, 255.0)
"""Widths of the ranges that networks are trained on, but for standardised numbers."""
_STANDARDISED = (3.2, 6.0)
"""Least and largest width of what pixels become that are divided by their standard deviation."""
_FAR = 3.0
"""A penalty beyond which a range counts as none that networks are trained on."""
_COLOURS = np.array([123.68, 116.78, 103.94])
"""The mean red, green and blue of ImageNet, of pixels from 0 to 255; many round them."""


class Evidence(NamedTuple):
    """The numbers that an input is made for.

    Attributes:
        low, high: their range.
        order: of the colours, `RGB` or `BGR`; None where nothing tells.
        reason: what in the graph tells the range; None where it is assumed.
    """

    low: float
    high: float
    order: Optional[str] = None
    reason: Optional[str] = None


class _Scaled(NamedTuple):
    """What the linear ops behind an input make of it, where a node reads the result.

    Attributes:
        reader: that node; an output of the graph is read by itself.
        last: the last of the linear ops.
        source: for each number, the channel of the input that it stems from; int, shape (n,).
        slope, offset: what that channel is multiplied by and what is added then; float64, (n,).
    """

    reader: Node
    last: str
    source: np.ndarray
    slope: np.ndarray
    offset: np.ndarray


def range_of(graph: Graph, name: str) -> Evidence:
    """The range of numbers that an input is made for.

    Bytes and wider integers are pixels from 0 to 255, signed bytes from -128 to 127. Floats go by
    what the graph does to them first; where that tells nothing, -1 to 1 is assumed.
    """
    return graph.memo(f"range of {name}", lambda graph: _range_of(graph, name))


def _range_of(graph: Graph, name: str) -> Evidence:
    dtype = dtype_of(graph[name])
    if dtype is DType.int8:
        return Evidence(-128.0, 127.0, None, "the input is of int8")
    found = [one for one in _scaled(graph, name) if _tells(one)]
    order = next(filter(None, [_order(one, 0.0, 255.0) for one in found]), None)
    if not dtype.is_floating:
        return Evidence(0.0, 255.0, order, f"the input is of {dtype.name}")
    for scaled in found:
        stated = _quantised(graph, scaled)
        if stated is not None:
            return Evidence(*stated, None, f"{scaled.reader.name} states it")
        scaled = _standardised(graph, scaled)
        is_norm = scaled.reader.op in NORMS
        penalties = [_penalty(scaled, low, high, is_norm) for low, high in _RANGES]
        best = int(np.argmin(penalties))
        if penalties[best] < _FAR:
            low, high = _RANGES[best]
            reason = f"{scaled.last} brings it to {_result(scaled, low, high)}"
            return Evidence(low, high, _order(scaled, low, high), reason)
    return Evidence(-1.0, 1.0)


def _scaled(graph: Graph, name: str) -> List[_Scaled]:
    """What the nodes read that follow the linear ops behind an input, each once."""
    width, shape = _channels(graph, name)
    zero = Probe(graph, {name: np.zeros(shape)})
    units = [_unit(shape, channel) for channel in range(width)] if width > 1 else [np.ones(shape)]
    probes = [Probe(graph, {name: unit}) for unit in units]
    ends = [(reader, port) for reader in zero.readers for port in graph.data_inputs(reader)]
    ends += [(port.node, port) for port in graph.outputs]
    found: List[_Scaled] = []
    for reader, port in ends:
        offset, values = zero.at(port), [probe.at(port) for probe in probes]
        if offset is None or any(value is None for value in values):
            continue
        slopes = np.stack([np.ravel(value - offset) for value in values if value is not None])
        source = np.abs(slopes).argmax(0)
        slope = slopes[source, np.arange(slopes.shape[1])]
        if slope.all():
            found.append(_Scaled(graph[reader], port.node, source, slope, np.ravel(offset).copy()))
    return found


def _channels(graph: Graph, name: str) -> Tuple[int, Tuple[int, ...]]:
    """How many channels an image has, and the shape of one pixel; (1, all ones) for the rest."""
    dims = analyse(graph).fact(Port(name)).shape
    if dims is None:
        return 1, ()
    shape = [1] * len(dims)
    for axis in (len(dims) - 1, 1):
        if len(dims) in (3, 4) and dims[axis] in (3, 4):
            shape[axis] = dims[axis] or 1
            return shape[axis], tuple(shape)
    return 1, tuple(shape)


def _unit(shape: Tuple[int, ...], channel: int) -> np.ndarray:
    unit = np.zeros(int(np.prod(shape)))
    unit[channel] = 1
    return unit.reshape(shape)


def _tells(scaled: _Scaled) -> bool:
    """Whether anything was done to the input, or is about to be, that says what it is."""
    is_moved = bool((scaled.slope != 1).any() or scaled.offset.any())
    return is_moved or scaled.reader.op in NORMS or scaled.reader.op.startswith("FakeQuant")


def _quantised(graph: Graph, scaled: _Scaled) -> Optional[Tuple[float, float]]:
    """The range that a node of quantisation-aware training states."""
    node = scaled.reader
    if node.op == "FakeQuantWithMinMaxVars":
        values = [graph[port.node].attrs.get("value") for port in graph.data_inputs(node)[1:3]]
        bounds = [float(value.numbers().ravel()[0]) for value in values if value is not None]
    elif node.op == "FakeQuantWithMinMaxArgs":
        bounds = [node.attrs.get("min", -6.0), node.attrs.get("max", 6.0)]
    else:
        return None
    if len(bounds) < 2 or not bounds[0] < bounds[1]:
        return None
    low, high = [(bound - scaled.offset[0]) / scaled.slope[0] for bound in bounds]
    return (round(min(low, high), 4), round(max(low, high), 4))


def _standardised(graph: Graph, scaled: _Scaled) -> _Scaled:
    """With the mean and the deviation of a batch norm that reads the input, if one does."""
    node = scaled.reader
    if node.op not in NORMS:
        return scaled
    values = [graph[port.node].attrs.get("value") for port in graph.data_inputs(node)[3:5]]
    vectors = [value.numbers().astype(np.float64).ravel() for value in values if value is not None]
    if len(vectors) < 2 or any(len(vector) != len(scaled.slope) for vector in vectors):
        return scaled
    mean, deviation = vectors[0], np.sqrt(np.maximum(vectors[1], 1e-12))
    return scaled._replace(
        last=node.name,
        slope=scaled.slope / deviation,
        offset=(scaled.offset - mean) / deviation,
    )


def _penalty(scaled: _Scaled, low: float, high: float, is_norm: bool) -> float:
    """How far what a range becomes is from what networks are trained on; at its worst channel.

    Below 1 for such a range, centred or from 0 on; from 1 to 2 for pixels without their mean or
    standardised, the less the better centred; more than `_FAR` for others.

    Args:
        scaled: what becomes of the input.
        low, high: the range.
        is_norm: whether that is known to be standardised.
    """
    first, last = scaled.slope * low + scaled.offset, scaled.slope * high + scaled.offset
    width, centre = np.abs(last - first), np.abs(first + last) / 2
    nearest = np.array(_WIDTHS)[np.argmin(np.abs(np.subtract.outer(width, _WIDTHS)), axis=-1)]
    exact = np.abs(width / nearest - 1) < 0.04
    share = centre / width
    from_zero = np.minimum(np.abs(first), np.abs(last)) / width
    penalty = np.full(width.shape, 2 * _FAR)
    standard = (width > _STANDARDISED[0]) & (width < _STANDARDISED[1]) & (share < 0.4)
    penalty[standard] = 1 + share[standard]
    if not is_norm:
        shifted = exact & (share < 0.2)
        penalty[shifted] = 1 + share[shifted]
        usual = exact & ((from_zero < 0.002) | (share < 0.02))
        misplaced = np.abs(width / nearest - 1) + np.minimum(from_zero, share)
        penalty[usual] = misplaced[usual]
    return float(penalty.max())


def _result(scaled: _Scaled, low: float, high: float) -> str:
    ends = np.array([scaled.slope * low + scaled.offset, scaled.slope * high + scaled.offset])
    return f"{ends.min():.3g}..{ends.max():.3g}"


def _order(scaled: _Scaled, low: float, high: float) -> Optional[str]:
    """The order of an input's colours, if the means of ImageNet are subtracted from them."""
    if sorted(scaled.source.tolist()) != [0, 1, 2]:
        return None
    means = np.empty(3)
    means[scaled.source] = (-scaled.offset / scaled.slope - low) / (high - low) * 255
    for order, colours in (("RGB", _COLOURS), ("BGR", _COLOURS[::-1])):
        if np.abs(means - colours).max() < 3:
            return order
    return None
