"""find-inverted-residual: recognises the blocks of MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381)."""

from __future__ import annotations

from typing import List, Optional

import graphslim as gs
from graphslim.pattern import (
    ADD,
    Pattern,
    act,
    affine_step,
    block_pattern,
    conv,
    depthwise,
    maybe,
    norm,
    squeeze_excite,
)


def widens(matcher: gs.Matcher, match: gs.Match) -> Optional[str]:
    """An expansion has more outputs than inputs."""
    node = matcher.graph[match.names["expand"]]
    filters = matcher.input_shape(node, 1)
    if filters is None or None in filters[2:]:
        return None
    return None if filters[3] > filters[2] else f"expand takes {filters[2]} channels to {filters[3]}, no more"


def expands_a_tensor(matcher: gs.Matcher, match: gs.Match) -> Optional[str]:
    """The 1x1 half of a separable convolution is no expansion (as in the heads of OpenPose)."""
    separable = maybe(act, norm(depthwise(gs.Var("before"))))
    if matcher.fits(separable, match.x):
        return "expand is the pointwise half of a separable convolution"
    return None


def is_linear(matcher: gs.Matcher, match: gs.Match) -> Optional[str]:
    """Nothing but a residual sum with the block's input may follow an activated project layer."""
    ends = _behind_norm(matcher, gs.Port(match.names["project"]))
    followers = {end: _activations(matcher, end) for end in ends}
    if not any(followers.values()) or any(_plain_readers(matcher, end, found) for end, found in followers.items()):
        return None
    for found in followers.values():
        for active in found:
            if any(_sums_with(matcher, reader, match.x) for reader in _readers(matcher, active)):
                return None
    return "project is followed by an activation, as in MobileNetV1"


def _readers(matcher: gs.Matcher, port: gs.Port) -> List[gs.Node]:
    """The nodes that read a port, behind identities."""
    found = []
    for use in matcher.graph.uses_of(port):
        node = matcher.graph[use.node]
        found.extend(_readers(matcher, gs.Port(node.name)) if node.op in gs.IDENTITY_OPS else [node])
    return found


def _behind_norm(matcher: gs.Matcher, port: gs.Port) -> List[gs.Port]:
    """The port itself, and the ports behind its bias and batch norm."""
    found = [port]
    for node in _readers(matcher, port):
        if affine_step(matcher, node) is not None:
            found.extend(_behind_norm(matcher, gs.Port(node.name)))
    return found


def _activations(matcher: gs.Matcher, port: gs.Port) -> List[gs.Port]:
    """The activations of a port."""
    x = gs.Var("x")
    return [
        gs.Port(node.name)
        for node in _readers(matcher, port)
        if matcher.fits(act(x), gs.Port(node.name), {x: port})
    ]


def _plain_readers(matcher: gs.Matcher, port: gs.Port, active: List[gs.Port]) -> bool:
    """Whether anything uses a port as it is: neither normalised further nor on the way to an activation."""
    taken = {one.node for one in active}
    plain = [
        node
        for node in _readers(matcher, port)
        if node.name not in taken
        and affine_step(matcher, node) is None
        and not any(_leads_to(matcher, node.name, name) for name in taken)
    ]
    return bool(plain)


def _leads_to(matcher: gs.Matcher, start: str, end: str) -> bool:
    """Whether a node feeds another within the few steps that a swish takes."""
    layer = {start}
    for _ in range(4):
        layer = {use.node for name in layer for use in matcher.graph.uses_of(name)}
        if end in layer:
            return True
    return False


def _sums_with(matcher: gs.Matcher, node: gs.Node, x: gs.Port) -> bool:
    inputs = matcher.graph.data_inputs(node)
    return node.op in (*ADD, "AddN") and any(matcher.resolve(port) == x for port in inputs)


@block_pattern("inverted_residual", channels_of="expand", where=(widens, expands_a_tensor, is_linear))
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
