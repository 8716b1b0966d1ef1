"""The shape and the element type of what an input is fed."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from graphslim.analysis.channels import analyse
from graphslim.errors import GraphslimError
from graphslim.ir import DType, Graph, Node, Port

STAND_IN = 224
"""Size that stands in for an open height or width."""

_TYPE_ATTRS = ("dtype", "DstT", "out_type", "T")
"""Attributes that name the element type of an output, the most telling first."""
_ALWAYS_FLOAT = frozenset(("ResizeBilinear", "ResizeBicubic", "ResizeArea"))


def dtype_of(node: Node) -> DType:
    """The element type of a node's first output; float32 where no attribute states it."""
    if node.op in _ALWAYS_FLOAT:
        return DType.float32
    if node.op.startswith("Decode") and node.op not in ("DecodeWav", "DecodeRaw"):
        return node.attrs.get("dtype", DType.uint8)
    stated = (node.attrs.get(name) for name in _TYPE_ATTRS)
    return next((dtype for dtype in stated if isinstance(dtype, DType)), DType.float32)


def input_shape(graph: Graph, name: str, batch: int = 1) -> Tuple[int, ...]:
    """The shape of an input in one run; an open height or width becomes 224.

    Args:
        graph: the graph.
        name: the input.
        batch: the size of the first axis where it is open.

    Raises:
        GraphslimError: more than batch, height and width is open.
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
        spatial = (1, 2) if sizes[3] is not None else (2, 3)
        for axis in spatial:
            sizes[axis] = STAND_IN if sizes[axis] is None else sizes[axis]
    if None in sizes:
        raise GraphslimError(
            f"its shape {list(dims)} is open",
            f"input {name}",
            f"give it with --input-shape {name}=...",
        )
    return tuple([size or 0 for size in sizes])


def switch_array(graph: Graph, name: str, value: Union[bool, float], batch: int = 1) -> np.ndarray:
    """What an input is fed that tells training from inference; a scalar where its shape is open."""
    dims = analyse(graph).fact(Port(name)).shape
    shape = () if dims is None else input_shape(graph, name, batch)
    return np.full(shape, value, dtype_of(graph[name]).storage)


class Layout(NamedTuple):
    """How an input holds an image.

    Attributes:
        height, width: in pixels.
        channels: 1 or 3.
        channels_first: whether they come before height and width.
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
