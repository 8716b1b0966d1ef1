"""The table of op rules: what each op does to channels, to known values, and what it costs.

An op is made known by one function, registered with `@channel_rule`; without one it is a wall: it
pins every channel that reaches it. `@value_rule` and `@cost_rule` add what else is known of it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from graphslim.errors import AnalysisError
from graphslim.ir import IDENTITIES, Node, Port, Tensor
from graphslim.ops.facts import UNKNOWN, Dims, Fact, Ids, fact
from graphslim.ops.joints import Joint
from graphslim.support.importing import definition


def axes_of(rank: Optional[int]) -> Fact:
    """A fact of that many axes, of which nothing is known; of open rank for None."""
    return UNKNOWN if rank is None else Fact((None,) * rank, (None,) * rank)


class Contraction(NamedTuple):
    """A place where a sum over channels is taken, with weights that may be constant or not.

    Attributes:
        node: the op.
        data, weights: the indices of its inputs.
        axis: the axis of `data` that is summed over.
        into: ids of the channels summed over, shape (c_in,).
        out: ids of the channels produced, shape (c_out,); None where they are not followed, and
            whatever the weights read is needed.
        matrix: turns the weights into shape (taps, c_in, c_out); c_out is 1 where `out` is None.
        uniform: whether every output position sees every tap, so that a constant channel can be
            folded into an offset.
    """

    node: str
    data: int
    weights: int
    axis: int
    into: np.ndarray
    out: Ids
    matrix: Callable[[np.ndarray], np.ndarray]
    uniform: bool


class OpVisit:
    """An op as a channel rule sees it. `op[i]` is the fact of its input i.

    The walk that visits supplies `tie`, `pin`, `mark`, `contract`, `resize` and `fresh`; see
    `analysis.channels`.
    """

    def __init__(
        self, node: Node, facts: Sequence[Fact], walk: Any, slots: Optional[Sequence[int]] = None
    ) -> None:
        self.node, self.facts, self._walk = node, facts, walk
        self._slots = range(len(facts)) if slots is None else slots

    def part(self, facts: Sequence[Fact], slots: Sequence[int]) -> OpVisit:
        """The last step of an op that does several, as a rule for that step alone sees it.

        Args:
            facts: what the step reads.
            slots: for each, the input of the op that it comes from.
        """
        return type(self)(self.node, facts, self._walk, slots)

    def __getitem__(self, index: int) -> Fact:
        try:
            return self.facts[index]
        except IndexError:
            raise AnalysisError(
                f"a {self.node.op} with {len(self.facts)} inputs, needs more", self.node.name
            ) from None

    def __len__(self) -> int:
        return len(self.facts)

    def tie(self, first: Ids, second: Ids) -> None:
        """Makes channels one, position by position; an unknown side pins the other.

        Raises:
            AnalysisError: the lengths differ.
        """
        self._walk.tie(self.node, first, second)

    def pin(self, ids: Ids, why: str) -> None:
        """Forbids the removal of channels, for a reason that completes "pinned: ..."."""
        self._walk.pin(self.node, ids, why)

    def pin_all(self, why: str) -> None:
        """Pins whatever reaches this op."""
        for known in self.facts:
            for ids in known.ids:
                self.pin(ids, why)

    def pin_others(self, index: int, kept: Sequence[int], why: str) -> None:
        """Pins the axes of input `index` but for those kept, whose ids are carried on."""
        rank = self[index].rank
        if rank:
            for axis in {*range(rank)} - {axis % rank for axis in kept}:
                self.pin(self[index].channels(axis), why)

    def mark(self, ids: Ids, role: str) -> None:
        """Notes the role (`producer` or `consumer`) of a parameter's axis."""
        self._walk.mark(self.node, ids, role)

    def contract(self, **about: Any) -> None:
        """Notes a `Contraction` of this op."""
        about.update({key: self._slots[about[key]] for key in ("data", "weights")})
        self._walk.contractions.append(Contraction(node=self.node.name, **about))

    def sum_over(self, index: int, axis: int) -> None:
        """Notes that an axis of input `index` is summed over: a contraction with ones.

        A sum of weights alone pins them: without some of its terms it would be another number.
        """
        ids = self[index].channels(axis)
        if self.is_constant(index):
            self.pin(ids, f"it is summed over by a {self.node.op}")
        elif ids is not None:
            self.contract(
                data=index,
                weights=index,
                axis=axis,
                into=ids,
                out=None,
                matrix=lambda _: np.ones((1, len(ids), 1)),
                uniform=False,
            )

    def merge(self, factors: Sequence[Ids], sizes: Sequence[int]) -> Ids:
        """The ids of an axis that several are flattened into; None, and all pinned, if too long."""
        merged: Ids = self._walk.merge(self.node, factors, sizes)
        return merged

    def split(
        self, flat: np.ndarray, sizes: Sequence[int], preferred: Optional[int]
    ) -> Sequence[Ids]:
        """The ids of the axes that one is split into; of them one, or with None all, may be cut."""
        parts: Sequence[np.ndarray] = self._walk.split(self.node, flat, sizes, preferred)
        return parts

    def apart(self, flat: np.ndarray) -> Optional[Joint]:
        """What an axis was merged from, if it is whole and as it was then, to be followed on."""
        joint: Optional[Joint] = self._walk.apart(flat)
        return joint

    def resize(self, index: int, element: int, ids: Ids, sign: int = 1) -> None:
        """Binds one number of input `index`, a size, to channels: it shrinks as they go.

        Where the number does not come from one constant, or from the size of the same channels
        elsewhere, the channels are pinned. Call it for axes without ids as well: a number that
        counts channels may not change there. With `sign` -1 the number is minus how many.
        """
        slot = self._slots[index]
        self._walk.sizes.resize(self.node, slot, self[index], element, ids, sign)

    def counted(self, index: int, element: int) -> Tuple[Optional[int], Ids]:
        """The size that a number of input `index` states, and the ids of what it counts.

        A constant counts new channels, which it is bound to, and a number that comes from `Shape`
        those of that tensor. None for a size that is not known, and for ids where the number may
        not change.
        """
        found: Tuple[Optional[int], Ids] = self._walk.sizes.counted(
            self.node, self._slots[index], self[index], element
        )
        return found

    def counts(self, index: int, element: int) -> bool:
        """Whether a number of input `index` comes from how many channels there are."""
        counts: bool = self._walk.sizes.changes(self[index], element)
        return counts

    def sized(self, index: int) -> Fact:
        """The fact of a tensor whose shape input `index` holds; its ids are those of `counted`."""
        given = self[index]
        if given.value is None:
            size = given.size(0)
            return UNKNOWN if size is None or given.rank != 1 else fact((None,) * size)
        found = [self.counted(index, element) for element in range(given.value.size)]
        return Fact(tuple([size for size, _ in found]), tuple([ids for _, ids in found]))

    def renumber(self, index: int, ids: np.ndarray) -> None:
        """Takes input `index`, a vector of positions along an axis with these ids, along.

        Entries go as the channels that they pick, and those that stay are renumbered. What is
        picked by anything else than a constant is pinned.
        """
        self._walk.sizes.renumber(self.node, self._slots[index], self[index], ids)

    def literal(self, index: int) -> Optional[List[int]]:
        """The numbers of input `index`, which may not change; None if one is unknown.

        For axes, orders and the like; pins channels that such a number counts.
        """
        numbers: Optional[List[int]] = self._walk.sizes.literal(
            self.node, self._slots[index], self[index]
        )
        return numbers

    def same_batch(self, index: int, sizes: int) -> bool:
        """Whether input `sizes` begins with the open size of the first axis of input `index`."""
        atoms, batch = self[sizes].atoms, self[index].batch
        opened = self[index].size(0) is None and batch is not None
        return opened and atoms is not None and atoms.size > 0 and float(atoms.ravel()[0]) == batch

    def is_constant(self, index: int) -> bool:
        """Whether input `index` is computed from constants alone."""
        constant: bool = self._walk.is_constant(self.node, self._slots[index])
        return constant

    def is_read(self, output: int) -> bool:
        """Whether an output of this op is read by another one, or is an output of the graph."""
        port, graph = Port(self.node.name, output), self._walk.graph
        return bool(graph.uses_of(port)) or port in graph.outputs

    def fresh(self, size: int) -> np.ndarray:
        """New ids that belong to no parameter; shape (size,)."""
        ids: np.ndarray = self._walk.fresh(size)
        return ids

    def constant(self, tensor: Tensor, tracked: bool) -> Fact:
        """The fact of a constant: new ids on every axis, and its numbers if `tracked`."""
        known: Fact = self._walk.constant(self.node, tensor, tracked)
        return known

    def given_shape(self) -> Dims:
        """The shape that the user gave for this input, or None."""
        shape: Dims = self._walk.graph.input_shapes.get(self.node.name)
        return shape

    def shape_attr(self, key: str) -> Dims:
        """A shape attribute; None if absent or of open rank."""
        value = self.node.attrs.get(key)
        return None if value is None else value.dims

    def sources(self, node: Node) -> List[Port]:
        """Where the inputs of a node come from, behind identities."""
        found = list(self._walk.graph.data_inputs(node))
        for place, port in enumerate(found):
            while self._walk.graph[port.node].op in IDENTITIES:
                port = found[place] = self._walk.graph.data_inputs(port.node)[0]
        return found

    def maker(self, index: int) -> Node:
        """The op that input `index` comes from, behind identities."""
        node: Node = self._walk.graph[self.sources(self.node)[index].node]
        return node

    def readers(self, node: Optional[Node] = None) -> List[Node]:
        """What reads the first output of a node, by default of this one, behind identities."""
        found, waiting = [], [Port((node or self.node).name)]
        while waiting:
            for use in self._walk.graph.uses_of(waiting.pop()):
                reader = self._walk.graph[use.node]
                if reader.op in IDENTITIES:
                    waiting.append(Port(reader.name))
                else:
                    found.append(reader)
        return found


class ValueVisit:
    """An op as a value rule sees it.

    `op[i]` is what is known of input i: an array broadcastable to it, of size 1 along axes over
    which it does not vary, NaN where unknown; or None where nothing is known.
    """

    def __init__(
        self,
        node: Node,
        values: Sequence[Optional[np.ndarray]],
        facts: Sequence[Fact],
        outs: Sequence[Fact],
        zero_below: float,
    ) -> None:
        self.node, self.values, self.facts, self.outs = node, values, facts, outs
        self.zero_below = zero_below

    def __getitem__(self, index: int) -> Optional[np.ndarray]:
        return self.values[index]

    def __len__(self) -> int:
        return len(self.values)

    def snap(self, weights: np.ndarray) -> np.ndarray:
        """Weights with those that count as zero set to zero."""
        if self.zero_below <= 0:
            return weights
        small = np.abs(weights) < self.zero_below
        return np.where(small, 0, weights) if small.any() else weights


ChannelRule = Callable[[OpVisit], Union[Fact, Sequence[Fact]]]
ValueRule = Callable[[ValueVisit], Any]
CostRule = Callable[[Node, Sequence[Fact], Sequence[Fact]], Optional[int]]

CHANNEL_RULES: Dict[str, ChannelRule] = {}
VALUE_RULES: Dict[str, ValueRule] = {}
COST_RULES: Dict[str, CostRule] = {}
STRUCTURAL = set()  # type: set[str]
"""Ops whose value rule only moves elements about, so that it can move their origins as well."""


def channel_rule(*ops: str, replace: bool = False) -> Callable[[ChannelRule], ChannelRule]:
    """Registers what ops do to shapes and channel ids.

    Raises:
        AnalysisError: an op has a rule already and `replace` is not given.
    """

    def register(function: ChannelRule) -> ChannelRule:
        with definition(function):
            for op in ops:
                if op in CHANNEL_RULES and not replace:
                    raise AnalysisError(
                        "this op has a channel rule already", op, "pass replace=True"
                    )
                CHANNEL_RULES[op] = function
        return function

    return register


def value_rule(*ops: str, structural: bool = False) -> Callable[[ValueRule], ValueRule]:
    """Registers how ops compute on known values; `structural` ops only move elements about."""

    def register(function: ValueRule) -> ValueRule:
        for op in ops:
            VALUE_RULES[op] = function
            if structural:
                STRUCTURAL.add(op)
        return function

    return register


def cost_rule(*ops: str) -> Callable[[CostRule], CostRule]:
    """Registers how many multiply-accumulates ops take, from the facts of inputs and outputs."""

    def register(function: CostRule) -> CostRule:
        for op in ops:
            COST_RULES[op] = function
        return function

    return register


def product(sizes: Sequence[Optional[int]]) -> Optional[int]:
    """The product of sizes, None if one is open."""
    total = 1
    for size in sizes:
        if size is None:
            return None
        total *= size
    return total


def channel_axis(node: Node) -> int:
    """The channel axis that a `data_format` attribute names: 1 for NCHW, else the last."""
    return 1 if node.text("data_format", "NHWC").startswith("NC") else -1


def spatial_axes(node: Node) -> Tuple[int, int]:
    """The height and width axes that a `data_format` attribute names."""
    return (2, 3) if channel_axis(node) == 1 else (1, 2)


def known(value: Optional[np.ndarray]) -> Optional[np.ndarray]:
    """A value if all of it is known, else None."""
    return None if value is None or np.isnan(value).any() else value


def per_channel(value: Optional[np.ndarray], axis: int, width: int) -> np.ndarray:
    """Values along an axis, NaN where unknown or varying along another; float64 of (width,)."""
    if value is None or (value.size != 1 and value.shape[axis] != value.size):
        return np.full(width, np.nan)
    if value.size not in (1, width):
        return np.full(width, np.nan)
    return np.broadcast_to(value.ravel(), (width,)).astype(np.float64)


def integers(known_fact: Fact) -> Optional[List[int]]:
    """The numbers of an integer tensor if all are known, flat."""
    value = known(known_fact.value)
    return None if value is None else [int(number) for number in value.ravel()]
