"""`graphslim export`: a graph in the format that a runtime takes."""

from __future__ import annotations

from typing import Optional

import click

from graphslim.cli import console
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
from graphslim.cli.options import Reading, Running, Sectioned, model_options, run_options
from graphslim.delivery.formats import check_package_target


@click.command(cls=Sectioned)
@click.argument("model")
@output_option
@delivery_options
@click.option(
    "--verify/--no-verify",
    "check",
    default=None,
    help="Run the result in its own runtime before writing, and compare it with TensorFlow.  "
    "[default: where the runtime is installed]",
)
@force_option
@run_options
@model_options
def export(
    model: str,
    output: str,
    check: Optional[bool],
    force: bool,
    delivering: Delivering,
    running: Running,
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Write MODEL in the format that OUT names: TensorFlow Lite, ONNX, a SavedModel, or a graph.

    The result is run in its own runtime on the same inputs as MODEL in TensorFlow, and is not
    written where it computes something else. `prune`, `apply` and `optimize` write the same formats
    with -o.
    """
    inputs = [*files_of(model, reading), path_of(running.data)]
    check_targets(output, {}, inputs, force, check_package_target)
    delivering.check(output, running)
    graph = reading.load(model)
    tell_model(graph, running.data, running.batch, check is not False)
    delivery = delivering.deliver(output, graph, running, check)
    with console.told_first(placing((output, content(graph, delivery)))):
        if as_json:
            tree = {} if delivery is None else {"delivered": delivery.as_dict()}
            console.print_json({"output": output, **tree})
            return console.OK
        if delivery is not None:
            print_delivery(console.out, delivery)
        console.out.print(f"Written to {output}")
    return console.OK
