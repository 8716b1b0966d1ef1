"""The options that say which channels go, and the selection that they make."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Tuple

import click

from graphslim.cli.option_types import Finite, Number, Share, whole_number
from graphslim.cli.options import Command, combined, packed
from graphslim.criteria import AGGREGATES, find_criterion
from graphslim.errors import PlanError
from graphslim.measure.images import Images
from graphslim.measure.samples import Samples
from graphslim.planner import Means
from graphslim.plans import DEAD_BELOW, RANKS, ROUNDINGS, SCOPES, Selection, read_settings
from graphslim.support.progress import Tick, silent


class Choosing(NamedTuple):
    """Which channels are to go; the fields of `plans.Selection`, and what choosing them takes."""

    dead: bool
    dead_below: float
    criterion: Optional[str]
    threshold: Optional[float]
    ratio: Optional[float]
    macs: Optional[float]
    params: Optional[float]
    size: Optional[float]
    latency: Optional[float]
    rank: str
    aggregate: Optional[str]
    scope: str
    only: Tuple[str, ...]
    exclude: Tuple[str, ...]
    multiple_of: Optional[int]
    rounding: str
    min_channels: int
    max_ratio: float
    settings: Optional[str]
    loss_output: Optional[str]
    threads: int

    def wish(self, seed: int) -> Selection:
        """The selection, checked as far as it can be without a graph.

        Raises:
            PlanError: it makes no sense, or the settings file is none.
        """
        if self.dead and self.criterion is not None:
            raise PlanError("excludes --criterion", "--dead", "choose one of them")
        own = {name: getattr(self, name) for name in Selection._fields if name in self._fields}
        by_name = read_settings(self.settings) if self.settings else ()
        wish = Selection(**own, seed=seed, by_name=by_name)
        wish.check()
        if wish.criterion is not None:
            find_criterion(wish.criterion)
        return wish

    def means(self, data: Optional[Images], batch: int, progress: Tick = silent) -> Means:
        """What choosing takes."""
        samples = Samples(data, self.loss_output, batch, progress)
        return Means(samples, self.threads, self.dead_below, progress)


def selection_options(command: Command) -> Command:
    """The options that say which channels go; the command gets a `Choosing` as `choosing`."""
    return combined(
        packed(command, "choosing", Choosing),
        *_what_goes(),
        *_how_much(),
        *_where(),
        *_limits(),
    )


def _what_goes() -> List[Command]:
    return [
        click.option(
            "--dead",
            is_flag=True,
            help="Remove the channels that provably change no output (the default).",
        ),
        click.option(
            "--dead-below",
            default=DEAD_BELOW,
            show_default=True,
            type=Finite(),
            metavar="W",
            help="Weights of smaller magnitude count as zero; 0: exact zeros alone.",
        ),
        click.option(
            "--criterion",
            metavar="C",
            help="Remove the channels that a criterion scores lowest: a name (see `graphslim "
            "criteria`), module:function or file.py:function. One of the next six says how many.",
        ),
    ]


def _how_much() -> List[Command]:
    share = Share()
    options = [
        click.option(
            "--threshold",
            type=Number(),
            metavar="T",
            help="Channels whose score is beyond T: above, if the criterion says what is "
            "redundant; below, if it says what matters.",
        ),
        click.option(
            "--ratio", type=share, metavar="R", help="Remove this share of the channels in scope."
        ),
    ]
    for name, what in (
        ("macs", "multiply-accumulates"),
        ("params", "parameters"),
        ("size", "bytes of the file"),
        ("latency", "time, measured on this machine"),
    ):
        options.append(
            click.option(
                f"--{name}", type=share, metavar="R", help=f"Keep this share of the {what}."
            )
        )
    return [
        *options,
        click.option(
            "--rank",
            type=click.Choice(RANKS),
            default="global",
            show_default=True,
            help="All channels compete, or each group loses the same share.",
        ),
        click.option(
            "--aggregate",
            type=click.Choice(list(AGGREGATES)),
            default=None,
            help="How the scores of one group's parameters become one.  [default: mean; for "
            "redundancy first]",
        ),
        click.option(
            "--loss-output",
            metavar="NAME",
            help="For criteria by gradients (taylor): the tensor whose gradients are taken.  "
            "[default: the outputs]",
        ),
        whole_number(
            "--threads", 0, 1, "For --latency: threads within an op; 0: as many as there are cores."
        ),
    ]


def _where() -> List[Command]:
    return [
        click.option(
            "--scope",
            default="all",
            show_default=True,
            type=click.Choice(SCOPES),
            help="Prune inside recognised blocks alone, or everywhere.",
        ),
        click.option(
            "--only",
            multiple=True,
            metavar="GLOB",
            help="Prune only groups or blocks whose names match.",
        ),
        click.option(
            "--exclude",
            multiple=True,
            metavar="GLOB",
            help="Leave groups or blocks alone whose names match.",
        ),
        click.option(
            "--settings",
            metavar="FILE",
            help="Other limits for some groups: YAML or JSON that maps globs to any of ratio, "
            "threshold, max_ratio, min_channels, multiple_of, exclude.",
        ),
    ]


def _limits() -> List[Command]:
    return [
        whole_number(
            "--multiple-of",
            1,
            None,
            "Keep a multiple of N channels per group.  [default: 4 with --scope blocks or "
            "--rounding removed; else 8 with --criterion, and 1 for dead channels]",
        ),
        click.option(
            "--rounding",
            type=click.Choice(ROUNDINGS),
            default="kept",
            show_default=True,
            help="What is a multiple: the number kept, rounded up, or the number removed, rounded "
            "to the nearest, as in the published method.",
        ),
        whole_number("--min-channels", 1, 1, "Keep at least N channels per group."),
        click.option(
            "--max-ratio",
            type=Share(none=True),
            default=1.0,
            show_default=True,
            metavar="R",
            help="The largest share of a group's channels that may go.",
        ),
    ]
