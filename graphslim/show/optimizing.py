"""What `optimize` shows: nodes and bytes before and after, and how the outputs agree."""

from __future__ import annotations

from typing import Optional

from graphslim.fidelity import Agreement
from graphslim.graphdef import serialize
from graphslim.ir import Graph
from graphslim.show.agreement import print_agreement
from graphslim.show.console import Console, print_table
from graphslim.support.text import count, share


def print_optimizing(
    console: Console, before: Graph, after: Graph, agreement: Optional[Agreement], seconds: float
) -> None:
    """The table that `optimize` prints.

    Args:
        console: where to.
        before, after: the graphs.
        agreement: the check that the result passed, if it was made.
        seconds: time for reading and rewriting.
    """
    pairs = {
        "nodes": (len(before), len(after)),
        "size in bytes": (len(serialize(before)), len(serialize(after))),
    }
    rows = [
        (label, count(one), count(other), share(one, other))
        for label, (one, other) in pairs.items()
    ]
    print_table(console, "Whole network", ("", ">before", ">after", ">change"), rows)
    console.print(f"Optimised in {seconds:.2f} s")
    if agreement is not None:
        print_agreement(console, agreement)
