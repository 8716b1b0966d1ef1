"""The selection: what a plan may touch, which channels go, and how many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

from graphslim.errors import PlanError
from graphslim.plans.curves import Curves, curves_of
from graphslim.plans.options import (
    ANY_COUNT,
    COUNT,
    CURVES,
    FLAG,
    GLOBS,
    MAGNITUDE,
    NAME,
    NUMBER,
    PART,
    SETTINGS,
    SHARE,
    check_options,
    declares_options,
    flag_of,
    one_of,
    option,
)
from graphslim.plans.settings import KINDS, ByName, by_name
from graphslim.scoring import AGGREGATES

DEAD_BELOW = 1e-9
"""Weights of smaller magnitude count as zero by default: the threshold of the published method."""
MEASURED_BY = "taylor"
"""The criterion by which a sensitivity is measured, where nobody names another."""
SCOPES = ("blocks", "all")
ROUNDINGS = ("kept", "removed")
RANKS = ("global", "local")
BUDGETS = ("threshold", "ratio", "macs", "params", "size", "latency", "max_loss")

RANKED = (
    *("criterion", "aggregate", "loss_output", "scope", "only", "exclude", "by_name"),
    *("through_norms", "whole_heads", "multiple_of", "runtime", "rounding", "min_channels"),
    "max_ratio",
)
"""Options that say which channels of which groups go, and in which steps, but not how many."""


class Widths(NamedTuple):
    """The widths at which a runtime is fast: its kernels compute blocks of channels.

    A width within a block takes as long as the whole block.

    Attributes:
        title: the runtime's name in texts.
        multiple: its kernels compute so many channels at once.
        aligned: at widths that are no multiple of this it is slower than at the next larger one.
    """

    title: str
    multiple: int
    aligned: int = 1

    def step_for(self, channels: int) -> int:
        """The multiple for a group: 4 where it is narrower, so that something of it can go."""
        return self.multiple if channels >= self.multiple else 4


TARGETS: Dict[str, Widths] = {
    "tf": Widths("TensorFlow", 8),
    "tflite": Widths("TFLite", 16),
    "tflite-int8": Widths("TFLite in 8 bits", 16),
    "ort": Widths("ONNX Runtime", 16, aligned=4),
    "openvino": Widths("OpenVINO", 16),
}
"""What a plan can be made for, by the name that `--for` takes.

Measured by `python -m benchmarks.widths --runtime NAME`; docs/choosing.md shows what came of it.
"""


@declares_options
@dataclass(frozen=True)
class Selection:
    """What a plan may touch and, with a criterion, which channels go and how many.

    Here each of its options is declared, for the keyword arguments of `graphslim.plan`, for the
    options of commands and for passes. Of threshold, ratio, macs, params, size and latency at most
    one is given.
    """

    dead_below: float = option(
        DEAD_BELOW,
        MAGNITUDE,
        "Weights of smaller magnitude count as zero; 0: exact zeros alone.",
        "W",
        hint="1e-9 is the default",
    )
    criterion: Optional[str] = option(
        None,
        NAME,
        "Remove the channels that a criterion scores lowest, as many as an option such as --macs "
        "says: a name (see `graphslim criteria`), module:function or file.py:function.",
        "C",
        hint="give its name, or module:function",
    )
    threshold: Optional[float] = option(
        None,
        NUMBER,
        "Channels whose score is beyond T: above, if the criterion says what is redundant; below, "
        "if it says what matters.",
        "T",
    )
    ratio: Optional[float] = option(None, PART, "Remove this share of the channels in scope.", "R")
    macs: Optional[float] = option(None, PART, "Keep this share of the multiply-accumulates.", "R")
    params: Optional[float] = option(None, PART, "Keep this share of the parameters.", "R")
    size: Optional[float] = option(None, PART, "Keep this share of the bytes of the file.", "R")
    latency: Optional[float] = option(
        None, PART, "Keep this share of the time, measured on this machine.", "R"
    )
    max_loss: Optional[float] = option(
        None,
        MAGNITUDE,
        "As narrow as the network gets while it loses at most L, measured on --data; see "
        "`graphslim sensitivity`.",
        "L",
    )
    allocate: Optional[Curves] = option(
        None,
        CURVES,
        "How much each group loses is chosen by the curves that `graphslim sensitivity` measured, "
        "so that the network loses least for the budget.",
        "S.jsonl",
    )
    rank: str = option(
        "global",
        one_of(RANKS),
        "All channels compete, or each group loses the same share.",
    )
    aggregate: Optional[str] = option(
        None,
        one_of(AGGREGATES, "no way to aggregate called {!r}"),
        "How the scores of one group's parameters become one.  [default: mean; for redundancy "
        "first]",
    )
    loss_output: Optional[str] = option(
        None,
        NAME,
        "For criteria by gradients (taylor, obs): the tensor whose gradients are taken.  [default: "
        "the outputs]",
        "NAME",
    )
    threads: int = option(
        1,
        ANY_COUNT,
        "Threads within an op when --latency or --for measures times; 0: as many as there are "
        "cores.",
        "N",
    )
    scope: str = option(
        "all", one_of(SCOPES), "Prune inside recognised blocks alone, or everywhere."
    )
    only: Sequence[str] = option(
        (), GLOBS, "Prune only groups or blocks whose names match.", "GLOB"
    )
    exclude: Sequence[str] = option(
        (), GLOBS, "Leave groups or blocks alone whose names match.", "GLOB"
    )
    by_name: ByName = option(
        (),
        SETTINGS,
        f"Other limits for some groups: YAML or JSON that maps globs to any of {', '.join(KINDS)}.",
        "FILE",
        spelled="settings",
    )
    multiple_of: Optional[int] = option(
        None,
        COUNT,
        "Keep a multiple of N channels per group.  [default: 4 with --scope blocks or --rounding "
        "removed; else 8 with --criterion, and 1 for dead channels; --for has its own]",
        "N",
    )
    runtime: Optional[str] = option(
        None,
        one_of(TARGETS),
        "Choose for the runtime that will run the result: widths at which its kernels are fast, "
        "and --latency is measured in it.  [default: tf]",
        flag="--for",
    )
    rounding: str = option(
        "kept",
        one_of(ROUNDINGS),
        "What is a multiple: the number kept, rounded up, or the number removed, rounded to the "
        "nearest, as in the published method.",
    )
    min_channels: int = option(1, COUNT, "Keep at least N channels per group.", "N")
    max_ratio: float = option(
        1.0, SHARE, "The largest share of a group's channels that may go.", "R"
    )
    through_norms: Optional[bool] = option(
        None,
        FLAG,
        "Let channels go through layer, group, RMS and L2 norms, which then run over those that "
        "stay.  [default: with --repair]",
    )
    whole_heads: Optional[bool] = option(
        None,
        FLAG,
        "Of attention heads, let whole ones go, and no channels within them.  [default: the larger "
        "number of the two is thinned out]",
    )
    seed: int = 0

    @classmethod
    def of(cls, settings: Any = None, seed: int = 0, **options: Any) -> Selection:
        """A selection of options by keyword; None stands for the default of an option.

        Args:
            settings: a file, or a mapping of globs.
            seed: for criteria that draw lots.
            **options: the others; `only` and `exclude` take one glob, or several.

        Raises:
            PlanError: the settings cannot be read, or make no sense.
            TypeError: there is no such option.
        """
        options = {name: value for name, value in options.items() if value is not None}
        for name in {"only", "exclude"} & options.keys():
            globs = options[name]
            options[name] = (globs,) if isinstance(globs, str) else tuple(globs)
        curves = options["allocate"] = curves_of(options.get("allocate"))
        if options.get("criterion") is None and curves is not None:
            options["criterion"] = curves.about.criterion
        elif options.get("criterion") is None and options.get("max_loss") is not None:
            options["criterion"] = MEASURED_BY
        return cls(**options, by_name=by_name(settings), seed=seed)

    @property
    def step(self) -> int:
        """The multiple that is in force; for a runtime, that of wide groups."""
        if self.multiple_of is not None:
            return self.multiple_of
        if self.target is not None:
            return self.target.aligned if self.criterion is None else self.target.multiple
        if self.scope == "blocks" or self.rounding == "removed":
            return 4
        return 1 if self.criterion is None else TARGETS["tf"].multiple

    @property
    def target(self) -> Optional[Widths]:
        """The widths of the runtime that the plan is for, where that decides multiples."""
        if self.runtime is None or self.multiple_of is not None or self.rounding == "removed":
            return None
        return TARGETS[self.runtime]

    def step_for(self, channels: int) -> int:
        """The multiple that is in force for a group of so many channels."""
        if self.target is None or self.criterion is None:
            return self.step
        return self.target.step_for(channels)

    @property
    def budget(self) -> Optional[Tuple[str, float]]:
        """What is to be reached, by name, if anything."""
        for name in BUDGETS:
            asked: Optional[float] = getattr(self, name)
            if asked is not None:
                return name, asked
        return None

    def settings(self) -> Dict[str, Any]:
        """The settings as a plan records them."""
        recorded: Dict[str, Any] = {
            "scope": self.scope,
            "only": list(self.only),
            "exclude": list(self.exclude),
            "multiple_of": self.step,
            "rounding": self.rounding,
            "min_channels": self.min_channels,
            "max_ratio": self.max_ratio,
        }
        if self.criterion is not None:
            recorded.update(
                criterion=self.criterion,
                aggregate=self.aggregate,
                rank=self.rank,
                seed=self.seed,
                budget=dict([self.budget]) if self.budget else {},
            )
        if self.runtime is not None:
            recorded["runtime"] = self.runtime
        if self.allocate is not None:
            recorded["allocate"] = self.allocate.about._asdict()
        if self.by_name:
            recorded["by_name"] = [[glob, given.as_dict()] for glob, given in self.by_name]
        return recorded

    def check(self) -> None:
        """Refuses what makes no sense for any graph.

        Raises:
            PlanError: an option is unknown, out of range, missing or one too many.
        """
        check_options(self)
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        by_group = any(settings.amount for _, settings in self.by_name)
        options = " and ".join([flag_of(name) for name in given])
        if len(given) > 1:
            raise PlanError("only one thing can be reached at a time", options, "choose one")
        if self.allocate is not None:
            self._check_allocated(given)
        if self.criterion is None and (given or by_group):
            raise PlanError(
                "needs a criterion", options or "--settings", "add one, such as --criterion l1"
            )
        if self.criterion is not None and not given and not by_group:
            raise PlanError(
                "says what goes first, but not how much",
                f"--criterion {self.criterion}",
                f"add one of: {', '.join(map(flag_of, BUDGETS))}",
            )

    def _check_allocated(self, given: Sequence[str]) -> None:
        """Refuses curves that were measured by another criterion, or where nothing needs them.

        Raises:
            PlanError: the curves do not go with the other options.
        """
        assert self.allocate is not None
        measured = self.allocate.about.criterion
        if not given or given == ["threshold"]:
            raise PlanError(
                "says what a group loses, but not how much is to go",
                "--allocate",
                "add one of: --macs, --params, --size, --ratio, --latency, --max-loss",
            )
        if self.criterion not in (None, measured):
            raise PlanError(
                f"was measured by {measured}",
                "--allocate",
                f"leave --criterion out, or measure by {self.criterion}",
            )
