"""The values of a graph's variables, from a checkpoint, and none of them read yet."""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.errors import LoadError
from graphslim.graphdef.freeze import VARIABLES
from graphslim.graphdef.meta_graph import Kept
from graphslim.ir import Graph, Shape, Tensor
from graphslim.runtime import Checkpoint
from graphslim.support.text import plural

_AVERAGE = "/ExponentialMovingAverage"
"""What TensorFlow appends to a variable's name for its moving average."""


class _Part(NamedTuple):
    """A part of a tensor: the shape of the whole, and where the part begins and how long it is."""

    whole: Tuple[int, ...]
    begins: Tuple[int, ...]
    sizes: Tuple[int, ...]


def averaged(
    places: Mapping[str, Kept], values: Checkpoint, shadows: Mapping[str, str]
) -> Dict[str, Kept]:
    """The same places, but of the moving averages where the checkpoint has them.

    Args:
        places: where it holds each variable itself.
        values: the checkpoint.
        shadows: by key, the key of the moving average, as far as a graph tells; others are known
            by the name that TensorFlow gives them.

    Raises:
        LoadError: it has none.
    """
    found = {}
    for node, kept in places.items():
        for key in (shadows.get(kept.key, ""), kept.key + _AVERAGE):
            if node not in found and key in values.shapes:
                found[node] = kept._replace(key=key)
    if not found:
        raise LoadError(
            f"{values.prefix} has no moving averages of variables", "--averages", "leave it out"
        )
    return {**places, **found}


def lazily(
    graph: Graph, places: Mapping[str, Kept], values: Checkpoint, meta: str
) -> Callable[[Sequence[str]], Mapping[str, Tensor]]:
    """A function from names of variables to their values, for `freeze`.

    Args:
        graph: has the variables.
        places: where the checkpoint holds each.
        values: the checkpoint.
        meta: the file that the graph came from, for messages.

    The function raises LoadError where variables are not in the checkpoint, or of other shapes.
    """

    def give(names: Sequence[str]) -> Mapping[str, Tensor]:
        missing = [name for name in names if places[name].key not in values.shapes]
        if missing:
            key = places[missing[0]].key
            raise LoadError(
                f"{plural(len(missing), 'variable')} of {len(names)} are not in the checkpoint, "
                f"such as {key}",
                meta,
                f"is it the MetaGraph of another model than {values.prefix}?",
            )
        found = {name: _tensor(places[name], values) for name in names}
        odd = [name for name in names if not _fits(graph, name, found[name].shape)]
        if odd:
            shape = list(found[odd[0]].shape)
            raise LoadError(
                f"{plural(len(odd), 'variable')} of {len(names)} have another shape in the "
                f"checkpoint, such as {odd[0]}, which has {shape} there",
                meta,
                f"is it the MetaGraph of another model than {values.prefix}?",
            )
        return found

    return give


def _fits(graph: Graph, name: str, sizes: Tuple[int, ...]) -> bool:
    stated = graph[name].attrs.get("shape")
    # A variable whose shape is not checked says rank 0 in a reference's attribute.
    if not isinstance(stated, Shape) or not stated.dims:
        return True
    return len(stated.dims) == len(sizes) and all(
        one is None or one == other for one, other in zip(stated.dims, sizes)
    )


def _tensor(kept: Kept, values: Checkpoint) -> Tensor:
    whole = values.tensor(kept.key)
    part = _part(kept.part)
    if part is None:
        return whole
    if part.whole != whole.shape:
        raise LoadError(
            f"{kept.key} has the shape {list(whole.shape)} instead of {list(part.whole)}",
            values.prefix,
            "is its MetaGraph of another model?",
        )
    where = window(kept.part)
    return Tensor(part.sizes, whole.dtype, lambda: np.ascontiguousarray(whole.array[where]))


def window(text: str) -> Tuple[slice, ...]:
    """Where a part stands in its whole, as a saver says it; all of it for an empty text."""
    part = _part(text)
    if part is None:
        return ()
    return tuple([slice(one, one + size) for one, size in zip(part.begins, part.sizes)])


def _part(text: str) -> Optional[_Part]:
    """Reads a saver's `8 4 0,4:-`: the whole's sizes, and for each axis begin and size, or all."""
    if not text:
        return None
    words = text.split(" ")
    whole = tuple([int(word) for word in words[:-1]])
    begins: List[int] = []
    sizes: List[int] = []
    for size, bounds in zip(whole, words[-1].split(":")):
        begin, _, length = bounds.partition(",")
        begins.append(0 if bounds == "-" else int(begin))
        sizes.append(size if bounds == "-" else int(length))
    return _Part(whole, tuple(begins), tuple(sizes))


def variables_of(graph: Graph) -> List[str]:
    """The nodes of a graph that are variables."""
    return [node.name for node in graph if node.op in VARIABLES]
