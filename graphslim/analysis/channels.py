"""Channel ids, ties, pins and groups: which channels must live or die together, and where.

Every position along every axis of every constant has an id; one walk in topological order lets
the ops copy, cut and tie ids (`ops`), and one connected-components step turns ties into channels.
The coupling is that of DepGraph (Fang et al. 2023, arXiv 2301.12900), found per channel.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.analysis.components import scramble
from graphslim.analysis.joints import first_pins, resolved
from graphslim.analysis.walk import ParamAxis, Walk
from graphslim.ir import Graph, Port
from graphslim.ops.table import Fact
from graphslim.support.garbage import pause_gc

ROLES = ("follower", "consumer", "producer", "shape", "index")


class Binding(NamedTuple):
    """A place where a group touches a parameter.

    Attributes:
        param: the constant's node.
        axis: the axis, or for role `shape` the element that holds a size.
        role: `producer`, `consumer`, `follower`, `shape`, or `index`: a vector of positions.
        positions: indices along the axis; for `shape` and `index`, along the one counted.
        channels: for each, the index of its channel in the group.
    """

    param: str
    axis: int
    role: str
    positions: np.ndarray
    channels: np.ndarray


class Group(NamedTuple):
    """Channels that occur in the same places.

    Attributes:
        id: the op that produces them, made unique.
        channels: their component labels, in the order of the producer's axis; shape (n,).
        pinned_by: why none of them may go, or None.
        pinned_at: the node that forbids it, or None.
    """

    id: str
    channels: np.ndarray
    pinned_by: Optional[str]
    pinned_at: Optional[str]

    @property
    def prunable(self) -> bool:
        """Whether its channels may go."""
        return self.pinned_by is None

    def __len__(self) -> int:
        return len(self.channels)


class Labels:
    """What a walk found: facts, and which ids are one channel.

    Args:
        walk: a walk that has not run yet.

    Attributes:
        facts: per node, the fact of each output.
        label: channel (component) of each id; shape (ids,).
        count: how many channels there are.
        axes: every axis of every parameter.
        resizes, renumbers: as the walk found them.
        stored: the ops that are parameters; see `analysis.computed`.
    """

    def __init__(self, walk: Walk) -> None:
        walk.run()
        self.graph, self._walk, self.facts, self.axes = walk.graph, walk, walk.facts, walk.axes
        self.resizes, self.renumbers = walk.sizes.resizes, walk.sizes.renumbers
        self.stored = walk.computed.stored
        self.label, self.count, self._owned = resolved(walk)
        pins = len(walk.pins)
        if walk.sizes.settle(self.label) or len(walk.pins) > pins:
            self.label, self.count, self._owned = resolved(walk)

    def fact(self, port: Port) -> Fact:
        """What is known of the tensor at a port."""
        return self._walk.fact(port)

    def to_store(self, gone: np.ndarray) -> List[str]:
        """The ops that are parameters whose result has to be stored as channels go, in order.

        Args:
            gone: which channels go; bool of shape (count,).
        """
        if not self.stored:
            return []
        cut = {
            axis.param
            for axis in self.axes
            if gone[self.label[axis.start : axis.start + axis.size]].any()
        }
        return [name for name, sources in self.stored.items() if name in cut or sources & cut]

    def completed(self, gone: np.ndarray) -> np.ndarray:
        """The channels that go, with those that belong to one of them; changes what is given.

        Where two axes of channels are flattened, each position belongs to a channel of either. A
        channel that is seen in such positions alone goes where all of them do; any other is named
        itself: in x^T x the last channel that stays has nothing left but its own square.

        Args:
            gone: which channels go; bool of shape (count,).
        """
        labels, owners = self._owned
        if len(labels):
            keeps = np.zeros(self.count, bool)
            keeps[owners[~gone[labels]]] = True
            for axis in self.axes:
                seen = self.label[axis.start : axis.start + axis.size]
                keeps[seen[~gone[seen]]] = True
            gone[owners[~keeps[owners]]] = True
            gone[labels] |= gone[owners].any(axis=1)
        return gone

    def owned(self) -> np.ndarray:
        """Which channels belong to others, and go with them alone; bool of shape (count,)."""
        owned = np.zeros(self.count, bool)
        owned[self._owned.labels] = True
        return owned

    def owning(self, kept: np.ndarray) -> np.ndarray:
        """Channels that stay, with all that own one of them; changes what is given.

        Args:
            kept: which channels stay; bool of shape (count,).
        """
        kept[self._owned.owners[kept[self._owned.labels]]] = True
        return kept

    def _members(self, ids: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Places in an array of ids and their channels, in order; what is owned once per owner."""
        places, labels = np.arange(len(ids)), self.label[ids]
        if not len(self._owned.labels):
            return places, labels
        row = np.full(self.count, -1)
        row[self._owned.labels] = np.arange(len(self._owned.labels))
        shared = np.flatnonzero(row[labels] >= 0)
        owners = self._owned.owners[row[labels[shared]]]
        places = np.concatenate([np.delete(places, shared), np.repeat(shared, owners.shape[1])])
        labels = np.concatenate([np.delete(labels, shared), owners.ravel()])
        places, labels = np.divmod(np.unique(places * self.count + labels), self.count)
        return places, labels


class Channels(Labels):
    """The result of the walk: facts, channels and groups. Get one with `analyse`.

    Attributes:
        contractions: as the walk found them.
    """

    def __init__(self, graph: Graph) -> None:
        walk = Walk(graph)
        super().__init__(walk)
        self.contractions, self._counts = walk.contractions, walk.sizes.counts()
        self._pin_of = first_pins(walk.pins, self.label, self.count)
        self._role = np.zeros(walk.count, np.int8)
        for ids, role, _ in walk.marks:
            np.maximum.at(self._role, ids, ROLES.index(role))
        self._axis_of = np.full(walk.count, -1)
        for index, axis in enumerate(self.axes):
            self._axis_of[axis.start : axis.start + axis.size] = index
        self._group_of = np.full(self.count, -1)
        self._index_in = np.zeros(self.count, np.int64)
        self.groups = self._make_groups()

    def channels_at(self, port: Port) -> Optional[np.ndarray]:
        """Labels of the channels at a port, along its channel axis; None if not followed."""
        known = self.fact(port)
        arrays = [ids for axis, ids in enumerate(known.ids) if axis and ids is not None]
        return self.label[arrays[-1]] if arrays else None

    def group_at(self, port: Port) -> Optional[Group]:
        """The group of the channels at a port; None if there is none, or more than one."""
        labels = self.channels_at(port)
        if labels is None or not len(labels):
            return None
        first = self._group_of[labels[0]]
        return (
            self.groups[first] if first >= 0 and (self._group_of[labels] == first).all() else None
        )

    def pinned(self) -> np.ndarray:
        """Which channels are pinned; bool of shape (count,)."""
        return self._pin_of >= 0

    def bindings(self, group: Group) -> List[Binding]:
        """Every place where a group touches a parameter."""
        return self._bindings.get(id(group), [])

    def is_consumer(self, axis: ParamAxis) -> bool:
        """Whether an axis of a parameter is summed over."""
        return axis.size > 0 and int(self._role[axis.start]) == ROLES.index("consumer")

    def _make_groups(self) -> List[Group]:
        """Channels with the same set of axes form a group, if anything produces them."""
        held = np.flatnonzero(self._axis_of >= 0)
        places, label = self._members(held)
        held = held[places]
        makes = self._role[held] == ROLES.index("producer")
        produced = np.zeros(self.count, bool)
        produced[label[makes]] = True
        # One number for each pair of an axis and a channel, nearly in order as they come.
        pairs = (self._axis_of[held] * self.count + label)[produced[label]]
        pairs.sort(kind="stable")
        pairs = pairs[np.flatnonzero(np.diff(pairs, prepend=-1))]
        axes, labels = np.divmod(pairs, max(self.count, 1))
        signature = np.zeros(self.count, np.uint64)
        np.add.at(signature, labels, scramble(axes))
        signature += scramble(self._pin_of + len(self.axes) + 2)
        # A piece that a number counts by itself is a group, so that it cannot be emptied.
        start = len(self.axes) + len(self._walk.pins) + 2
        marks = scramble(np.arange(start, start + len(self._counts)))
        for mark, count in zip(marks, self._counts):
            signature[np.unique(self._members(count.ids)[1])] += mark
        members = np.flatnonzero(produced)
        first_id = np.full(self.count, self._walk.count)
        np.minimum.at(first_id, label[makes], held[makes])
        members = members[np.argsort(first_id[members], kind="stable")]
        _, first, inverse = np.unique(signature[members], return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first, kind="stable")] = np.arange(len(first))
        number = rank[inverse.ravel()]
        groups = []
        makers = self._makers()
        taken: Dict[str, int] = {}
        order = np.argsort(number, kind="stable")
        for index, labels in enumerate(
            np.split(members[order], np.cumsum(np.bincount(number))[:-1])
        ):
            if not len(labels):
                continue
            name = makers.get(int(labels[0]), "?")
            taken[name] = taken.get(name, 0) + 1
            pin = self._pin_of[labels[0]]
            why = self._walk.pins[pin] if pin >= 0 else None
            groups.append(
                Group(
                    name if taken[name] == 1 else f"{name}#{taken[name]}",
                    labels,
                    why.why if why else None,
                    why.node if why else None,
                )
            )
            self._group_of[labels] = index
            self._index_in[labels] = np.arange(len(labels))
        self._bindings = self._make_bindings(groups)
        return groups

    def _makers(self) -> Dict[int, str]:
        """For each channel, the op that produces it first."""
        makers: Dict[int, str] = {}
        for ids, role, node in self._walk.marks:
            if role == "producer":
                for label in self._members(ids)[1].tolist():
                    makers.setdefault(label, node)
        return makers

    def _make_bindings(self, groups: Sequence[Group]) -> Dict[int, List[Binding]]:
        held = np.flatnonzero(self._axis_of >= 0)
        places, label = self._members(held)
        order = np.lexsort((held[places], self._group_of[label]))
        order = order[self._group_of[label[order]] >= 0]
        held, label = held[places[order]], label[order]
        group = self._group_of[label]
        cuts = np.flatnonzero(np.diff(group * (len(self.axes) + 1) + self._axis_of[held])) + 1
        found: Dict[int, List[Binding]] = {id(one): [] for one in groups}
        pieces = zip(np.split(held, cuts), np.split(label, cuts)) if len(held) else ()
        for ids, labels in pieces:
            axis = self.axes[self._axis_of[ids[0]]]
            role = ROLES[int(self._role[ids].max())]
            where = groups[self._group_of[labels[0]]]
            found[id(where)].append(
                Binding(axis.param, axis.axis, role, ids - axis.start, self._index_in[labels])
            )
        for count in self._counts:
            places, labels = self._members(count.ids)
            for number in np.unique(self._group_of[labels]):
                if number >= 0:
                    mine = self._group_of[labels] == number
                    found[id(groups[number])].append(
                        Binding(*count[:3], places[mine], self._index_in[labels[mine]])
                    )
        return found


@pause_gc()
def analyse(graph: Graph) -> Channels:
    """The channels of a graph, kept until it changes.

    Raises:
        AnalysisError: tensors contradict each other.
    """
    return graph.memo("channels", Channels)
