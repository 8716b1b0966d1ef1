"""Channel ids, ties, pins and groups: which channels must live or die together, and where.

Every position along every axis of every constant has an id; one walk in topological order lets
the ops copy, cut and tie ids (`ops`), and one connected-components step turns ties into channels.
The coupling is that of DepGraph (Fang et al. 2023, arXiv 2301.12900), found per channel.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from graphslim.channels.facts import Fact, Ids
from graphslim.channels.joints import first_of, resolved
from graphslim.channels.pieces import Edges, Pieces, ranges
from graphslim.channels.walk import ParamAxis, Walk, fact_at
from graphslim.ir import Graph, Port, Use
from graphslim.ir.graph import ASKED
from graphslim.ir.query import is_output
from graphslim.support.garbage import pause_gc
from graphslim.support.importing import load_plugins

_NONE = np.zeros(0, np.int64)
_Mark = Tuple[np.ndarray, str, str]
"""Ids of an axis, its role, and the op that it has it for."""
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


class _Touches(NamedTuple):
    """Where parameters have pieces, or count them; each attribute has shape (n,).

    What belongs to other channels is there once for each of them.

    Attributes:
        ids: the first id of the piece.
        place: the index of the axis, or behind all of these of the count.
        position: of that id along the axis, or among what is counted.
        role: as in `ROLES`.
        piece: its index.
    """

    ids: np.ndarray
    place: np.ndarray
    position: np.ndarray
    role: np.ndarray
    piece: np.ndarray


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
        self.graph, self.facts, self.axes = walk.graph, walk.facts, walk.axes
        self.resizes, self.renumbers = walk.sizes.resizes, walk.sizes.renumbers
        self.stored = walk.computed.stored
        self.label, self.count, self._owned = resolved(walk)
        before = len(walk.ties), len(walk.pins)
        walk.sizes.settle(self.label)
        if before != (len(walk.ties), len(walk.pins)):
            self.label, self.count, self._owned = resolved(walk)

    def fact(self, port: Port) -> Fact:
        """What is known of the tensor at a port."""
        return fact_at(self.facts, port)

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

        A channel whose owners all stay stays too, and what it is computed from is needed: a product
        over the channels of each head reads every position of the axis that both make.

        Args:
            kept: which channels stay; bool of shape (count,).
        """
        labels, owners = self._owned
        if len(labels):
            kept[owners[kept[labels]]] = True
            kept[labels] |= kept[owners].all(axis=1)
        return kept

    def members(self, ids: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """The channels at the positions of an axis; one that belongs to others, once for each.

        Args:
            ids: of the axis, int64 of shape (n,).

        Returns:
            positions, in order, and the channel at each; both int64 of shape (n or more,).
        """
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
        contractions, statistics, heads: as the walk found them.
    """

    def __init__(self, graph: Graph) -> None:
        walk = Walk(graph)
        super().__init__(walk)
        self.contractions, self.statistics = walk.contractions, walk.statistics
        self.heads = walk.heads
        self._counts = [
            *[_Count(size.param, size.element, "shape", size.ids) for size in self.resizes],
            *[_Count(index.param, 0, "index", index.ids) for index in self.renumbers],
        ]
        self._pin_of = first_of([pin.ids for pin in walk.pins], self.label, self.count)
        self._role = np.zeros(walk.count, np.int8)
        marks = _with_factors(walk)
        for number, role in enumerate(ROLES[1:3], start=1):
            marked = [ids for ids, given, _ in marks if given == role]
            self._role[np.concatenate([_NONE, *marked])] = number
        self._pieces, self._touches = self._cut_in_pieces()
        self._group_of = np.full(self.count, -1)
        self._index_in = np.zeros(self.count, np.int64)
        self._numbers = np.arange(int((self._touches.position + 1).max(initial=0)) + self.count)
        self._numbers.flags.writeable = False
        self.groups = self._make_groups(walk, marks)
        self._touches, self._begins = self._by_group()
        self._places: List[Any] = [*self.axes, *self._counts]
        self._number_of = {id(group): number for number, group in enumerate(self.groups)}
        self._bindings: Dict[int, List[Binding]] = {}

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

    def groups_of(self, labels: np.ndarray) -> np.ndarray:
        """The index of each channel's group, int64 of the same shape; -1 where it is in none."""
        numbers: np.ndarray = self._group_of[labels]
        return numbers

    def pinned(self) -> np.ndarray:
        """Which channels are pinned; bool of shape (count,)."""
        return self._pin_of >= 0

    def bindings(self, group: Group) -> List[Binding]:
        """Every place where a group touches a parameter."""
        number = self._number_of.get(id(group))
        if number is not None and number not in self._bindings:
            self._bindings[number] = self._make_bindings(number)
        return [] if number is None else self._bindings[number]

    def is_consumer(self, axis: ParamAxis) -> bool:
        """Whether an axis of a parameter is summed over."""
        return axis.size > 0 and int(self._role[axis.start]) == ROLES.index("consumer")

    def is_producer(self, ids: Ids) -> bool:
        """Whether an axis of weights, by its ids, makes channels."""
        return ids is not None and len(ids) > 0 and self._role[ids[0]] == ROLES.index("producer")

    def _cut_in_pieces(self) -> Tuple[Pieces, _Touches]:
        """The runs of channels that nothing here tells apart, and where parameters have them."""
        starts = np.array([axis.start for axis in self.axes], np.int64)
        ends = starts + np.array([axis.size for axis in self.axes], np.int64)
        cuts = np.zeros(len(self.label) + 1, bool)
        cuts[starts] = cuts[ends] = True
        cuts[1:-1] |= np.diff(self._role) != 0
        widths = np.array([len(count.ids) for count in self._counts], np.int64)
        counted = np.concatenate([_NONE, *[count.ids for count in self._counts]])
        places = ranges(np.zeros_like(widths), widths)
        edges = Edges(self.count)
        edges.note(self.label, cuts[:-1])
        edges.note(self.label[counted], places == 0)
        edges.note_each(self._owned.labels)
        edges.note_each(self._owned.owners.ravel())
        edges.borders[1:-1] |= np.diff(self._pin_of) != 0
        pieces = edges.pieces()
        ids = np.flatnonzero(edges.borders[self.label])
        axis = np.searchsorted(starts, ids, side="right") - 1
        inside = ids < np.append(ends, 0)[axis]  # before the first axis is none
        ids, axis = ids[inside], axis[inside]
        heads = np.flatnonzero(edges.borders[self.label[counted]])
        count = np.repeat(np.arange(len(widths)), widths)[heads]
        roles = np.array([ROLES.index(count.role) for count in self._counts], np.int8)
        at, labels = self.members(np.concatenate([ids, counted[heads]]))
        columns = (
            np.concatenate([ids, counted[heads]]),
            np.concatenate([axis, len(starts) + count]),
            np.concatenate([ids - starts[axis], places[heads]]),
            np.concatenate([self._role[ids], roles[count]]),
        )
        ids, place, position, role = (column[at] for column in columns)
        return pieces, _Touches(ids, place, position, role, pieces.of(labels))

    def _make_groups(self, walk: Walk, marked: Sequence[_Mark]) -> List[Group]:
        """Channels with the same set of axes form a group, if anything produces them."""
        pieces, touches = self._pieces, self._touches
        makes = touches.role == ROLES.index("producer")
        first_id = np.full(len(pieces.starts), len(self.label))
        np.minimum.at(first_id, touches.piece[makes], touches.ids[makes])
        produced = first_id < len(self.label)
        members = np.flatnonzero(produced)
        members = members[np.argsort(first_id[members], kind="stable")]
        signature = self._signatures(produced)[members]
        _, first, inverse = np.unique(signature, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first, kind="stable")] = np.arange(len(first))
        number = rank[inverse.ravel()]
        widths = np.bincount(number, pieces.sizes[members], len(first)).astype(np.int64)
        members = members[np.argsort(number, kind="stable")]
        channels = ranges(pieces.starts[members], pieces.sizes[members])
        self._group_of[channels] = np.repeat(np.arange(len(widths)), widths)
        self._index_in[channels] = ranges(np.zeros(len(widths), np.int64), widths)
        marks = [(ids, node) for ids, role, node in marked if role == "producer"]
        made = [self.members(ids)[1] for ids, _ in marks]
        maker = first_of(made, np.arange(self.count), self.count)
        taken, groups = {}, []  # type: Dict[str, int], List[Group]
        for labels in np.split(channels, np.cumsum(widths)[:-1]) if len(widths) else ():
            name = marks[maker[labels[0]]][1] if maker[labels[0]] >= 0 else "?"
            taken[name] = taken.get(name, 0) + 1
            name = name if taken[name] == 1 else f"{name}#{taken[name]}"
            pin = self._pin_of[labels[0]]
            why = walk.pins[pin] if pin >= 0 else None
            groups.append(Group(name, labels, why and why.why, why and why.node))
        return groups

    def _signatures(self, produced: np.ndarray) -> np.ndarray:
        """Per piece a number that tells sets of axes, pins and counts apart.

        A piece that a number counts by itself is a group, so that it cannot be emptied.

        Args:
            produced: which pieces an op produces; bool of shape (pieces,).

        Returns:
            uint64 of shape (pieces,).
        """
        wanted = produced[self._touches.piece]
        pairs = self._touches.place[wanted] * len(produced) + self._touches.piece[wanted]
        index, piece = np.divmod(np.unique(pairs), max(len(produced), 1))
        most = len(self.axes) + len(self._counts)
        signature = _scramble(self._pin_of[self._pieces.starts] + most + 2)
        np.add.at(signature, piece, _scramble(index))
        return signature

    def _by_group(self) -> Tuple[_Touches, np.ndarray]:
        """The touches in the order of groups, places and positions, and where each group begins."""
        groups = self._group_of[self._pieces.starts[self._touches.piece]]
        order = np.lexsort((self._touches.position, self._touches.place, groups))
        begins = np.searchsorted(groups[order], np.arange(len(self.groups) + 1))
        return _Touches(*[column[order] for column in self._touches]), begins

    def _make_bindings(self, number: int) -> List[Binding]:
        """The bindings of a group: those to axes, then those to numbers."""
        own = slice(*self._begins[number : number + 2])
        touches = _Touches(*[column[own] for column in self._touches])
        first, sizes = [column[touches.piece] for column in self._pieces]
        positions, channels = touches.position, self._index_in[first]
        rows = zip(touches.place.tolist(), positions.tolist(), channels.tolist(), sizes.tolist())
        roles, bindings, end = touches.role.tolist(), [], 0
        for index, run in groupby(rows, key=itemgetter(0)):
            (_, position, channel, size), *more = run
            place, begin, end = self._places[index], end, end + 1 + len(more)
            where = self._numbers[position : position + size]
            which = self._numbers[channel : channel + size]
            if more:
                where = ranges(positions[begin:end], sizes[begin:end])
                which = ranges(channels[begin:end], sizes[begin:end])
            role = ROLES[max(roles[begin:end])]
            bindings.append(Binding(place.param, place.axis, role, where, which))
        return bindings


def _with_factors(walk: Walk) -> List[_Mark]:
    """The roles that rules gave; what a flat axis is, the axes that a constant had for it are too.

    Weights for heads of several channels have an axis for either (Keras's MultiHeadAttention); they
    are multiplied by where both are one.
    """
    flat = {
        int(joint.flat[0]): joint
        for joint in walk.joints
        if walk.is_constant(walk.graph[joint.node], 0)
    }
    marks = list(walk.marks)
    for ids, role, node in walk.marks:
        joint = flat.get(int(ids[0])) if len(ids) else None
        if joint is not None and np.array_equal(joint.flat, ids):
            marks += [(factor, role, node) for factor in joint.factors if factor is not None]
    return marks


@pause_gc()
def analyse(graph: Graph) -> Channels:
    """The channels of a graph, kept until it changes or a rule of an op is registered.

    Plug-ins are loaded first, for the rules that they bring.

    Raises:
        AnalysisError: tensors contradict each other.
    """
    load_plugins()
    return graph.memo("channels", Channels)


def as_asked(graph: Graph, asked: Any) -> Graph:
    """A graph to be analysed as a selection or a plan asks: itself, or a twin kept with it.

    Args:
        graph: the graph.
        asked: what has attributes of the names in `ASKED`; None for what holds for the graph.
    """
    wanted = asked_of(graph, asked)
    if wanted == graph.asked:
        return graph
    twin = graph.memo(f"asked {sorted(wanted)}", lambda graph: graph.copy())
    twin.asked, twin.blocks = wanted, list(graph.blocks)
    return twin


def asked_of(graph: Graph, asked: Any) -> FrozenSet[str]:
    """What a selection or a plan asks of the analyses of a graph; see `as_asked`."""
    given = {name: getattr(asked, name) for name in ASKED}
    return frozenset(
        [name for name, on in given.items() if (name in graph.asked if on is None else on)]
    )


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

    def of(self, ids: Union[np.ndarray, slice]) -> np.ndarray:
        """Which positions go, of those with these ids; bool of their shape."""
        going: np.ndarray = self.mask[self.channels.label[ids]]
        return going

    def along(self, axis: ParamAxis) -> np.ndarray:
        """Which positions go along an axis of a parameter; bool of shape (axis.size,)."""
        return self.of(slice(axis.start, axis.start + axis.size))

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
    cuts: Dict[str, Dict[bytes, List[Any]]] = {}
    for axis, dead in reads:
        if axis.param not in cuts:
            whole = is_output(graph, Port(axis.param))
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
