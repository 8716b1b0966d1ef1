"""One step of the schedule: a checkpoint to be trained, and what came of it."""

from __future__ import annotations

import os
from typing import Any, Optional

from graphslim.checkpoint import prefix_of
from graphslim.errors import GraphslimError
from graphslim.plans import Plan
from graphslim.training.hook import SoftPruningHook


class Step:
    """What `schedule` asks a training script for. Call `retrained` before the next step.

    Attributes:
        threshold: the threshold of this step.
        round: 0, or how many times the same channels have been set to zero again.
        folder: the folder that holds `checkpoint`, `plan.json` and, once trained, `step.json`.
        checkpoint: the prefix of the checkpoint to be trained, the plan's channels at zero.
        plan: which channels those are.
        failed_rate: the share of their filters that were not zero any more after training; None
            before that.
        result: the prefix of the trained checkpoint, None before `retrained`. After the last step
            it is one with the plan's channels at zero: where some did not stay there, a copy.
    """

    def __init__(
        self, threshold: float, number: int, folder: str, checkpoint: str, plan: Plan
    ) -> None:
        self.threshold, self.round = threshold, number
        self.folder, self.checkpoint, self.plan = folder, checkpoint, plan
        self.failed_rate: Optional[float] = None
        self.result: Optional[str] = None

    def __repr__(self) -> str:
        return f"Step(threshold={self.threshold}, round={self.round}, {self.checkpoint!r})"

    def hook(self, **options: Any) -> SoftPruningHook:
        """A hook that holds the plan's channels at zero while this step is trained.

        Args:
            options: those of `SoftPruningHook`.
        """
        return SoftPruningHook(self.plan, **options)

    def retrained(self, where: Any) -> None:
        """Says where the trained checkpoint is.

        Args:
            where: its prefix, one of its files, or a folder, whose latest checkpoint is meant.

        Raises:
            GraphslimError: there is no checkpoint, or it is the one that was to be trained.
            LoadError: the latest checkpoint of the folder is not there.
        """
        if where is None:
            raise GraphslimError(
                "got no checkpoint", "step.retrained()", "give a prefix, or the folder of one"
            )
        given = os.fspath(where)
        prefix = prefix_of(given)
        if prefix is None:
            what = "holds no checkpoint" if os.path.isdir(given) else "no checkpoint of that name"
            raise GraphslimError(what, given, "give what training saved")
        if os.path.realpath(prefix) == os.path.realpath(self.checkpoint):
            raise GraphslimError(
                "is the checkpoint that was to be trained",
                given,
                "save the trained one under another name, or with its global step",
            )
        self.result = prefix
