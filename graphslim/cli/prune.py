"""`graphslim prune`: channels go, and a smaller graph is written."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import replace
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, cast

import click

from graphslim.analysis.cost import cost
from graphslim.api import find_blocks, finders
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
from graphslim.cli.delivering import Delivering, content, delivery_options, timed_in
from graphslim.cli.files import (
    check_targets,
    files_of,
    force_option,
    output_option,
    path_of,
    placing,
    tell_model,
)
from graphslim.cli.optimize import Deploying, deploy_options, tell_rounding
from graphslim.cli.option_types import quiet_option, whole_number
from graphslim.cli.options import (
    Command,
    Reading,
    Running,
    Sectioned,
    combined,
    model_options,
    packed,
    run_options,
    under,
    words_of,
)
from graphslim.cli.page import check_report, draw_report, report_option
from graphslim.cli.repair import (
    REPAIR,
    Repairing,
    check_kept_aside,
    check_repairing,
    recorded,
    repair_option,
    repair_options,
    tell_beforehand,
)
from graphslim.cli.results import BUG, check_option, checking, tell_result
from graphslim.delivery.formats import GRAPH, check_package_target, format_of_target
from graphslim.errors import GraphslimError
from graphslim.graphdef.emit import encoded
from graphslim.ir import Graph
from graphslim.measure.samples import Samples
from graphslim.pipeline import (
    CheckInvariants,
    Dump,
    FindBlocks,
    Observer,
    Outcome,
    Pass,
    Pipeline,
    Timing,
    find_pass,
    presets,
)
from graphslim.planner import RemoveChannels, cautions_of, make_plan
from graphslim.plans import Plan, Selection
from graphslim.recovery import State
from graphslim.recovery.rounds import check_walkable
from graphslim.rewrite import apply
from graphslim.support.progress import silent
from graphslim.support.reading import read_bytes


class Watching(NamedTuple):
    """The options of what is looked at while passes run; see `watching_options`."""

    verify_each: bool
    time_passes: bool
    dump_after: Tuple[str, ...]


def watching_options(command: Command) -> Command:
    """The options of what is looked at while passes run: a `Watching` as `watching`."""
    return combined(
        packed(command, "watching", Watching),
        click.option(
            "--verify-each", is_flag=True, help="Check the graph's invariants after each pass."
        ),
        click.option("--time-passes", is_flag=True, help="Print what each pass takes, on stderr."),
        click.option(
            "--dump-after",
            multiple=True,
            metavar="PASS",
            help="Write the graph after a pass to NN-PASS.pbtxt beside OUT.",
        ),
        heading="Watching the passes",
    )


class _Watch:
    """Runs the passes of a command, and prints on stderr what they report.

    Args:
        asked: what to look at.
        pipeline: all passes that will run.
        output: the file that the command writes; graphs are dumped beside it.
        inputs: the files that it reads.
        force: whether an input may be written over.
        verbose: print the notes of the passes.

    Raises:
        GraphslimError: a graph is to be dumped after a pass that is not run, or over a file that
            the command reads or writes.
    """

    def __init__(
        self,
        asked: Watching,
        pipeline: Pipeline,
        output: str,
        inputs: Sequence[Optional[str]],
        force: bool,
        verbose: bool,
    ) -> None:
        names = [step.name for step in pipeline.steps]
        for name in asked.dump_after:
            if name not in names:
                raise GraphslimError(
                    f"{name!r} is not run", "--dump-after", f"the passes are: {', '.join(names)}"
                )
        self._asked, self._verbose = asked, verbose
        self._dump = Dump(os.path.dirname(os.path.normpath(output)), asked.dump_after)
        for number, name in enumerate(names, 1):
            if name in asked.dump_after:
                dumped = {"--dump-after": self._dump.target(number, name)}
                check_targets(output, dumped, inputs, force, check_package_target)

    def run(self, passes: Sequence[Any], graph: Graph) -> List[Tuple[str, Outcome]]:
        """Runs passes on a graph; gives their outcomes by name."""
        timing, dumped = Timing(), len(self._dump.written)
        observers: List[Observer] = [timing, self._dump]
        if self._asked.verify_each:
            observers.append(CheckInvariants())
        results = Pipeline(passes).run(graph, observers)
        for name, outcome in results if self._verbose else ():
            console.err.print(f"{name}: {'; '.join(outcome.notes) or 'nothing to say'}")
        for name, seconds in timing.seconds if self._asked.time_passes else ():
            console.err.print(f"{1000 * seconds:9.1f} ms  {name}")
        for path in self._dump.written[dumped:]:
            console.err.print(f"dumped {path}")
        return results


@click.command(cls=Sectioned)
@click.argument("model")
@output_option
@selection_options
@click.option(
    "--pass",
    "extra",
    multiple=True,
    metavar="PASS",
    help="Run a pass too: a name (see `graphslim passes`), module:Class or file.py:Class. "
    "Passes that find blocks run before channels are removed, others after.",
)
@click.option(
    "--optimize",
    is_flag=True,
    help="Fold batch norm and constants afterwards, and drop debris, as `graphslim optimize` does.",
)
@deploy_options
@delivery_options
@under(REPAIR, repair_option)
@repair_options
@under(
    REPAIR,
    whole_number(
        "--rounds",
        1,
        1,
        "Go to the budget in N rounds: each chooses on the network that was repaired after the "
        "last. With --repair.",
    ),
)
@click.option("--plan-out", metavar="P.json", help="Write down what was removed and why.")
@report_option
@check_option
@watching_options
@force_option
@under(CHOICE, metric_option, labels_option, workers_option)
@quiet_option
@run_options
@model_options
def prune(
    model: str,
    output: str,
    extra: Tuple[str, ...],
    optimize: bool,
    plan_out: Optional[str],
    report_out: Optional[str],
    check: Optional[bool],
    force: bool,
    metric: Optional[str],
    labels: Optional[str],
    workers: Optional[str],
    quiet: bool,
    repair: bool,
    rounds: int,
    choosing: Choosing,
    deploying: Deploying,
    delivering: Delivering,
    repairing: Repairing,
    watching: Watching,
    running: Running,
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Remove channels from MODEL and write the smaller graph to OUT.

    By default the channels that are provably dead go, so that the outputs stay as they are; with
    --criterion and a budget, those that matter least. The result has to compute what the original
    does when it ignores those channels, which is checked; what becomes of the outputs is printed.
    With --repair the weights that stay are then fitted to what the original computes on the images
    of --data, and judged on a quarter of them that was kept aside; with --rounds too, channels go
    in several rounds with a repair after each.
    """
    started = time.perf_counter()
    check_report(report_out)
    check_repairing(repair, running, repairing.state)
    beside = {"--plan-out": plan_out, "--report": report_out, "--state": repairing.state}
    inputs = [*files_of(model, reading), path_of(running.data), *choosing.files, labels]
    check_targets(output, beside, inputs, force, check_package_target)
    delivering.check(output, running)
    selection = _selection(choosing, delivering.target(output), running.seed, repair)
    in_rounds = check_rounds(rounds, repair, selection)
    kept_aside = running.seed if repair else None
    samples = Samples(running.data, running.batch, silent, kept_aside, workers, metric)
    samples = samples_of(selection, samples, labels)
    remember = _Remembered()
    with console.bar(console.err, quiet) as tick:
        remove = _removal(selection, samples._replace(tick=tick), remember)
        folds = presets.PASSES if optimize else ()
        first, last = _passes(remove, extra, folds, repair, in_rounds)
        watch = _Watch(watching, Pipeline([*first, *last]), output, inputs, force, verbose)
        graph = reading.load(model)
        graph.asked = asked_of(graph, selection)
        tell_model(graph, running.data, running.batch, repair or check is not False)
        tell_beforehand(repair, graph, running)
        if repair and not in_rounds:
            remember.state = repairing.state_of_pruning(running, graph, selection)
        slim = graph.copy()
        results = watch.run(first, slim)
    repaired = None
    if in_rounds:
        blocks = find_blocks(graph)
        plan, repaired = repairing.run_in_rounds(running, blocks, selection, rounds, quiet)
        slim = apply(graph, plan)
    else:
        plan = next(outcome.plan for _, outcome in results if outcome.plan is not None)
    seconds = time.perf_counter() - started
    console.tell_cautions(cautions_of(graph, plan))
    chosen = plan if selection.criterion is not None else None
    asked = [find_pass(name) for name in _others(extra)]
    checked = checking(check, running, graph, slim, chosen, output, quiet=quiet, passes=asked)
    if repair:
        if repaired is None:
            state = remember.state
            repaired = repairing.run(running, graph, slim, plan, quiet=quiet, state=state)
        slim = repaired.graph.copy()
        results += watch.run(last, slim)
        if last:
            checking(
                check,
                running,
                repaired.graph,
                slim,
                None,
                output,
                advice=BUG,
                quiet=quiet,
                passes=asked,
            )
        plan = recorded(plan, repaired)
        checked = checked._replace(repaired=repaired)
    stored = deploying.stored(slim)
    tell_rounding(deploying.rounding(running, slim, stored, checked))
    delivery = delivering.deliver(
        output, stored, running, check, graph, None if repair or optimize else plan, quiet=quiet
    )
    if check is not False and plan.removed:
        timed = timed_in(selection.runtime, graph, stored, running, selection.threads, quiet)
        checked = checked._replace(timed=timed)
    page = None
    if report_out is not None:
        page = draw_report(graph, slim, plan, checked, output, seconds, quiet, running, delivery)
    with console.told_first(
        placing((output, content(stored, delivery)), (report_out, page), (plan_out, plan))
    ):
        if not as_json:
            _tell_passes(extra, results)
        tell_result(as_json, graph, stored, plan, checked, output, seconds, delivery)
        if not as_json and selection.criterion is None and not plan.removed:
            _tell_next(stored, model, output, running, reading)
    repairing.finish()
    return console.OK


def _tell_passes(extra: Sequence[str], results: Sequence[Tuple[str, Outcome]]) -> None:
    """Says of each pass that was named whether it did anything."""
    named = {cls.name: issubclass(cls, FindBlocks) for cls in map(find_pass, extra)}
    for name, outcome in results:
        if name in named:
            did = ["changed the graph" if outcome.changed else "changed nothing"]
            said = "; ".join([*([] if named[name] else did), *outcome.notes])
            console.out.print(f"Pass {name}: {said}")


def _tell_next(stored: Graph, model: str, output: str, running: Running, reading: Reading) -> None:
    """Says what can be done where nothing is dead, in a command that can be run as it stands."""
    is_graph = os.path.isfile(model) and format_of_target(output) == GRAPH
    if is_graph and b"".join(encoded(stored, output)) == read_bytes(model):
        console.out.print(f"{output} is a copy of {model}, byte for byte.")
    criterion = ["l1"] if running.data is None else ["taylor", *words_of(running.data)]
    budget = "--params" if cost(stored).macs is None else "--macs"
    words = ["graphslim", "prune", model, "-o", output, "--criterion", *criterion, budget, "0.5"]
    line = " ".join(map(shlex.quote, [*words, *reading.words()]))
    console.out.print("To remove the channels that matter least:")
    console.echo(f"  {line}\n")


class _Remembered:
    """Makes a plan; a command that goes on from a state takes the plan that was made before."""

    state = State()

    def __call__(self, graph: Graph, selection: Selection, samples: Samples) -> Plan:
        text = self.state.get("plan")
        if text is not None:
            return Plan.from_json(text, "the state")
        plan = make_plan(graph, selection, samples)
        if self.state.path is not None:
            self.state.put("plan", plan.to_json())
        return plan


def check_rounds(rounds: int, repair: bool, selection: Selection) -> bool:
    """Whether channels go in rounds.

    Raises:
        GraphslimError: rounds are asked for without a repair.
        PlanError: the selection cannot be walked in rounds.
    """
    if rounds == 1:
        return False
    if not repair:
        raise GraphslimError(
            "rounds repair the network in between", f"--rounds {rounds}", "add --repair and --data"
        )
    check_walkable(selection, rounds)
    return True


def _selection(choosing: Choosing, target: Optional[str], seed: int, repair: bool) -> Selection:
    """What is chosen by: for the runtime of the file written, and through norms with a repair."""
    selection = choosing.selection(seed)
    if repair and selection.allocate is not None:
        check_kept_aside(selection.allocate, seed)
    if selection.runtime is None:
        selection = replace(selection, runtime=target)
    if repair and selection.through_norms is None:
        selection = replace(selection, through_norms=True)
    return selection


def _removal(selection: Selection, samples: Samples, planned: _Remembered) -> Pass:
    """The pass that removes what a selection says."""
    if selection.criterion is not None:
        return RemoveChannels(selection, samples, planned)
    remove: Any = find_pass("remove-dead-channels")
    return cast(Pass, remove(selection))


def _passes(
    remove: Pass, extra: Sequence[str], folds: Sequence[str], repair: bool, in_rounds: bool
) -> Tuple[List[Any], List[Any]]:
    """The passes that run on the original, and those that run on what a repair made of it.

    A repair changes the layers that the plan names, before they are folded into others; rounds
    choose, remove and repair by themselves.
    """
    if in_rounds:
        return [], [*_others(extra), *folds]
    asked = [(name, find_pass(name)) for name in extra]
    blocks = [name for name, cls in asked if issubclass(cls, FindBlocks)]
    # A finder from a file registers itself when it is read, and would run twice.
    built_in = [name for name in finders() if name not in [cls.name for _, cls in asked]]
    first = [*built_in, *blocks, remove, *_others(extra)]
    return (first, list(folds)) if repair else ([*first, *folds], [])


def _others(extra: Sequence[str]) -> List[str]:
    """The passes that were asked for but those that find blocks."""
    return [name for name in extra if not issubclass(find_pass(name), FindBlocks)]
