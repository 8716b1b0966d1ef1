"""`graphslim soft-prune`: channels of a checkpoint are set to zero, so that training can go on."""

from __future__ import annotations

import os
from typing import Optional

import click
from click.core import ParameterSource

from graphslim import show
from graphslim.analysis.cautions import cautions
from graphslim.api import find_blocks
from graphslim.checkpoint import Trained
from graphslim.checkpoint.cuts import fitting
from graphslim.checkpoint.soft import soft_pruning
from graphslim.choosing import Choosing, selection_options
from graphslim.cli import console
from graphslim.cli.check import tell
from graphslim.cli.data import tell_data
from graphslim.errors import PlanError
from graphslim.feeds import Images
from graphslim.folders import check_folder
from graphslim.options import Reading, model_options, sample_options
from graphslim.planning import cautions_of, is_sampled, make_plan
from graphslim.plans import Plan, read_plan
from graphslim.support import progress


@click.command("soft-prune", short_help="Set channels of a checkpoint to zero, to train on.")
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, metavar="DIR", help="The folder to write to.")
@click.option("--plan", "plan_path", metavar="P.json", help="Take these channels.")
@selection_options
@click.option("--force", is_flag=True, help="Allow a DIR that is not empty.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@sample_options
@model_options
def soft_prune(
    checkpoint: str,
    output: str,
    plan_path: Optional[str],
    force: bool,
    quiet: bool,
    choosing: Choosing,
    data: Optional[Images],
    seed: int,
    batch: int,
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Set channels of CHECKPOINT to zero, and write the checkpoint that training goes on from.

    What makes the channels, passes them and reads them becomes zero, with the entries of optimizer
    slots and moving averages; all else stays as it is, bit for bit. DIR then holds the checkpoint
    under its old name, its MetaGraph and the plan (plan.json). Channels are chosen as by
    `graphslim plan`, or are those of a plan.
    """
    check_folder(output, force)
    if plan_path is not None:
        _refuse_selection()
    wish = choosing.wish(seed)
    given = read_plan(plan_path) if plan_path is not None else None
    with progress.bar(console.err, quiet) as tick:
        trained = reading.open(checkpoint)
        find_blocks(trained.graph)
        tell(cautions(trained.graph))
        if given is None:
            tell_data(trained.graph, data, batch, is_sampled(wish))
        plan = given or make_plan(trained.graph, wish, choosing.means(data, batch, tick))
    plan = _told(trained, plan)
    with console.told_first(soft_pruning(trained, plan, output, force=force)) as prefix:
        if as_json:
            console.print_json(show.soft_pruning(plan, prefix, trained.prefix))
            return console.OK
        show.print_plan(console.out, plan)
        console.out.print(f"Written to {prefix}")
    if verbose:
        path = os.path.join(output, "plan.json")
        console.err.print(f"train on from it, then: graphslim summary CHECKPOINT --plan {path}")
    return console.OK


def _refuse_selection() -> None:
    """Refuses options that choose channels, where a plan has chosen them.

    Raises:
        PlanError: there are some.
    """
    context = click.get_current_context()
    for option in context.command.params:
        name = option.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and (
            name in Choosing._fields or name in ("data", "seed", "batch", *Images._fields)
        ):
            raise PlanError("the plan says which channels go", option.opts[0], "leave one out")


def _told(trained: Trained, plan: Plan) -> Plan:
    """The plan in the names of the checkpoint; what is to be known of it is told."""
    fitted = fitting(trained, plan, folds=True)
    tell(cautions_of(trained.graph, fitted.plan))
    for note in fitted.notes:
        console.err.print(note)
    return fitted.plan
