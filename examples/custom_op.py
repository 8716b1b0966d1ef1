"""An op of one's own: what it does to channels, which otherwise may not go where they reach it.

    python examples/custom_op.py model.pb

Channels that reach an op without a rule stay, since nobody knows what it makes of them. A rule
reads a fact for each input (`op[0]`: its shape, and the ids of its channels along each axis) and
gives the fact of the output. Here it is for an op `ScaleChannels(x, scale)`, as a custom kernel may
compute it: channel c of x is multiplied with scale[c]. If the package that brings the op imports
this file, or it holds a pass that `--pass` names, the rule is there from the command line too.
`@gs.value_rule` and `@gs.cost_rule` add what the op makes of constants, and what it costs.
"""

from __future__ import annotations

import sys

import graphslim as gs


@gs.channel_rule("ScaleChannels")
def scale_channels(op: gs.OpVisit) -> gs.Fact:
    """Channel c of x goes only together with scale[c]; the result has the channels of x."""
    op.tie(op[0].channels(-1), op[1].channels(0))
    return op[0].without_value()


def main(path: str) -> None:
    """Prints which channels of a model may go, and why the others may not."""
    for group in gs.analyse(gs.load(path)).groups:
        why = "may go" if group.prunable else f"stay: {group.pinned_by}"
        print(f"{group.id}: {len(group)} channels {why}")


if __name__ == "__main__":
    main(sys.argv[1])
