"""Inputs made up from a seed, of the range that a graph seems to be made for."""

from __future__ import annotations

from typing import Dict, Tuple

import numpy as np

from graphslim.analysis.switches import switches
from graphslim.errors import GraphslimError
from graphslim.feeds.evidence import range_of
from graphslim.feeds.shapes import dtype_of, input_shape, switch_array
from graphslim.feeds.strings import cut_hint
from graphslim.ir import DType, Graph

_GRID = 8
"""Cells per side of the coarse grid that random images are interpolated from."""


def random_feeds(graph: Graph, seed: int = 0, batch: int = 1) -> Dict[str, np.ndarray]:
    """Random inputs, the same for the same seed.

    What looks like an image (rank 4, up to 4 channels) varies smoothly, as pictures do: a network
    averages white noise away, and little would be left to compare. The rest is uniform, over the
    range that the input is made for (see `range_of`). Inputs that tell training from inference are
    fed for inference (see `analysis.switches`).

    Raises:
        GraphslimError: an input's shape is open beyond batch, height and width, or its numbers
            cannot be made up.
    """
    rng = np.random.RandomState(seed)
    feeds = {}
    fixed = switches(graph)
    for name in graph.inputs:
        if name in fixed:
            feeds[name] = switch_array(graph, name, fixed[name], batch)
            continue
        shape, dtype = _made_shape(graph, name, batch), dtype_of(graph[name])
        if dtype.is_integral or (dtype.is_floating and dtype is not DType.bfloat16):
            wanted = range_of(graph, name)
            values = _random(rng, shape, wanted.low, wanted.high)
            feeds[name] = (values.round() if dtype.is_integral else values).astype(dtype.storage)
        else:
            raise _cannot(graph, name)
    return feeds


def _made_shape(graph: Graph, name: str, batch: int) -> Tuple[int, ...]:
    """The shape of an input, unless it is of a type that cannot be made up, whatever its shape."""
    if dtype_of(graph[name]) is DType.string:
        raise _cannot(graph, name)
    return input_shape(graph, name, batch)


def _cannot(graph: Graph, name: str) -> GraphslimError:
    dtype = dtype_of(graph[name])
    hint = cut_hint(graph, name) if dtype is DType.string else "give it with --data"
    return GraphslimError(f"cannot make up {dtype.name} data", f"input {name}", hint)


def _random(
    rng: np.random.RandomState, shape: Tuple[int, ...], low: float, high: float
) -> np.ndarray:
    """Uniform numbers; over an image's height and width, interpolated from a coarse grid."""
    spatial = (1, 2) if len(shape) == 4 and shape[3] <= 4 else (2, 3)
    if len(shape) != 4 or min(shape[1], shape[3]) > 4 or min([shape[axis] for axis in spatial]) < 2:
        return rng.uniform(low, high, shape)
    coarse = list(shape)
    for axis in spatial:
        coarse[axis] = _GRID + 1
    values = rng.uniform(low, high, coarse)
    for axis in spatial:
        place = np.linspace(0, _GRID, shape[axis])
        left = np.minimum(place.astype(int), _GRID - 1)
        share = (place - left).reshape([-1 if one == axis else 1 for one in range(4)])
        values = np.take(values, left, axis) * (1 - share) + np.take(values, left + 1, axis) * share
    return values
