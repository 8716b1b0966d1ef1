"""The library in five verbs: load, plan, apply, verify, save."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence

from graphslim.ir import Graph
from graphslim.pipeline import FindBlocks, Pipeline, passes
from graphslim.plans import DEAD_BELOW, Plan, Selection, plan_dead, plan_given


def find_blocks(graph: Graph) -> Graph:
    """Fills `graph.blocks` by every pass that recognises blocks, plug-ins too; gives the graph."""
    Pipeline(finders()).run(graph)
    return graph


def finders() -> List[str]:
    """The names of the passes that recognise blocks."""
    return sorted([name for name, cls in passes().items() if issubclass(cls, FindBlocks)])


def plan(
    graph: Graph,
    *,
    removed: Optional[Mapping[str, Sequence[int]]] = None,
    dead_below: float = DEAD_BELOW,
    scope: str = "all",
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    multiple_of: Optional[int] = None,
    min_channels: int = 1,
) -> Plan:
    """What to remove from a graph: its dead channels, or those that you name.

    Args:
        graph: the graph; it is not changed, but for its blocks being found.
        removed: by group id, the channels to remove whatever they do; nothing is then folded.
        dead_below: weights of smaller magnitude count as zero; 0 for exact zeros alone.
        scope: `all`, or `blocks` for channels inside recognised blocks alone.
        only, exclude: globs over group ids and block names.
        multiple_of: keep a multiple of so many channels per group (default: 4 in blocks, else 1).
        min_channels: keep at least so many channels per group.

    Raises:
        PlanError: the wish makes no sense for this graph.
        AnalysisError: the graph contradicts itself.
    """
    find_blocks(graph)
    if removed is not None:
        return plan_given(graph, removed)
    wish = Selection(scope, tuple(only), tuple(exclude), multiple_of, min_channels)
    return plan_dead(graph, wish, dead_below)


def verify(first: Graph, second: Graph, *, plan: Optional[Plan] = None, **options: Any) -> Any:
    """Runs two graphs on the same inputs and compares them; see `graphslim.compare.verify`."""
    from graphslim.compare import verify as run

    return run(first, second, plan=plan, **options)
