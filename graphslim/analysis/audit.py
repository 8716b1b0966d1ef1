"""No op drops channels silently: what a rule neither carries on nor pins nor sums over is found.

A channel that nobody needs counts as dead, so a rule that forgets one would have it removed.
"""

from __future__ import annotations

from typing import Any, Iterator, List, Sequence, Tuple

import numpy as np

from graphslim.ir import Node
from graphslim.ops.table import Fact

SIZES_ONLY = frozenset(("Shape", "ShapeN", "Size", "Rank"))
"""Ops that read how many channels there are, and none of them (see `analysis.sizes`)."""


def audit(
    walk: Any, node: Node, inputs: Sequence[Fact], outs: Sequence[Fact], before: Sequence[int]
) -> None:
    """Pins the channels that the rule of an op forgot.

    Args:
        walk: the `analysis.walk.Walk` that visits.
        node: the op.
        inputs, outs: what it reads and gives.
        before: how many ties, pins, contractions and joints the walk had when the visit began.
    """
    if node.op in SIZES_ONLY:
        return
    ties, pins, contractions, joints = before[:4]
    handled = [pin.ids for pin in walk.pins[pins:]]
    for one in walk.contractions[contractions:]:
        handled += [one.into] if one.out is None else [one.into, one.out]
    for joint in walk.joints[joints:]:
        handled += [joint.flat, *[ids for ids in joint.factors if ids is not None]]
    for ids in forgotten(inputs, outs, handled, walk.ties[ties:]):
        walk.pin(node, ids, f"a {node.op} uses it in a way that is not followed")


def forgotten(
    inputs: Sequence[Fact],
    outs: Sequence[Fact],
    handled: Sequence[np.ndarray],
    ties: Sequence[Tuple[np.ndarray, np.ndarray]],
) -> Iterator[np.ndarray]:
    """The ids of each axis of each input of which an op says nothing.

    Args:
        inputs: what the op reads.
        outs: what it gives: their ids are carried on.
        handled: ids that it pinned or noted in a contraction.
        ties: the ties that it made; what is tied to ids that are seen to is seen to as well.
    """
    given = [ids for out in outs for ids in out.ids if ids is not None]
    seen: List[np.ndarray] = [ids for ids in (*given, *handled) if len(ids)]
    # Most ops hand on the very arrays that they read, and nothing is left to search for.
    same = {id(ids) for ids in seen}
    asked = [
        ids
        for known in inputs
        for ids in known.ids
        if ids is not None and len(ids) and id(ids) not in same
    ]
    left = [pair for pair in ties if len(pair[0])] if asked else []
    while left:
        linked = [pair for pair in left if _linked(pair, seen)]
        if not linked:
            break
        seen.extend([ids for pair in linked for ids in pair if len(ids)])
        left = [pair for pair in left if not any(pair is one for one in linked)]
    for ids in asked:
        if not _among(ids, seen):
            yield ids


def _linked(pair: Tuple[np.ndarray, np.ndarray], seen: Sequence[np.ndarray]) -> bool:
    """Whether one side of a tie is seen to."""
    if any(one is pair[0] or one is pair[1] for one in seen):
        return True
    return any(_among(ids, seen) for ids in pair)


def _among(ids: np.ndarray, seen: Sequence[np.ndarray]) -> bool:
    """Whether one of the ids is in one of the arrays: an op may take a part of an axis."""
    if any(ids is one for one in seen):
        return True
    if not seen:
        return False
    there = seen[0] if len(seen) == 1 else np.concatenate(seen)
    # Most of the time one of these two tells, and spares the search.
    if (there == ids[0]).any():
        return True
    if ids.max() < there.min() or ids.min() > there.max():
        return False
    # The kernel's axes and shapes are short: comparing them is quicker than sorting.
    return bool((there[:, None] == ids).any() if len(ids) <= 8 else np.isin(ids, there).any())
