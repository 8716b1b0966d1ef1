"""What groups hold in parameters: filters that make channels, weights that read them, vectors.

Filters and weights are taken where the op reads them, dequantised and scaled as it sees them.
"""

from __future__ import annotations

from typing import (
    Any,
    Callable,
    FrozenSet,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import numpy as np

from graphslim.analysis.values import Values
from graphslim.channels.facts import Fact, channel_axis
from graphslim.channels.groups import Channels, Group
from graphslim.channels.notes import Contraction
from graphslim.errors import PlanError
from graphslim.ir import IDENTITIES, Graph, Node, Port, is_float_cast
from graphslim.ir.families import BIASES, NORM_INPUTS, RESHAPES, SUMS, NormInputs
from graphslim.ir.query import constant_nodes
from graphslim.ops.fused import steps_of

Array = np.ndarray


class Held(NamedTuple):
    """What one binding holds for its channels.

    Attributes:
        where: the constant's node, or that of the op which computes the weights from constants.
        labels: the channel at each position along its axis; shape (positions,).
        weights: gives what stands at each position, float64 of shape (positions, k); called with
            True, in the floating type in which it is stored, if that is one, and unchecked.
    """

    where: str
    labels: Array
    weights: Callable[..., Array]


def held(
    graph: Graph, channels: Channels, groups: Sequence[Group], roles: Sequence[str]
) -> Iterator[Held]:
    """What groups hold in parameters, layer by layer in the graph's order; whole layers of each.

    Args:
        graph: the graph.
        channels: its channel analysis.
        groups: the groups wanted; layers that hold none of their channels are left out.
        roles: `producer`, `consumer`, `follower`, `scale`: see `criterion`.

    Yields:
        each layer once, however many ops read it. Calling its `weights` raises PlanError where
        they are not finite.
    """
    wanted = np.zeros(channels.count, bool)
    for group in groups:
        wanted[group.channels] = True
    read = _Reader(graph, channels)
    if "producer" in roles or "consumer" in roles:
        for filters in _filters(read, roles):
            labels = filters.labels
            if wanted[labels[:1]].any() or wanted[labels].any():
                yield filters
    if "scale" in roles:
        for scale in scales(graph, channels):
            if wanted[scale.labels].any():
                yield Held(scale.param, scale.labels, _vector(graph, scale.param))
    if "follower" in roles:
        for group in groups:
            yield from _followers(read, group)


def matrix_reader(graph: Graph, channels: Channels) -> Callable[[Contraction], Optional[Array]]:
    """A function from a sum over channels to its weights, of shape (taps, inputs, outputs).

    They are in the type in which they are stored; None where they are not constant. It raises
    PlanError where they are not finite.
    """
    read = _Reader(graph, channels)

    def matrix(contraction: Contraction) -> Optional[Array]:
        if contraction.weights == contraction.data:
            return None
        numbers = read.numbers(graph.data_inputs(contraction.node)[contraction.weights])
        return None if numbers is None else contraction.matrix(numbers)

    return matrix


def _filters(read: _Reader, roles: Sequence[str]) -> Iterator[Held]:
    """The weights of every contraction, by the channels that they make or read."""
    seen: Set[Tuple[Port, str, int]] = set()
    for contraction in read.channels.contractions:
        port = read.graph.data_inputs(contraction.node)[contraction.weights]
        known = read.channels.fact(port)
        for role, axis in _axes(read.channels, known, contraction, roles):
            key = (read.source(port), role, axis)
            if key in seen or not read.is_constant(port):
                continue
            seen.add(key)
            own, weights = np.asarray(known.ids[axis]), read.along(port, axis)
            places, labels = read.channels.members(own)
            if len(places) == len(own):
                yield Held(key[0].node, labels, weights)
            else:
                yield from _by_group(read.channels, key[0].node, places, labels, weights)


def _axes(
    channels: Channels, known: Fact, contraction: Contraction, roles: Sequence[str]
) -> Iterator[Tuple[str, int]]:
    """The axes of the weights of a contraction that have one of some roles, with the role."""
    for role, ids in (("producer", contraction.out), ("consumer", contraction.into)):
        axis = None if role not in roles or ids is None else _axis_of(channels, known, ids)
        if axis is not None:
            yield role, axis
    if "producer" in roles:
        # An Einsum makes heads and the channels of each at once, and `out` is one axis.
        for axis, own in enumerate(known.ids):
            if channels.is_producer(own):
                yield "producer", axis


def _by_group(
    channels: Channels, where: str, places: Array, labels: Array, weights: Callable[..., Array]
) -> Iterator[Held]:
    """The weights along a flat axis, whose positions belong to channels of several groups."""
    groups = channels.groups_of(labels)
    for group in np.unique(groups):
        mine = groups == group

        def rows(as_stored: bool = False, at: Array = places[mine]) -> Array:
            return weights(as_stored)[at]

        yield Held(where, labels[mine], rows)


def _axis_of(channels: Channels, known: Fact, ids: Array) -> Optional[int]:
    """The axis of weights that has the ids, or else their channels.

    That of a convolution in groups has those of one group.
    """
    axes = [(axis, own) for axis, own in enumerate(known.ids) if own is not None and len(own)]
    for axis, own in axes:
        if own is ids:
            return axis
    for axis, own in axes:
        if np.array_equal(own, ids[: len(own)]):
            return axis
    for axis, own in axes:
        if np.array_equal(channels.label[own], channels.label[ids[: len(own)]]):
            return axis
    return None


class _Reader:
    """Reads the numbers of constants, and of what is computed from constants alone."""

    def __init__(self, graph: Graph, channels: Channels) -> None:
        self.graph, self.channels = graph, channels
        self._constants = constant_nodes(graph)
        self._values: Optional[Values] = None

    def source(self, port: Port) -> Port:
        """The port that stands behind identities."""
        while self.graph[port.node].op in IDENTITIES:
            port = self.graph.data_inputs(port.node)[0]
        return port

    def is_constant(self, port: Port) -> bool:
        """Whether the numbers at a port can be read, and there are any."""
        numbers = self._numbers(port)
        return numbers is not None and numbers.size > 0

    def numbers(self, port: Port) -> Optional[Array]:
        """The numbers at a port, checked; None where they cannot be read, or there are none."""
        if not self.is_constant(port):
            return None
        self._check(port)
        return self._numbers(port)

    def along(self, port: Port, axis: int) -> Callable[..., Array]:
        """Reads what stands at a port, one row for each position along an axis."""

        def read(as_stored: bool = False) -> Array:
            numbers = self._numbers(port)
            assert numbers is not None
            if as_stored and numbers.dtype.kind == "f":
                return _rows(numbers, axis, numbers.dtype)
            self._check(port)
            return _rows(numbers, axis)

        return read

    def _numbers(self, port: Port) -> Optional[Array]:
        """The numbers at a port, None if they are not known or depend on the input.

        Where a rounding in between leaves some of them open (fake quantisation does), they are
        those of the constant that is rounded.
        """
        node = self.graph[self.source(port).node]
        if node.op == "Const":
            return node.attrs["value"].numbers()
        shape: Any = self.channels.fact(port).shape
        if node.name not in self._constants:
            return None
        if self._values is None:
            self._values = Values(self.graph, self.channels, 0.0, at_once=False)
        value = self._values.at(port)
        if value is not None and not np.isnan(value).any() and shape and None not in shape:
            return np.broadcast_to(value, shape)
        self._check(port)
        while node.op != "Const":
            inputs = self.graph.data_inputs(node)
            if not inputs:
                return None
            node = self.graph[inputs[0].node]
        tensor = node.attrs["value"]
        fits = tensor.dtype.is_floating and tensor.shape == shape
        return tensor.numbers() if fits else None

    def _check(self, port: Port) -> None:
        """Refuses weights that stem from a constant with numbers that are not finite."""
        todo: List[str] = [port.node]
        done: Set[str] = set()
        while todo:
            name = todo.pop()
            if name not in done:
                done.add(name)
                todo.extend([source.node for source in self.graph.data_inputs(name)])
                check_finite(self.graph, name)


def check_finite(graph: Graph, name: str) -> None:
    """Refuses a constant that holds NaN or infinity; other nodes pass.

    Raises:
        PlanError: the constant holds a number that is not finite.
    """
    if graph[name].op != "Const" or not graph[name].attrs["value"].dtype.is_floating:
        return
    bad = ~np.isfinite(graph[name].attrs["value"].numbers())
    if bad.any():
        raise PlanError(
            f"{np.count_nonzero(bad)} of its weights are NaN or infinite",
            name,
            "export the graph again, or --exclude it",
        )


def _vector(graph: Graph, name: str) -> Callable[..., Array]:
    """Reads a constant as one row for each of its numbers."""

    def read(as_stored: bool = False) -> Array:
        check_finite(graph, name)
        return _rows(graph[name].attrs["value"].numbers().reshape(-1), 0)

    return read


def _rows(numbers: Array, axis: int, dtype: Any = np.float64) -> Array:
    if numbers.size and axis % numbers.ndim == numbers.ndim - 1:
        # Columns of the array as it lies: turning it over would take longer than most criteria.
        return numbers.reshape(-1, numbers.shape[-1]).astype(dtype, copy=False).T
    moved = np.moveaxis(numbers, axis, 0)
    return np.ascontiguousarray(moved.reshape(len(moved), -1), dtype=dtype)


def _followers(read: _Reader, group: Group) -> Iterator[Held]:
    """The followers of a group, as stored: biases, batch norm's vectors, depthwise filters."""
    for binding in read.channels.bindings(group):
        if binding.role == "follower":
            rows = read.along(Port(binding.param), binding.axis)

            def stored(
                as_stored: bool = False,
                rows: Callable[..., Array] = rows,
                at: Array = binding.positions,
            ) -> Array:
                return rows(as_stored)[at]

            yield Held(binding.param, group.channels[binding.channels], stored)


# --- The vectors by which batch norms scale channels, in every spelling of frozen graphs.


class Scale(NamedTuple):
    """A vector that scales channels.

    Attributes:
        param: its constant's node.
        labels: the channel that each of its numbers scales; shape (n,).
    """

    param: str
    labels: np.ndarray


def scales(graph: Graph, channels: Channels) -> Iterator[Scale]:
    """The scale of every batch norm, in the graph's order.

    Of a batch norm in pieces it is the vector that is multiplied with the reciprocal of the
    deviation; where both were folded into one constant, that one. A vector of ones is left out:
    such a batch norm was built without a scale.
    """
    constants = constant_nodes(graph)
    for node in graph.order():
        scale = _own_scale(node, graph.data_inputs(node))
        if scale is None and node.op == "Mul" and node.name not in constants:
            scale = _scale_in_pieces(graph, channels, node, constants)
        if scale is None:
            continue
        port, axis = scale
        ids = channels.fact(Port(node.name)).channels(axis)
        param = _behind(graph, port)
        if ids is None or param.op != "Const" or param.attrs["value"].size != len(ids):
            continue
        if not (param.attrs["value"].numbers() == 1).all():
            yield Scale(param.name, channels.label[ids])


def _own_scale(node: Node, inputs: Sequence[Port]) -> Optional[Tuple[Port, int]]:
    """The scale of an op that is a batch norm or ends in one, and the axis that it scales."""
    if node.op in NORM_INPUTS:
        scale = inputs[NORM_INPUTS[node.op].scale], channel_axis(node)
        return scale if node.attrs.get("scale_after_normalization", True) else None
    if node.op.startswith("_Fused"):
        for name, taken in steps_of(node, len(inputs)) or ():
            if name == "FusedBatchNorm":
                return inputs[NormInputs(*taken).scale], channel_axis(node)
    return None


def _scale_in_pieces(
    graph: Graph, channels: Channels, node: Node, constants: FrozenSet[str]
) -> Optional[Tuple[Port, int]]:
    """The scale that a product applies to a tensor, and the axis that it scales."""
    for port in graph.data_inputs(node):
        shape = channels.fact(port).shape
        if port.node not in constants or not shape or None in shape:
            continue
        long = [axis for axis, size in enumerate(shape) if size != 1]
        source = _multiplied(graph, port)
        if len(long) == 1 and source is not None:
            bare = _behind(graph, port).op == "Const"
            if not bare or _is_shifted(graph, node, constants):
                return source, long[0] - len(shape)
    return None


def _multiplied(graph: Graph, port: Port) -> Optional[Port]:
    """The scale within what a tensor is multiplied by: all of it, or what divides by a deviation.

    None where a batch norm divides by its deviation and has no scale.
    """
    node = _behind(graph, port)
    if node.op == "Const":
        return port
    inputs = graph.data_inputs(node)
    if node.op == "Mul":
        for scale, other in (inputs, inputs[::-1]):
            if _behind(graph, other).op == "Rsqrt":
                return scale
    if node.op in ("RealDiv", "Div", "DivNoNan") and _behind(graph, inputs[1]).op == "Sqrt":
        return inputs[0]
    return None


def _is_shifted(graph: Graph, node: Node, constants: FrozenSet[str]) -> bool:
    """Whether constants are added next, as in a batch norm and unlike in a PReLU."""
    for use in graph.uses_of(node):
        reader = graph[use.node]
        passes = reader.op in IDENTITIES or is_float_cast(reader)
        if passes and _is_shifted(graph, reader, constants):
            return True
        if reader.op in SUMS | BIASES | {"Sub"}:
            others = [port.node for port in graph.data_inputs(reader) if port.node != node.name]
            if others and constants.issuperset(others):
                return True
    return False


def _behind(graph: Graph, port: Port) -> Node:
    """The node at a port, behind identities and changes of shape."""
    node = graph[port.node]
    while node.op in IDENTITIES | RESHAPES | {"Cast"}:
        node = graph[graph.data_inputs(node)[0].node]
    return node
