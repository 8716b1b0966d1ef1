"""`graphslim strip`: channels are cut from a checkpoint, its MetaGraph and its inference graph."""

from __future__ import annotations

import time
from typing import Any

import click

from graphslim import show
from graphslim.api import find_blocks
from graphslim.cli import console
from graphslim.errors import GraphslimError
from graphslim.options import Reading, model_options
from graphslim.plans import read_plan
from graphslim.support.writing import check_folder


@click.command(short_help="Cut a plan's channels from a checkpoint; write the .pb too.")
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
    help="Cut channels that are constant too, and fold the constants into the offsets behind.",
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
    with console.told_first(cut) as found:
        _tell(found, time.perf_counter() - started, as_json, with_meta, verbose)
    return console.OK


def _tell(found: Any, seconds: float, as_json: bool, with_meta: bool, verbose: bool) -> None:
    """Prints what was cut and written, and the check that it passed."""
    before, after, plan = found.before, find_blocks(found.after), found.plan
    checks = (found.agreement, found.change)
    if as_json:
        tree = show.pruning(
            before, after, plan, checks[0], found.graph_path, changed=checks[1], seconds=seconds
        )
        console.print_json(show.stripping(tree, found.prefix, found.summary, with_meta))
        return
    show.print_pruning(console.out, before, after, plan, checks[0], seconds, changed=checks[1])
    show.print_summary(console.out, found.summary, verbose)
    console.out.print(f"Written to {found.prefix} and {found.graph_path}")
