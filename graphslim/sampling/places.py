"""Places: the tensors in which the channels of a group are seen, and where in them they stand."""

from __future__ import annotations

from collections import Counter
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.analysis.channels import Channels, Group, analyse
from graphslim.errors import PlanError
from graphslim.ir import IDENTITIES, Graph, Port
from graphslim.ops.table import Contraction

Seen = Tuple[Port, int, np.ndarray]
"""A tensor, an axis of it, and the labels of the channels along that axis."""


class Place(NamedTuple):
    """Where the channels of a group stand in a tensor.

    Attributes:
        port: the tensor, in the graph that is run.
        axis: the axis along which they stand.
        positions: indices along that axis, int of shape (n,); a channel may have several.
        channels: for each, the index of its channel in the group, int of shape (n,).
    """

    port: Port
    axis: int
    positions: np.ndarray
    channels: np.ndarray


def places_of(channels: Channels, groups: Sequence[Group], runner: Graph) -> Dict[str, List[Place]]:
    """The tensors that show the channels of groups, by group id.

    Those are what convolutions and matrix products read, behind norms and activations: what would
    be missing there if a channel went. A tensor that several of them read counts once. A group that
    none of them reads is seen where it is produced; the list is empty where that is not known.

    Args:
        channels: the channel analysis of the graph.
        groups: those to look for.
        runner: the graph that will be run: the graph itself, or its NHWC twin.

    Raises:
        PlanError: an op of the graph cannot be found again in its twin.
    """
    number = np.full(channels.count, -1)
    index = np.zeros(channels.count, np.int64)
    for at, group in enumerate(groups):
        number[group.channels] = at
        index[group.channels] = np.arange(len(group))
    found: Dict[str, List[Place]] = {group.id: [] for group in groups}
    seen = _read(channels, runner)
    for port, axis, labels in seen:
        for one in np.unique(number[labels]):
            if one >= 0:
                positions = np.flatnonzero(number[labels] == one)
                place = Place(port, axis, positions, index[labels[positions]])
                found[groups[one].id].append(place)
    for group in groups:
        if not found[group.id]:
            found[group.id] = _where_produced(channels, group, runner)
    return found


def _read(channels: Channels, runner: Graph) -> List[Seen]:
    """What sums over channels read, each tensor once along each axis."""
    found: Dict[Tuple[Port, int], np.ndarray] = {}
    twins = _twins(channels, runner)
    for one, twin in zip(channels.contractions, twins):
        port = runner.data_inputs(twin.node)[twin.data]
        while runner[port.node].op in IDENTITIES:
            port = runner.data_inputs(port.node)[0]
        rank = analyse(runner).fact(port).rank
        found.setdefault((port, twin.axis % rank if rank else twin.axis), channels.label[one.into])
    return [(port, axis, labels) for (port, axis), labels in found.items()]


def _twins(channels: Channels, runner: Graph) -> Iterator[Contraction]:
    """For each sum over channels, the one of the graph that is run.

    Raises:
        PlanError: there is none that fits.
    """
    if runner is channels.graph:
        yield from channels.contractions
        return
    there: Dict[str, List[Contraction]] = {}
    for one in analyse(runner).contractions:
        there.setdefault(one.node, []).append(one)
    count: Counter = Counter()
    for one in channels.contractions:
        # An output of the graph keeps its name for the Transpose that follows the op.
        twins = there.get(one.node) or there.get(f"{one.node}/nhwc") or []
        nth = count[one.node]
        count[one.node] += 1
        if nth >= len(twins) or len(twins[nth].into) != len(one.into):
            raise PlanError(
                "is not found again in the NHWC twin that a CPU can run",
                one.node,
                "turn the graph with --pass to-nhwc first, or score by the weights",
            )
        yield twins[nth]


def _where_produced(channels: Channels, group: Group, runner: Graph) -> List[Place]:
    """The output of the op that a group is named for, if its channels are followed there."""
    name = group.id.split("#")[0]
    if name not in runner or name not in channels.graph:
        return []
    port = Port(name)
    known = channels.fact(port)
    place: Dict[int, int] = {label: at for at, label in enumerate(group.channels.tolist())}
    for axis, ids in enumerate(known.ids):
        if ids is None or not axis:
            continue
        indices = np.array([place.get(label, -1) for label in channels.label[ids].tolist()])
        positions = np.flatnonzero(indices >= 0)
        if len(positions):
            where = _turned(channels.graph, runner, name, axis, known.rank)
            return [Place(port, where, positions, indices[positions])]
    return []


def _turned(graph: Graph, runner: Graph, name: str, axis: int, rank: Optional[int]) -> int:
    """Where an axis of an op's output stands in the graph that is run."""
    was, now = (one[name].text("data_format", "NHWC") for one in (graph, runner))
    return (0, 3, 1, 2)[axis] if rank == 4 and was == "NCHW" and now == "NHWC" else axis
