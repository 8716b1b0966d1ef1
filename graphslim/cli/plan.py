"""`graphslim plan`, `apply` and `plan-diff`: what is to go, written down, and used later."""

from __future__ import annotations

import json
import time
from typing import Any, Dict, Optional, Sequence

import click

from graphslim.api import find_blocks
from graphslim.channels.groups import asked_of
from graphslim.cli import console
from graphslim.cli.choosing import (
    CHOICE,
    Choosing,
    labels_option,
    metric_option,
    samples_of,
    selection_options,
    workers_option,
)
from graphslim.cli.console import Console
from graphslim.cli.delivering import Delivering, content, delivery_options, target_of, timed_in
from graphslim.cli.files import (
    check_targets,
    files_of,
    output_option,
    path_of,
    placing,
    tell_model,
)
from graphslim.cli.option_types import quiet_option, whole_number
from graphslim.cli.options import (
    Reading,
    Running,
    Sectioned,
    model_options,
    run_options,
    sample_options,
    under,
)
from graphslim.cli.page import check_report, draw_report, report_option
from graphslim.cli.repair import (
    REPAIR,
    Repairing,
    check_repairing,
    repair_option,
    repair_options,
    tell_beforehand,
)
from graphslim.cli.results import (
    check_option,
    checking,
    print_achieved,
    print_channels,
    tell_result,
)
from graphslim.cli.tables import print_changes, print_table
from graphslim.delivery.formats import check_package_target
from graphslim.graphdef.kinds import check_ending
from graphslim.measure.images import Images
from graphslim.measure.samples import Samples
from graphslim.planner import cautions_of, is_sampled, make_plan
from graphslim.plans import TARGETS, Plan, fit, read_plan
from graphslim.plans.diff import GroupDifference, PlanDifference, diff
from graphslim.rewrite import apply as applied
from graphslim.support.text import plural


@click.command(cls=Sectioned)
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="P.json", help="The plan file.")
@selection_options
@click.option("--force", is_flag=True, help="Allow P.json to be an input itself.")
@under(CHOICE, metric_option, labels_option, workers_option)
@quiet_option
@sample_options
@model_options
def plan(
    model: str,
    output: str,
    force: bool,
    metric: Optional[str],
    labels: Optional[str],
    workers: Optional[str],
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
    inputs = [*files_of(model, reading), path_of(data), *choosing.files, labels]
    check_targets(output, {}, inputs, force)
    check_ending(output, (".json",), "a plan")
    selection = choosing.selection(seed)
    samples = samples_of(selection, Samples(data, batch, workers=workers, metric=metric), labels)
    with console.bar(console.err, quiet) as tick:
        graph = find_blocks(reading.load(model))
        graph.asked = asked_of(graph, selection)
        tell_model(graph, data, batch, is_sampled(selection))
        made = make_plan(graph, selection, samples._replace(tick=tick))
    console.tell_cautions(cautions_of(graph, made))
    if verbose:
        console.err.print(f"planned in {time.perf_counter() - started:.2f} s")
    with console.told_first(placing((output, made))):
        if as_json:
            console.echo(made.to_json())
        else:
            print_plan(console.out, made)
            console.out.print(f"Written to {output}")
    return console.OK


@click.command(cls=Sectioned)
@click.argument("model")
@click.argument("plan_path", metavar="P.json")
@output_option
@check_option
@click.option(
    "--for",
    "target",
    type=click.Choice(list(TARGETS)),
    help="Print the time of the result in this runtime beside the original's.  [default: that of "
    "OUT's format, or what the plan was made for]",
)
@whole_number("--threads", 0, 1, "Threads within an op for that; 0: as many as there are cores.")
@delivery_options
@under(REPAIR, repair_option)
@repair_options
@report_option
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
    report_out: Optional[str],
    repair: bool,
    target: Optional[str],
    threads: int,
    delivering: Delivering,
    repairing: Repairing,
    running: Running,
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Remove the channels of a plan from MODEL and write the smaller graph to OUT.

    The result has to compute what MODEL does when it ignores those channels, which is checked; what
    becomes of the outputs is printed. With --repair the weights that stay are then fitted to what
    MODEL computes on the images of --data, and judged on a quarter of them that was kept aside.
    """
    started = time.perf_counter()
    check_report(report_out)
    check_repairing(repair, running, repairing.state)
    inputs = [*files_of(model, reading), plan_path, path_of(running.data)]
    beside = {"--state": repairing.state, "--report": report_out}
    check_targets(output, beside, inputs, force, check_package_target)
    delivering.check(output, running)
    wanted = read_plan(plan_path)
    graph = find_blocks(reading.load(model))
    tell_model(graph, running.data, running.batch, repair or check is not False)
    tell_beforehand(repair, graph, running)
    graph.asked = asked_of(graph, wanted)
    fitted = fit(graph, wanted, force)
    for note in fitted.notes:
        console.err.print(note)
    slim = applied(graph, wanted, force)
    seconds = time.perf_counter() - started
    if verbose:
        console.err.print(f"read and rewritten in {seconds:.2f} s")
    checked = checking(check, running, graph, slim, wanted, output, force)
    if repair:
        repaired = repairing.run(running, graph, slim, wanted, force)
        slim, checked = repaired.graph, checked._replace(repaired=repaired)
    delivery = delivering.deliver(
        output, slim, running, check, graph, None if repair else wanted, force
    )
    if check is not False and fitted.plan.removed:
        target = target or delivering.target(output) or target_of(wanted)
        checked = checked._replace(timed=timed_in(target, graph, slim, running, threads))
    page = None
    if report_out is not None:
        page = draw_report(
            graph,
            slim,
            fitted.plan,
            checked,
            output,
            seconds,
            running=running,
            delivery=delivery,
        )
    with console.told_first(placing((output, content(slim, delivery)), (report_out, page))):
        tell_result(as_json, graph, slim, fitted.plan, checked, output, seconds, delivery)
    repairing.finish()
    return console.OK


def print_plan(console: Console, plan: Plan) -> None:
    """The widths of the groups before and after, the cost by the plan, asked and achieved."""
    if plan.groups:
        print_channels(console, plan)
    totals = (("parameters", *plan.params), ("MACs", *plan.macs))
    print_changes(console, "Whole network", totals)
    print_achieved(console, plan)
    console.print(f"{plural(plan.removed, 'channel')} to go")


@click.command("plan-diff", cls=Sectioned)
@click.argument("first", metavar="A.json")
@click.argument("second", metavar="B.json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--debug", is_flag=True, expose_value=False, help="Print tracebacks too.")
def plan_diff(first: str, second: str, as_json: bool) -> int:
    """Show what two plans remove differently, group by group; exit status 1 if they differ.

    Settings, scores, folded constants and totals are compared too.
    """
    difference = diff(read_plan(first), read_plan(second))
    if as_json:
        console.print_json(plan_difference(difference))
    else:
        print_plan_difference(console.out, difference)
    return console.OK if difference.same else console.FAILED


_MANY = 12
"""Channels of one group that are listed; of more, only how many."""


def plan_difference(difference: PlanDifference) -> Dict[str, Any]:
    """What `plan-diff --json` prints."""
    return {
        "same": difference.same,
        "groups": [
            {
                "id": group.id,
                "block": group.block,
                "channels": list(group.channels),
                "removed": list(group.removed),
                "only_first": list(group.only_first),
                "only_second": list(group.only_second),
                "also_differ": list(group.details),
            }
            for group in difference.groups
        ],
        "groups_alike": difference.alike,
        "settings": {key: list(values) for key, values in difference.settings.items()},
        "others": {key: list(values) for key, values in difference.others.items()},
        "totals": {
            "removed": list(difference.removed),
            "params": list(difference.params),
            "macs": list(difference.macs),
        },
        "edited": list(difference.edited),
    }


def print_plan_difference(console: Console, difference: PlanDifference) -> None:
    """The tables that `plan-diff` prints; nothing but a line where the plans are the same."""
    if difference.same:
        removed = plural(difference.removed[0], "channel")
        console.print(f"The plans are the same: {removed} removed.")
        return
    differing = [group for group in difference.groups if not _agrees(group)]
    if differing:
        columns = ("group", ">A removes", ">B removes", "A alone", "B alone", "also differ")
        print_table(console, "Groups", columns, [_row(group) for group in differing])
    rescored = len(difference.groups) - len(differing)
    console.print(
        f"The same channels go from {plural(difference.alike + rescored, 'group')} in both plans"
        + (f", for other scores in {rescored} of them" if rescored else "")
    )
    values = [*difference.settings.items(), *difference.others.items()]
    if values:
        rows = [(key, _said(first), _said(second)) for key, (first, second) in values]
        print_table(console, "Settings and the rest", ("", "A", "B"), rows)
    totals = (
        ("channels removed", *difference.removed),
        ("parameters left", *difference.params),
        ("MACs left", *difference.macs),
    )
    print_changes(console, "Totals", totals, ("A", "B"))
    for name, edited in zip("AB", difference.edited):
        if edited:
            console.print(
                f"Caution: {name} was edited, and its parameters and MACs are those of before "
                "(`graphslim apply` counts them anew)"
            )


def _agrees(group: GroupDifference) -> bool:
    """Whether both plans remove the same channels of a group, if for other reasons."""
    alike = not group.only_first and not group.only_second
    return alike and set(group.details) <= {"scores", "why"}


def _row(group: GroupDifference) -> Sequence[str]:
    sizes = [
        f"{gone} of {channels}" if channels else "-"
        for gone, channels in zip(group.removed, group.channels)
    ]
    alone = [_listed(channels) for channels in (group.only_first, group.only_second)]
    return (group.block or group.id, *sizes, *alone, ", ".join(group.details))


def _listed(channels: Sequence[int]) -> str:
    if len(channels) > _MANY:
        return plural(len(channels), "channel")
    return " ".join(map(str, channels)) or "-"


def _said(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(
            [f"{key} {_said(part)}" for key, part in value.items() if part is not None]
        )
    return value if isinstance(value, str) else json.dumps(value)
