"""remove-dead-channels: removes channels that provably change no output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import graphslim as gs


@gs.register
@dataclass(frozen=True)
class RemoveDeadChannels(gs.Pass):
    """Removes dead channels and folds the constants that they leave behind.

    Attributes:
        dead_below: weights of smaller magnitude count as zero; 0 for exact zeros alone.
        scope, only, exclude, multiple_of, min_channels, rounding, max_ratio, by_name: what may go;
            see `graphslim.Selection`.

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

    dead_below: float = gs.DEAD_BELOW
    scope: str = "all"
    only: Tuple[str, ...] = ()
    exclude: Tuple[str, ...] = ()
    multiple_of: Optional[int] = None
    min_channels: int = 1
    rounding: str = "kept"
    max_ratio: float = 1.0
    by_name: Tuple[Tuple[str, gs.GroupSettings], ...] = ()

    def run(self, graph: gs.Graph) -> gs.Outcome:
        """Plans and applies; the plan is in the outcome."""
        selection = gs.Selection(
            scope=self.scope,
            only=self.only,
            exclude=self.exclude,
            multiple_of=self.multiple_of,
            min_channels=self.min_channels,
            rounding=self.rounding,
            max_ratio=self.max_ratio,
            by_name=self.by_name,
        )
        plan = gs.plan_dead(graph, selection, self.dead_below)
        gs.apply_in_place(graph, plan)
        return gs.Outcome(plan.removed > 0, (f"channels removed: {plan.removed}",), plan)
