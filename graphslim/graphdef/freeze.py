"""Variables -> constants: the part of a graph that its outputs need, with its variables' values."""

from __future__ import annotations

from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    List,
    Mapping,
    NamedTuple,
    Sequence,
    Set,
    Tuple,
    Union,
)

import numpy as np

from graphslim.errors import LoadError
from graphslim.graphdef.freeze_functions import CALLS, ELSEWHERE, Bodies
from graphslim.ir import CONTROL, Attrs, DType, Graph, Node, Port, Shape, Tensor
from graphslim.ir.families import (
    ASSIGNMENTS,
    CARRIERS,
    EXITS,
    MERGES,
    NEXT_ITERATIONS,
    VARIABLES,
    WHILE_LOOPS,
)
from graphslim.ir.query import downstream

Value = Union[np.ndarray, Tensor]
Values = Callable[[Sequence[str]], Mapping[str, Value]]
"""Gives the values of variables by the names of their nodes; a `Tensor` stays unread."""

_PASSING = CARRIERS | MERGES | EXITS | NEXT_ITERATIONS | {"IdentityN"}
"""Ops that pass a handle on."""
_OF_REFERENCES = {
    f"Ref{op}": op for op in ("Identity", "Switch", "Merge", "Enter", "Exit", "NextIteration")
}
"""Ops that pass a reference on, and those that do so with a value."""
_READERS = {
    "ReadVariableOp": ("Identity", "T"),
    "ResourceGatherNd": ("GatherNd", "Tparams"),
    "VariableShape": ("Shape", "T"),
}
"""What reads a handle: the op that reads a value instead, and its attribute of element type."""
_TRUE = Tensor.of(np.array(True))
_INFER = "export the model for inference, not for training"


class _Variable(NamedTuple):
    """What a port stands for that carries a variable itself and not its value."""

    names: FrozenSet[str]
    dtype: DType
    is_handle: bool
    """A resource handle; else a TF1 reference, which any op may read as if it were the value."""


class _Made(NamedTuple):
    """A node of the frozen graph and what it reads."""

    node: Node
    inputs: Sequence[Port]


def freeze(graph: Graph, values: Values) -> Graph:
    """A graph without variables that computes the same outputs, and nothing beside them.

    The nodes keep their names: a variable becomes a constant, what reads it an identity. Changes
    of variables on which no output depends but by order are left out.

    Args:
        graph: a graph whose inputs and outputs are known; it is not changed.
        values: gives the variables' values; asked once, and only if there are any.

    Raises:
        LoadError: a variable has no fitting value, or is used as no constant can be.
    """
    variables = _follow(graph)
    needed, left_out = _needed(graph)
    _refuse_order(graph, variables, needed, left_out)
    bodies = Bodies(graph.origin.extras if graph.origin is not None else ())
    made: List[_Made] = []
    for node in graph:
        if node.name in needed and node.op not in VARIABLES:
            inputs = [
                port
                for port in graph.inputs_of(node)
                if port.port != CONTROL or port.node in needed
            ]
            made.extend(_frozen(graph, node, inputs, variables, bodies))
    read = {port.node for entry in made for port in entry.inputs} | {
        port.node for port in graph.outputs
    }
    names = [node.name for node in graph if node.name in read and node.op in VARIABLES]
    stored = values(names) if names else {}
    result = Graph(graph.name)
    if graph.origin is not None:
        result.origin = graph.origin._replace(extras=bodies.extras())
    result.load([_constant(graph[name], stored) for name in names] + made)
    result.inputs, result.outputs = list(graph.inputs), list(graph.outputs)
    result.input_shapes = dict(graph.input_shapes)
    result.gone = graph.gone | {node.name for node in graph if node.name not in result}
    return result


def _follow(graph: Graph) -> Dict[Port, _Variable]:
    """The ports that carry a variable itself."""
    carried: Dict[Port, _Variable] = {}
    for node in graph.order():
        if node.op in VARIABLES:
            dtype = node.attrs.get("dtype", DType.invalid)
            is_handle = node.op == "VarHandleOp"
            carried[Port(node.name)] = _Variable(frozenset((node.name,)), dtype, is_handle)
        if node.op not in _PASSING and node.op not in _OF_REFERENCES and node.op not in WHILE_LOOPS:
            continue
        inputs = enumerate([carried.get(port) for port in graph.data_inputs(node)])
        # An Identity of a reference is a value.
        is_value = node.op not in _OF_REFERENCES
        passed = [
            (at, variable) for at, variable in inputs if variable and variable.is_handle == is_value
        ]
        if node.op == "IdentityN" or node.op in WHILE_LOOPS:
            carried.update({Port(node.name, at): variable for at, variable in passed})
        elif passed:
            names: FrozenSet[str] = frozenset().union(*[variable.names for _, variable in passed])
            for index in range(2 if node.op.endswith("Switch") else 1):
                carried[Port(node.name, index)] = passed[0][1]._replace(names=names)
    return carried


def _needed(graph: Graph) -> Tuple[Set[str], Set[str]]:
    """The nodes that inputs and outputs depend on, and the assignments that these wait for.

    Raises:
        LoadError: an output is computed from what an assignment gives back.
    """
    needed: Set[str] = set()
    left_out: Set[str] = set()
    waiting = [Port(name) for name in graph.inputs] + list(graph.outputs)
    while waiting:
        port = waiting.pop()
        node = graph[port.node]
        if node.op in ASSIGNMENTS:
            if port.port != CONTROL:
                raise LoadError(
                    f"the outputs depend on this {node.op}, which changes a variable",
                    f"{graph.name}: node {node.name}",
                    _INFER,
                )
            left_out.add(node.name)
        elif node.name not in needed:
            needed.add(node.name)
            waiting.extend(graph.inputs_of(node))
    return needed, left_out


def _refuse_order(
    graph: Graph, variables: Mapping[Port, _Variable], needed: Set[str], left_out: Set[str]
) -> None:
    """Refuses a variable that is read after it was changed: no constant is both values."""
    for name in sorted(left_out):
        changed = variables.get(graph.inputs_of(name)[0])
        for after in sorted((downstream(graph, [name]) - {name}) & needed):
            for port in graph.data_inputs(after):
                read = variables.get(port)
                if changed is None or (read is not None and read.names & changed.names):
                    raise LoadError(
                        f"the outputs read a variable that {name} has changed before",
                        f"{graph.name}: node {after}",
                        _INFER,
                    )


def _constant(variable: Node, values: Mapping[str, Value]) -> _Made:
    dtype = variable.attrs.get("dtype", DType.invalid)
    place = f"variable {variable.name}"
    if variable.name not in values:
        raise LoadError("has no value", place, "export the model again")
    if dtype in (DType.invalid, DType.resource, DType.variant):
        raise LoadError("its elements are of a type that cannot be read", place, ELSEWHERE)
    value = values[variable.name]
    if not fits(variable, value.shape):
        stated = variable.attrs["shape"].dims
        sizes = ", ".join(["?" if size is None else str(size) for size in stated])
        raise LoadError(
            f"its value has the shape {list(value.shape)} instead of [{sizes}]",
            place,
            "give the values that belong to this graph",
        )
    return _Made(_node(variable, "Const", dtype=dtype, value=_tensor(value, dtype)), [])


def _tensor(value: Value, dtype: DType) -> Tensor:
    if isinstance(value, Tensor):
        return value
    values = np.asarray(value)
    if values.dtype != dtype.storage and values.dtype.kind == "V":  # bfloat16, qint8, ...
        values = values.view(dtype.storage)
    return Tensor.of(values, dtype)


def fits(variable: Node, sizes: Sequence[int]) -> bool:
    """Whether a variable states a shape that a value of these sizes has, or none."""
    stated = variable.attrs.get("shape")
    # A variable whose shape is not checked says rank 0 in a reference's attribute.
    if not isinstance(stated, Shape) or not stated.dims:
        return True
    return len(stated.dims) == len(sizes) and all(
        expected in (None, size) for expected, size in zip(stated.dims, sizes)
    )


def _frozen(
    graph: Graph,
    node: Node,
    inputs: List[Port],
    variables: Mapping[Port, _Variable],
    bodies: Bodies,
) -> List[_Made]:
    """What takes the place of a node, which is the node itself if it reads no variable.

    Raises:
        LoadError: no op does with a value what the node does with the variable.
    """
    controls = [port for port in inputs if port.port == CONTROL]
    if node.op in ("VarIsInitializedOp", "IsVariableInitialized"):
        return [_Made(_node(node, "Const", dtype=DType.bool, value=_TRUE), controls)]
    if node.op in _OF_REFERENCES:
        return [_Made(_node(node, _OF_REFERENCES[node.op], **node.attrs), inputs)]
    carried = [(index, variables[port]) for index, port in enumerate(inputs) if port in variables]
    handles = {index: variable.dtype for index, variable in carried if variable.is_handle}
    if not handles:
        same = node.copy()
        same.rewired = node.rewired or len(inputs) != len(graph.inputs_of(node))
        return [_Made(same, inputs)]
    dtype = min(handles.items())[1]
    if node.op == "DisableCopyOnRead":
        return [_Made(_node(node, "NoOp"), controls)]
    if node.op == "ResourceGather":
        return _gather(graph, node, inputs, dtype)
    if node.op in _READERS:
        op, element = _READERS[node.op]
        attrs = {key: node.attrs[key] for key in ("Tindices", "out_type") if key in node.attrs}
        return [_Made(_node(node, op, **{element: dtype}, **attrs), inputs)]
    if node.op in CALLS:
        changed = bodies.retarget(node.op, node.attrs.get, handles)
    elif node.op == "IdentityN":
        kinds = node.attrs["T"]
        changed = {"T": [handles.get(index, kind) for index, kind in enumerate(kinds)]}
    elif node.op in _PASSING and len(set(handles.values())) == 1:
        changed = {"T": dtype}
    else:
        raise LoadError(
            f"the variable {min(carried[0][1].names)} is used by a {node.op}, "
            "and cannot be frozen there",
            f"{graph.name}: node {node.name}",
            ELSEWHERE,
        )
    return [_Made(_node(node, node.op, **{**node.attrs, **changed}), inputs)]


def _gather(graph: Graph, node: Node, inputs: Sequence[Port], dtype: DType) -> List[_Made]:
    """The rows of a variable, as a gather along the axis behind the batch axes."""
    batch = node.attrs.get("batch_dims", 0)
    axis = Node(
        graph.fresh_name(f"{node.name}/axis"),
        "Const",
        Attrs({"dtype": DType.int32, "value": Tensor.of(np.array(batch, np.int32))}),
    )
    kinds = {"Tparams": dtype, "Tindices": node.attrs["Tindices"], "Taxis": DType.int32}
    gather = _node(node, "GatherV2", batch_dims=batch, **kinds)
    return [_Made(axis, []), _Made(gather, [*inputs[:2], Port(axis.name), *inputs[2:]])]


def _node(like: Node, op: str, **attrs: Any) -> Node:
    """A node of another op under the same name, with its device and its colocation."""
    attrs.pop("_output_shapes", None)  # those of a handle
    common = {key: like.attrs[key] for key in like.attrs if key == "_class"}
    return Node(like.name, op, Attrs({**common, **attrs}), like.device)
