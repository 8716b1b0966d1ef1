"""What nodes state of sizes and counts in their attributes, compared with what the walk finds."""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from graphslim.channels.facts import Dims, Fact
from graphslim.channels.groups import Labels
from graphslim.errors import EmitError
from graphslim.ir import DType, Graph, Node, Port, Shape, Tensor
from graphslim.ir.families import PLACEHOLDERS, VARIABLES
from graphslim.ir.query import downstream

_SHAPE_LISTS = ("_output_shapes", "output_shapes")
"""Attributes that hold the shape of every output, on whatever op."""
_SHAPE_OPS = PLACEHOLDERS | VARIABLES | {"EnsureShape", "AccumulateNV2", "ParallelConcat"}
"""Ops whose attribute `shape` is the shape of their output."""
_INPUTS: Dict[str, Tuple[int, int]] = {
    **dict.fromkeys(("AddN", "AccumulateNV2", "Pack", "ParallelConcat"), (1, 0)),
    **dict.fromkeys(("Merge", "RefMerge", "ShapeN", "MergeSummary", "StringJoin"), (1, 0)),
    **dict.fromkeys(("Concat", "ConcatV2", "ConcatOffset", "RefSelect"), (1, 1)),
    **dict.fromkeys(("DynamicStitch", "ParallelDynamicStitch"), (2, 0)),
    "QuantizedConcat": (3, 1),
}
"""Ops whose attribute `N` states how many inputs they have: factor times `N`, and so many more."""
_OUTPUTS = {"Split": "num_split", "SplitV": "num_split", "Unpack": "num"}
"""Ops whose outputs an attribute counts, and that attribute."""
_HINT = "nothing was written; a pass left the graph like this: set it with graph.set_attr"


class Statement(NamedTuple):
    """The shape that an attribute states for an output.

    Attributes:
        attr: the attribute's name.
        place: where in the attribute, if that is a list; else None.
        port: the output.
        shape: what is stated.
    """

    attr: str
    place: Optional[int]
    port: Port
    shape: Shape


def statements(node: Node) -> Iterator[Statement]:
    """What a node states of the shapes of its outputs."""
    for attr in _SHAPE_LISTS:
        stated = node.attrs.get(attr)
        if isinstance(stated, list):
            for index, shape in enumerate(stated):
                if isinstance(shape, Shape):
                    yield Statement(attr, index, Port(node.name, index), shape)
    if node.op in _SHAPE_OPS:
        shape = node.attrs.get("shape")
        if isinstance(shape, Shape):
            yield Statement("shape", None, Port(node.name), shape)


def restate(graph: Graph, before: Labels, after: Labels) -> None:
    """Brings what is stated of sizes up to date with a graph of which channels were cut.

    A size that the walk over the result finds is stated. A size that may have changed and is not
    found is left open. What is stated of tensors that no cut reached stays as it was.

    Args:
        graph: the graph, changed in place.
        before: what a walk gives before the cut.
        after: what a walk gives after it.
    """
    moved: Set[Port] = set()
    for node in graph.order():
        fed = any(port in moved for port in graph.data_inputs(node))
        stated = list(statements(node))
        ends = [statement.port.port + 1 for statement in stated]
        outputs = max([len(after.facts.get(node.name, ())), *ends])
        for index in range(outputs):
            port = Port(node.name, index)
            shape = after.fact(port).shape
            vague = shape is None or None in shape
            if (fed and vague) or shape != before.fact(port).shape:
                moved.add(port)
        for statement in stated:
            if statement.port in moved:
                port = statement.port
                updated = _updated(statement.shape, before.fact(port), after.fact(port).shape)
                _set(graph, node, statement, updated)


def _updated(stated: Shape, before: Fact, shape: Dims) -> Shape:
    """A stated shape with the sizes that a walk after the cut gives.

    A size of 1 cannot have been cut, nor can the size of an axis without channels.
    """
    if not stated.dims:
        return stated
    if shape is None or len(shape) != len(stated.dims):
        return Shape(tuple([1 if size == 1 else None for size in stated.dims]))
    sizes: List[Optional[int]] = []
    for axis, (size, new) in enumerate(zip(stated.dims, shape)):
        uncut = size == 1 or (before.rank == len(shape) and before.channels(axis) is None)
        # What the file leaves open stays open: it may be fed in other sizes.
        sizes.append(size if size is None or (new is None and uncut) else new)
    return Shape(tuple(sizes))


def _set(graph: Graph, node: Node, old: Statement, shape: Shape) -> None:
    if shape == old.shape:
        return
    value = node.attrs[old.attr]
    if old.place is not None:
        value = [*value[: old.place], shape, *value[old.place + 1 :]]
    graph.set_attr(node, old.attr, shape if old.place is None else value)


def is_stated(graph: Graph) -> bool:
    """Whether a graph states shapes that do not only say what a source of tensors gives."""
    return any(
        "_output_shapes" in node.attrs
        or "output_shapes" in node.attrs
        or (node.op in _SHAPE_OPS and graph.data_inputs(node))
        for node in graph
    )


def check_shapes(graph: Graph, labels: Labels) -> None:
    """Checks that the shapes that changed nodes, and those behind them, state are true.

    Args:
        graph: the graph.
        labels: what a walk over it gives.

    Raises:
        EmitError: an attribute states a shape that the output does not have.
    """
    reached = downstream(graph, [node.name for node in graph if node.touched])
    for node in graph:
        if node.name in reached:
            for statement in statements(node):
                _check_shape(statement, labels.fact(statement.port).shape)


def check_counts(graph: Graph) -> None:
    """Checks the counts that changed nodes state, and the types of changed constants.

    Raises:
        EmitError: a node has another number of inputs or outputs, or a constant another type.
    """
    for node in graph:
        if node.touched:
            _check_counts(graph, node)


def _check_shape(statement: Statement, shape: Dims) -> None:
    # No cut reaches a scalar. A handle is a scalar too, where the walk knows the shape of its
    # variable, and old TensorFlow wrote an unknown rank as rank 0.
    stated, port = statement.shape.dims, statement.port
    if shape is None or not stated:
        return
    if len(shape) != len(stated) or any(
        None not in pair and pair[0] != pair[1] for pair in zip(shape, stated)
    ):
        raise EmitError(
            f"its attribute {statement.attr} states {_text(stated)} for output {port.port}, "
            f"which has the shape {_text(shape)}",
            port.node,
            _HINT,
        )


def _text(sizes: Tuple[Optional[int], ...]) -> str:
    return "[" + ",".join(["?" if size is None else str(size) for size in sizes]) + "]"


def _check_counts(graph: Graph, node: Node) -> None:
    """Checks the counts that a changed node states, and the type of a constant."""
    inputs = graph.data_inputs(node)
    number = node.attrs.get("N")
    if node.op in _INPUTS and isinstance(number, int):
        factor, more = _INPUTS[node.op]
        if len(inputs) != factor * number + more:
            raise EmitError(
                f"its attribute N states {number}, which makes {factor * number + more} inputs, "
                f"and it has {len(inputs)}",
                node.name,
                _HINT,
            )
    for port in inputs:
        source = graph[port.node]
        number = source.attrs.get(_OUTPUTS.get(source.op, ""))
        if isinstance(number, int) and port.port >= number:
            raise EmitError(
                f"reads output {port.port} of {port.node}, whose attribute "
                f"{_OUTPUTS[source.op]} states {number} outputs",
                node.name,
                _HINT,
            )
    value = node.attrs.get("value")
    if node.op == "Const" and isinstance(value, Tensor):
        dtype = node.attrs.get("dtype", value.dtype)
        if dtype is not value.dtype:
            stated = dtype.name if isinstance(dtype, DType) else "no element type"
            raise EmitError(
                f"its attribute dtype states {stated}, and its value is {value.dtype.name}",
                node.name,
                _HINT,
            )
