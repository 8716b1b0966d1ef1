"""Second moments of what sums over channels read: the Gram matrices that least squares needs.

A convolution or product is linear in its weights: at each output position it multiplies a row of
inputs, (taps x channels) long, by a matrix. The mean of the outer products of such rows says all
that least squares has to know of the data, whatever the weights.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.facts import channel_axis, spatial_axes
from graphslim.channels.groups import analyse
from graphslim.channels.notes import Contraction
from graphslim.ir import Graph, Node, Port
from graphslim.ir.families import TRANSPOSED_CONVOLUTIONS
from graphslim.measure.samples import Examples
from graphslim.ops.conv import Window, window
from graphslim.runtime import Session

ROWS = 40
"""Rows per unknown that are enough, over all examples."""
EXAMPLES = 1024
"""Examples that are enough."""
_FEWEST, _MOST = 16, 1024
"""Bounds of the rows that are taken from one example."""
_ROOM = 1 << 30
"""Bytes of Gram matrices that are kept at once."""


class Gram(NamedTuple):
    """Moments of rows of inputs, taps first: element tap * channels + channel.

    Attributes:
        outer: the mean outer product of the rows, float64 of shape (n, n).
        mean: their mean, float64 of shape (n,).
    """

    outer: np.ndarray
    mean: np.ndarray

    @classmethod
    def mean_of(cls, grams: Sequence[Gram]) -> Gram:
        """The moments of rows of several layers together, each layer counting alike."""
        outer, mean = [np.mean(parts, axis=0) for parts in zip(*grams)]
        return cls(outer, mean)

    @property
    def centred(self) -> np.ndarray:
        """The covariance of the rows, float64 of shape (n, n)."""
        return self.outer - np.outer(self.mean, self.mean)


class Reader(NamedTuple):
    """A sum over channels whose rows are looked at.

    Attributes:
        contraction: the sum, in the graph that is run.
        kernel: the sizes of the kernel along the axes of space; empty for a product.
    """

    contraction: Contraction
    kernel: Tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers a row holds."""
        return int(np.prod(self.kernel, dtype=int)) * len(self.contraction.into)


def reader_of(graph: Graph, contraction: Contraction) -> Optional[Reader]:
    """How the rows of a sum are laid out; None for an op whose rows are not known here."""
    node = graph[contraction.node]
    known = analyse(graph)
    inputs = graph.data_inputs(node)
    data, weights = [known.fact(inputs[place]) for place in (contraction.data, contraction.weights)]
    if node.op in ("Conv2D", "Conv2DBackpropInput", "_FusedConv2D"):
        kernel = [weights.size(0), weights.size(1)]
        if None in kernel or data.rank != 4:
            return None
        return Reader(contraction, tuple([size for size in kernel if size is not None]))
    is_product = node.op in ("MatMul", "_FusedMatMul")
    if node.op.startswith("BatchMatMul") or node.op == "Einsum":
        # Of an Einsum that has no other axis to sum over, or to repeat its result along.
        is_product = weights.rank == 2 and known.fact(Port(node.name)).rank == data.rank
    return Reader(contraction, ()) if is_product else None


def in_portions(layers: Sequence[Sequence[Reader]]) -> Iterator[List[Sequence[Reader]]]:
    """The readers of layers, so many layers at a time that their Gram matrices fit in memory.

    Layers may have readers in common.
    """
    portion: List[Sequence[Reader]] = []
    needs: Dict[int, int] = {}
    for readers in layers:
        own = {id(reader): 2 * 8 * reader.size**2 for reader in readers}
        if portion and sum({**needs, **own}.values()) > _ROOM:
            yield portion
            portion, needs = [], {}
        portion.append(readers)
        needs.update(own)
    if portion:
        yield portion


def grams_of(
    graph: Graph, readers: Sequence[Reader], examples: Examples, seed: int = 0, threads: int = 0
) -> List[Gram]:
    """The Gram matrix of each reader over examples, from some output positions of each example.

    Args:
        graph: the graph, as TensorFlow can run it.
        readers: the sums over channels.
        examples: the inputs.
        seed: of the choice of positions.
        threads: threads within one op; 0 for as many as there are cores.

    Raises:
        VerifyError: the graph does not run.
    """
    rng = np.random.RandomState(seed)
    ports = [str(graph.data_inputs(r.contraction.node)[r.contraction.data]) for r in readers]
    fetches = list(dict.fromkeys([*ports, *[reader.contraction.node for reader in readers]]))
    sums = [_Sum(reader.size) for reader in readers]
    examples = examples.drawn(rng, EXAMPLES)
    with Session(graph, threads=threads, optimize=False) as session:
        for feeds, count in examples:
            values = dict(zip(fetches, session.run(feeds, fetches)))
            for reader, port, total in zip(readers, ports, sums):
                wanted = -(-ROWS * reader.size // max(1, examples.count))
                most = count * min(_MOST, max(_FEWEST, wanted))
                made = values[reader.contraction.node].shape
                total.add(_rows(graph, reader, values[port], made, most, rng))
    return [total.gram() for total in sums]


class _Sum:
    """Sums of rows and of their outer products."""

    def __init__(self, size: int) -> None:
        self._outer, self._total, self._rows = np.zeros((size, size)), np.zeros(size), 0

    def add(self, rows: np.ndarray) -> None:
        # In float32, as the graph computes; the sums over runs in double precision.
        self._outer += rows.T @ rows
        self._total += rows.sum(0, dtype=np.float64)
        self._rows += len(rows)

    def gram(self) -> Gram:
        count = max(1, self._rows)
        return Gram(self._outer / count, self._total / count)


def _rows(
    graph: Graph,
    reader: Reader,
    data: np.ndarray,
    made: Sequence[int],
    most: int,
    rng: np.random.RandomState,
) -> np.ndarray:
    """Some rows of inputs; float32 of shape (rows, reader.size).

    Args:
        graph: the graph.
        reader: the sum over channels.
        data: what it reads.
        made: the shape of what it gives.
        most: how many rows are taken at most.
        rng: what chooses them.
    """
    node, axis = graph[reader.contraction.node], reader.contraction.axis
    if not reader.kernel:
        vectors = np.moveaxis(data, axis, -1).reshape(-1, data.shape[axis])
        picked: np.ndarray = vectors[chosen(len(vectors), most, rng)]
        return picked.astype(np.float32)
    height, width = spatial_axes(node)
    data = np.moveaxis(data, channel_axis(node), -1).astype(np.float32)
    sizes = (made[0], made[height], made[width])
    example, down, across = np.unravel_index(chosen(int(np.prod(sizes)), most, rng), sizes)
    taps = np.zeros((len(example), *reader.kernel, data.shape[-1]), np.float32)
    places = [
        _places(node, at, place, reader.kernel, data.shape[1:3], sizes[1:])
        for place, at in enumerate((down, across))
    ]
    for tap in np.ndindex(*reader.kernel):
        (rows, rows_in), (columns, columns_in) = [
            (read[:, tap[place]], inside[:, tap[place]])
            for place, (read, inside) in enumerate(places)
        ]
        seen = rows_in & columns_in
        taps[(seen, *tap)] = data[example[seen], rows[seen], columns[seen]]
    return taps.reshape(len(example), -1)


def chosen(count: int, most: int, rng: np.random.RandomState) -> np.ndarray:
    """Positions out of `count`, `most` at most, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(rng.choice(count, most, replace=False))


def _places(
    node: Node,
    at: np.ndarray,
    place: int,
    kernel: Sequence[int],
    read: Sequence[int],
    made: Sequence[int],
) -> Tuple[np.ndarray, np.ndarray]:
    """Where output positions read along one axis of space, tap by tap, and whether it is inside.

    Args:
        node: a convolution, transposed or not.
        at: positions along the axis of the output, int64 of shape (n,).
        place: 0 for the height, 1 for the width.
        kernel: its sizes along both axes.
        read, made: the sizes of the input and of the output along both axes.

    Returns:
        positions along the axis of the input, and which of them exist; both of shape (n, taps).
    """
    how = window(node)
    stride, dilation = how.strides[place], how.dilations[place]
    taps = np.arange(kernel[place]) * dilation
    turned = node.op in TRANSPOSED_CONVOLUTIONS
    small, large = (read, made) if turned else (made, read)
    before = _padded_before(node, how, place, stride, taps[-1] + 1, small[place], large[place])
    if not turned:
        positions = at[:, None] * stride + taps - before
        return positions, (positions >= 0) & (positions < read[place])
    positions, rest = np.divmod(at[:, None] + before - taps, stride)
    return positions, (rest == 0) & (positions >= 0) & (positions < read[place])


def _padded_before(
    node: Node, how: Window, place: int, stride: int, reach: int, small: int, large: int
) -> int:
    """The positions of padding before the first of an axis, as TensorFlow places them."""
    padding = node.text("padding")
    if padding == "EXPLICIT":
        return int(node.ints("explicit_paddings")[2 * how.axes[place]])
    total = max(0, (small - 1) * stride + reach - large) if padding == "SAME" else 0
    return int(total // 2)
