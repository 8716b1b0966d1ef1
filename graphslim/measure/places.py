"""The tensors in which channels show, and how these are laid out there."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from graphslim.channels.groups import Channels, Group, analyse
from graphslim.channels.notes import Contraction
from graphslim.errors import PlanError
from graphslim.ir import Graph, Port
from graphslim.ir.query import behind


class Place(NamedTuple):
    """The positions of a group's channels in a tensor.

    Attributes:
        port: the tensor, in the graph that is run.
        axis: the axis of the channels.
        positions: indices along that axis, int64 of shape (n,); a channel may have several.
        channels: for each position, the index of its channel in the group; int64 of shape (n,).
    """

    port: Port
    axis: int
    positions: np.ndarray
    channels: np.ndarray


def laid_out(
    array: np.ndarray, place: Place, examples: int
) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """The values of a group's channels in a tensor, as arrays (examples, positions, channels).

    If a channel has several positions along its axis, as behind a Flatten, they are added to the
    positions of the array. Channels with different numbers of positions are in different arrays.

    Args:
        array: the values at `place.port`, in any layout.
        place: the positions of the channels.
        examples: how many examples the tensor holds, in order along its first axis.

    Yields:
        indices of channels in the group, int64 of shape (c,), and their values, float64 of shape
        (examples, positions, c).
    """
    moved = np.moveaxis(np.asarray(array), place.axis, -1)
    # A tensor without an axis of examples, such as a shared table, counts as one example.
    by_examples = place.axis % array.ndim != 0 and array.shape[0] % examples == 0
    rows = moved.reshape(examples if by_examples else 1, -1, moved.shape[-1])
    order = np.argsort(place.channels, kind="stable")
    counts = np.bincount(place.channels)
    for count in np.unique(counts[counts > 0]).tolist():
        indices = np.flatnonzero(counts == count)
        picked = order[np.isin(place.channels[order], indices)]
        block = rows[:, :, place.positions[picked]].astype(np.float64)
        block = block.reshape(rows.shape[0], rows.shape[1], len(indices), count)
        yield indices, np.moveaxis(block, 3, 2).reshape(rows.shape[0], -1, len(indices))


def places_of(channels: Channels, groups: Sequence[Group], runner: Graph) -> Dict[str, List[Place]]:
    """The tensors that show the channels of groups, by group id.

    These are the tensors that convolutions and matrix products read, behind norms and activations;
    a tensor that several of them read is listed once. For a group that none of them reads it is the
    tensor where the group is produced; the list is empty if that is not known.

    Args:
        channels: the channel analysis of the graph.
        groups: the groups.
        runner: the graph that will be run: the graph itself, or its NHWC twin.

    Raises:
        PlanError: an op of the graph cannot be found again in its twin.
    """
    group_at = np.full(channels.count, -1)
    index = np.zeros(channels.count, np.int64)
    for number, group in enumerate(groups):
        group_at[group.channels] = number
        index[group.channels] = np.arange(len(group))
    places: Dict[str, List[Place]] = {group.id: [] for group in groups}
    for (port, axis), (positions, labels) in _read(channels, runner).items():
        numbers = group_at[labels]
        for number in np.unique(numbers[numbers >= 0]):
            mine = numbers == number
            place = Place(port, axis, positions[mine], index[labels[mine]])
            places[groups[number].id].append(place)
    for group in groups:
        if not places[group.id]:
            places[group.id] = _where_produced(channels, group, runner)
    return places


def _read(
    channels: Channels, runner: Graph
) -> Dict[Tuple[Port, int], Tuple[np.ndarray, np.ndarray]]:
    """The axes that sums over channels read: by tensor and axis `Channels.members` of each."""
    read: Dict[Tuple[Port, int], Tuple[np.ndarray, np.ndarray]] = {}
    for contraction, twin in zip(channels.contractions, twins_of(channels, runner)):
        port = behind(runner, runner.data_inputs(twin.node)[twin.data])
        rank = analyse(runner).fact(port).rank
        axis = twin.axis % rank if rank else twin.axis
        if (port, axis) not in read:
            read[port, axis] = channels.members(contraction.into)
    return read


def twins_of(channels: Channels, runner: Graph) -> Iterator[Contraction]:
    """For each sum over channels, the corresponding sum in the graph that is run.

    Raises:
        PlanError: the graph that is run has no sum that corresponds to one of the original.
    """
    if runner is channels.graph:
        yield from channels.contractions
        return
    by_name: Dict[str, List[Contraction]] = defaultdict(list)
    for twin in analyse(runner).contractions:
        by_name[twin.node].append(twin)
    counts: Counter = Counter()
    for contraction in channels.contractions:
        name = contraction.node
        # An output of the graph keeps its name for the Transpose that follows the op.
        twins = by_name.get(name) or by_name.get(f"{name}/nhwc") or []
        nth = counts[name]
        counts[name] += 1
        if nth >= len(twins) or len(twins[nth].into) != len(contraction.into):
            raise PlanError(
                "is not found again in the NHWC twin that a CPU can run",
                name,
                "turn the graph with --pass to-nhwc first, or score by the weights",
            )
        yield twins[nth]


def _where_produced(channels: Channels, group: Group, runner: Graph) -> List[Place]:
    """The output of the op that a group is named for, if its channels are followed there."""
    name = group.id.split("#")[0]
    if name not in runner or name not in channels.graph:
        return []
    port = Port(name)
    fact = channels.fact(port)
    index_of: Dict[int, int] = {label: at for at, label in enumerate(group.channels.tolist())}
    for axis, ids in enumerate(fact.ids):
        if ids is None or not axis:
            continue
        indices = np.array([index_of.get(label, -1) for label in channels.label[ids].tolist()])
        positions = np.flatnonzero(indices >= 0)
        if len(positions):
            formats = [
                graph[name].text("data_format", "NHWC") for graph in (channels.graph, runner)
            ]
            if fact.rank == 4 and formats == ["NCHW", "NHWC"]:
                axis = (0, 3, 1, 2)[axis]
            return [Place(port, axis, positions, indices[positions])]
    return []
