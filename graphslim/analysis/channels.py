"""Channel ids, ties, pins and groups: which channels must live or die together, and where.

Every position along every axis of every constant has an id; one walk in topological order lets
the ops copy, cut and tie ids (`ops`), and one connected-components step turns ties into channels.
The coupling is that of DepGraph (Fang et al. 2023, arXiv 2301.12900), found per channel.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim import ops  # noqa: F401  (registers the rules)
from graphslim.analysis.components import connected
from graphslim.analysis.sizes import Sizes
from graphslim.errors import AnalysisError
from graphslim.ir import IDENTITY_OPS, Graph, Node, Port, Tensor, Use
from graphslim.ops.table import (
    CHANNEL_RULES,
    MALFORMED,
    UNKNOWN,
    Contraction,
    Fact,
    Ids,
    OpVisit,
    fact,
)

ROLES = ("follower", "consumer", "producer", "shape")


class ParamAxis(NamedTuple):
    """An axis of a constant; its positions have the ids `start` to `start + size`.

    `use` is the one reader that the ids hold for, where a constant has more than one width to
    choose from (see `Walk.read`); None for all of them.
    """

    param: str
    axis: int
    start: int
    size: int
    use: Optional[Use] = None


class Pin(NamedTuple):
    """Channels that may not go, and what forbids it."""

    ids: np.ndarray
    why: str
    node: str


class Binding(NamedTuple):
    """A place where a group touches a parameter.

    Attributes:
        param: the constant's node.
        axis: the axis, or for role `shape` the element that holds a size.
        role: `producer`, `consumer`, `follower` or `shape`.
        positions: indices along the axis.
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


class Walk:
    """One walk over the graph that collects facts, ties, pins and contractions."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.facts: Dict[str, Sequence[Fact]] = {}
        self.axes: List[ParamAxis] = []
        self.ties: List[Tuple[np.ndarray, np.ndarray]] = []
        self.pins: List[Pin] = []
        self.marks: List[Tuple[np.ndarray, str, str]] = []
        self.contractions: List[Contraction] = []
        self.sizes = Sizes(self)
        self.count = 0
        self._shared: Dict[Port, Optional[Node]] = {}

    def run(self) -> None:
        """Visits every node; what the rules find is left in the attributes."""
        for node in self.graph.order():
            inputs = self.read(node)
            rule = CHANNEL_RULES.get(node.op)
            visit = OpVisit(node, inputs, self)
            if rule is None:
                visit.pin_all(f"graphslim has no rule for the op {node.op}")
                self.facts[node.name] = []
                continue
            try:
                given = rule(visit)
                outs = [given] if isinstance(given, Fact) else list(given)
                outs = self.facts[node.name] = self.sizes.follow(node, inputs, outs)
            except MALFORMED as error:
                raise AnalysisError(
                    f"this {node.op} is malformed: {error!r}", node.name, "export the graph again"
                ) from error
            if node.name in self.graph.inputs:
                for ids in (ids for out in outs for ids in out.ids):
                    self.pin(node, ids, "it is a graph input")
        for port in self.graph.outputs:
            for ids in self.fact(port).ids:
                self.pin(self.graph[port.node], ids, "it is a graph output")

    def fact(self, port: Port) -> Fact:
        """What is known of the tensor at a port."""
        outs = self.facts.get(port.node, ())
        return outs[port.port] if 0 <= port.port < len(outs) else UNKNOWN

    def read(self, node: Node) -> List[Fact]:
        """What a node reads.

        A vector that several ops read, such as the ones that grappler merged, couples none of
        them: each has ids of its own for it, and gets a copy of its own where their widths come
        to differ.
        """
        ports = self.graph.data_inputs(node)
        found = [self.fact(port) for port in ports]
        if node.op in IDENTITY_OPS:
            return found
        for slot, port in enumerate(ports):
            if port not in self._shared:
                self._shared[port] = self._shared_vector(port)
            source = self._shared[port]
            if source is not None:
                size = source.attrs["value"].size
                use = Use(node.name, slot)
                self.axes.append(ParamAxis(source.name, 0, self.count, size, use))
                found[slot] = fact((size,), {0: self.fresh(size)})
        return found

    def _shared_vector(self, port: Port) -> Optional[Node]:
        """The constant of rank 1 at a port, behind identities, if others read it too."""
        path = [port]
        while self.graph[path[-1].node].op in IDENTITY_OPS:
            path.append(self.graph.data_inputs(path[-1].node)[0])
        node = self.graph[path[-1].node]
        if node.op != "Const" or len(node.attrs["value"].shape) != 1:
            return None
        tensor = node.attrs["value"]
        if tensor.size < 2 or not tensor.dtype.is_floating:
            return None
        readers = sum([len(self.graph.uses_of(one)) for one in path])
        outputs = [one for one in path if one in self.graph.outputs]
        # Each identity on the way is itself one reader of what stands before it.
        return node if readers - len(path) + len(outputs) > 0 else None

    # ------------------------------------------------- what the rules call, through OpVisit

    def fresh(self, size: int) -> np.ndarray:
        """New ids that belong to no parameter."""
        self.count += size
        return np.arange(self.count - size, self.count)

    def constant(self, node: Node, tensor: Tensor, tracked: bool) -> Fact:
        """The fact of a constant: fresh ids on every axis, and its numbers if `tracked`."""
        ids: Dict[int, Ids] = {}
        for axis, size in enumerate(tensor.shape):
            self.axes.append(ParamAxis(node.name, axis, self.count, size))
            ids[axis] = self.fresh(size)
        known = fact(tensor.shape, ids)
        if not tracked:
            return known
        atoms = self.sizes.constant(node.name, tensor.shape, tensor.size)
        return known._replace(value=tensor.numbers().astype(np.float64), atoms=atoms)

    def tie(self, node: Node, first: Ids, second: Ids) -> None:
        """See `OpVisit.tie`."""
        if first is None or second is None:
            self.pin(
                node, first if second is None else second, "it meets an axis that is not followed"
            )
        elif first is not second:
            if len(first) != len(second):
                raise AnalysisError(
                    f"{len(first)} channels meet {len(second)} in this {node.op}",
                    node.name,
                    "the graph is damaged or was changed by hand",
                )
            self.ties.append((first, second))

    def pin(self, node: Node, ids: Ids, why: str) -> None:
        """See `OpVisit.pin`."""
        if ids is not None and len(ids):
            self.pins.append(Pin(ids, why, node.name))

    def mark(self, node: Node, ids: Ids, role: str) -> None:
        """See `OpVisit.mark`."""
        if ids is not None:
            self.marks.append((ids, role, node.name))

    def resize(self, node: Node, index: int, sizes: Fact, element: int, ids: Ids) -> None:
        """See `OpVisit.resize`."""
        self.sizes.resize(node, index, sizes, element, ids)


class Channels:
    """The result of the walk: facts, channels and groups. Get one with `analyse`.

    Attributes:
        facts: per node, the fact of each output.
        label: channel (component) of each id; shape (ids,).
        count: how many channels there are.
        axes: every axis of every constant.
        contractions, resizes: as the walk found them.
    """

    def __init__(self, graph: Graph) -> None:
        walk = Walk(graph)
        walk.run()
        self.graph, self._walk, self.facts = graph, walk, walk.facts
        self.axes, self.contractions, self.resizes = (
            walk.axes,
            walk.contractions,
            walk.sizes.resizes,
        )
        self.label, self.count = connected(walk.count, walk.ties)
        self._pin_of = self._first_pins()
        self._role = np.zeros(walk.count, np.int8)
        for ids, role, _ in walk.marks:
            np.maximum.at(self._role, ids, ROLES.index(role))
        self._axis_of = np.full(walk.count, -1)
        for index, axis in enumerate(self.axes):
            self._axis_of[axis.start : axis.start + axis.size] = index
        self._group_of = np.full(self.count, -1)
        self._index_in = np.zeros(self.count, np.int64)
        self.groups = self._make_groups()

    def fact(self, port: Port) -> Fact:
        """What is known of the tensor at a port."""
        return self._walk.fact(port)

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

    def _first_pins(self) -> np.ndarray:
        """Per channel the index of the first pin that holds it, or -1."""
        pin_of = np.full(self.count, len(self._walk.pins))
        for index in range(len(self._walk.pins) - 1, -1, -1):
            pin_of[self.label[self._walk.pins[index].ids]] = index
        return np.where(pin_of == len(self._walk.pins), -1, pin_of)

    def _make_groups(self) -> List[Group]:
        """Channels with the same set of axes form a group, if anything produces them."""
        owned = np.flatnonzero(self._axis_of >= 0)
        produced = np.zeros(self.count, bool)
        produced[self.label[owned[self._role[owned] == ROLES.index("producer")]]] = True
        owned = owned[produced[self.label[owned]]]
        pairs = np.unique(np.stack([self.label[owned], self._axis_of[owned]]), axis=1)
        signature = np.zeros(self.count, np.uint64)
        np.add.at(signature, pairs[0], _scramble(pairs[1]))
        signature += _scramble(self._pin_of + len(self.axes) + 2)
        members = np.flatnonzero(produced)
        first_id = np.full(self.count, self._walk.count)
        producers = owned[self._role[owned] == ROLES.index("producer")]
        np.minimum.at(first_id, self.label[producers], producers)
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
                for label in self.label[ids].tolist():
                    makers.setdefault(label, node)
        return makers

    def _make_bindings(self, groups: Sequence[Group]) -> Dict[int, List[Binding]]:
        owned = np.flatnonzero(self._axis_of >= 0)
        owned = owned[self._group_of[self.label[owned]] >= 0]
        group = self._group_of[self.label[owned]]
        order = np.lexsort((owned, group))
        owned, group = owned[order], group[order]
        cuts = np.flatnonzero(np.diff(group * (len(self.axes) + 1) + self._axis_of[owned])) + 1
        found: Dict[int, List[Binding]] = {id(one): [] for one in groups}
        for ids in np.split(owned, cuts) if len(owned) else []:
            axis = self.axes[self._axis_of[ids[0]]]
            role = ROLES[int(self._role[ids].max())]
            labels = self.label[ids]
            where = groups[self._group_of[labels[0]]]
            found[id(where)].append(
                Binding(axis.param, axis.axis, role, ids - axis.start, self._index_in[labels])
            )
        for resize in self.resizes:
            labels = self.label[resize.ids]
            for number in np.unique(self._group_of[labels]):
                if number >= 0:
                    places = np.flatnonzero(self._group_of[labels] == number)
                    found[id(groups[number])].append(
                        Binding(
                            resize.param,
                            resize.element,
                            "shape",
                            places,
                            self._index_in[labels[places]],
                        )
                    )
        return found


def _scramble(numbers: Any) -> np.ndarray:
    """Well-spread 64-bit numbers for small ones (SplitMix64, Steele et al. 2014)."""
    x = np.asarray(numbers).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed


def analyse(graph: Graph) -> Channels:
    """The channels of a graph, kept until it changes.

    Raises:
        AnalysisError: tensors contradict each other.
    """
    return graph.memo("channels", Channels)
