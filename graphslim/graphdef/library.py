"""Changes to the function library of a graph that was read from a file."""

from __future__ import annotations

from typing import List, Optional

from graphslim.graphdef.functions import Library, referred, without_functions
from graphslim.graphdef.inline import most_nodes
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


def endless_call(graph: Graph) -> Optional[str]:
    """A node whose call comes to more nodes than would be inlined: TensorFlow may never end it."""
    if graph.origin is None:
        return None
    library = Library(graph.origin.extras)
    most = most_nodes(library)
    for node in graph:
        if any(library.extent(name).nodes > most for name in referred([node], library)):
            return node.name
    return None
