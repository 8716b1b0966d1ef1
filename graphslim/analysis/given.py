"""Shapes that the user gives for inputs which are no placeholders, but tensors inside the graph."""

from __future__ import annotations

from typing import Any, Dict, List

from graphslim.channels.reasons import IsInput
from graphslim.ir import Node
from graphslim.ops.table import Fact, Ids


def with_given_shape(walk: Any, node: Node, outs: List[Fact]) -> List[Fact]:
    """What an op makes, with the sizes that were given for it where it leaves them open.

    Args:
        walk: the walk over the graph; new ids are its, and are pinned in it.
        node: the op.
        outs: what its rule says of its outputs; the first is what is fed.
    """
    given = walk.graph.input_shapes.get(node.name)
    known = outs[0].shape if outs else None
    if given is None or (known is not None and len(known) != len(given)):
        return outs
    known = known or (None,) * len(given)
    sizes = tuple([new if old is None else old for old, new in zip(known, given)])
    fresh: Dict[int, Ids] = {
        axis: walk.fresh(size)
        for axis, (old, size) in enumerate(zip(known, sizes))
        if size and old is None
    }
    for ids in fresh.values():
        walk.pin(node, ids, IsInput("it is a graph input"))
    first = outs[0] if outs else Fact()
    ids_known = first.ids or (None,) * len(sizes)
    return [first._replace(shape=sizes, ids=ids_known).with_ids(fresh), *outs[1:]]
