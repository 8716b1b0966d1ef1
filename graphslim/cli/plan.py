"""`graphslim plan` and `graphslim apply`: what is to go, written down, and carried out later."""

from __future__ import annotations

import time
from typing import Optional

import click

from graphslim import show
from graphslim.analysis.cautions import cautions
from graphslim.api import find_blocks
from graphslim.choosing import Choosing, selection_options
from graphslim.cli import console
from graphslim.cli.check import checking, tell, tell_result
from graphslim.cli.data import path_of, tell_data
from graphslim.cli.files import (
    check_graph_target,
    check_targets,
    files_of,
    output_option,
    placing,
)
from graphslim.feeds import Images
from graphslim.graphdef.endings import check_ending
from graphslim.options import Reading, Running, model_options, run_options, sample_options
from graphslim.planning import cautions_of, is_sampled, make_plan
from graphslim.plans import fit, read_plan
from graphslim.rewrite import apply as applied
from graphslim.support import progress


@click.command(short_help="Choose channels; write down which go, and why.")
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="P.json", help="The plan file.")
@selection_options
@click.option("--force", is_flag=True, help="Allow P.json to be an input itself.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@sample_options
@model_options
def plan(
    model: str,
    output: str,
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
    """Choose channels of MODEL and write down which go, and why, without removing them.

    The file can be read, edited, compared (`graphslim plan-diff`) and applied (`graphslim apply`).
    """
    started = time.perf_counter()
    inputs = [*files_of(model, reading), path_of(data), choosing.settings]
    check_targets(output, {}, inputs, force)
    check_ending(output, (".json",), "a plan")
    wish = choosing.wish(seed)
    with progress.bar(console.err, quiet) as tick:
        graph = find_blocks(reading.load(model))
        tell(cautions(graph))
        tell_data(graph, data, batch, is_sampled(wish))
        found = make_plan(graph, wish, choosing.means(data, batch, tick))
    tell(cautions_of(graph, found))
    if verbose:
        console.err.print(f"planned in {time.perf_counter() - started:.2f} s")
    with console.told_first(placing((output, found))):
        if as_json:
            console.echo(found.to_json())
        else:
            show.print_plan(console.out, found)
            console.out.print(f"Written to {output}")
    return console.OK


@click.command(short_help="Carry out a plan; write the smaller graph.")
@click.argument("model")
@click.argument("plan_path", metavar="P.json")
@output_option
@click.option(
    "--verify/--no-verify",
    "check",
    default=None,
    help="Compare the outputs before writing.  [default: where TensorFlow is installed]",
)
@click.option(
    "--force",
    is_flag=True,
    help="Allow a plan that was made for another checkpoint, and OUT to be MODEL itself.",
)
@run_options
@model_options
def apply(
    model: str,
    plan_path: str,
    output: str,
    check: Optional[bool],
    force: bool,
    running: Running,
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Remove the channels of a plan from MODEL and write the smaller graph to OUT.

    The result has to compute what MODEL does when it ignores those channels, which is checked; what
    becomes of the outputs is printed.
    """
    started = time.perf_counter()
    inputs = [*files_of(model, reading), plan_path, path_of(running.data)]
    check_targets(output, {}, inputs, force)
    check_graph_target(output, model, reading)
    wanted = read_plan(plan_path)
    graph = find_blocks(reading.load(model))
    tell(cautions(graph))
    tell_data(graph, running.data, running.batch, check is not False)
    fitted = fit(graph, wanted, force)
    for note in fitted.notes:
        console.err.print(note)
    slim = applied(graph, wanted, force)
    seconds = time.perf_counter() - started
    if verbose:
        console.err.print(f"read and rewritten in {seconds:.2f} s")
    checked = checking(check, running, graph, slim, wanted, output, force)
    with console.told_first(placing((output, slim))):
        return tell_result(as_json, graph, slim, fitted.plan, checked, output, seconds)
