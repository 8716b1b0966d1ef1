"""`graphslim sensitivity`: what the network loses as single groups lose channels, measured."""

from __future__ import annotations

import time
from typing import Any, Dict, Optional, Sequence, Tuple

import click

from graphslim import report
from graphslim.api import find_blocks
from graphslim.cli import console
from graphslim.cli.choosing import (
    labels_option,
    metric_option,
    ranking_options,
    workers_option,
)
from graphslim.cli.console import Console
from graphslim.cli.files import check_targets, path_of, placing, tell_model
from graphslim.cli.option_types import Finite, quiet_option, whole_number
from graphslim.cli.options import Reading, Sectioned, model_options, sample_options
from graphslim.cli.tables import print_table
from graphslim.errors import GraphslimError
from graphslim.measure.images import Images
from graphslim.measure.shares import BATCH
from graphslim.planner import sensitivity as measured
from graphslim.plans import Selection, read_plan
from graphslim.plans.curves import Curves, save_curves
from graphslim.plans.curves import merge as merged
from graphslim.report.sensitivity import BETWEEN, SHARES, steepness, told_at
from graphslim.support.text import percent, plural
from graphslim.sweep import IMAGES, NAMES, RATIOS, Conditions, Sweep, read_labels

SCOPES = {"group": "all", "block": "blocks"}
"""By what `--by` names, what `--scope` calls it."""


def shares_of(
    context: click.Context, option: click.Parameter, text: Optional[str]
) -> Tuple[float, ...]:
    """Shares between commas."""
    if text is None:
        return RATIOS
    try:
        return tuple([float(word) for word in text.split(",")])
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of shares; write 0.25,0.5,0.75") from None


@click.command(cls=Sectioned)
@click.argument("files", metavar="MODEL", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="S.jsonl",
    help="The file of measurements. If it is there, the measurements that it holds are kept, and "
    "the others are made.",
)
@click.option(
    "--ratios",
    callback=shares_of,
    metavar="R,R,...",
    help="Shares of each group's channels that are removed.  [default: eighths]",
)
@metric_option
@labels_option
@click.option(
    "--by",
    type=click.Choice(sorted(SCOPES)),
    help="Measure each group, or the channels inside each block alone: --scope all or blocks.",
)
@click.option(
    "--repaired",
    is_flag=True,
    help="Fit the layers that read the channels by least squares before measuring, as `prune "
    "--repair` does.",
)
@click.option(
    "--stop-at",
    type=Finite(),
    metavar="L",
    help="Measure no larger share of a group that loses more than L.",
)
@whole_number("--images", 1, IMAGES, "Measure a loss on N images at most.")
@workers_option
@click.option(
    "--report",
    "report_out",
    metavar="R.html",
    help="Write a page to look at: a heat map of all groups, and their curves.",
)
@click.option(
    "--plan", "plan_path", metavar="P.json", help="Draw the widths of a plan into R.html."
)
@click.option(
    "--merge", is_flag=True, help="Join the files MODEL..., measured alike, into S.jsonl."
)
@click.option("--show", is_flag=True, help="Print what the file MODEL holds, and measure nothing.")
@ranking_options
@quiet_option
@sample_options
@model_options
def sensitivity(
    files: Sequence[str],
    output: Optional[str],
    ratios: Tuple[float, ...],
    metric: Optional[str],
    labels: Optional[str],
    by: Optional[str],
    repaired: bool,
    stop_at: Optional[float],
    images: int,
    workers: Optional[str],
    merge: bool,
    show: bool,
    report_out: Optional[str],
    plan_path: Optional[str],
    quiet: bool,
    choosing: Dict[str, Any],
    data: Optional[Images],
    seed: int,
    batch: int,
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Measure what MODEL loses as each group of channels alone loses more and more of them.

    The loss is measured on the images of --data, which need no labels, against what MODEL itself
    answers. `graphslim prune --allocate S.jsonl --macs 0.5` then takes from each group what costs
    least. A run that was ended goes on where it was, when the same command is given again.
    """
    started = time.perf_counter()
    _check_files(files, output, merge, show)
    inputs = [*files, labels, plan_path, path_of(data), choosing["settings"]]
    check_targets(None if show else output, {"--report": report_out}, inputs, None)
    plan = None if plan_path is None else read_plan(plan_path)
    if merge or show:
        curves = merged(files)
        if merge:
            save_curves(curves, str(output))
    else:
        how = Sweep(ratios, stop_at, output, workers)
        how.check()
        tensors = read_labels(labels)
        conditions = Conditions(
            data,
            metric or "error",
            tensors,
            repaired,
            images,
            batch if batch > 1 else BATCH,
            seed,
        )
        graph = find_blocks(reading.load(files[0]))
        tell_model(graph, data, batch)
        selection = Selection.of(seed=seed, **_by(by, choosing))
        with console.bar(console.err, quiet) as tick:
            curves = measured(graph, selection, conditions, how, tick)
    if verbose:
        console.err.print(f"measured in {time.perf_counter() - started:.2f} s")
    page = None if report_out is None else report.render_curves(curves, plan)
    with console.told_first(placing((report_out, page))):
        if as_json:
            console.print_json(as_tree(curves))
            return console.OK
        print_curves(console.out, curves)
        if output is not None and not show:
            console.out.print(f"Written to {output}")
    return console.OK


def _by(by: Optional[str], choosing: Dict[str, Any]) -> Dict[str, Any]:
    """The options of a selection, with the scope that `--by` names.

    Raises:
        GraphslimError: `--scope` names another.
    """
    if by is None:
        return choosing
    if by == "group" and choosing["scope"] == "blocks":
        raise GraphslimError("excludes --scope blocks", "--by group", "choose one of them")
    return {**choosing, "scope": SCOPES[by]}


def _check_files(files: Sequence[str], output: Optional[str], merge: bool, show: bool) -> None:
    """Refuses, before any work is done, files that do not go with what is asked for.

    Raises:
        GraphslimError: there is no name for the result, or there are too many files.
    """
    if merge and show:
        raise GraphslimError("excludes --show", "--merge", "choose one of them")
    if output is None and not show:
        raise GraphslimError("is missing", "-o", "name the file for the measurements")
    if not merge and len(files) > 1:
        raise GraphslimError(
            f"{len(files)} files are given", files[1], "give one, or join them with --merge"
        )


def as_tree(curves: Curves) -> Dict[str, Any]:
    """What `sensitivity --json` prints."""
    return {
        "about": curves.about._asdict(),
        "groups": [
            {
                "id": group,
                "channels": curve.channels,
                "removed": curve.removed[1:].tolist(),
                "losses": curve.losses[1:].tolist(),
            }
            for group, curve in curves.by_group().items()
        ],
    }


def print_curves(console: Console, curves: Curves) -> None:
    """A table of groups by share of channels removed, the most sensitive group first."""
    about, by_group = curves.about, curves.by_group()
    what = NAMES.get(about.metric, about.metric)
    fitted = ", the layers behind fitted by least squares" if about.repaired else ""
    console.print(
        f"Loss: {what}{fitted}; on {plural(about.images, 'image')}, channels go by "
        f"{about.criterion}"
    )
    rows = [
        (group, str(curve.channels), *[told_at(curve, share) for share in SHARES])
        for group, curve in sorted(by_group.items(), key=lambda item: -steepness(item[1]))
    ]
    columns = ("group", ">channels", *[f">{percent(share)}" for share in SHARES])
    print_table(console, "Loss by the share of the group's channels removed", columns, rows)
    if any("~" in cell for row in rows for cell in row[2:]):
        console.print(f"{BETWEEN}.")
    console.print(f"{plural(len(curves.losses), 'measurement')} of {plural(len(rows), 'group')}")
