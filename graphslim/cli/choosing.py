"""The options that say which channels go, and how the losses are measured that they name."""

from __future__ import annotations

import functools
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

import click

from graphslim.cli.option_types import Finite, Number, Share
from graphslim.cli.options import Command, combined
from graphslim.errors import GraphslimError, PlanError
from graphslim.measure.samples import Samples
from graphslim.plans import RANKED, Selection
from graphslim.plans.options import (
    ANY_COUNT,
    COUNT,
    FLAG,
    MAGNITUDE,
    NUMBER,
    PART,
    SHARE,
    Option,
    options_of,
)
from graphslim.scoring import find_criterion
from graphslim.support.workers import check_workers
from graphslim.sweep import NAMES, read_labels

_TYPES: Mapping[Any, click.ParamType] = {
    MAGNITUDE: Finite(),
    NUMBER: Number(),
    PART: Share(),
    SHARE: Share(none=True),
    COUNT: click.IntRange(1),
    ANY_COUNT: click.IntRange(0),
}
CHOOSING = ("dead", *[known.spelled or name for name, _, known in options_of(Selection)])
"""The names of the options that say which channels go."""


CHOICE = "Choosing channels"
"""The heading of options that say which channels go."""


class Choosing(NamedTuple):
    """Which channels are to go, as it was given.

    Attributes:
        dead: whether dead channels were asked for.
        options: those of `plans.Selection`, by keyword.
    """

    dead: bool
    options: Dict[str, Any]

    @property
    def files(self) -> List[Optional[str]]:
        """The paths of the files that are read: settings and curves."""
        return [self.options["settings"], self.options["allocate"]]

    def selection(self, seed: int) -> Selection:
        """The selection, checked as far as it can be without a graph.

        Raises:
            PlanError: the selection makes no sense, or the settings file cannot be read.
        """
        if self.dead and self.options["criterion"] is not None:
            raise PlanError("excludes --criterion", "--dead", "choose one of them")
        selection = Selection.of(seed=seed, **self.options)
        selection.check()
        if selection.criterion is not None:
            find_criterion(selection.criterion)
        return selection


def selection_options(command: Command) -> Command:
    """The options that say which channels go; the command gets a `Choosing` as `choosing`."""

    @functools.wraps(command)
    def call(**given: Any) -> Any:
        dead, *values = [given.pop(name) for name in CHOOSING]
        return command(choosing=Choosing(dead, dict(zip(CHOOSING[1:], values))), **given)

    return combined(
        call,
        click.option(
            "--dead",
            is_flag=True,
            help="Remove the channels that provably change no output (the default).",
        ),
        *[_declared(*declared) for declared in options_of(Selection)],
        heading=CHOICE,
    )


def ranking_options(command: Command) -> Command:
    """The options of a selection without a budget; the command gets them as `choosing`, a dict."""
    known = {name: declared for name, *declared in options_of(Selection) if name in RANKED}
    keywords = [option.spelled or name for name, (_, option) in known.items()]

    @functools.wraps(command)
    def call(**given: Any) -> Any:
        return command(choosing={name: given.pop(name) for name in keywords}, **given)

    declared = [_declared(name, *option) for name, option in known.items()]
    return combined(call, *declared, heading=CHOICE)


def _declared(name: str, default: Any, known: Option) -> Command:
    """The option of the command line for an option of a selection."""
    choices, several = known.kind.choices, isinstance(default, tuple)
    if known.kind is FLAG:
        flag = known.flag_of(name)
        return click.option(f"{flag}/--no{flag[1:]}", default=default, help=known.text)
    repeated = several and known.spelled is None
    return click.option(
        known.flag_of(name),
        known.spelled or name,
        type=click.Choice(choices) if choices else _TYPES.get(known.kind),
        default=None if several else default,
        show_default=not several and default is not None,
        multiple=repeated,
        metavar=known.letter,
        help=known.text,
    )


# --- By what a loss is measured, and on how many processes.


def _workers(
    context: click.Context, option: click.Parameter, given: Optional[str]
) -> Optional[str]:
    """What `--workers` names, refused at once where it names nobody."""
    check_workers(given)
    return given


def samples_of(selection: Selection, samples: Samples, labels: Optional[str]) -> Samples:
    """The inputs by which channels are chosen, with the labels in a file.

    Raises:
        GraphslimError: the file cannot be read, or nothing asks for a loss.
    """
    measures = selection.max_loss is not None or selection.allocate is not None
    for option, given in (("--metric", samples.metric), ("--labels", labels)):
        if given is not None and not measures:
            raise GraphslimError(
                "no loss is measured to choose by",
                f"{option} {given}",
                "add --max-loss or --allocate, or leave it out",
            )
    return samples._replace(labels=read_labels(labels))


metric_option = click.option(
    "--metric",
    metavar="NAME",
    help=f"What a loss is: {', '.join(NAMES)}, module:function or file.py:function.  [default: "
    "error, or that of --allocate]",
)
labels_option = click.option(
    "--labels",
    metavar="L.npy",
    help="Labels, one for each example, for --metric accuracy or a function of outputs and labels.",
)
workers_option = click.option(
    "--workers",
    metavar="N",
    callback=_workers,
    help="Measure in N processes, or by the scheduler at dask://HOST:PORT.",
)
