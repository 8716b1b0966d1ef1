"""The training graph at a smaller size: variables, gradients, optimizers and initial values.

The names of all nodes stay; `tf.train.import_meta_graph` and the cut checkpoint go on with it.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.analysis.statements import check_counts, check_shapes, restate
from graphslim.channels.groups import Labels, Removal
from graphslim.checkpoint import shape_rules, training_rules  # noqa: F401  (registers rules)
from graphslim.checkpoint.training_walk import TrainingWalk
from graphslim.errors import PlanError
from graphslim.ir import IDENTITIES, Graph, Node, Port, Shape, Tensor
from graphslim.ir.families import PLACEHOLDERS, PLAIN_ASSIGNMENTS, REPEATS, VARIABLES
from graphslim.ir.query import downstream
from graphslim.rewrite.apply import cut

Cuts = Mapping[str, Mapping[int, Sequence[int]]]
"""For axes of variables, by node, the positions that go."""
_OTHER = "the checkpoint and the MetaGraph are not of the same network, or the plan is of another"


class Narrowed(NamedTuple):
    """A training graph without some channels.

    Attributes:
        graph: the graph.
        cuts: for every variable that is cut, slots and moving averages included, by axis the
            positions that go: int64 of shape (n,), in ascending order.
    """

    graph: Graph
    cuts: Dict[str, Dict[int, np.ndarray]]


def narrow(whole: Graph, cuts: Cuts) -> Narrowed:
    """A training graph without some positions of its variables.

    Optimizer slots, moving averages, gradients, initial values and the constants that state a size
    are cut to match. The graph given stays as it is.

    Args:
        whole: the graph of a MetaGraph, with its variables.
        cuts: for every variable of the inference part that is cut, by axis the positions that go.

    Raises:
        PlanError: there is no such variable or position, the training graph ties positions that go
            to some of these variables that stay, or one of them is a part of a partitioned one.
    """
    labels = Labels(TrainingWalk(whole))
    first = _cut_variables(_removal(labels, cuts))
    walk = TrainingWalk(whole, first)
    labels = Labels(walk)
    removal = _removal(labels, cuts)
    lost = _cut_variables(removal)
    _check(walk, labels, cuts, lost)
    _refuse_parts(whole, lost)
    slim = whole.copy()
    cut(slim, removal)
    _loosen(slim, labels, lost)
    for node in whole:
        if node.op in PLACEHOLDERS:
            _mend_input(slim, node, removal)
        elif node.op == "RealDiv":
            mend_mean(slim, node, removal)
    after = Labels(TrainingWalk(slim))
    restate(slim, labels, after)
    check_counts(slim)
    check_shapes(slim, after)
    return Narrowed(slim, lost)


def _removal(labels: Labels, cuts: Cuts) -> Removal:
    """The channels of the positions given."""
    axes = {(axis.param, axis.axis): axis for axis in labels.axes if axis.use is None}
    removal = Removal.none(labels)
    for name, by_axis in cuts.items():
        if name not in labels.graph or labels.graph[name].op not in VARIABLES:
            raise PlanError("the training graph has no such variable", name, _OTHER)
        for place, positions in by_axis.items():
            axis = axes.get((name, place))
            wanted = np.asarray(positions, np.int64).ravel()
            if axis is None or (wanted < 0).any() or (wanted >= axis.size).any():
                raise PlanError(f"has no such positions along axis {place}", name, _OTHER)
            removal.add(axis, wanted)
    return removal


def _cut_variables(removal: Removal) -> Dict[str, Dict[int, np.ndarray]]:
    """By variable and axis, the positions that go: int64 of shape (n,)."""
    lost: Dict[str, Dict[int, np.ndarray]] = {}
    for axis in removal.channels.axes:
        dead = np.flatnonzero(removal.along(axis))
        if len(dead) and removal.channels.graph[axis.param].op in VARIABLES:
            lost.setdefault(axis.param, {})[axis.axis] = dead
    return lost


# ------------------------------------------------------------------ what contradicts the plan


def _check(
    walk: TrainingWalk,
    labels: Labels,
    cuts: Cuts,
    lost: Mapping[str, Mapping[int, np.ndarray]],
) -> None:
    """Refuses cuts that would take further positions from the given variables.

    Raises:
        PlanError: a position that is to stay would go as well.
    """
    for axis in labels.axes:
        if axis.param not in cuts or axis.axis not in lost.get(axis.param, {}):
            continue
        planned = np.asarray(cuts[axis.param].get(axis.axis, ()), np.int64).ravel()
        more = np.setdiff1d(lost[axis.param][axis.axis], planned)
        if len(more):
            raise PlanError(
                f"position {more[0]} along axis {axis.axis} would go as well, though it is to stay",
                axis.param,
                f"the training graph ties it to another that goes, in "
                f"{_tied_at(walk, labels, cuts, axis.start + int(more[0]))}",
            )


def _tied_at(walk: TrainingWalk, labels: Labels, cuts: Cuts, start: int) -> str:
    """The names of the nodes that tie an id to the nearest id that is to go, in order."""
    label = labels.label[start]
    ends = set()
    for axis in labels.axes:
        for position in cuts.get(axis.param, {}).get(axis.axis, ()):
            ends.add(axis.start + int(position))
    edges: Dict[int, List[Tuple[int, str]]] = {}
    for (first, second), node in zip(walk.ties, walk.tied_by):
        for place in np.flatnonzero(labels.label[first] == label):
            left, right = int(first[place]), int(second[place])
            edges.setdefault(left, []).append((right, node))
            edges.setdefault(right, []).append((left, node))
    came: Dict[int, Tuple[int, str]] = {start: (start, "")}
    waiting = [start]
    for reached in waiting:
        if reached in ends:
            nodes = []
            while reached != start:
                reached, node = came[reached]
                nodes.append(node)
            return ", ".join(dict.fromkeys(reversed(nodes)))
        for neighbour, node in edges.get(reached, ()):
            if neighbour not in came:
                came[neighbour] = (reached, node)
                waiting.append(neighbour)
    return "the numbers of its shapes"


def _refuse_parts(whole: Graph, lost: Mapping[str, Mapping[int, np.ndarray]]) -> None:
    """Refuses to cut a variable that a saver keeps as a part of a larger one.

    Raises:
        PlanError: a variable that is cut is a part of a partitioned one.
    """
    for node in whole:
        if node.op != "RestoreV2":
            continue
        for output, text in enumerate(_strings(whole, whole.data_inputs(node)[2])):
            for variable in _restored(whole, Port(node.name, output)) if text else ():
                if variable in lost:
                    raise PlanError(
                        "is a part of a partitioned variable, which cannot be cut",
                        variable,
                        "save the network without partitions, or exclude the layer from the plan",
                    )


def _strings(graph: Graph, port: Port) -> List[bytes]:
    value = graph[port.node].attrs.get("value")
    return [bytes(text) for text in value.array.ravel()] if isinstance(value, Tensor) else []


def _restored(graph: Graph, port: Port) -> Iterator[str]:
    """The variables that a restored value is assigned to."""
    for use in graph.uses_of(port):
        node = graph[use.node]
        if node.op in IDENTITIES or node.op == "Reshape":
            yield from _restored(graph, Port(node.name))
        elif node.op in PLAIN_ASSIGNMENTS:
            yield graph.data_inputs(node)[0].node


# ------------------------------------------------------------------ what states a size elsewhere


def _mend_input(graph: Graph, node: Node, removal: Removal) -> None:
    """Brings the shape that a placeholder states up to date."""
    known, shape = removal.channels.fact(Port(node.name)), node.attrs.get("shape")
    if not isinstance(shape, Shape) or shape.dims is None or len(shape.dims) != len(known.ids):
        return
    sizes = [size if ids is None else removal.left(ids) for size, ids in zip(shape.dims, known.ids)]
    if tuple(sizes) != shape.dims:
        graph.set_attr(node.name, "shape", Shape(tuple(sizes)))


def _loosen(graph: Graph, labels: Labels, lost: Mapping[str, object]) -> None:
    """Opens the sizes that stated shapes give for axes not followed, behind variables that are cut.

    TensorFlow refuses a stated shape that differs from the one that it infers.
    """
    for name in downstream(graph, lost):
        # A choice between functions (`If`) says what they give in an attribute of its own.
        for key in ("_output_shapes", "output_shapes"):
            stated = graph[name].attrs.get(key)
            if isinstance(stated, list):
                loose = [_loose(labels, Port(name, at), shape) for at, shape in enumerate(stated)]
                if loose != stated:
                    graph.set_attr(name, key, loose)


def _loose(labels: Labels, port: Port, stated: Shape) -> Shape:
    """A stated shape, open where the sizes are not followed."""
    ids, sizes = labels.fact(port).ids, stated.dims
    if sizes is None:
        return stated
    array = ids if len(ids) == len(sizes) else (None,) * len(sizes)
    return Shape(
        tuple(
            [
                size if size == 1 or axis_ids is not None else None
                for size, axis_ids in zip(sizes, array)
            ]
        )
    )


# ------------------------------------------------------------------ gradients of means
_TO_RESULT = {"Cast": 0, "FloorDiv": 1, "Maximum": 0, "Prod": 0}
"""The ops from the number that is divided by to the sizes of the result, with the input to take."""


class _Sizes(NamedTuple):
    """The sizes of a tensor before and after the cut; all are known."""

    old: List[int]
    new: List[int]


def mend_mean(graph: Graph, node: Node, removal: Removal) -> None:
    """Lets a gradient of a mean divide by how many numbers are averaged after the cut.

    Args:
        graph: the graph, whose parameters are cut; changed in place.
        node: a RealDiv, maybe of such a gradient.
        removal: which of the channels that it had before the cut go.
    """
    spread, divisor = graph.data_inputs(node.name)
    if graph[spread.node].op not in REPEATS:
        return
    before = _sizes(removal, graph.data_inputs(spread.node)[0])
    reader, slot = node.name, 1
    while graph[divisor.node].op in _TO_RESULT:
        reader, slot = divisor.node, _TO_RESULT[graph[divisor.node].op]
        divisor = graph.data_inputs(reader)[slot]
    if before is None or graph[divisor.node].op != "Const":
        return
    numbers = graph[divisor.node].attrs["value"].numbers()
    if reader == node.name:
        after = _sizes(removal, spread)
        if after is None or numbers.size != 1:
            return
        old, new = [
            [int(np.prod(many)) // max(int(np.prod(few)), 1)] for many, few in zip(after, before)
        ]
    else:
        places = [axis for axis, size in enumerate(before.old) if size != 1]
        old, new = [[sizes[axis] for axis in places] for sizes in before]
    wide = np.flatnonzero(numbers.ravel() != 1)
    if old != new and numbers.ravel()[wide].tolist() == old:
        fresh = np.array(numbers)
        fresh.reshape(-1)[wide] = new
        _set(graph, reader, slot, fresh)


def _sizes(removal: Removal, port: Port) -> Optional[_Sizes]:
    known = removal.channels.fact(port)
    if known.shape is None or None in known.shape:
        return None
    old = [size or 0 for size in known.shape]
    new = [size if ids is None else removal.left(ids) for size, ids in zip(old, known.ids)]
    return _Sizes(old, new)


def _set(graph: Graph, reader: str, slot: int, numbers: np.ndarray) -> None:
    """Gives the constant of a reader other numbers, in a copy if it has further readers."""
    name = graph.data_inputs(reader)[slot].node
    tensor = graph[name].attrs["value"]
    if len(graph.uses_of(name)) != 1:
        copy = Node(graph.fresh_name(f"{name}/resized"), "Const", graph[name].attrs.copy())
        name = graph.add(copy).name
        graph.rewire(reader, slot, Port(name))
    graph.set_attr(name, "value", tensor.with_numbers(numbers))
