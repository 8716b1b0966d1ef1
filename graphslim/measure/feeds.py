"""Arrays for the inputs of a graph: given ones that fit, or random ones of the range it expects."""

from __future__ import annotations

import hashlib
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphslim.analysis.probe import switches
from graphslim.channels.facts import Dims
from graphslim.channels.groups import analyse
from graphslim.engines.base import sizes_of
from graphslim.errors import GraphslimError
from graphslim.ir import DType, Graph, Port
from graphslim.ir.query import downstream, needed
from graphslim.measure.inputs import dtype_of, holds_numbers, input_shape, range_of, switch_array

# --- Arrays that are given.


def matched(
    graph: Graph, arrays: Mapping[str, np.ndarray], where: str, optional: Sequence[str] = ()
) -> Dict[str, np.ndarray]:
    """Finds the array for each input of a graph, and checks that it fits.

    An array may hold more examples than the graph takes at once.

    Args:
        graph: the graph.
        arrays: by input name, of the input's shape and element type. If the graph has one input
            only, its array may have another name.
        where: the source of the arrays, for messages.
        optional: inputs that need no array.

    Returns:
        by input name, the array given, unchanged.

    Raises:
        GraphslimError: an input has no array, or the array's shape or element type is wrong.
    """
    required = [name for name in graph.inputs if name not in optional]
    arrays = dict(arrays)
    if len(required) == 1 and required[0] not in arrays:
        candidates = {key: value for key, value in arrays.items() if key not in optional}
        fitting = [key for key, value in candidates.items() if _fits(graph, required[0], value)]
        if len(fitting) == 1 or len(candidates) == 1:
            arrays[required[0]] = candidates[(fitting or list(candidates))[0]]
    by_input = {}
    for name in graph.inputs:
        if name in arrays:
            by_input[name] = _checked(graph, name, arrays[name], where)
        elif name not in optional:
            names = ", ".join(sorted(filter(None, arrays))) or "one array without a name"
            raise GraphslimError(f"has no array for the input {name!r}", where, f"it has: {names}")
    return by_input


def _checked(graph: Graph, name: str, value: np.ndarray, where: str) -> np.ndarray:
    """The array for an input.

    Raises:
        GraphslimError: its shape or element type does not fit the input.
    """
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    dtype = dtype_of(graph[name])
    if not _fits(graph, name, array):
        expected = analyse(graph).fact(Port(name)).shape
        raise GraphslimError(
            f"the array for {name!r} has the shape {sizes_of(array.shape)}",
            where,
            f"the input takes {sizes_of(expected)}",
        )
    if array.dtype.kind not in "fiubc" and dtype is not DType.string:
        raise GraphslimError(
            f"the array for {name!r} holds {array.dtype}", where, f"the input takes {dtype.name}"
        )
    return array


def _fits(graph: Graph, name: str, value: np.ndarray) -> bool:
    array, expected = np.asarray(value), analyse(graph).fact(Port(name)).shape
    if expected is None:
        return True
    if len(expected) != array.ndim or 0 in array.shape:
        return False
    if expected and expected[0]:
        # The first axis of a vector of fixed size holds no examples that could be left out.
        remainder = array.shape[0] % expected[0] if array.ndim == 1 else 0
        if array.shape[0] < expected[0] or remainder:
            return False
    return all(size in (None, length) for size, length in zip(expected[1:], array.shape[1:]))


def digest_of(arrays: Sequence[Tuple[str, np.ndarray]], rows: int = 64) -> str:
    """The SHA-256 of named arrays, with their shapes and element types; read `rows` at a time."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays, key=lambda item: item[0]):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        if not array.ndim or array.dtype.hasobject:
            digest.update(repr(array.tolist()).encode())
            continue
        for first in range(0, len(array), rows):
            digest.update(np.ascontiguousarray(array[first : first + rows]).tobytes())
    return digest.hexdigest()


# --- Arrays that are made up.

_GRID = 8
"""Cells per side of the coarse grid that random images are interpolated from."""


def random_feeds(graph: Graph, seed: int = 0, batch: int = 1) -> Dict[str, np.ndarray]:
    """Random inputs, the same for the same seed.

    Inputs that look like images (rank 4, up to 4 channels) vary smoothly, as pictures do: a network
    averages white noise away, and little would be left to compare. Other inputs are uniform. The
    numbers are in the range that the input is made for (see `range_of`). Inputs that switch between
    training and inference are set to inference (see `analysis.switches`).

    Returns:
        by input name, an array of the input's shape and element type.

    Raises:
        GraphslimError: an input's shape is open beyond batch, height and width, or its element type
            holds no numbers.
    """
    rng = np.random.RandomState(seed)
    feeds = {}
    fixed = switches(graph)
    for name in graph.inputs:
        if name in fixed:
            feeds[name] = switch_array(graph, name, fixed[name], batch)
            continue
        dtype = dtype_of(graph[name])
        if not holds_numbers(dtype):
            hint = cut_hint(graph, name) if dtype is DType.string else "give it with --data"
            raise GraphslimError(f"cannot make up {dtype.name} data", f"input {name}", hint)
        evidence = range_of(graph, name)
        values = _random(rng, input_shape(graph, name, batch), evidence.low, evidence.high)
        feeds[name] = (values.round() if dtype.is_integral else values).astype(dtype.storage)
    return feeds


def _random(
    rng: np.random.RandomState, shape: Tuple[int, ...], low: float, high: float
) -> np.ndarray:
    """Uniform float64 numbers; along an image's height and width, interpolated from a grid."""
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
        share = (place - left).reshape([-1 if index == axis else 1 for index in range(4)])
        values = np.take(values, left, axis) * (1 - share) + np.take(values, left + 1, axis) * share
    return values


# --- Inputs of encoded bytes: what decodes them, and where their numbers begin.

_WEIGHTED = ("MatMul", "BatchMatMul", "Conv", "DepthwiseConv", "_Fused", "Fused")
"""Beginnings of the names of ops with weights."""


def decoder_of(graph: Graph, name: str) -> Optional[str]:
    """The op that decodes an input of strings, such as `DecodeJpeg`; None if there is none."""
    ops = [graph[reader].op for reader in downstream(graph, [name]) & needed(graph)]
    return next((op for op in sorted(ops) if op.startswith("Decode")), None)


def cut_hint(graph: Graph, name: str) -> str:
    """Advice for an input of strings without data: the options that start behind its decoder."""
    node = cut_behind(graph, name)
    if node is None:
        return "give it with --data"
    further = [input_name for input_name in graph.inputs if input_name != name]
    hint = "give it with --data, or start behind what decodes it: --inputs "
    hint += ",".join([*further, node])
    shape = analyse(graph).fact(Port(node)).shape
    if _is_known(shape):
        return hint
    sizes = sizes_of((1, *shape[1:])) if shape else "1,..."
    return f"{hint} with the sizes in --input-shape {node}={sizes}"


def cut_behind(graph: Graph, name: str) -> Optional[str]:
    """A node of floats, before the first op with weights, that cuts an input from all outputs.

    The first one whose shape is known, else the last one; None if there is none.
    """
    reached = (downstream(graph, [name]) & needed(graph)) - {name}
    cuts: List[str] = []
    for node in graph.order():
        if node.name not in reached:
            continue
        if node.op.startswith(_WEIGHTED):
            break
        if dtype_of(node).is_floating and _is_passed_by_all(graph, name, node.name):
            cuts.append(node.name)
    known = [cut for cut in cuts if _is_known(analyse(graph).fact(Port(cut)).shape)]
    return next(iter([*known, *cuts[::-1]]), None)


def _is_known(shape: Dims) -> bool:
    """Whether random inputs of a shape can be made: only batch and an image's size may be open."""
    if shape is None:
        return False
    return None not in shape[1:] or (len(shape) == 4 and shape[3] in (1, 3))


def _is_passed_by_all(graph: Graph, name: str, cut: str) -> bool:
    """Whether no output depends on an input once the first output of a node is given."""
    waiting, visited = [*graph.outputs], {Port(cut)}
    while waiting:
        port = waiting.pop()
        if port in visited:
            continue
        visited.add(port)
        if port.node == name:
            return False
        waiting.extend(graph.data_inputs(port.node))
    return True
