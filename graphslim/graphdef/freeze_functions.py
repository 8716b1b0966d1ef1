"""Variables -> constants inside functions: copies of bodies that take values, not handles."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from graphslim.errors import LoadError
from graphslim.graphdef import fields, wire
from graphslim.graphdef.functions import libraries
from graphslim.graphdef.protos import FunctionDef
from graphslim.graphdef.values import decode_attr, encode_attr
from graphslim.ir import DType, Func, Shape, Tensor
from graphslim.ir.families import WHILE_LOOPS

ELSEWHERE = "freeze it with TensorFlow's convert_variables_to_constants_v2, and give the .pb"


class _Kind(NamedTuple):
    """How an op calls: its attributes that name functions, its first argument, its types."""

    functions: Tuple[str, ...]
    first: int
    types: str


_IF = _Kind(("then_branch", "else_branch"), 1, "Tin")
_CALL = _Kind(("f",), 0, "Tin")
CALLS = {
    "If": _IF,
    "StatelessIf": _IF,
    "Case": _Kind(("branches",), 1, "Tin"),
    "StatelessCase": _Kind(("branches",), 1, "Tin"),
    "PartitionedCall": _CALL,
    "StatefulPartitionedCall": _CALL,
    **dict.fromkeys(WHILE_LOOPS, _Kind(("cond", "body"), 0, "T")),
}
"""Ops that call functions of the library."""


class Bodies:
    """The functions of a library, and the copies of them that take values.

    Args:
        extras: what stands beside the nodes in a GraphDef, the library in it.
    """

    def __init__(self, extras: Sequence[bytes]) -> None:
        self._extras = tuple(extras)
        self._functions: Dict[str, Any] = {}
        self._copies: Dict[Tuple[str, Tuple[Tuple[int, DType], ...]], str] = {}
        self._made: List[Any] = []

    def extras(self) -> Tuple[bytes, ...]:
        """What stands beside the nodes, with the copies; protobuf merges the two libraries."""
        library = b"".join(
            [
                _field(fields.FunctionDefLibrary.function, function.SerializeToString())
                for function in self._made
            ]
        )
        return (
            (*self._extras, _field(fields.GraphDef.library, library)) if library else self._extras
        )

    def retarget(
        self, op: str, attr: Callable[[str], Any], handles: Mapping[int, DType]
    ) -> Dict[str, Any]:
        """The attributes of a call that change when it passes values.

        Args:
            op: one of `CALLS`.
            attr: gives the value of an attribute of the call, None where it has none.
            handles: by input of the call that was a handle, the type of the variable's elements.

        Raises:
            LoadError: a function does with a handle what cannot be done with a value.
        """
        kind = CALLS[op]
        at = {index - kind.first: dtype for index, dtype in handles.items()}
        changed: Dict[str, Any] = {
            kind.types: [at.get(index, element) for index, element in enumerate(attr(kind.types))]
        }
        for key in kind.functions:
            called = attr(key)
            if isinstance(called, Func):
                changed[key] = called._replace(name=self._copy(called.name, at))
            else:
                changed[key] = [
                    branch._replace(name=self._copy(branch.name, at)) for branch in called
                ]
        shapes = attr("output_shapes")
        if op in WHILE_LOOPS and shapes:
            # Those of a handle are a scalar's.
            changed["output_shapes"] = [
                Shape(None) if index in at else shape for index, shape in enumerate(shapes)
            ]
        return changed

    def _copy(self, name: str, handles: Mapping[int, DType]) -> str:
        """The name of the copy of a function that takes values in place of these arguments."""
        key = (name, tuple(sorted(handles.items())))
        if key not in self._copies:
            function = FunctionDef()
            function.CopyFrom(self._function(name))
            self._copies[key] = function.signature.name = f"{name}_frozen_{len(self._copies)}"
            self._made.append(function)
            self._freeze(function, handles)
        return self._copies[key]

    def _function(self, name: str) -> Any:
        if not self._functions:
            for library in libraries(self._extras):
                for function in wire.payloads(library, fields.FunctionDefLibrary.function):
                    message = FunctionDef.FromString(bytes(function))
                    self._functions[message.signature.name] = message
        if name not in self._functions:
            raise LoadError("is called and not in the library", f"function {name}", ELSEWHERE)
        return self._functions[name]

    def _freeze(self, function: Any, handles: Mapping[int, DType]) -> None:
        arguments = function.signature.input_arg
        if any(argument.number_attr or argument.type_list_attr for argument in arguments):
            raise _refused("list of arguments", function)
        carried: Dict[str, DType] = {}
        for index, dtype in handles.items():
            arguments[index].type = int(dtype)
            carried[arguments[index].name] = dtype
            for field in ("arg_attr", "resource_arg_unique_id"):  # the first protos had neither
                notes = getattr(function, field, {})
                if index in notes:
                    del notes[index]
        _follow(function, carried)
        renamed: Dict[str, str] = {}
        for node in list(function.node_def):
            at = {index: carried[text] for index, text in enumerate(node.input) if text in carried}
            if at:
                self._freeze_node(function, node, at, renamed)
        for node in function.node_def:
            node.input[:] = [renamed.get(text, text) for text in node.input]
        for result in function.signature.output_arg:
            returned = function.ret[result.name]
            if returned in carried:
                result.type = int(carried[returned])
            function.ret[result.name] = renamed.get(returned, returned)

    def _freeze_node(
        self, function: Any, node: Any, at: Mapping[int, DType], renamed: Dict[str, str]
    ) -> None:
        dtype = min(at.items())[1]
        if node.op in CALLS:
            changed = self.retarget(
                node.op, lambda key: decode_attr(node.attr[key]) if key in node.attr else None, at
            )
        elif node.op == "ReadVariableOp":
            renamed[f"{node.name}:value:0"] = f"{node.name}:output:0"
            node.op, changed = "Identity", {"T": dtype}
            node.attr.clear()
        elif node.op == "VariableShape":
            node.op, changed = "Shape", {"T": dtype}
        elif node.op == "ResourceGather":
            changed = _gather(function, node, dtype)
        elif node.op == "Identity":
            changed = {"T": dtype}
        else:
            raise _refused(node.op, function)
        if "_output_shapes" in node.attr:
            del node.attr["_output_shapes"]
        for key, value in changed.items():
            node.attr[key].CopyFrom(encode_attr(value))


def _follow(function: Any, carried: Dict[str, DType]) -> None:
    """Adds the tensors that pass a handle on; the nodes of a body stand in any order."""
    size = -1
    while size != len(carried):
        size = len(carried)
        for node in function.node_def:
            if node.op in WHILE_LOOPS or node.op == "Identity":
                for index, text in enumerate(node.input):
                    if text in carried:
                        carried[f"{node.name}:output:{index}"] = carried[text]


def _gather(function: Any, node: Any, dtype: DType) -> Dict[str, Any]:
    """Makes a node of a body a gather from a value; gives the attributes to set."""
    batch = int(decode_attr(node.attr["batch_dims"])) if "batch_dims" in node.attr else 0
    indices = decode_attr(node.attr["Tindices"])
    axis = function.node_def.add(name=f"{node.name}/frozen_axis", op="Const")
    axis.attr["dtype"].CopyFrom(encode_attr(DType.int32))
    axis.attr["value"].CopyFrom(encode_attr(Tensor.of(np.array(batch, np.int32))))
    node.op = "GatherV2"
    node.input.insert(2, f"{axis.name}:output:0")
    node.attr.clear()
    kinds = {"Tparams": dtype, "Tindices": indices, "Taxis": DType.int32}
    return {**kinds, "batch_dims": batch}


def _refused(op: str, function: Any) -> LoadError:
    return LoadError(
        f"a variable is used by a {op}, and cannot be frozen there",
        f"function {function.signature.name}",
        ELSEWHERE,
    )


def _field(number: int, payload: bytes) -> bytes:
    return wire.header(number, len(payload)) + payload
