"""A kind of block of one's own: depthwise separable convolutions, as in MobileNetV1 and Xception.

    python examples/custom_block.py model.pb

A pattern describes the block's last tensor back to its input `x` in the words of
`graphslim.pattern`: each word covers the spellings that frozen graphs have (batch norm fused,
unfused or folded away; every way to write an activation; identities anywhere). A condition says in
words why a match will not do. `graphslim inspect --explain NODE` prints how near each pattern came.
"""

from __future__ import annotations

import sys
from typing import Optional

import graphslim as gs
from graphslim.pattern import act, block_pattern, conv, depthwise, maybe, norm


def is_activated(matcher: gs.Matcher, match: gs.Match) -> Optional[str]:
    """The pointwise layer has an activation; without one it is the end of another block."""
    found = matcher.layers_on(match.end, lambda y: act(norm(y)))
    return None if found else "no activation follows the pointwise layer"


@block_pattern("depthwise_separable", channels_of="pointwise", where=[is_activated])
def depthwise_separable(x: gs.Pattern) -> gs.Pattern:
    """A depthwise convolution, then a 1x1 convolution (Howard et al. 2017, arXiv 1704.04861)."""
    y = maybe(act, norm(depthwise(x, name="depthwise")))
    return conv(y, kernel=1, name="pointwise")


@gs.register
class FindDepthwiseSeparable(gs.FindBlocks):
    """Finds depthwise separable convolutions."""

    name = "find-depthwise-separable"
    kind = "depthwise_separable"


def main(path: str) -> None:
    """Prints the blocks of a model."""
    graph = gs.load(path)
    gs.Pipeline(["find-depthwise-separable"]).run(graph)
    channels = gs.analyse(graph)
    for block in graph.blocks:
        group = channels.group_at(block.channels_of)
        width = "?" if group is None else len(group)
        print(f"{block.name}: {block.role('depthwise')} -> {block.role('pointwise')}, {width} wide")
    print(f"{len(graph.blocks)} depthwise separable convolutions")


if __name__ == "__main__":
    main(sys.argv[1])
