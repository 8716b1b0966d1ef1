"""Arrays for the inputs of a graph: which is for which input, and whether it fits."""

from __future__ import annotations

import hashlib
from typing import Dict, Mapping, Sequence, Tuple

import numpy as np

from graphslim.analysis.channels import analyse
from graphslim.errors import GraphslimError
from graphslim.feeds.shapes import dtype_of
from graphslim.ir import DType, Graph, Port


def matched(
    graph: Graph,
    arrays: Mapping[str, np.ndarray],
    where: str,
    optional: Sequence[str] = (),
) -> Dict[str, np.ndarray]:
    """Arrays by the inputs that they are for, as they came, if they fit.

    An array may hold more examples than the graph takes at once.

    Args:
        graph: the graph.
        arrays: by input name; an array by another name is taken for the one input that there is.
        where: what they came from, to be told where they do not fit.
        optional: inputs that need no array.

    Raises:
        GraphslimError: one is missing, or its shape or element type is wrong.
    """
    needed = [name for name in graph.inputs if name not in optional]
    arrays = dict(arrays)
    if len(needed) == 1 and needed[0] not in arrays:
        others = {key: value for key, value in arrays.items() if key not in optional}
        fitting = [key for key, value in others.items() if _fits(graph, needed[0], value)]
        if len(fitting) == 1 or len(others) == 1:
            arrays[needed[0]] = others[(fitting or list(others))[0]]
    found = {}
    for name in graph.inputs:
        if name in arrays:
            found[name] = _checked(graph, name, arrays[name], where)
        elif name not in optional:
            there = ", ".join(sorted(filter(None, arrays))) or "one array without a name"
            raise GraphslimError(f"has no array for the input {name!r}", where, f"it has: {there}")
    return found


def _checked(graph: Graph, name: str, given: np.ndarray, where: str) -> np.ndarray:
    """An array for an input, if it fits."""
    array = given if isinstance(given, np.ndarray) else np.asarray(given)
    dtype = dtype_of(graph[name])
    if not _fits(graph, name, array):
        wanted = analyse(graph).fact(Port(name)).shape
        sizes = ",".join(["?" if size is None else str(size) for size in wanted or ()])
        shape = ",".join([str(size) for size in array.shape])
        raise GraphslimError(
            f"the array for {name!r} has the shape {shape}", where, f"the input takes {sizes}"
        )
    if array.dtype.kind not in "fiubc" and dtype is not DType.string:
        raise GraphslimError(
            f"the array for {name!r} holds {array.dtype}", where, f"the input takes {dtype.name}"
        )
    return array


def _fits(graph: Graph, name: str, given: np.ndarray) -> bool:
    array, wanted = np.asarray(given), analyse(graph).fact(Port(name)).shape
    if wanted is None:
        return True
    if len(wanted) != array.ndim or 0 in array.shape:
        return False
    if wanted and wanted[0]:
        # The first axis of a vector of fixed size holds no examples that could be left out.
        left = array.shape[0] % wanted[0] if array.ndim == 1 else 0
        if array.shape[0] < wanted[0] or left:
            return False
    return all(size is None or size == given for size, given in zip(wanted[1:], array.shape[1:]))


def digest_of(arrays: Sequence[Tuple[str, np.ndarray]], rows: int = 64) -> str:
    """The SHA-256 of arrays by name, their shapes and element types; some rows at a time."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays, key=lambda item: item[0]):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        if not array.ndim or array.dtype.hasobject:
            digest.update(repr(array.tolist()).encode())
            continue
        for first in range(0, len(array), rows):
            digest.update(np.ascontiguousarray(array[first : first + rows]).tobytes())
    return digest.hexdigest()
