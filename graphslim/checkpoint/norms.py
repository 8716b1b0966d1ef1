"""Batch norm in training, turned to the moving means and variances that it keeps."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from graphslim.checkpoint.averages import NORMS, QUOTIENTS, Average, averages, is_statistic
from graphslim.checkpoint.edits import add_constant, read_variable
from graphslim.checkpoint.variables import behind, shape_of, updates, variable_at
from graphslim.errors import LoadError
from graphslim.ir import Attrs, DType, Graph, Node, Port
from graphslim.ir.query import in_branch

_MEAN, _VARIANCE = 3, 4
"""Inputs of a fused batch norm; its outputs 1 and 2 are those of the batch."""


class _Way(NamedTuple):
    """A tensor that a moving statistic can stand for.

    Attributes:
        port: the tensor.
        shape: the shape that the statistic has to be given, None where it has it.
        dtype: the element type that it has to be given, None likewise.
    """

    port: Port
    shape: Optional[Tuple[int, ...]]
    dtype: Optional[DType]


def use_statistics(part: Graph, whole: Graph) -> None:
    """Lets batch norm read the moving statistics instead of those of the batch, in place.

    Args:
        part: what the outputs need of `whole`, its nodes under the same names.
        whole: the graph with the updates of the statistics.

    Raises:
        LoadError: a batch norm is in training and keeps its statistics nowhere.
    """
    fused: Dict[Port, str] = {}
    found = averages(whole)
    twins = {one.biased for one in found}
    for one in found:
        if one.of is None and one.variable not in twins and is_statistic(whole, one.source):
            for way in _ways(whole, one):
                if way.port.node not in part:
                    continue
                if part[way.port.node].op in NORMS:
                    fused.setdefault(way.port, one.variable)
                else:
                    _replace(part, whole, way, one.variable)
            if one.update in part:  # what the assignment gives back, as fake quantisation reads it
                _replace(part, whole, _Way(Port(one.update), None, None), one.variable)
    _turn_fused(part, whole, fused)
    _refuse_unkept(part)


def _ways(whole: Graph, one: Average) -> List[_Way]:
    """The tensors that an average can stand for: its source and, up to the sum, what that is of."""
    way = _Way(one.source, None, None)
    start = whole[one.source.node]
    if start.op == "Mean" and 0 not in (axes_of(whole, start) or [0]):
        return []  # of each example by itself, such as pooled features
    found, flattened = [way], False
    while True:
        node = whole[way.port.node]
        inputs = whole.data_inputs(node)
        dtype = way.dtype
        if node.op == "Cast":
            dtype = node.attrs.get("SrcT", dtype)
        elif node.op in ("Squeeze", "Reshape") and not flattened:
            flattened = True
        elif node.op in ("Mul", *QUOTIENTS):  # times n / (n - 1), after Bessel
            inputs = tuple([port for port in inputs if is_statistic(whole, port)])
            if len(inputs) != 1:
                return found
        else:
            return found
        root = _mean_behind(whole, inputs[0])
        shape = _unflattened(whole, root, shape_of(whole, one.variable)) if flattened else None
        if root is None or (flattened and shape is None and whole[root.node].op not in NORMS):
            return found
        way = _Way(behind(whole, inputs[0]), shape, dtype)
        found.append(way)


def _mean_behind(whole: Graph, port: Port) -> Optional[Port]:
    """The mean over the batch, or the fused batch norm, that a statistic is computed by."""
    while True:
        port = behind(whole, port)
        node = whole[port.node]
        if node.op in NORMS or (node.op == "Mean" and 0 in (axes_of(whole, node) or [0])):
            return port
        inputs = whole.data_inputs(node)
        if node.op in ("Mul", *QUOTIENTS):
            inputs = tuple([one for one in inputs if is_statistic(whole, one)])
        elif node.op not in ("Cast", "Squeeze", "Reshape"):
            return None
        if not inputs:
            return None
        port = inputs[0]


def axes_of(graph: Graph, node: Node) -> Optional[List[int]]:
    """The axes of a reduction, None where they are not constant."""
    source = graph[behind(graph, graph.data_inputs(node)[1]).node]
    if source.op != "Const":
        return None
    return [int(axis) for axis in np.ravel(source.attrs["value"].numbers())]


def _unflattened(
    whole: Graph, root: Optional[Port], shape: Optional[Tuple[int, ...]]
) -> Optional[Tuple[int, ...]]:
    """The shape of a mean that keeps its axes, from the shape that it has without them."""
    axes = None
    if root is not None and whole[root.node].attrs.get("keep_dims") is True:
        axes = axes_of(whole, whole[root.node])
    if axes is None or shape is None:
        return None
    rank = len(shape) + len(axes)
    gone, sizes = {axis % rank for axis in axes}, list(shape)
    return tuple([1 if axis in gone else sizes.pop(0) for axis in range(rank)])


def _replace(part: Graph, whole: Graph, way: _Way, variable: str) -> None:
    """Lets the readers of a tensor read the value of a variable."""
    value = read_variable(part, whole, variable)
    dtype = whole[variable].attrs["dtype"]
    if way.shape is not None:
        target = add_constant(part, f"{value.node}/shape", np.array(way.shape, np.int32))
        name = part.fresh_name(f"{value.node}/unflattened")
        part.add(Node(name, "Reshape", Attrs({"T": dtype, "Tshape": DType.int32})), [value, target])
        value = Port(name)
    if way.dtype is not None and way.dtype != dtype:
        name = part.fresh_name(f"{value.node}/cast")
        part.add(Node(name, "Cast", Attrs({"SrcT": dtype, "DstT": way.dtype})), [value])
        value = Port(name)
    part.replace_uses(way.port, value)


def _turn_fused(part: Graph, whole: Graph, kept: Dict[Port, str]) -> None:
    """Turns fused batch norms from training to inference."""
    optional = in_branch(part)
    for node in list(part):
        if node.op not in NORMS or node.attrs.get("is_training") is False:
            continue
        names = [kept.get(Port(node.name, output)) for output in (1, 2)]
        inputs = list(part.inputs_of(node))
        for slot, name in zip((_MEAN, _VARIANCE), names):
            if name is not None:
                inputs[slot] = read_variable(part, whole, name)
        if None in names and not _assigns_its_own(whole, node.name):
            if node.name in optional:
                continue
            raise _unkept(part, node.name)
        part.set_inputs(node, inputs)
        part.set_attr(node, "is_training", False)
        part.drop_attr(node, "exponential_avg_factor")


def _assigns_its_own(whole: Graph, name: str) -> bool:
    """Whether a fused batch norm reads moving statistics, and what it gives is assigned to them."""
    assigned: Set[Tuple[str, Port]] = {
        (one.variable, one.value) for one in updates(whole) if one.kind == "="
    }
    inputs = whole.data_inputs(name)
    return all(
        (variable_at(whole, inputs[slot]) or "", Port(name, output)) in assigned
        for slot, output in ((_MEAN, 1), (_VARIANCE, 2))
    )


def _refuse_unkept(part: Graph) -> None:
    """Refuses what divides by a deviation of the batch."""
    for node in part:
        if node.op in ("Rsqrt", "Sqrt"):
            total = behind(part, part.data_inputs(node)[0])
            for port in _operands(part, total):
                root = _mean_behind(part, port)
                if root is not None and part[root.node].op == "Mean":
                    axes = axes_of(part, part[root.node]) or []
                    source = part[behind(part, part.data_inputs(root.node)[0]).node]
                    if 0 in axes and source.op in ("SquaredDifference", "Square"):
                        raise _unkept(part, node.name)


def _operands(part: Graph, port: Port) -> Sequence[Port]:
    node = part[port.node]
    return part.data_inputs(node) if node.op in ("Add", "AddV2", "Maximum") else [port]


def _unkept(graph: Graph, name: str) -> LoadError:
    return LoadError(
        "a batch norm of training whose moving mean and variance are kept nowhere",
        f"{graph.name}: node {name}",
        "give the MetaGraph of the graph built for inference with --inference-meta",
    )
