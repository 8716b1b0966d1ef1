"""What a user can do about channels that cannot be pruned."""

from __future__ import annotations

from typing import Optional

from graphslim.analysis.channels import analyse
from graphslim.channels.reasons import KEPT, SIZES_GIVEN, OpenSize
from graphslim.ir import Graph, Port


def remedy(reason: str, graph: Optional[Graph] = None) -> str:
    """Advice on a reason that a group is pinned for (`Group.pinned_by`).

    Args:
        reason: the reason.
        graph: where it was given; sizes of inputs are asked for only where some are open.
    """
    if graph is not None and isinstance(reason, OpenSize):
        channels = analyse(graph)
        shapes = [channels.fact(Port(name)).shape for name in graph.inputs]
        if all(shape is not None and None not in shape for shape in shapes):
            return SIZES_GIVEN
    return getattr(reason, "advice", KEPT)
