"""`graphslim verify` and `compare`: whether two graphs compute the same, and where they differ."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Dict, Optional, Sequence

import click

from graphslim.analysis.diff import Differences, NodeDifference, Side, differences
from graphslim.cli import console
from graphslim.cli.console import Console
from graphslim.cli.files import are_graphs, models_of, opening_of, runtime_option, tell_data
from graphslim.cli.option_types import whole_number
from graphslim.cli.options import Reading, Running, Sectioned, model_options, run_options
from graphslim.cli.tables import print_changes, print_table, shape_text
from graphslim.measure.agreement import (
    Agreement,
    columns_of,
    lost,
    rows_of,
    surgery_verdict,
    verdict,
)
from graphslim.measure.models import compare as compare_models
from graphslim.plans import read_plan
from graphslim.support.text import count, plural


@click.command(cls=Sectioned)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--plan",
    "plan_path",
    metavar="P.json",
    help="Compare with A masked by a plan, which is what a graph pruned by it must compute.",
)
@click.option("--force", is_flag=True, help="Allow a plan that was made for another checkpoint.")
@runtime_option
@whole_number("--threads", 0, 1, "Threads within an op; 0: as many as there are cores.")
@run_options
@model_options
def verify(
    first: str,
    second: str,
    plan_path: Optional[str],
    force: bool,
    runtime: Optional[str],
    threads: int,
    running: Running,
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Run two models on the same inputs and compare their outputs; exit status 1 if they differ.

    A and B are graphs as other commands read them, .tflite or .onnx; each is run by the runtime of
    its format, or by --runtime.
    """
    plan = read_plan(plan_path) if plan_path else None
    if are_graphs((first, second), runtime):
        original, changed = reading.load_pair(first, second)
        tell_data(original, running.data, running.batch)
        started = time.perf_counter()
        agreement = running.compare(original, changed, plan, force=force, threads=threads)
        if verbose:
            from graphslim.runtime import version

            seconds = time.perf_counter() - started
            console.err.print(f"both run by TensorFlow {version()} in {seconds:.2f} s")
        tree, notes = agreement.as_dict(), []
    else:
        started = time.perf_counter()
        model, other = models_of((first, second), runtime, reading)
        compared = compare_models(
            model,
            other,
            opening_of(runtime, threads, reading),
            plan=plan,
            force=force,
            tell=lambda graph: tell_data(graph, running.data, running.batch),
            **running._asdict(),
        )
        if verbose:
            console.err.print(f"run in {time.perf_counter() - started:.2f} s")
        agreement, tree = compared.agreement, compared.as_dict()
        places = zip((first, second), compared.versions)
        ran = " and ".join([f"{path} by {version}" for path, version in places])
        notes = [f"Run: {ran}.", *compared.notes]
    if as_json:
        console.print_json(tree)
    else:
        print_agreement(console.out, agreement)
        for note in notes:
            console.out.print(note)
    return console.OK if agreement.ok else console.FAILED


def print_agreement(console: Console, agreement: Agreement) -> None:
    """Prints how far each output differs, and whether that is within the tolerance."""
    _print_outputs(console, agreement)
    worst, inputs = agreement.worst, agreement.inputs
    if agreement.same:
        console.print(f"The outputs are the same, bit for bit, over {inputs}.")
    elif agreement.ok:
        rounded = " or the rounding of float32" if agreement.rounded else ""
        allowed = f"{agreement.tolerance:g} of their range{rounded}"
        console.print(f"The outputs are the same within {allowed}, over {inputs}.")
    else:
        console.print(
            f"The outputs are NOT the same: {worst.name} differs by {worst.relative:.3g} of its "
            f"range over {inputs}, and {agreement.tolerance:g} is allowed."
        )
        if agreement.against == "original":
            console.print(f"{lost(agreement.furthest)}.")
    _print_cautions(console, agreement)


def print_change(console: Console, change: Agreement, surgery: Agreement) -> None:
    """Prints how a network changed that lost chosen channels, and that the cut was right.

    Args:
        console: the console.
        change: the agreement with the original.
        surgery: the agreement with the masked original.
    """
    _print_outputs(console, change)
    title, text = verdict(change)
    console.print(f"{title}: {text}.", style="bold" if change.far else None)
    _print_cautions(console, change)
    console.print(f"{surgery_verdict(surgery)}.")


def _print_outputs(console: Console, agreement: Agreement) -> None:
    title = f"Outputs, against the {agreement.against}, over {agreement.inputs}"
    print_table(console, title, columns_of(agreement), rows_of(agreement))
    if agreement.nhwc_twins:
        console.print("Run as NHWC twins: TensorFlow's CPU kernels take no NCHW.")
    if agreement.unknown_ops:
        ops = ", ".join(agreement.unknown_ops)
        console.print(f"TensorFlow does not know {ops}: what enters it was compared instead.")


def _print_cautions(console: Console, agreement: Agreement) -> None:
    for caution in agreement.cautions():
        console.print(f"Caution: {caution}")
    if agreement.random and agreement.against == "original" and not agreement.ok:
        console.print(
            "The inputs were random, which tells little of real ones: give some with --data."
        )


# --- `graphslim compare`: what changed between two graphs, layer by layer.


@click.command(cls=Sectioned)
@click.argument("first", metavar="A.pb")
@click.argument("second", metavar="B.pb")
@click.option("--all", "everything", is_flag=True, help="Show nodes that are the same too.")
@model_options
def compare(
    first: str, second: str, everything: bool, reading: Reading, as_json: bool, verbose: bool
) -> int:
    """Show what changed from graph A to graph B: ops, shapes, parameters and MACs, old => new.

    Nodes are matched by name; those that only one graph has are shown as such. Nothing is run: what
    the graphs compute is compared by `graphslim verify`.
    """
    started = time.perf_counter()
    compared = differences(*reading.load_pair(first, second))
    if verbose:
        console.err.print(f"read and compared in {time.perf_counter() - started:.2f} s")
    if as_json:
        console.print_json(difference_tree(compared, everything))
    else:
        print_differences(console.out, compared, everything)
    return console.OK


def difference_tree(compared: Differences, everything: bool = False) -> Dict[str, Any]:
    """What `compare --json` prints: the nodes that changed, or with `everything` all."""
    return {
        "nodes": [
            {
                "name": node.name,
                "change": _change(node),
                "first": _side(node.first),
                "second": _side(node.second),
            }
            for node in (compared.nodes if everything else compared.changed)
        ],
        "totals": {
            "nodes": list(compared.counts),
            "params": [total.params for total in compared.costs],
            "macs": [total.macs for total in compared.costs],
        },
    }


def _change(node: NodeDifference) -> str:
    """The kind of change of a node, as one word."""
    if node.first is None or node.second is None:
        return "added" if node.first is None else "removed"
    if node.first != node.second:
        return "changed"
    return "revalued" if node.revalued else "same"


def _side(side: Optional[Side]) -> Optional[Dict[str, Any]]:
    if side is None:
        return None
    return {
        **side._asdict(),
        "weights": [list(shape) for shape in side.weights],
        "output": None if side.output is None else list(side.output),
    }


def print_differences(console: Console, compared: Differences, everything: bool = False) -> None:
    """Prints the tables of `compare`.

    Args:
        console: the console.
        compared: the differences.
        everything: print every node, and not only layers that changed.
    """
    changed = compared.changed
    shown = [node for node in compared.nodes if everything or (node.changed and node.is_layer)]
    columns = ("node", "+op", "weights", "output", ">params", ">MACs")
    if shown:
        print_table(console, "Layers: old => new", columns, [_row(node) for node in shown])
    count_without_weights = len([node for node in changed if not node.is_layer])
    if count_without_weights and not everything:
        console.print(
            f"{plural(count_without_weights, 'node')} without weights changed shape too (--all)."
        )
    revalued = [node for node in changed if _change(node) == "revalued"]
    if revalued:
        console.print(
            f"{plural(len(revalued), 'node')} with weights of the same shape and other values."
        )
    if not changed:
        console.print("No node differs in op, shapes or weights.")
    old, new = compared.costs
    totals = (
        ("nodes", *compared.counts),
        ("parameters", old.params, new.params),
        ("MACs", old.macs, new.macs),
    )
    print_changes(console, "Whole network", totals, ("old", "new"))


def _row(node: NodeDifference) -> Sequence[str]:
    sides = (node.first, node.second)
    weights = [None if side is None else _shapes(side.weights) for side in sides]
    cells = [
        _arrow([None if side is None else side.op for side in sides]),
        _arrow(weights) + (" (other values)" if node.revalued else ""),
        _arrow([None if side is None else shape_text(side.output) for side in sides]),
        _arrow([None if side is None else f"{side.params:,}" for side in sides], zero="0"),
        _arrow([None if side is None else count(side.macs) for side in sides], zero="0"),
    ]
    return (node.name, *cells)


def _arrow(sides: Sequence[Optional[str]], zero: str = "") -> str:
    """`old => new`, or a text that both sides share; `-` if a graph does not have the node."""
    if all([side in (None, zero) for side in sides]):
        return ""
    old, new = ["-" if side is None else side for side in sides]
    return old if old == new else f"{old} => {new}"


def _shapes(shapes: Sequence[Sequence[int]]) -> str:
    """Shapes of constants, those of a batch norm as `4 of 32`; scalars are left out."""
    texts = Counter([shape_text(shape) for shape in shapes if shape])
    return ", ".join([text if many == 1 else f"{many} of {text}" for text, many in texts.items()])
