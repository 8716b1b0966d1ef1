"""The variables of the graph that trains, found by the names that a plan has for them."""

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
    """TensorFlow's graph as graphslim's, variables and all."""
    data = graph.as_graph_def().SerializeToString()
    return parse(data, "the default graph", has_variables=True)


def find_op(graph: Any, name: str) -> Any:
    """The op of a name, or None."""
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
    if any(other.name.startswith(f"{name}/part_") for other in graph.get_operations()):
        raise PlanError(
            "is a partitioned variable, of which no single part has all channels",
            name,
            "create it without a partitioner",
        )
    what = "is in the plan, and the graph has no such variable"
    raise PlanError(what if op is None else f"{what}, but a {op.type}", name, _OTHER)


def shape_of(op: Any) -> Tuple[int, ...]:
    """The shape of a variable.

    Raises:
        PlanError: a size of the variable is not known.
    """
    shape = tf.TensorShape(op.get_attr("shape"))
    if not shape.is_fully_defined():
        raise PlanError("its shape is open", op.name, "create it with a shape")
    return tuple(shape.as_list())


def value_of(op: Any) -> Any:
    """Reads a variable now, by an op of its own; of the variable's shape and dtype."""
    if op.type == "VarHandleOp":
        value = tf.raw_ops.ReadVariableOp(resource=op.outputs[0], dtype=op.get_attr("dtype"))
        value.set_shape(op.get_attr("shape"))
        return value
    return tf.identity(op.outputs[0])


def set_value(op: Any, value: Any) -> Any:
    """An op that gives a variable a value of its shape and dtype."""
    if op.type == "VarHandleOp":
        return tf.raw_ops.AssignVariableOp(resource=op.outputs[0], value=value)
    return tf.raw_ops.Assign(ref=op.outputs[0], value=value).op


def check_sizes(graph: Any, plan: Plan, slices: Mapping[str, Mapping[int, Sequence[int]]]) -> None:
    """Refuses a plan for a graph that does not have its variables at their sizes.

    Raises:
        PlanError: a variable is not there, or has another size than in the plan.
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
    """The shape that a vector of a length needs to be broadcast along an axis."""
    return [length if index == axis else 1 for index in range(rank)]
