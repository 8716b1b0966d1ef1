"""`graphslim optimize`: the passes that make a graph faster or smaller, and their options."""

from __future__ import annotations

import time
from typing import Any, NamedTuple, Optional

import click

from graphslim.cli import console
from graphslim.cli.console import Console
from graphslim.cli.delivering import Delivering, content, delivery_options, print_delivery
from graphslim.cli.files import (
    check_targets,
    files_of,
    force_option,
    output_option,
    path_of,
    placing,
    tell_model,
)
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
from graphslim.cli.results import BUG, Checked, check_option, checking
from graphslim.cli.tables import print_changes
from graphslim.cli.verify import print_agreement
from graphslim.delivery.formats import check_package_target
from graphslim.graphdef import serialize
from graphslim.ir import Graph
from graphslim.measure.agreement import Agreement, lost
from graphslim.pipeline import Pipeline, presets


class Deploying(NamedTuple):
    """The options of how a file is written; see `deploy_options`."""

    fp16_weights: bool
    for_tf: Optional[str]

    def stored(self, graph: Graph) -> Graph:
        """A graph as it is to be written: stored as half precision, readable by an old version."""
        steps = presets.storage_steps(self.fp16_weights, self.for_tf or "")
        if not steps:
            return graph
        twin = graph.copy()
        Pipeline(steps).run(twin)
        return twin

    def rounding(
        self, running: Running, exact: Graph, stored: Graph, checked: Checked
    ) -> Optional[Agreement]:
        """How far half-precision weights moved the outputs; None if nothing was run."""
        if not self.fp16_weights or checked.agreement is None:
            return None
        agreement: Agreement = running.compare(exact, stored)
        return agreement


def deploy_options(command: Command) -> Command:
    """The options of how a file is written; the command gets a `Deploying` as `deploying`."""
    return combined(
        packed(command, "deploying", Deploying),
        click.option(
            "--fp16-weights",
            is_flag=True,
            help="Store weights in half precision: a file of half the size, and rounded weights.",
        ),
        click.option(
            "--for-tf",
            type=click.Choice(sorted(presets.READERS)),
            help="Leave out attributes that this version of TensorFlow does not know.",
        ),
        heading="Storing",
    )


def tell_rounding(agreement: Optional[Agreement]) -> None:
    """Prints on stderr how far half-precision weights moved the outputs."""
    if agreement is not None:
        loss = lost(agreement.furthest)
        console.err.print(f"Stored as half precision, {loss} over {agreement.inputs}.")


@click.command(cls=Sectioned)
@click.argument("model")
@output_option
@deploy_options
@delivery_options
@check_option
@force_option
@run_options
@model_options
def optimize(
    model: str,
    output: str,
    check: Optional[bool],
    force: bool,
    deploying: Deploying,
    delivering: Delivering,
    running: Running,
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Fold, merge and drop what can go from MODEL without removing a channel; write it to OUT.

    Batch norm goes into the layer before it, constants are computed, debris of training is dropped.
    The result computes the same but for rounding, which is checked. Prune first, or use
    `graphslim prune --optimize`: some criteria read the scales that are folded here.
    """
    started = time.perf_counter()
    inputs = [*files_of(model, reading), path_of(running.data)]
    check_targets(output, {}, inputs, force, check_package_target)
    delivering.check(output, running)
    graph = reading.load(model)
    tell_model(graph, running.data, running.batch, check is not False)
    exact = graph.copy()
    results = Pipeline(presets.PASSES).run(exact)
    stored = deploying.stored(exact)
    seconds = time.perf_counter() - started
    for name, outcome in results if verbose else ():
        console.err.print(f"{name}: {'; '.join(outcome.notes)}")
    checked = checking(check, running, graph, exact, None, output, advice=BUG)
    moved = deploying.rounding(running, exact, stored, checked)
    delivery = delivering.deliver(output, stored, running, check, graph)
    with console.told_first(placing((output, content(stored, delivery)))):
        if as_json:
            tree = _tree(graph, stored, checked, moved, output, seconds)
            told = {} if delivery is None else {"delivered": delivery.as_dict()}
            console.print_json({**tree, **told})
            return console.OK
        _print(console.out, graph, stored, checked, seconds)
        tell_rounding(moved)
        if delivery is not None:
            print_delivery(console.out, delivery)
        console.out.print(f"Written to {output}")
    return console.OK


def _tree(
    graph: Graph,
    stored: Graph,
    checked: Checked,
    moved: Optional[Agreement],
    output: str,
    seconds: float,
) -> Any:
    """What `--json` prints."""
    return {
        "output": output,
        "nodes": [len(graph), len(stored)],
        "size": [len(serialize(graph)), len(serialize(stored))],
        "verified": None if checked.agreement is None else checked.agreement.as_dict(),
        "rounded": None if moved is None else moved.as_dict(),
        "seconds": round(seconds, 3),
    }


def _print(console: Console, before: Graph, after: Graph, checked: Checked, seconds: float) -> None:
    """Prints what `optimize` saved, and the check that the result passed, if it was made."""
    sizes = (len(serialize(before)), len(serialize(after)))
    totals = (("nodes", len(before), len(after)), ("size in bytes", *sizes))
    print_changes(console, "Whole network", totals)
    console.print(f"Optimised in {seconds:.2f} s")
    if checked.agreement is None:
        console.print(f"Not verified: {checked.why_not}")
    else:
        print_agreement(console, checked.agreement)
