"""The library in five verbs: load, plan, apply, verify, save."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence

from graphslim import graphdef, runtime
from graphslim.graphdef.signature import ShapesLike
from graphslim.ir import Graph
from graphslim.pipeline import FindBlocks, Pipeline, passes
from graphslim.plans import DEAD_BELOW, Plan, Selection, plan_dead, plan_given


def load(
    model: Any,
    *,
    inputs: Optional[Sequence[str]] = None,
    outputs: Optional[Sequence[str]] = None,
    input_shapes: Optional[ShapesLike] = None,
    inline: bool = True,
    signature: Optional[str] = None,
    tags: Sequence[str] = (),
) -> Graph:
    """Reads a frozen graph, or a SavedModel, which is frozen on the way.

    Args:
        model: path of a binary `.pb` or text `.pbtxt` GraphDef, or of a SavedModel's folder, or a
            GraphDef message.
        inputs: names of the nodes that are fed; by default the placeholders, or those of the
            signature.
        outputs: names (`node` or `node:port`) to compute; by default what nobody reads, or those
            of the signature.
        input_shapes: sizes for inputs that the file leaves open, by name.
        inline: whether calls of functions are replaced by what the functions do; a call that is
            left as it is pins every channel that reaches it. A SavedModel's always are.
        signature: which of a SavedModel's; by default `serving_default`, or else the only one.
        tags: of one of a SavedModel's graphs; by default `serve`, or else the only graph.

    Raises:
        LoadError: the file is no such model, is damaged, or a given name is not in it.
        RuntimeUnavailable: a SavedModel has variables, and TensorFlow is not there to read them.
    """
    return graphdef.load(
        model,
        inputs=inputs,
        outputs=outputs,
        input_shapes=input_shapes,
        inline=inline,
        signature=signature,
        tags=tags,
        variables=runtime.saved_variables,
    )


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
