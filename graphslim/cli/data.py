"""What is said of the inputs that a command feeds, before it does."""

from __future__ import annotations

from typing import Optional

from graphslim.analysis.switches import switches
from graphslim.cli import console
from graphslim.ir import Graph
from graphslim.measure.images import Images
from graphslim.measure.samples import Examples, Samples, switch_line


def path_of(data: Optional[Images]) -> Optional[str]:
    """The path of data, None where none are given."""
    return None if data is None else data.path


def tell_data(graph: Graph, data: Optional[Images], batch: int = 1, runs: bool = True) -> None:
    """Says on stderr what a graph is fed and how that was found; once for each command.

    Args:
        graph: the graph.
        data: what is given; of random inputs only those are told that switch training off.
        batch: examples per run, where the graph leaves that open.
        runs: whether the graph is run at all; data are checked either way.

    Raises:
        GraphslimError: the data cannot be read, or do not fit the graph.
    """
    if data is not None:
        lines = Examples(graph, Samples(data, batch=batch)).about.lines()
    else:
        lines = [switch_line(name, value) for name, value in switches(graph).items()]
    for line in lines if runs or data is not None else ():
        console.err.print(line)
