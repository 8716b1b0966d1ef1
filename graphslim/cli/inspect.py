"""`graphslim inspect`: what is in a model."""

from __future__ import annotations

import time
from typing import Optional

import click

from graphslim import show
from graphslim.api import find_blocks
from graphslim.cli import console
from graphslim.graphdef.signature import check_node
from graphslim.options import Reading, model_options


@click.command(short_help="Show a model's blocks, channels and cost.")
@click.argument("model")
@click.option(
    "--why-not", is_flag=True, help="Show what cannot be pruned, and which op forbids it."
)
@click.option("--groups", is_flag=True, help="Show every group of channels, and what it touches.")
@click.option("--explain", metavar="NODE", help="Show why a node is in no recognised block.")
@model_options
def inspect(
    model: str,
    why_not: bool,
    groups: bool,
    explain: Optional[str],
    reading: Reading,
    as_json: bool,
    verbose: bool,
) -> int:
    """Show a model: its inputs and outputs, blocks, channel groups and cost."""
    started = time.perf_counter()
    graph = find_blocks(reading.load(model))
    if explain is not None:
        check_node(graph, explain, "--explain")
    if verbose:
        console.err.print(f"read and analysed in {time.perf_counter() - started:.2f} s")
    if as_json and explain is not None:
        console.print_json(show.explanation(graph, explain))
    elif as_json:
        console.print_json(show.inspection(graph))
    elif explain is not None:
        show.print_explanation(console.out, graph, explain)
    elif why_not or groups:
        if groups:
            show.print_groups(console.out, graph)
        if why_not:
            show.print_why_not(console.out, graph)
    else:
        show.print_inspection(console.out, graph)
    return console.OK
