"""Channel ids, ties, pins and groups: which channels must live or die together, and where.

Every position along every axis of every constant has an id; one walk in topological order lets
the ops copy, cut and tie ids (`ops`), and one connected-components step turns ties into channels.
The coupling is that of DepGraph (Fang et al. 2023, arXiv 2301.12900), found per channel.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.facts import Fact
from graphslim.channels.joints import first_pins, resolved
from graphslim.channels.walk import ParamAxis, Walk
from graphslim.ir import Graph, Port, Use
from graphslim.ir.query import behind
from graphslim.support.garbage import pause_gc
from graphslim.support.importing import load_plugins

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


class _Count(NamedTuple):
    """A binding of channels to numbers of a constant."""

    param: str
    axis: int
    role: str
    ids: np.ndarray


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
        stored: the ops that are parameters; see `channels.computed`.
    """

    def __init__(self, walk: Walk) -> None:
        walk.run()
        self.graph, self._walk, self.facts, self.axes = walk.graph, walk, walk.facts, walk.axes
        self.resizes, self.renumbers = walk.sizes.resizes, walk.sizes.renumbers
        self.stored = walk.computed.stored
        self.label, self.count, self._owned = resolved(walk)
        before = len(walk.ties), len(walk.pins)
        walk.sizes.settle(self.label)
        if before != (len(walk.ties), len(walk.pins)):
            self.label, self.count, self._owned = resolved(walk)

    def fact(self, port: Port) -> Fact:
        """What is known of the tensor at a port."""
        return self._walk.fact(port)

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
        self.contractions = walk.contractions
        self._counts = [
            *[_Count(size.param, size.element, "shape", size.ids) for size in self.resizes],
            *[_Count(index.param, 0, "index", index.ids) for index in self.renumbers],
        ]
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
        self._bindings = self._make_bindings()

    def channels_at(self, port: Port) -> Optional[np.ndarray]:
        """Labels of the channels at a port, int64 of shape (width,); None if not followed."""
        known = self.fact(port)
        arrays = [ids for axis, ids in enumerate(known.ids) if axis and ids is not None]
        return self.label[arrays[-1]] if arrays else None

    def group_at(self, port: Port) -> Optional[Group]:
        """The group of the channels at a port; None if there is none, or more than one."""
        labels = self.channels_at(port)
        if labels is None or not len(labels):
            return None
        number, *others = np.unique(self._group_of[labels]).tolist()
        return self.groups[number] if number >= 0 and not others else None

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
        ids, labels = self._on_axes()
        makes = self._role[ids] == ROLES.index("producer")
        produced = np.zeros(self.count, bool)
        produced[labels[makes]] = True
        first_id = np.full(self.count, self._walk.count)
        np.minimum.at(first_id, labels[makes], ids[makes])
        members = np.flatnonzero(produced)
        members = members[np.argsort(first_id[members], kind="stable")]
        signature = self._signatures(ids, labels, produced)[members]
        _, first, inverse = np.unique(signature, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first, kind="stable")] = np.arange(len(first))
        number = rank[inverse.ravel()]
        order = np.argsort(number, kind="stable")
        makers, taken, groups = self._makers(), {}, []  # type: Dict[int, str], Dict[str, int], list
        for labels in np.split(members[order], np.cumsum(np.bincount(number))[:-1]):
            if not len(labels):
                continue
            name = makers.get(int(labels[0]), "?")
            taken[name] = taken.get(name, 0) + 1
            name = name if taken[name] == 1 else f"{name}#{taken[name]}"
            pin = self._pin_of[labels[0]]
            why = self._walk.pins[pin] if pin >= 0 else None
            self._group_of[labels] = len(groups)
            self._index_in[labels] = np.arange(len(labels))
            groups.append(Group(name, labels, why and why.why, why and why.node))
        return groups

    def _on_axes(self) -> Tuple[np.ndarray, np.ndarray]:
        """The ids that parameters have, each with its channel; with each that owns that channel."""
        ids = np.flatnonzero(self._axis_of >= 0)
        places, labels = self._members(ids)
        return ids[places], labels

    def _signatures(self, ids: np.ndarray, labels: np.ndarray, produced: np.ndarray) -> np.ndarray:
        """Per channel a number that tells sets of axes, pins and counts apart.

        Args:
            ids: the ids that parameters have; int64 of shape (n,).
            labels: the channel of each; int64 of shape (n,).
            produced: which channels an op produces; bool of shape (count,).

        Returns:
            uint64 of shape (count,).
        """
        # One number for each pair of an axis and a channel, nearly in order as they come.
        pairs = (self._axis_of[ids] * self.count + labels)[produced[labels]]
        pairs.sort(kind="stable")
        pairs = pairs[np.flatnonzero(np.diff(pairs, prepend=-1))]
        axes, labels = np.divmod(pairs, max(self.count, 1))
        signature = np.zeros(self.count, np.uint64)
        np.add.at(signature, labels, _scramble(axes))
        signature += _scramble(self._pin_of + len(self.axes) + 2)
        # A piece that a number counts by itself is a group, so that it cannot be emptied.
        start = len(self.axes) + len(self._walk.pins) + 2
        marks = _scramble(np.arange(start, start + len(self._counts)))
        for mark, count in zip(marks, self._counts):
            signature[np.unique(self._members(count.ids)[1])] += mark
        return signature

    def _makers(self) -> Dict[int, str]:
        """For each channel, the op that produces it first."""
        makers: Dict[int, str] = {}
        for ids, role, node in self._walk.marks:
            if role == "producer":
                for label in self._members(ids)[1].tolist():
                    makers.setdefault(label, node)
        return makers

    def _make_bindings(self) -> Dict[int, List[Binding]]:
        """The bindings of each group, by `id`: those to axes, then those to numbers."""
        bindings: Dict[int, List[Binding]] = {id(group): [] for group in self.groups}
        ids, labels = self._on_axes()
        order = np.lexsort((ids, self._group_of[labels]))
        order = order[self._group_of[labels[order]] >= 0]
        ids, labels = ids[order], labels[order]
        number = self._group_of[labels] * (len(self.axes) + 1) + self._axis_of[ids]
        cuts = np.flatnonzero(np.diff(number)) + 1
        pieces = zip(np.split(ids, cuts), np.split(labels, cuts)) if len(ids) else ()
        for ids, labels in pieces:
            axis = self.axes[self._axis_of[ids[0]]]
            role = ROLES[int(self._role[ids].max())]
            binding = Binding(axis.param, axis.axis, role, ids - axis.start, self._index_in[labels])
            bindings[id(self.groups[self._group_of[labels[0]]])].append(binding)
        for param, element, role, ids in self._counts:
            places, labels = self._members(ids)
            for group in np.unique(self._group_of[labels]):
                if group >= 0:
                    own = self._group_of[labels] == group
                    binding = Binding(
                        param, element, role, places[own], self._index_in[labels[own]]
                    )
                    bindings[id(self.groups[group])].append(binding)
        return bindings


@pause_gc()
def analyse(graph: Graph) -> Channels:
    """The channels of a graph, kept until it changes or a rule of an op is registered.

    Plug-ins are loaded first, for the rules that they bring.

    Raises:
        AnalysisError: tensors contradict each other.
    """
    load_plugins()
    return graph.memo("channels", Channels)


class Removal(NamedTuple):
    """Channels that go, and what becomes of the positions that they have.

    Attributes:
        channels: the channels of a graph.
        mask: which of them go; bool of shape (channels.count,).
    """

    channels: Labels
    mask: np.ndarray

    @classmethod
    def none(cls, channels: Labels) -> Removal:
        """No channels, for `add` to add to."""
        return cls(channels, np.zeros(channels.count, bool))

    def add(self, axis: ParamAxis, positions: np.ndarray) -> None:
        """Lets the channels at some positions along an axis of a parameter go as well."""
        self.mask[self.channels.label[axis.start + positions]] = True

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Which positions go, of those with these ids; bool of their shape."""
        going: np.ndarray = self.mask[self.channels.label[ids]]
        return going

    def along(self, axis: ParamAxis) -> np.ndarray:
        """Which positions go along an axis of a parameter; bool of shape (axis.size,)."""
        return self.of(np.arange(axis.start, axis.start + axis.size))

    def left(self, ids: np.ndarray) -> int:
        """How many of the positions with these ids stay."""
        return len(ids) - int(np.count_nonzero(self.of(ids)))

    def to_store(self) -> List[str]:
        """The ops that are parameters whose result has to be stored, in the order of the graph."""
        stored = self.channels.stored
        if not stored:
            return []
        cut = {axis.param for axis in self.channels.axes if self.along(axis).any()}
        return [name for name, sources in stored.items() if name in cut or sources & cut]


Copies = Sequence[Tuple[np.ndarray, List[Use]]]
"""Positions that go, bool of shape (n,), and who reads what is left; the first is the original."""


def copies_needed(removal: Removal) -> Dict[str, Copies]:
    """For each vector whose readers have ids of their own, the different cuts that they need.

    What several ops read can be one constant only as long as all of them lose the same positions.
    """
    graph = removal.channels.graph
    reads = [(axis, removal.along(axis)) for axis in removal.channels.axes if axis.use is not None]
    # Those that lose nothing come first, so that the original is theirs.
    reads.sort(key=lambda read: bool(read[1].any()))
    outputs, cuts = graph.outputs, {}  # type: Sequence[Port], Dict[str, Dict[bytes, list]]
    for axis, dead in reads:
        if axis.param not in cuts:
            whole = any(behind(graph, port) == Port(axis.param) for port in outputs)
            cuts[axis.param] = {bytes(axis.size): []} if whole else {}
        cuts[axis.param].setdefault(dead.tobytes(), []).append(axis.use)
    return {
        param: [(np.frombuffer(mask, bool), uses) for mask, uses in masks.items()]
        for param, masks in cuts.items()
    }


def _scramble(numbers: Any) -> np.ndarray:
    """Well-spread 64-bit numbers for small ones (SplitMix64, Steele et al. 2014)."""
    x = np.asarray(numbers).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
