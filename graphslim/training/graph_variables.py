"""Finds the variables of a plan in TensorFlow's default graph by name, and reads and sets them."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from graphslim.errors import PlanError
from graphslim.graphdef.load import parse
from graphslim.ir import Graph
from graphslim.ir.families import VARIABLES
from graphslim.plans import Plan
from graphslim.runtime import plain_tensorflow

tf = plain_tensorflow()

_OTHER = "is the plan of this network, at these widths? the graph has to use the same names"


def as_ir(graph: Any) -> Graph:
    """A TensorFlow graph as a graph of graphslim, with its variables."""
    data = graph.as_graph_def().SerializeToString()
    return parse(data, "the default graph", has_variables=True)


def find_op(graph: Any, name: str) -> Any:
    """The op of that name; None if the graph has none."""
    try:
        return graph.get_operation_by_name(name)
    except KeyError:
        return None


def variable_op(graph: Any, name: str) -> Any:
    """The op of a variable, ref or resource.

    Raises:
        PlanError: the graph has no such variable, or has it in parts.
    """
    op = find_op(graph, name)
    if op is not None and op.type in VARIABLES:
        return op
    if any(candidate.name.startswith(f"{name}/part_") for candidate in graph.get_operations()):
        raise PlanError(
            "is a partitioned variable, of which no single part has all channels",
            name,
            "create it without a partitioner",
        )
    message = "is in the plan, and the graph has no such variable"
    raise PlanError(message if op is None else f"{message}, but a {op.type}", name, _OTHER)


def shape_of(op: Any) -> Tuple[int, ...]:
    """The shape of a variable.

    Raises:
        PlanError: the shape is not fully known.
    """
    shape = tf.TensorShape(op.get_attr("shape"))
    if not shape.is_fully_defined():
        raise PlanError("its shape is open", op.name, "create it with a shape")
    return tuple(shape.as_list())


def value_of(op: Any) -> Any:
    """A tensor of a variable's value, read by a new op; of the variable's shape and dtype."""
    if op.type == "VarHandleOp":
        value = tf.raw_ops.ReadVariableOp(resource=op.outputs[0], dtype=op.get_attr("dtype"))
        value.set_shape(op.get_attr("shape"))
        return value
    return tf.identity(op.outputs[0])


def set_value(op: Any, value: Any) -> Any:
    """An op that assigns a value, of the variable's shape and dtype, to a variable."""
    if op.type == "VarHandleOp":
        return tf.raw_ops.AssignVariableOp(resource=op.outputs[0], value=value)
    return tf.raw_ops.Assign(ref=op.outputs[0], value=value).op


def check_sizes(graph: Any, plan: Plan, slices: Mapping[str, Mapping[int, Sequence[int]]]) -> None:
    """Refuses a plan whose variables the graph lacks, or has in other shapes.

    Raises:
        PlanError: the graph lacks a variable, or has it in another shape than the plan.
    """
    planned: Dict[str, Tuple[int, ...]] = {layer.param: layer.shape for layer in plan.layers}
    for name, axes in slices.items():
        shape = shape_of(variable_op(graph, name))
        wrong: List[int] = [
            axis
            for axis, positions in axes.items()
            if axis >= len(shape) or max(positions, default=-1) >= shape[axis]
        ]
        if wrong or planned.get(name, shape) != shape:
            was = f", in the plan {list(planned[name])}" if name in planned else ""
            raise PlanError(
                f"does not fit the plan: its shape in this graph is {list(shape)}{was}",
                name,
                _OTHER,
            )


def along(length: int, axis: int, rank: int) -> List[int]:
    """The shape by which a vector is broadcast along one axis: 1 but for `length` at `axis`."""
    return [length if index == axis else 1 for index in range(rank)]
