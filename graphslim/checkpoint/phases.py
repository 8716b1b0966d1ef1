"""Batch norm and dropout, turned from what they do in training to what they do in inference."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from graphslim.checkpoint.formulas import (
    behind,
    calculate,
    operands,
    shape_of,
    updates,
    variable_at,
)
from graphslim.checkpoint.parts import add, add_constant, become_identity, read_variable
from graphslim.checkpoint.roles import Average, is_statistic, moving_averages
from graphslim.errors import LoadError
from graphslim.ir import DType, Graph, Node, Port, Shape
from graphslim.ir.families import (
    BATCH_NORMS,
    NORM_INPUTS,
    PLACEHOLDERS,
    QUOTIENTS,
    SELECTS,
    SUMS,
    UNIFORM_DRAWS,
    VARIABLES,
)
from graphslim.ir.query import in_branch

_DRAWS = 4000
"""How many evenly spaced numbers between 0 and 1 stand for a uniform random number."""
_SHARES = np.array([[0.35], [0.85]])
"""Two dropout rates to calculate with where the rate is known only when the graph runs."""


class _Place(NamedTuple):
    """A tensor that a moving statistic can replace.

    Attributes:
        port: the tensor.
        shape: the shape that the statistic has to be brought to; None where it has that shape.
        dtype: the element type that it has to be cast to; None where it has that type.
    """

    port: Port
    shape: Optional[Tuple[int, ...]] = None
    dtype: Optional[DType] = None


class _Scaled(NamedTuple):
    """A tensor times a scalar.

    Attributes:
        factor: float64 of shape [], or of shape [2, 1] with a value for each of `_SHARES`.
        data: the tensor.
    """

    factor: np.ndarray
    data: Port


# ------------------------------------------------------------------ batch norm


def use_statistics(part: Graph, whole: Graph) -> None:
    """Lets batch norm read the moving statistics instead of those of the batch, in place.

    Args:
        part: what the outputs need of `whole`, its nodes under the same names.
        whole: the graph with the updates of the statistics.

    Raises:
        LoadError: a batch norm is in training and keeps its statistics nowhere.
    """
    fused: Dict[Port, str] = {}
    averages = moving_averages(whole)
    twins = {average.biased for average in averages}
    for average in averages:
        variable = average.variable
        if average.of is None and variable not in twins and is_statistic(whole, average.source):
            for place in _places(whole, average):
                if place.port.node in part:
                    if part[place.port.node].op in BATCH_NORMS:
                        fused.setdefault(place.port, variable)
                    else:
                        _replace(part, whole, place, variable)
            # Fake quantisation reads the output of the assignment itself.
            if average.update in part:
                _replace(part, whole, _Place(Port(average.update)), variable)
    _turn_fused(part, whole, fused)
    _refuse_unkept(part)


def _places(whole: Graph, average: Average) -> List[_Place]:
    """The tensors that an average can replace: its source, and those it is computed from."""
    place = _Place(average.source)
    start = whole[average.source.node]
    if start.op == "Mean" and not _is_over_batch(whole, start):
        return []  # of each example by itself, such as pooled features
    places, flattened = [place], False
    while True:
        node = whole[place.port.node]
        sources, dtype = whole.data_inputs(node), place.dtype
        if node.op == "Cast":
            dtype = node.attrs.get("SrcT", dtype)
        elif node.op in ("Squeeze", "Reshape") and not flattened:
            flattened = True
        elif node.op in QUOTIENTS | {"Mul"}:  # times n / (n - 1), after Bessel
            sources = tuple([port for port in sources if is_statistic(whole, port)])
            if len(sources) != 1:
                return places
        else:
            return places
        root = _mean_behind(whole, sources[0])
        shape = None
        if flattened and root is not None:
            shape = _unflattened(whole, root, shape_of(whole, average.variable))
        if root is None or (flattened and shape is None and whole[root.node].op not in BATCH_NORMS):
            return places
        place = _Place(behind(whole, sources[0]), shape, dtype)
        places.append(place)


def _mean_behind(whole: Graph, port: Port) -> Optional[Port]:
    """The mean over the batch, or the fused batch norm, that a statistic is computed by."""
    while True:
        port = behind(whole, port)
        node = whole[port.node]
        if node.op in BATCH_NORMS or (node.op == "Mean" and _is_over_batch(whole, node)):
            return port
        sources = whole.data_inputs(node)
        if node.op in QUOTIENTS | {"Mul"}:
            sources = tuple([source for source in sources if is_statistic(whole, source)])
        elif node.op not in ("Cast", "Squeeze", "Reshape"):
            return None
        if not sources:
            return None
        port = sources[0]


def _axes_of(graph: Graph, reduction: Node) -> Optional[List[int]]:
    """The axes of a reduction, None where they are not constant."""
    source = graph[operands(graph, reduction)[1].node]
    if source.op != "Const":
        return None
    return [int(axis) for axis in np.ravel(source.attrs["value"].numbers())]


def _is_over_batch(graph: Graph, reduction: Node) -> bool:
    """Whether a reduction is over the first axis, as far as its axes are known."""
    return 0 in (_axes_of(graph, reduction) or [0])


def _unflattened(
    whole: Graph, root: Port, shape: Optional[Tuple[int, ...]]
) -> Optional[Tuple[int, ...]]:
    """The shape of a mean that keeps its axes, from the shape that it has without them."""
    mean = whole[root.node]
    axes = _axes_of(whole, mean) if mean.attrs.get("keep_dims") is True else None
    if axes is None or shape is None:
        return None
    rank = len(shape) + len(axes)
    gone, sizes = {axis % rank for axis in axes}, list(shape)
    return tuple([1 if axis in gone else sizes.pop(0) for axis in range(rank)])


def _replace(part: Graph, whole: Graph, place: _Place, variable: str) -> None:
    """Lets the readers of a tensor read the value of a variable."""
    value = read_variable(part, whole, variable)
    name, dtype = value.node, whole[variable].attrs["dtype"]
    if place.shape is not None:
        target = add_constant(part, f"{name}/shape", np.array(place.shape, np.int32))
        kinds = {"T": dtype, "Tshape": DType.int32}
        value = add(part, f"{name}/unflattened", "Reshape", [value, target], **kinds)
        name = value.node
    if place.dtype is not None and place.dtype != dtype:
        value = add(part, f"{name}/cast", "Cast", [value], SrcT=dtype, DstT=place.dtype)
    part.replace_uses(place.port, value)


def _turn_fused(part: Graph, whole: Graph, statistics: Dict[Port, str]) -> None:
    """Turns fused batch norms from training to inference.

    Raises:
        LoadError: a batch norm that always runs keeps its statistics nowhere.
    """
    optional = in_branch(part)
    assigned = {(update.variable, update.value) for update in updates(whole) if update.kind == "="}
    for node in list(part):
        if node.op not in BATCH_NORMS or node.attrs.get("is_training") is False:
            continue
        names = [statistics.get(Port(node.name, output)) for output in (1, 2)]
        sources = list(part.inputs_of(node))
        slots = NORM_INPUTS[node.op].statistics
        for slot, name in zip(slots, names):
            if name is not None:
                sources[slot] = read_variable(part, whole, name)
        if None in names:
            # It may read moving statistics itself, and what it gives is assigned to them.
            read = whole.data_inputs(node.name)
            gives = [
                (variable_at(whole, read[slot]) or "", Port(node.name, output))
                for slot, output in zip(slots, (1, 2))
            ]
            if not assigned.issuperset(gives):
                if node.name in optional:
                    continue
                raise _unkept(part, node.name)
        part.set_inputs(node, sources)
        part.set_attr(node, "is_training", False)
        part.drop_attr(node, "exponential_avg_factor")


def _refuse_unkept(part: Graph) -> None:
    """Refuses a graph that still divides by a deviation of the batch.

    Raises:
        LoadError: a node divides by a deviation of the batch.
    """
    for node in part:
        if node.op in ("Rsqrt", "Sqrt"):
            total = operands(part, node)[0]
            is_sum = part[total.node].op in SUMS | {"Maximum"}
            for port in part.data_inputs(total.node) if is_sum else [total]:
                root = _mean_behind(part, port)
                if root is not None and part[root.node].op == "Mean":
                    axes = _axes_of(part, part[root.node]) or []
                    source = part[operands(part, part[root.node])[0].node]
                    if 0 in axes and source.op in ("SquaredDifference", "Square"):
                        raise _unkept(part, node.name)


def _unkept(graph: Graph, name: str) -> LoadError:
    return LoadError(
        "a batch norm of training whose moving mean and variance are kept nowhere",
        f"{graph.name}: node {name}",
        "give the MetaGraph of the graph built for inference with --inference-meta",
    )


# ------------------------------------------------------------------ dropout


def remove_dropout(graph: Graph) -> List[str]:
    """Lets every reader of a dropout read its input, in place; returns the nodes bypassed.

    Dropout multiplies x by a mask of 0 and a factor, so that the mean of the result is x
    (Srivastava et al. 2014). The mask is computed from random numbers, constants and scalars alone.
    All spellings of TensorFlow are recognised, with a rate that is constant or fed, and noise of
    any shape. Other random numbers stay.
    """
    removed = []
    for name in _behind_random(graph):
        masked = _masked(graph, graph[name])
        dropout = None if masked is None else _undropped(graph, name, masked)
        if dropout is not None:
            last, data = dropout
            graph.replace_uses(Port(last), data)
            if any(port.node == last for port in graph.outputs):
                become_identity(graph, last, data)
            removed.append(last)
    return removed


def _behind_random(graph: Graph) -> List[str]:
    """Products and choices that depend on random numbers, in order."""
    random: Set[str] = set()
    names = []
    for node in graph.order():
        if node.op in UNIFORM_DRAWS or any(p.node in random for p in graph.data_inputs(node)):
            random.add(node.name)
            if node.op in QUOTIENTS | SELECTS | {"Mul"}:
                names.append(node.name)
    return names


def _masked(graph: Graph, node: Node) -> Optional[_Scaled]:
    """The tensor that a node multiplies by a mask, and the mask's mean; else None."""
    inputs = graph.data_inputs(node)
    pairs: List[Tuple[Port, Port]] = []
    if node.op == "Mul":
        pairs = [(inputs[0], inputs[1]), (inputs[1], inputs[0])]
    elif node.op in SELECTS:
        zeros = [_scalar(graph, port) for port in inputs[1:]]
        pairs = [
            (inputs[0], inputs[2 - at])
            for at, value in enumerate(zeros)
            if value is not None and not value.any()
        ]
    for mask, data in pairs:
        mean = _mean(graph, mask)
        if mean is not None and _mean(graph, data) is None and _scalar(graph, data) is None:
            chosen_last = node.op in SELECTS and data == inputs[2]
            return _Scaled(1 - mean if chosen_last else mean, data)
    return None


def _undropped(graph: Graph, name: str, masked: _Scaled) -> Optional[Tuple[str, Port]]:
    """The last node of a dropout and its input; None if no factor restores the mean."""
    mean, data = masked
    before = _Scaled(np.ones(()), data)
    while True:
        if _makes_up(mean, before.factor):
            return name, before.data
        step = _scaled(graph, graph[behind(graph, before.data).node])
        if step is None:
            break
        before = _Scaled(before.factor * step.factor, step.data)
    factor = np.ones(())
    while not _makes_up(mean, factor):
        uses = graph.uses_of(name)
        after = _scaled(graph, graph[uses[0].node]) if len(uses) == 1 else None
        if after is None or after.data.node != name:
            return None
        factor, name = factor * after.factor, uses[0].node
    return name, data


def _makes_up(mean: np.ndarray, factor: np.ndarray) -> bool:
    """Whether a factor makes up for what a mask drops on average."""
    return bool(np.all(np.abs(mean * factor - 1) <= 2 * np.abs(factor) / _DRAWS))


def _scaled(graph: Graph, node: Node) -> Optional[_Scaled]:
    """The tensor that a node multiplies or divides by a scalar, and the factor; else None."""
    inputs = graph.data_inputs(node)
    if node.op == "Mul":
        for factor, data in (inputs, inputs[::-1]):
            value = _scalar(graph, factor)
            if value is not None:
                return _Scaled(value, data)
    if node.op in QUOTIENTS:
        value = _scalar(graph, inputs[1])
        if value is not None and value.all():
            return _Scaled(1 / value, inputs[0])
    return None


def _mean(graph: Graph, port: Port) -> Optional[np.ndarray]:
    """The mean of a mask, that is a random tensor of 0 and one other number; else None."""
    drawn: Set[str] = set()

    def leaf(node: Node) -> Optional[np.ndarray]:
        if node.op in UNIFORM_DRAWS:
            drawn.add(node.name)
            return (np.arange(_DRAWS)[None, :] + 0.5) / _DRAWS
        return _unknown_rate(graph, node)

    values = calculate(graph, port, leaf)
    if values is None or len(drawn) != 1:
        return None
    values = np.atleast_2d(values)
    most = values.max(axis=1, keepdims=True)
    if not (np.isclose(values, 0) | np.isclose(values, most)).all() or not most.all():
        return None
    return np.asarray(values.mean(axis=1, keepdims=True))


def _scalar(graph: Graph, port: Port) -> Optional[np.ndarray]:
    """The value of a scalar that is computed from constants and rates."""
    return calculate(graph, port, lambda node: _unknown_rate(graph, node))


def _unknown_rate(graph: Graph, node: Node) -> Optional[np.ndarray]:
    """`_SHARES` for a scalar that is fed or stored, which may be a dropout rate; else None."""
    stated = node.attrs.get("shape")
    if node.op in PLACEHOLDERS and node.name not in graph.inputs and isinstance(stated, Shape):
        return None if stated.dims else _SHARES
    if node.op in VARIABLES or node.op == "ReadVariableOp":
        variable = variable_at(graph, Port(node.name))
        if variable is not None and shape_of(graph, variable) == ():
            return _SHARES
    return None
