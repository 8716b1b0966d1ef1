"""`graphslim soft-prune`, `strip` and `summary`: the commands on checkpoints."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, Optional

import click
from click.core import ParameterSource

from graphslim.analysis.cautions import cautions
from graphslim.api import find_blocks
from graphslim.checkpoint import Trained
from graphslim.checkpoint.fitting import fitting
from graphslim.checkpoint.soft import Summary, soft_pruning, summary_of, summary_tree
from graphslim.cli import console
from graphslim.cli.choosing import CHOOSING, Choosing, selection_options
from graphslim.cli.console import Console
from graphslim.cli.files import tell_data
from graphslim.cli.option_types import quiet_option
from graphslim.cli.options import Reading, Sectioned, model_options, sample_options
from graphslim.cli.plan import print_plan
from graphslim.cli.results import Checked, group_trees, print_pruning, pruning
from graphslim.cli.tables import print_table
from graphslim.errors import GraphslimError, PlanError
from graphslim.measure.images import Images
from graphslim.measure.samples import Samples
from graphslim.planner import cautions_of, is_sampled, make_plan
from graphslim.plans import Plan, read_plan
from graphslim.support.text import percent, plural
from graphslim.support.writing import check_folder


@click.command("soft-prune", cls=Sectioned)
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, metavar="DIR", help="The folder to write to.")
@click.option(
    "--plan", "plan_path", metavar="P.json", help="Set the channels of this plan to zero."
)
@selection_options
@click.option("--force", is_flag=True, help="Allow a DIR that is not empty.")
@quiet_option
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

    The weights that produce the channels, pass them on and read them become zero, with the entries
    of optimizer slots and moving averages; all else stays as it is, bit for bit. DIR then holds the
    checkpoint under its old name, its MetaGraph and the plan (plan.json). Channels are chosen as by
    `graphslim plan`, or are those of a plan.
    """
    check_folder(output, force)
    if plan_path is not None:
        _refuse_selection()
    selection = choosing.selection(seed)
    plan = read_plan(plan_path) if plan_path is not None else None
    with console.bar(console.err, quiet) as tick:
        trained = reading.open(checkpoint)
        find_blocks(trained.graph)
        console.tell_cautions(cautions(trained.graph))
        if plan is None:
            tell_data(trained.graph, data, batch, is_sampled(selection))
            plan = make_plan(trained.graph, selection, Samples(data, batch, tick))
    plan = _fitted(trained, plan)
    with console.told_first(soft_pruning(trained, plan, output, force=force)) as prefix:
        if as_json:
            console.print_json(soft_pruning_tree(plan, prefix, trained.prefix))
            return console.OK
        print_plan(console.out, plan)
        console.out.print(f"Written to {prefix}")
    if verbose:
        path = os.path.join(output, "plan.json")
        console.err.print(f"train on from it, then: graphslim summary CHECKPOINT --plan {path}")
    return console.OK


def _refuse_selection() -> None:
    """Refuses options that choose channels, where a plan has chosen them.

    Raises:
        PlanError: an option that chooses channels is given.
    """
    context = click.get_current_context()
    for option in context.command.params:
        name = option.name or ""
        is_given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if is_given and (name in CHOOSING or name in ("data", "seed", "batch", *Images._fields)):
            raise PlanError("the plan says which channels go", option.opts[0], "leave one out")


def _fitted(trained: Trained, plan: Plan) -> Plan:
    """The plan in the names of the checkpoint; prints its cautions and notes on stderr."""
    fitted = fitting(trained, plan, folds=True)
    console.tell_cautions(cautions_of(trained.graph, fitted.plan))
    for note in fitted.notes:
        console.err.print(note)
    return fitted.plan


@click.command(cls=Sectioned)
@click.argument("checkpoint")
@click.option(
    "--plan", "plan_path", required=True, metavar="P.json", help="The plan whose channels go."
)
@click.option("-o", "--output", required=True, metavar="DIR", help="The folder to write to.")
@click.option(
    "--allow-unconverged", is_flag=True, help="Cut channels that are not zero too, as they are."
)
@click.option(
    "--fold",
    is_flag=True,
    help="Cut channels that are constant too, and fold the constants into the offsets of the "
    "layers behind.",
)
@click.option(
    "--no-meta",
    "with_meta",
    flag_value=False,
    default=True,
    is_flag=True,
    help="Do not write the MetaGraph at the smaller size.",
)
@click.option("--force", is_flag=True, help="Allow a DIR that is not empty.")
@model_options
def strip(
    checkpoint: str,
    plan_path: str,
    output: str,
    allow_unconverged: bool,
    fold: bool,
    with_meta: bool,
    force: bool,
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Cut the channels of a plan from CHECKPOINT, and write what is left to DIR.

    DIR then holds the smaller checkpoint under its old name, its MetaGraph, from which training can
    go on, and the frozen inference graph (.pb). Refused where channels are not zero; the graph is
    compared with the one before, and the checkpoint restored, before anything is written.
    """
    started = time.perf_counter()
    if allow_unconverged and fold:
        raise GraphslimError("excludes --allow-unconverged", "--fold", "choose one of them")
    check_folder(output, force)
    plan = read_plan(plan_path)
    from graphslim.checkpoint.strip import stripping

    trained = reading.open(checkpoint)
    find_blocks(trained.graph)
    cut = stripping(
        trained,
        plan,
        output,
        allow_unconverged=allow_unconverged,
        fold=fold,
        write_meta=with_meta,
        force=force,
    )
    with console.told_first(cut) as stripped:
        _tell(stripped, time.perf_counter() - started, as_json, with_meta, verbose)
    return console.OK


def _tell(stripped: Any, seconds: float, as_json: bool, with_meta: bool, verbose: bool) -> None:
    """Prints what was cut and written, and the check that it passed."""
    before, after, plan = stripped.before, find_blocks(stripped.after), stripped.plan
    checked = Checked(stripped.agreement, stripped.change)
    if as_json:
        tree = pruning(before, after, plan, checked, stripped.graph_path, seconds)
        console.print_json(stripping_tree(tree, stripped.prefix, stripped.summary, with_meta))
        return
    print_pruning(console.out, before, after, plan, checked, seconds)
    print_summary(console.out, stripped.summary, verbose)
    console.out.print(f"Written to {stripped.prefix} and {stripped.graph_path}")


@click.command(cls=Sectioned)
@click.argument("checkpoint")
@click.option(
    "--plan",
    "plan_path",
    required=True,
    metavar="P.json",
    help="The plan whose channels were set to zero.",
)
@model_options
def summary(checkpoint: str, plan_path: str, reading: Reading, as_json: bool, verbose: bool) -> int:
    """Count the filters of a plan's channels that are not zero in CHECKPOINT, block by block.

    The failed rate is their share. Where it is 0, `graphslim strip` changes no output. With -v the
    channels are listed.
    """
    plan = read_plan(plan_path)
    trained = reading.open(checkpoint)
    fitted = fitting(trained, plan)
    for note in fitted.notes if verbose else ():
        console.err.print(note)
    outcome = summary_of(trained, fitted)
    if as_json:
        console.print_json(summary_tree(outcome))
    else:
        print_summary(console.out, outcome, verbose)
    return console.OK


_LISTED = 12
"""The number of channels of one convolution that are listed; further ones are counted."""


def soft_pruning_tree(plan: Plan, prefix: str, source: str) -> Dict[str, Any]:
    """What `soft-prune --json` prints.

    Args:
        plan: the plan whose channels were set to zero.
        prefix: the prefix of the new checkpoint.
        source: the checkpoint that it was made from.
    """
    return {
        "model": source,
        "checkpoint": prefix,
        "removed": plan.removed,
        "groups": group_trees(plan),
        "params": list(plan.params),
        "macs": list(plan.macs),
        "achieved": None if plan.achieved is None else dict(plan.achieved._asdict()),
    }


def print_summary(console: Console, summary: Summary, verbose: bool = False) -> None:
    """Prints the failed rate of each block, and of all.

    Args:
        console: the console.
        summary: the rates.
        verbose: list the channels that failed too.
    """
    rows = [
        (block.name, str(block.removed), str(block.of), str(block.failed), percent(block.rate))
        for block in summary.blocks
    ]
    if rows:
        columns = ("block or layer", ">channels removed", ">filters", ">failed", ">rate")
        print_table(console, "Filters that should be zero", columns, rows)
    if verbose and summary.unconverged:
        failed_rows = [
            (filters.block, filters.convolution, _listed(filters.channels))
            for filters in summary.unconverged
        ]
        print_table(console, "Not zero", ("block or layer", "variable", "channels"), failed_rows)
    if not summary.of:
        console.print("The plan removes no channel.")
    else:
        console.print(
            f"Failed rate {summary.rate:.4g}: {summary.failed} of {plural(summary.of, 'filter')} "
            "that should be zero are not."
        )


def _listed(channels: Any) -> str:
    more = len(channels) - _LISTED
    text = ", ".join(map(str, channels[:_LISTED]))
    return text + (f" and {more} more" if more > 0 else "")


def stripping_tree(
    tree: Dict[str, Any], prefix: str, summary: Optional[Summary], meta: bool
) -> Dict[str, Any]:
    """What `strip --json` prints.

    Args:
        tree: the tree of `results.pruning` about the inference graph.
        prefix: the prefix of the new checkpoint.
        summary: the failed rate before the cut.
        meta: whether its MetaGraph was written.
    """
    return {
        **tree,
        "checkpoint": prefix,
        "meta": prefix + ".meta" if meta else None,
        "summary": None if summary is None else summary_tree(summary),
    }
