"""find-inverted-residual: the blocks of MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381)."""

from __future__ import annotations

from typing import List, Optional

import graphslim as gs
from graphslim.pattern import (
    ADD,
    Pattern,
    act,
    block_pattern,
    conv,
    depthwise,
    fused_activation,
    fused_ops,
    maybe,
    norm,
    squeeze_excite,
)


def separable(x: Pattern) -> Pattern:
    """What the pointwise half of a separable convolution reads."""
    return maybe(act, norm(depthwise(x)))


SEPARABLE = separable(gs.Var("before"))


def activated(x: Pattern) -> Pattern:
    """The rest of a layer that is not linear."""
    return act(norm(x))


def widens(matcher: gs.Matcher, match: gs.Match) -> Optional[str]:
    """An expansion has more outputs than inputs.

    MobileNetV3 (Howard et al. 2019, arXiv 1905.02244) has one block whose expansion keeps the
    width; the SE block inside tells it from a pair of plain convolutions.
    """
    before, after = matcher.width(match.x), matcher.width(gs.Port(match.names["expand"]))
    if before is None or after is None or after > before:
        return None
    if after == before and "squeeze" in match.names:
        return None
    return f"expand takes {before} channels to {after}, no more"


def expands_a_tensor(matcher: gs.Matcher, match: gs.Match) -> Optional[str]:
    """The 1x1 half of a separable convolution is no expansion (as in the heads of OpenPose)."""
    if matcher.fits(SEPARABLE, match.x):
        return "expand is the pointwise half of a separable convolution"
    return None


def is_linear(matcher: gs.Matcher, match: gs.Match) -> Optional[str]:
    """An activation that takes all of project may only close a residual sum with the input."""
    project = matcher.graph[match.names["project"]]
    if fused_activation(project) and match.x not in summed_inside(matcher, project):
        return "project is followed by an activation, as in MobileNetV1"
    layers = matcher.layers_on(match.end, activated)
    if not layers or reads_past(matcher, match.end, layers):
        return None
    if any(sums_with(matcher, layer.end, match.x) for layer in layers):
        return None
    return "project is followed by an activation, as in MobileNetV1"


def reads_past(matcher: gs.Matcher, port: gs.Port, layers: List[gs.Match]) -> bool:
    """Whether anything reads a tensor, or what its layers make of it on the way, beside them."""
    ends = {layer.end.node for layer in layers}
    inside = {port.node}.union(*[layer.inside for layer in layers])
    way = [gs.Port(name) for name in inside - ends]
    readers = {node.name for passed in way for node in matcher.readers(passed)}
    return not readers <= inside or any(passed in matcher.graph.outputs for passed in way)


def sums_with(matcher: gs.Matcher, port: gs.Port, other: gs.Port) -> bool:
    """Whether two tensors are added."""
    additions = [node for node in matcher.readers(port) if node.op in (*ADD, "AddN")]
    terms = [term for node in additions for term in matcher.graph.data_inputs(node)]
    return other in [matcher.resolve(term) for term in terms]


def summed_inside(matcher: gs.Matcher, project: gs.Node) -> List[gs.Port]:
    """The tensors that a fused convolution adds to its own result."""
    inputs = matcher.graph.data_inputs(project)
    return [matcher.resolve(term) for term in inputs[2:]] if "Add" in fused_ops(project) else []


@block_pattern(
    "inverted_residual", channels_of="expand", where=(widens, expands_a_tensor, is_linear)
)
def inverted_residual(x: Pattern) -> Pattern:
    """1x1 expansion, depthwise convolution, 1x1 linear projection; perhaps an SE block inside."""
    y = act(norm(conv(x, kernel=1, name="expand")))
    y = maybe(act, norm(depthwise(y, name="depthwise")))
    y = maybe(act, maybe(squeeze_excite, y))
    return conv(y, kernel=1, name="project")


@gs.register
class FindInvertedResidual(gs.FindBlocks):
    """Finds inverted residual blocks."""

    name = "find-inverted-residual"
    kind = "inverted_residual"
