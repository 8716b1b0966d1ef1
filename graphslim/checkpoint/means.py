"""Gradients of means: how many numbers were averaged, where TensorFlow has folded a part of that.

What comes back is repeated over what was averaged, and divided by how often: by a constant, where
all sizes are known, or by the quotient of two products of sizes, of which the one of the result may
be a constant. Nothing else in the graph says that these constants count channels.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional

import numpy as np

from graphslim.analysis.channels import Labels
from graphslim.ir import Graph, Node, Port

_REPEATS = ("Tile", "BroadcastTo")
_TO_RESULT = {"Cast": 0, "FloorDiv": 1, "Maximum": 0, "Prod": 0}
"""The ops from the number that is divided by to the sizes of the result, with the input to take."""


class _Sizes(NamedTuple):
    """The sizes of a tensor before and after the cut; all are known."""

    old: List[int]
    new: List[int]


def mend_mean(graph: Graph, node: Node, labels: Labels, gone: np.ndarray) -> None:
    """Lets a gradient of a mean divide by how many numbers are averaged after the cut.

    Args:
        graph: the graph, whose parameters are cut; changed in place.
        node: a RealDiv, maybe of such a gradient.
        labels: what the walk found before the cut.
        gone: which channels go.
    """
    spread, divisor = graph.data_inputs(node.name)
    if graph[spread.node].op not in _REPEATS:
        return
    before = _sizes(labels, graph.data_inputs(spread.node)[0], gone)
    reader, slot = node.name, 1
    while graph[divisor.node].op in _TO_RESULT:
        reader, slot = divisor.node, _TO_RESULT[graph[divisor.node].op]
        divisor = graph.data_inputs(reader)[slot]
    if before is None or graph[divisor.node].op != "Const":
        return
    numbers = graph[divisor.node].attrs["value"].numbers()
    if reader == node.name:
        after = _sizes(labels, spread, gone)
        if after is None or numbers.size != 1:
            return
        old, new = [
            [int(np.prod(many)) // max(int(np.prod(few)), 1)] for many, few in zip(after, before)
        ]
    else:
        places = [axis for axis, size in enumerate(before.old) if size != 1]
        old, new = [[sizes[axis] for axis in places] for sizes in before]
    wide = np.flatnonzero(numbers.ravel() != 1)
    if old != new and numbers.ravel()[wide].tolist() == old:
        fresh = np.array(numbers)
        fresh.reshape(-1)[wide] = new
        _set(graph, reader, slot, fresh)


def _sizes(labels: Labels, port: Port, gone: np.ndarray) -> Optional[_Sizes]:
    known = labels.fact(port)
    if known.shape is None or None in known.shape:
        return None
    old = [size or 0 for size in known.shape]
    lost = [
        0 if ids is None else int(np.count_nonzero(gone[labels.label[ids]])) for ids in known.ids
    ]
    return _Sizes(old, [size - less for size, less in zip(old, lost)])


def _set(graph: Graph, reader: str, slot: int, numbers: np.ndarray) -> None:
    """Gives a reader of a constant other numbers, in a copy where others read it too."""
    name = graph.data_inputs(reader)[slot].node
    tensor = graph[name].attrs["value"]
    if len(graph.uses_of(name)) != 1:
        copy = Node(graph.fresh_name(f"{name}/resized"), "Const", graph[name].attrs.copy())
        name = graph.add(copy).name
        graph.rewire(reader, slot, Port(name))
    graph.set_attr(name, "value", tensor.with_numbers(numbers))
