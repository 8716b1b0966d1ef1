"""What a user can do about channels that cannot be pruned."""

from __future__ import annotations

import re
from typing import Optional, Tuple

from graphslim.analysis.channels import analyse
from graphslim.ir import Graph, Port

_OPEN_SIZES = (
    "give the sizes that are open, --input-shape NAME=1,224,224,3; a shape that is fed when "
    "the graph runs has to be frozen into it"
)
_NO_SHAPE = (
    "the sizes of all inputs are given, but an op before this one gives no shape that is known: "
    "teach graphslim that op, one function under @graphslim.channel_rule, or freeze the shape "
    "that it computes into the graph"
)
_REMEDIES: Tuple[Tuple[str, str], ...] = (
    (
        "graph output",
        "outputs keep their shape; if you use another tensor than this, name it with --outputs",
    ),
    ("graph input", "inputs keep their shape"),
    (
        "weights.* while the graph runs",
        "write the model with its weights computed and its variables and conditions resolved, "
        "`graphslim optimize MODEL -o OUT.pb`, and prune that",
    ),
    (
        "weights",
        "freeze the graph with the weights as they are computed, as one constant, or teach "
        "graphslim to compute the op, one function under @graphslim.value_rule",
    ),
    (
        "no rule for the op",
        "teach graphslim the op, one function under @graphslim.channel_rule, or cut the graph "
        "before it with --outputs",
    ),
    (
        "loop|If or Case|function|array of tensors|boxes|Python code|inside",
        "nothing to do if this is the model's own post-processing, which stays as it is; else "
        "freeze the graph with its control flow resolved, or cut it before this node, --outputs",
    ),
    (
        "quantised",
        "prune the graph in floating point and quantise the result",
    ),
    (
        "not known|unknown|not constant|open size",
        _OPEN_SIZES,
    ),
    (
        "its size is|how many|computed",
        "freeze the graph with a fixed input shape, so that its sizes become constants",
    ),
    (
        "normalised|every channel|over channels|among|reduced|whole tensor",
        "this op weighs the channels of one position against each other, so that none can go "
        "unnoticed; layers before and after it are pruned up to it",
    ),
    (
        "convolved over|pooled over|it is resized|between|another axis",
        "the graph uses this axis as space or batch; channels on it stay",
    ),
)
"""Words of the reasons that pins give, and advice for those; the first that fits holds."""


def remedy(reason: str, graph: Optional[Graph] = None) -> str:
    """Advice on a reason that a group is pinned for (`Group.pinned_by`).

    Args:
        reason: the reason.
        graph: where it was given; sizes of inputs are asked for only where some are open.
    """
    for words, advice in _REMEDIES:
        if re.search(words, reason):
            given = graph is not None and not _has_open_inputs(graph)
            return _NO_SHAPE if advice is _OPEN_SIZES and given else advice
    return "they stay as they are; the rest of the network is pruned around them"


def _has_open_inputs(graph: Graph) -> bool:
    """Whether the size of an input is not known."""
    channels = analyse(graph)
    shapes = [channels.fact(Port(name)).shape for name in graph.inputs]
    return any(shape is None or None in shape for shape in shapes)
