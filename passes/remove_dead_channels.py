"""remove-dead-channels: removes channels that provably change no output."""

from __future__ import annotations

from dataclasses import dataclass

import graphslim as gs


@gs.register
@dataclass(frozen=True)
class RemoveDeadChannels(gs.Pass):
    """Removes dead channels and folds the constants that they leave behind.

    Attributes:
        selection: what may go, and what counts as zero; it has no criterion.

    Before (channel 1 of three is never produced):
        x = Placeholder() dtype=float32 shape=<1,2,2,1>
        a = Const() dtype=float32 value=float32[1,1,1,3]{2 0 3}
        y = Conv2D(x, a) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
        b = Const() dtype=float32 value=float32[1,1,3,1]{4 5 6}
        z = Conv2D(y, b) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]

    After:
        x = Placeholder() dtype=float32 shape=<1,2,2,1>
        a = Const() dtype=float32 value=float32[1,1,1,2]{2 3}
        y = Conv2D(x, a) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
        b = Const() dtype=float32 value=float32[1,1,2,1]{4 6}
        z = Conv2D(y, b) T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1]
    """

    name = "remove-dead-channels"
    after = {
        "find-inverted-residual": "scope `blocks` needs the blocks",
        "find-squeeze-excite": "scope `blocks` needs the blocks",
    }

    selection: gs.Selection = gs.Selection()

    def run(self, graph: gs.Graph) -> gs.Outcome:
        """Plans and applies; the plan is in the outcome."""
        plan = gs.plan_dead(graph, self.selection)
        gs.apply_in_place(graph, plan)
        return gs.Outcome(plan.removed > 0, (f"channels removed: {plan.removed}",), plan)
