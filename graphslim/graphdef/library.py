"""Changes to the function library of a graph that was read from a file."""

from __future__ import annotations

from typing import List

from graphslim.graphdef.functions import Library, without_functions
from graphslim.ir import Graph


def drop_functions(graph: Graph) -> List[str]:
    """Drops the library functions that no node refers to, itself or through others.

    Returns:
        the names of those that went.

    Raises:
        LoadError: the library is damaged.
    """
    if graph.origin is None:
        return []
    unused = Library(graph.origin.extras).unused(graph)
    if unused:
        extras = without_functions(graph.origin.extras, unused)
        graph.set_origin(graph.origin._replace(extras=extras))
    return sorted(unused)
