"""`graphslim repair`, and what `prune --repair` and `apply --repair` share with it."""

from __future__ import annotations

import os
import time
from typing import NamedTuple, Optional, Tuple

import click
import numpy as np

from graphslim import runtime
from graphslim.api import find_blocks
from graphslim.cli import console
from graphslim.cli.files import (
    check_targets,
    files_of,
    graph_output_option,
    path_of,
    placing,
    tell_model,
)
from graphslim.cli.option_types import Finite, quiet_option, whole_number
from graphslim.cli.options import (
    Command,
    Reading,
    Running,
    Sectioned,
    combined,
    model_options,
    packed,
    run_options,
)
from graphslim.cli.page import check_report, draw_report, report_option
from graphslim.cli.results import Checked, checking, print_repair
from graphslim.errors import GraphslimError, RuntimeUnavailable
from graphslim.graphdef.kinds import check_graph_ending
from graphslim.ir import Graph
from graphslim.measure.samples import Samples
from graphslim.measure.shares import BATCH
from graphslim.planner import make_plan
from graphslim.plans import Plan, Selection, fit, read_plan
from graphslim.plans.curves import Curves
from graphslim.recovery import STAGES, Repaired, State, cautions_beforehand, require_images
from graphslim.recovery import repair as repaired_by
from graphslim.recovery.distillation import SECONDS, STEPS
from graphslim.recovery.rounds import Gradual, prune_in_rounds, purpose_of
from graphslim.recovery.run import Wish, opened
from graphslim.rewrite import apply, recover_plan
from graphslim.support.text import plural

REPAIR = "Repair"
"""The heading of options of a repair."""


class Repairing(NamedTuple):
    """The options of a repair; see `repair.repair`."""

    stages: Tuple[str, ...]
    steps: int
    seconds: float
    state: Optional[str]

    def wish(self, running: Running, force: bool = False) -> Wish:
        """What the repair is to do."""
        batch = running.batch if running.batch > 1 else BATCH
        stages = self.stages or STAGES
        return Wish(stages, self.steps, self.seconds, batch, running.seed, force=force)

    def run(
        self,
        running: Running,
        graph: Graph,
        slim: Graph,
        plan: Optional[Plan],
        force: bool = False,
        quiet: bool = False,
        state: Optional[State] = None,
    ) -> Repaired:
        """Repairs a graph on the images of the comparison, with a progress bar on stderr.

        Raises:
            GraphslimError: there are no images, or too few, or the graph cannot be trained.
        """
        with console.bar(console.err, quiet) as tick:
            return repaired_by(
                graph,
                slim,
                plan,
                data=running.data,
                **self.wish(running, force)._asdict(),
                state=state or self.state,
                progress=tick,
            )

    def run_in_rounds(
        self, running: Running, graph: Graph, selection: Selection, rounds: int, quiet: bool
    ) -> Gradual:
        """Prunes in rounds and repairs after each, with a progress bar on stderr.

        Raises:
            GraphslimError: as for `prune_gradually`.
        """
        with console.bar(console.err, quiet) as tick:
            samples = Samples(running.data, running.batch, tick, running.seed)
            return prune_in_rounds(
                graph,
                selection,
                rounds,
                lambda slim, chosen: make_plan(find_blocks(slim), chosen, samples),
                self.wish(running),
                running.data,
                self.state,
                tick,
            )

    def state_of_pruning(self, running: Running, graph: Graph, selection: Selection) -> State:
        """What an earlier run of the same command has left of pruning at once and repairing.

        Raises:
            GraphslimError: the file is damaged, is no state, or is that of another repair.
        """
        if self.state is None:
            return State()
        wish = self.wish(running)
        purpose = purpose_of(graph, selection, 1, wish, opened(graph, running.data, wish))
        return State(self.state, purpose)

    def finish(self) -> None:
        """Removes the state, once the result is written."""
        if self.state is not None and os.path.exists(self.state):
            os.unlink(self.state)


def repair_options(command: Command) -> Command:
    """The options of a repair; the command gets a `Repairing` as `repairing`."""
    return combined(
        packed(command, "repairing", Repairing),
        click.option(
            "--stage",
            "stages",
            multiple=True,
            type=click.Choice(STAGES),
            help="Repair by this stage alone; may be given twice.  [default: both]",
        ),
        whole_number("--steps", 1, STEPS, "Train for N steps at most when repairing."),
        click.option(
            "--seconds",
            default=SECONDS,
            show_default=True,
            type=Finite(),
            metavar="S",
            help="Train for S seconds at most when repairing.",
        ),
        click.option(
            "--state",
            metavar="FILE",
            help="Keep what the repair has done in FILE; the same command goes on from there after "
            "it was killed. FILE is removed once OUT is written.",
        ),
        heading=REPAIR,
    )


repair_option = click.option(
    "--repair",
    is_flag=True,
    help="Fit the weights that stay to what MODEL computes on the images of --data, which need no "
    "labels; see `graphslim repair`.",
)


def check_repairing(wanted: bool, running: Running, state: Optional[str] = None) -> None:
    """Refuses, before any work is done, a repair that cannot be made.

    Raises:
        GraphslimError: no images are given, or a state without a repair.
        RuntimeUnavailable: TensorFlow is not installed.
    """
    if state is not None and not wanted:
        raise GraphslimError("only a repair keeps a state", f"--state {state}", "add --repair")
    if wanted and running.data is None:
        require_images(running.data)
    if wanted and not runtime.available():
        raise RuntimeUnavailable(
            "TensorFlow is not installed", "a repair runs and trains graphs", runtime.INSTALL
        )
    if wanted:
        runtime.train_on_gpus()  # before anything else loads TensorFlow, and hides them


def check_kept_aside(curves: Curves, seed: int) -> None:
    """Refuses curves that were measured on images by which a repair would judge.

    Raises:
        GraphslimError: other images were kept aside from the curves.
    """
    if curves.about.seed != seed:
        raise GraphslimError(
            f"other images were kept aside from its measurements than by seed {seed}",
            "--allocate",
            f"give --seed {curves.about.seed} to judge the repair by those",
        )


def tell_beforehand(wanted: bool, graph: Graph, running: Running) -> None:
    """Says, before a plan is made or a network trained, what the images of a repair cannot teach.

    Raises:
        GraphslimError: there are too few of them.
    """
    if wanted:
        batch = running.batch if running.batch > 1 else BATCH
        console.tell_cautions(cautions_beforehand(graph, running.data, batch))


@click.command(cls=Sectioned)
@click.argument("original")
@click.argument("slim")
@graph_output_option
@click.option(
    "--plan",
    "plan_path",
    metavar="P.json",
    help="The plan that SLIM was pruned by.  [default: found again from the weights of both files; "
    "where they were changed since, SLIM is only trained, on the outputs alone]",
)
@repair_options
@report_option
@click.option(
    "--force",
    is_flag=True,
    help="Allow a plan that was made for another checkpoint, and OUT to be an input itself.",
)
@quiet_option
@run_options
@model_options
def repair(
    original: str,
    slim: str,
    output: str,
    plan_path: Optional[str],
    report_out: Optional[str],
    force: bool,
    quiet: bool,
    repairing: Repairing,
    running: Running,
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Fit the weights of SLIM to what ORIGINAL computes on the images of --data; write it to OUT.

    SLIM is ORIGINAL without some channels, as `prune` and `apply` write it. The images need no
    labels. A quarter of them is kept aside to judge by: what is no better on these is thrown away,
    so that OUT is never worse on them than SLIM. Ctrl-C ends the training, and the best so far is
    written.
    """
    started = time.perf_counter()
    check_report(report_out)
    check_repairing(True, running)
    inputs = [*files_of(original, reading), *files_of(slim, reading), plan_path]
    beside = {"--state": repairing.state, "--report": report_out}
    check_targets(output, beside, [*inputs, path_of(running.data)], force)
    check_graph_ending(output)
    plan = None if plan_path is None else read_plan(plan_path)
    graph, narrow = reading.load_pair(original, slim)
    tell_model(graph, running.data, running.batch, True)
    tell_beforehand(True, graph, running)
    if plan is None:
        plan = _recovered(graph, narrow)
    if plan is None and report_out is not None:
        raise GraphslimError(
            "needs the plan, which is not found again from the weights",
            "--report",
            "give it with --plan",
        )
    checked = Checked()
    if plan is not None and _is_trained(apply(graph, plan, force), narrow):
        console.err.print(
            f"{slim} holds other weights than the plan leaves, as after a repair or training: what "
            "was checked is its structure"
        )
    elif plan is not None:
        checked = checking(True, running, graph, narrow, plan, output, force, quiet=quiet)
    repaired = repairing.run(running, graph, narrow, plan, force, quiet)
    page, seconds = None, time.perf_counter() - started
    if report_out is not None and plan is not None:
        checked = checked._replace(repaired=repaired)
        page = draw_report(
            graph,
            repaired.graph,
            fit(graph, plan, force).plan,
            checked,
            output,
            seconds,
            quiet,
            running,
        )
    with console.told_first(placing((output, repaired.graph), (report_out, page))):
        if as_json:
            tree = {"output": output, "repair": repaired.as_dict(), "seconds": round(seconds, 3)}
            console.print_json(tree)
        else:
            print_repair(console.out, repaired)
            console.out.print(f"Written to {output}")
    repairing.finish()
    return console.OK


def _is_trained(plain: Graph, slim: Graph) -> bool:
    """Whether a graph is what a plan leaves, but for the numbers of floating-point constants."""
    if [(node.name, node.op) for node in plain] != [(node.name, node.op) for node in slim]:
        return False
    trained = False
    for node in plain:
        if plain.inputs_of(node) != slim.inputs_of(node):
            return False
        wanted, tensor = [graph[node.name].attrs.get("value") for graph in (plain, slim)]
        if node.op != "Const" or np.array_equal(wanted.numbers(), tensor.numbers()):
            continue
        if wanted.shape != tensor.shape or not wanted.dtype.is_floating:
            return False
        trained = True
    return trained


def _recovered(graph: Graph, slim: Graph) -> Optional[Plan]:
    """The plan by which a graph was narrowed, if its weights still show it; says so on stderr."""
    try:
        plan = recover_plan(graph, slim)
    except GraphslimError as error:
        console.tell_cautions([f"{error}; it is trained on the outputs alone"])
        return None
    groups = plural(len(plan.groups), "group")
    console.err.print(f"plan: found again: {plural(plan.removed, 'channel')} of {groups} went")
    return plan


def recorded(plan: Plan, repaired: Repaired) -> Plan:
    """A plan that says in its settings how what it left was repaired."""
    return plan._replace(settings={**plan.settings, "repair": repaired.as_dict()})
