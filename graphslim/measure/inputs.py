"""What a graph shows of its inputs: their shapes, element types and the range of their numbers.

A graph that begins by dividing by 127.5 and subtracting 1 expects numbers from 0 to 255, since it
maps these to a range that networks are trained on. The ops behind the input are followed as one
linear map. Among the usual ranges of inputs, the one that this map brings nearest to a usual range
of training is chosen. Which mean is subtracted from which channel shows the order of colours.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from graphslim.analysis.probe import Probe
from graphslim.channels.groups import analyse
from graphslim.errors import GraphslimError
from graphslim.ir import DType, Graph, Node, Port
from graphslim.ir.families import NORM_INPUTS, SMOOTH_RESIZES

# --- Shapes and element types.

STAND_IN = 224
"""Size that stands in for an open height or width."""
_TYPE_ATTRS = ("dtype", "DstT", "out_type", "T")
"""Attributes that name the element type of an output, the most telling first."""


def dtype_of(node: Node) -> DType:
    """The element type of a node's first output; float32 where no attribute states it."""
    if node.op in SMOOTH_RESIZES:
        return DType.float32
    if node.op.startswith("Decode") and node.op not in ("DecodeWav", "DecodeRaw"):
        return node.attrs.get("dtype", DType.uint8)
    stated = (node.attrs.get(name) for name in _TYPE_ATTRS)
    return next((dtype for dtype in stated if isinstance(dtype, DType)), DType.float32)


def holds_numbers(dtype: DType) -> bool:
    """Whether inputs of an element type can be made up, or read from images."""
    return (dtype.is_integral or dtype.is_floating) and dtype is not DType.bfloat16


def input_shape(graph: Graph, name: str, batch: int = 1) -> Tuple[int, ...]:
    """The shape of an input in one run; an open height or width becomes 224.

    Args:
        graph: the graph.
        name: the input.
        batch: the size of the first axis where it is open.

    Raises:
        GraphslimError: another size than batch, height and width is open.
    """
    dims = analyse(graph).fact(Port(name)).shape
    if dims is None:
        if graph[name].attrs.get("shape") is not None and graph[name].attrs["shape"].dims == ():
            return ()
        raise GraphslimError(
            "its shape is open", f"input {name}", f"give it with --input-shape {name}=1,224,224,3"
        )
    sizes = list(dims)
    if sizes and sizes[0] is None:
        sizes[0] = batch
    if len(sizes) == 4:
        for axis in (1, 2) if sizes[3] is not None else (2, 3):
            sizes[axis] = STAND_IN if sizes[axis] is None else sizes[axis]
    if None in sizes:
        raise GraphslimError(
            f"its shape {list(dims)} is open",
            f"input {name}",
            f"give it with --input-shape {name}=...",
        )
    return tuple([size or 0 for size in sizes])


def switch_array(graph: Graph, name: str, value: Union[bool, float], batch: int = 1) -> np.ndarray:
    """The array for an input that switches training and inference, filled with `value`.

    It has the input's element type and shape; it is a scalar where the shape is open.
    """
    dims = analyse(graph).fact(Port(name)).shape
    shape = () if dims is None else input_shape(graph, name, batch)
    return np.full(shape, value, dtype_of(graph[name]).storage)


class Layout(NamedTuple):
    """How an input holds an image.

    Attributes:
        height, width: in pixels.
        channels: 1 or 3.
        channels_first: whether the channels come before height and width.
        batched: whether there is an axis for several images.
    """

    height: int
    width: int
    channels: int
    channels_first: bool
    batched: bool


def image_layout(shape: Sequence[int]) -> Optional[Layout]:
    """The layout of an input of rank 3 or 4 with one or three channels, None if it has none."""
    if len(shape) not in (3, 4):
        return None
    first, second, last = shape[-3:]
    batched = len(shape) == 4
    if last in (1, 3):
        return Layout(first, second, last, False, batched)
    if first in (1, 3) and min(second, last) > 1:
        return Layout(second, last, first, True, batched)
    return None


# --- The range of numbers.

RANGES = ((0.0, 255.0), (0.0, 1.0), (-1.0, 1.0))
"""The ranges that images are usually scaled to before they are fed."""
_WIDTHS = (1.0, 2.0, 255.0)
"""Widths of the ranges that networks are trained on, without standardised numbers."""
_STANDARDISED = (3.2, 6.0)
"""Least and largest width of the range of pixels divided by their standard deviation."""
_FAR = 3.0
"""A range with a larger penalty is none that networks are trained on."""
_COLOURS = np.array([123.68, 116.78, 103.94])
"""The mean red, green and blue of ImageNet, for pixels from 0 to 255; many graphs round them."""


class Evidence(NamedTuple):
    """The numbers that an input is made for.

    Attributes:
        low, high: the range of the numbers.
        order: the order of colours, `RGB` or `BGR`; None if the graph does not show it.
        reason: what in the graph shows the range; None if it is assumed.
    """

    low: float
    high: float
    order: Optional[str] = None
    reason: Optional[str] = None


def range_of(graph: Graph, name: str) -> Evidence:
    """The range of numbers that an input is made for.

    Bytes and wider integers are pixels from 0 to 255, signed bytes from -128 to 127. For floats the
    range follows from the first ops of the graph; if these show nothing, -1 to 1 is assumed.
    """
    return graph.memo(f"range of {name}", lambda graph: _range_of(graph, name))


def _range_of(graph: Graph, name: str) -> Evidence:
    dtype = dtype_of(graph[name])
    if dtype is DType.int8:
        return Evidence(-128.0, 127.0, None, "the input is of int8")
    telling = [scaled for scaled in _all_scaled(graph, name) if _tells(scaled)]
    if not dtype.is_floating:
        order = next(filter(None, [_order(scaled, 0.0, 255.0) for scaled in telling]), None)
        return Evidence(0.0, 255.0, order, f"the input is of {dtype.name}")
    for scaled in telling:
        stated = _quantised(graph, scaled)
        if stated is not None:
            return Evidence(*stated, None, f"{scaled.reader.name} states it")
        scaled = _standardised(graph, scaled)
        penalties = [_penalty(scaled, low, high) for low, high in RANGES]
        best = int(np.argmin(penalties))
        if penalties[best] < _FAR:
            low, high = RANGES[best]
            ends = np.array([scaled.slope * end + scaled.offset for end in (low, high)])
            reason = f"{scaled.last} brings it to {ends.min():.3g}..{ends.max():.3g}"
            return Evidence(low, high, _order(scaled, low, high), reason)
    return Evidence(-1.0, 1.0)


class _Scaled(NamedTuple):
    """The linear map from an input to what a node behind its linear ops reads.

    Attributes:
        reader: that node; for an output of the graph, the node of the output.
        last: the last of the linear ops.
        source: for each number, the channel of the input that it comes from; int64 of shape (n,).
        slope, offset: the factor of that channel and the summand; float64 of shape (n,).
    """

    reader: Node
    last: str
    source: np.ndarray
    slope: np.ndarray
    offset: np.ndarray


def _all_scaled(graph: Graph, name: str) -> List[_Scaled]:
    """The linear maps from an input to the nodes that follow its linear ops."""
    width, shape = _channels(graph, name)
    zero = Probe(graph, {name: np.zeros(shape)})
    units = np.eye(width) if width > 1 else np.ones((1, 1))
    probes = [Probe(graph, {name: unit.reshape(shape)}) for unit in units]
    ends = [(reader, port) for reader in zero.readers for port in graph.data_inputs(reader)]
    ends += [(port.node, port) for port in graph.outputs]
    results: List[_Scaled] = []
    for reader, port in ends:
        offset, values = zero.at(port), [probe.at(port) for probe in probes]
        if offset is None or any(value is None for value in values):
            continue
        slopes = np.stack([np.ravel(value - offset) for value in values if value is not None])
        source = np.abs(slopes).argmax(0)
        slope = slopes[source, np.arange(slopes.shape[1])]
        if slope.all():
            results.append(
                _Scaled(graph[reader], port.node, source, slope, np.ravel(offset).copy())
            )
    return results


def _channels(graph: Graph, name: str) -> Tuple[int, Tuple[int, ...]]:
    """How many channels an image has, and the shape of one pixel; (1, ones) for other inputs."""
    dims = analyse(graph).fact(Port(name)).shape
    if dims is None:
        return 1, ()
    shape = [1] * len(dims)
    for axis in (len(dims) - 1, 1):
        if len(dims) in (3, 4) and dims[axis] in (3, 4):
            shape[axis] = dims[axis] or 1
            return shape[axis], tuple(shape)
    return 1, tuple(shape)


def _tells(scaled: _Scaled) -> bool:
    """Whether a map, or the op that follows it, shows the range of the input."""
    is_moved = bool((scaled.slope != 1).any() or scaled.offset.any())
    return is_moved or scaled.reader.op in NORM_INPUTS or scaled.reader.op.startswith("FakeQuant")


def _vectors(graph: Graph, node: Node, places: Sequence[int]) -> List[np.ndarray]:
    """The constants among some inputs of a node; float64, flat."""
    inputs = graph.data_inputs(node)
    values = [graph[inputs[place].node].attrs.get("value") for place in places]
    return [value.numbers().astype(np.float64).ravel() for value in values if value is not None]


def _quantised(graph: Graph, scaled: _Scaled) -> Optional[Tuple[float, float]]:
    """The range that a node of quantisation-aware training states."""
    node = scaled.reader
    if node.op == "FakeQuantWithMinMaxVars":
        bounds = [float(vector[0]) for vector in _vectors(graph, node, (1, 2))]
    elif node.op == "FakeQuantWithMinMaxArgs":
        bounds = [node.attrs.get("min", -6.0), node.attrs.get("max", 6.0)]
    else:
        return None
    if len(bounds) < 2 or not bounds[0] < bounds[1]:
        return None
    low, high = [(bound - scaled.offset[0]) / scaled.slope[0] for bound in bounds]
    return (round(min(low, high), 4), round(max(low, high), 4))


def _standardised(graph: Graph, scaled: _Scaled) -> _Scaled:
    """The map with the mean and deviation of the batch norm that reads it, if one does."""
    node = scaled.reader
    if node.op not in NORM_INPUTS:
        return scaled
    vectors = _vectors(graph, node, NORM_INPUTS[node.op].statistics)
    if len(vectors) < 2 or any(len(vector) != len(scaled.slope) for vector in vectors):
        return scaled
    mean, deviation = vectors[0], np.sqrt(np.maximum(vectors[1], 1e-12))
    return scaled._replace(
        last=node.name, slope=scaled.slope / deviation, offset=(scaled.offset - mean) / deviation
    )


def _penalty(scaled: _Scaled, low: float, high: float) -> float:
    """How far a range, once mapped, is from the ranges of training; of its worst channel.

    The penalty is below 1 for a range of training, centred or beginning at 0; from 1 to 2, less if
    better centred, for pixels whose mean is subtracted or that are standardised; and more than
    `_FAR` for others. A batch norm that reads the input standardises it.
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
    if scaled.reader.op not in NORM_INPUTS:
        shifted = exact & (share < 0.2)
        penalty[shifted] = 1 + share[shifted]
        usual = exact & ((from_zero < 0.002) | (share < 0.02))
        misplaced = np.abs(width / nearest - 1) + np.minimum(from_zero, share)
        penalty[usual] = misplaced[usual]
    return float(penalty.max())


def _order(scaled: _Scaled, low: float, high: float) -> Optional[str]:
    """The order of an input's colours, if the means of ImageNet are subtracted from them."""
    if sorted(scaled.source.tolist()) != [0, 1, 2]:
        return None
    channel_means = np.empty(3)
    channel_means[scaled.source] = (-scaled.offset / scaled.slope - low) / (high - low) * 255
    for order, colours in (("RGB", _COLOURS), ("BGR", _COLOURS[::-1])):
        if np.abs(channel_means - colours).max() < 3:
            return order
    return None
