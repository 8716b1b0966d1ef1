"""One op, as its channel rule sees it: what it reads, and what the rule says of its channels."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence, Set, Tuple

import numpy as np

from graphslim.channels.facts import (
    LONGEST,
    LONGEST_FLAT,
    UNKNOWN,
    Axis,
    Dims,
    Fact,
    Ids,
    Joint,
    fact,
    fits,
)
from graphslim.channels.norms import is_statistic
from graphslim.channels.notes import Contraction, Pin, Renumber, Resize, Statistic
from graphslim.channels.origins import FIRST, Counted, origin_of
from graphslim.channels.reasons import ComputedSize, OpenSize, Unfollowed
from graphslim.errors import AnalysisError
from graphslim.ir import IDENTITIES, Graph, Node, Port, Tensor
from graphslim.ir.query import behind, uses_behind
from graphslim.support.importing import blaming, is_built_in
from graphslim.support.text import meant

MARKS = ("producer", "consumer", "follower")
"""What an axis of a parameter may be to an op."""
UNFOLLOWED = ComputedSize("its size is computed in a way that is not followed")


class OpVisit:
    """An op as a channel rule sees it, while the walk over the graph visits it.

    A rule is a function that takes one of these and returns the `Fact` of the op's output, or a
    list of them, one for each output; it is registered with `@channel_rule("Op", ...)`. `op[i]` is
    the fact of input i, `len(op)` says how many inputs there are, and `op.node.attrs` holds the
    attributes. For each axis of each input a rule says one of these:

    - The channels go on: put the input's ids into the fact that is returned, whole, in pieces or
      joined, as the op moves the positions.
    - They are the same channels as others, so that one goes only if the other does: `tie`.
    - They are summed over: `contract`, or `sum_over` where there are no weights.
    - They are normalised over, and may go all the same: `normalise`.
    - They may not go: `pin`, with a reason for the user.

    What a rule forgets is pinned. Where an input holds numbers, such as a shape or a position, use
    `literal` for numbers that may not change, and `resize` or `counted` for those that are to
    shrink as the channels that they count go.

    Attributes:
        node: the op.
        facts: what it reads, a fact for each input.
        taken: the numbers of inputs, by slot and element, that the rule has used.
    """

    def __init__(
        self, node: Node, facts: Sequence[Fact], walk: Any, slots: Optional[Sequence[int]] = None
    ) -> None:
        self.node, self.facts, self._walk = node, facts, walk
        self._slots = range(len(facts)) if slots is None else slots
        self.taken: Set[Tuple[int, int]] = set()

    def part(self, facts: Sequence[Fact], slots: Sequence[int]) -> OpVisit:
        """The last step of an op that does several, as a rule for that step alone sees it.

        Args:
            facts: what the step reads.
            slots: for each, the input of the op that it comes from.
        """
        step = type(self)(self.node, facts, self._walk, slots)
        step.taken = self.taken
        return step

    def __getitem__(self, index: int) -> Fact:
        try:
            return self.facts[index]
        except IndexError:
            raise AnalysisError(
                f"a {self.node.op} with {len(self.facts)} inputs, needs more", self.node.name
            ) from None

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def _graph(self) -> Graph:
        """The graph, for rules that look at more than what the op reads."""
        self._walk.looked_around = True
        graph: Graph = self._walk.graph
        return graph

    # --- What a rule says of channels.

    def tie(self, first: Ids, second: Ids) -> None:
        """Makes channels one, position by position; an unknown side pins the other.

        An axis that is tied, and neither handed on nor summed over, is seen to only if what it is
        tied to is.

        Args:
            first, second: ids, such as `op[0].channels(-1)`, or a slice of them; None where they
                are not followed.

        Raises:
            AnalysisError: the lengths differ.
        """
        if first is None or second is None:
            self.pin(
                first if second is None else second,
                Unfollowed("it meets an axis that is not followed"),
            )
        elif first is not second:
            if len(first) != len(second):
                raise AnalysisError(
                    f"{len(first)} channels meet {len(second)} in this {self.node.op}",
                    self.node.name,
                    "the graph is damaged or was changed by hand",
                )
            self._walk.ties.append((first, second))

    def tie_all(self, arrays: Sequence[Ids]) -> Ids:
        """Makes the channels of several axes one; gives their ids, None if one is not followed.

        Raises:
            AnalysisError: the lengths differ.
        """
        first = next((ids for ids in arrays if ids is not None), None)
        if first is not None:
            for ids in arrays:
                self.tie(first, ids)
        return first if all(ids is not None for ids in arrays) else None

    def pin(self, ids: Ids, why: str) -> None:
        """Forbids the removal of channels, for a reason that completes "pinned: ..."."""
        if ids is not None and len(ids):
            self._walk.pins.append(Pin(ids, why, self.node.name))

    def pin_all(self, why: str) -> None:
        """Pins whatever reaches this op."""
        self.pin_inputs(0, why)

    def pin_inputs(self, first: int, why: str) -> None:
        """Pins every axis of the inputs from `first` on."""
        for known in self.facts[first:]:
            for ids in known.ids:
                self.pin(ids, why)

    def pin_others(self, index: int, kept: Sequence[int], why: str) -> None:
        """Pins the axes of input `index` but for those kept, whose ids are carried on."""
        rank = self[index].rank
        if rank:
            for axis in {*range(rank)} - {axis % rank for axis in kept}:
                self.pin(self[index].channels(axis), why)

    def mark(self, ids: Ids, role: str) -> None:
        """Notes what an axis of a parameter is to this op; plans, reports and repair tell by it.

        A mark sees to no channels: they are tied, handed on or summed over besides. Nor does it
        make weights known to criteria, which score those of contractions: see `contract`.

        Args:
            ids: of the axis, such as `op[1].channels(-1)`.
            role: `producer` where it makes channels (the last axis of a filter), `consumer` where
                it reads them, `follower` where it goes along (a bias).

        Raises:
            AnalysisError: there is no such role.
        """
        if role not in MARKS:
            raise AnalysisError(f"no role {role!r}", self.node.name, meant(role, MARKS))
        if ids is not None:
            self._walk.marks.append((ids, role, self.node.name))

    def contract(
        self,
        *,
        data: int,
        weights: int,
        axis: int,
        into: np.ndarray,
        out: Ids,
        matrix: Callable[[np.ndarray], np.ndarray],
        uniform: bool = False,
    ) -> None:
        """Notes that channels are summed over with weights, as by a convolution or a product.

        It sees to the channels `into` and `out`. The axis of the weights that lies beside `into`
        is tied to it by the rule, and both axes of the weights are marked.

        Args:
            data, weights: the indices of the inputs that are summed and that weigh.
            axis: the axis of `data` that is summed over.
            into: ids of that axis, int64 of shape (c_in,).
            out: ids of the axis of the weights that makes channels, int64 of shape (c_out,), which
                the rule hands on; None where they are not followed, and all of `into` is needed.
            matrix: turns the weights, an array as wide as they are at the time, into an array of
                shape (taps, c_in, c_out): a tap is a position of a filter, such as one of 3x3; a
                matrix product has one. c_out is 1 where `out` is None.
            uniform: whether every position of the output sees every tap, which padding prevents.
                Dead channels of a constant other than zero are then folded into the next bias.
        """
        if not is_built_in(matrix):
            matrix = _checked(matrix, self.node)
        summed = Contraction(
            self.node.name,
            self._slots[data],
            self._slots[weights],
            axis,
            into,
            out,
            matrix,
            uniform,
        )
        self._walk.contractions.append(summed)

    def sum_over(self, index: int, axis: int) -> None:
        """Notes that an axis of input `index` is summed over: a contraction with ones.

        For sums without weights, and for sums with weights whose op is not followed further. The
        channels may go where they are known to be zero; what is handed on as well, such as the
        state of a recurrent cell, is summed over too, and has to be said so.

        A sum of weights alone pins them: without some of its terms it would be another number.
        """
        ids = self[index].channels(axis)
        if self.is_constant(index):
            self.pin(ids, f"it is summed over by a {self.node.op}")
        elif ids is not None:
            width = len(ids)
            self.contract(
                data=index,
                weights=index,
                axis=axis,
                into=ids,
                out=None,
                matrix=lambda _: np.ones((1, width, 1)),
                uniform=False,
            )

    @property
    def through_norms(self) -> bool:
        """Whether channels may go that a norm weighs against each other."""
        allowed: bool = self._graph.through_norms
        return allowed

    def is_statistic(self) -> bool:
        """Whether this is a reduction in a norm, as far as that is recognised."""
        rank = self[0].rank
        if rank is None or self.is_constant(0):
            return False
        return is_statistic(self._graph, self.node, rank)

    def normalise(self, axis: int, keeps: bool = False) -> None:
        """Notes that this op, a norm or a part of one, runs over the channels that stay.

        Args:
            axis: of its first input.
            keeps: whether its output has the axis too.
        """
        ids = self[0].channels(axis)
        if ids is not None:
            self._walk.statistics.append(Statistic(self.node.name, axis, ids, keeps))

    def note_heads(self, ids: Ids) -> None:
        """Notes an axis of attention heads: one along which two tensors are multiplied in pairs."""
        if ids is not None and "whole_heads" in self._walk.graph.asked:
            self._walk.heads.append(ids)

    def fresh(self, size: int) -> np.ndarray:
        """New ids that belong to no parameter; int64 of shape (size,)."""
        ids: np.ndarray = self._walk.fresh(size)
        return ids

    def constant(self, tensor: Tensor, tracked: bool) -> Fact:
        """The fact of a constant: new ids on every axis, and its numbers if `tracked`."""
        known: Fact = self._walk.parameter(self.node, tensor.shape)
        if not tracked:
            return known
        origins = self._walk.sizes.constant(self.node.name, tensor.shape, tensor.size)
        return known._replace(value=tensor.numbers().astype(np.float64), origins=origins)

    # --- Axes that are flattened into one, and axes that one is split into; see `Joint`.

    def merge(self, factors: Sequence[Ids], sizes: Sequence[int]) -> Ids:
        """The ids of an axis that several are flattened into; None, and all pinned, if too long.

        An axis that was merged before counts as those that it came from.
        """
        parts: List[Ids] = []
        widths: List[int] = []
        for ids, size in zip(factors, sizes):
            before = None if ids is None else self.apart(ids)
            parts.extend([ids] if before is None else before.factors)
            widths.extend([size] if before is None else before.sizes)
        length = int(np.prod(widths, dtype=object))
        if length > LONGEST_FLAT:
            for ids in factors:
                self.pin(ids, "it is flattened into an axis that is too long to follow")
            return None
        flat = self.fresh(length)
        self._walk.joints.append(Joint(self.node.name, flat, tuple(widths), tuple(parts)))
        return flat

    def split(
        self, flat: np.ndarray, sizes: Sequence[int], preferred: Optional[int]
    ) -> Sequence[Ids]:
        """The ids of the axes that one is split into; of them one, or with None all, may be cut."""
        parts = tuple([self.fresh(size) for size in sizes])
        self._walk.joints.append(Joint(self.node.name, flat, tuple(sizes), parts, preferred))
        return parts

    def apart(self, flat: np.ndarray) -> Optional[Joint]:
        """What an axis was merged from, if it is whole and as it was then, to be followed on."""
        for joint in self._walk.joints:
            self._walk.looked_around = True
            if joint.preferred is None and np.array_equal(joint.flat, flat):
                self._walk.joints.append(joint)  # once more, so that the audit sees it followed
                known: Joint = joint
                return known
        return None

    # --- Numbers that an op reads: sizes, positions, axes.

    def resize(self, index: int, element: int, ids: Ids, sign: int = 1) -> None:
        """Binds one number of input `index`, a size, to channels: it shrinks as they go.

        Where the number does not come from one constant, or from the size of the same channels
        elsewhere, the channels are pinned. Call it for axes without ids as well: a number that
        counts channels may not change there. With `sign` -1 the number is minus how many.
        """
        slot, origin = self._slots[index], origin_of(self[index], element)
        counted = self._source(index, element)
        if counted is not None:
            if ids is None or sign < 0 or counted.share is None:
                self.pin(ids, UNFOLLOWED)
                self.pin(counted.ids, UNFOLLOWED)
            else:
                self._walk.sizes.awaited.append((self, counted, ids))
        elif ids is None or not len(ids):
            return
        elif origin < 0:
            self.pin(ids, ComputedSize("its size is computed from numbers that stay"))
        else:
            param, at = self._walk.sizes.element(origin)
            resize = Resize(self.node.name, slot, element, param, at, ids, sign)
            self._walk.sizes.resizes.append(resize)

    def counted(self, index: int, element: int) -> Axis:
        """The size that a number of input `index` states, and the ids of what it counts.

        A constant counts new channels, which it is bound to, and a number that comes from `Shape`
        those of that tensor. None for a size that is not known, and for ids where the number may
        not change.
        """
        number = float(np.asarray(self[index].value).item(element))
        counted = self._source(index, element)
        if counted is not None:
            share = counted.share
            followed = fits(LONGEST, len(counted.ids), int(share or 0))
            if share is not None and share.denominator == 1 and followed:
                return int(number), np.tile(counted.ids, int(share))
            self.pin(counted.ids, UNFOLLOWED)
        if np.isnan(number):
            return None, None
        if origin_of(self[index], element) < 0 or not 0 <= number <= LONGEST:
            return int(number), None
        ids = self.fresh(int(number))
        self.resize(index, element, ids)
        return int(number), ids

    def counts(self, index: int, element: int) -> bool:
        """Whether a number of input `index` comes from how many channels there are."""
        return bool(self._walk.sizes.counts(origin_of(self[index], element)))

    def sized(self, index: int) -> Fact:
        """The fact of a tensor whose shape input `index` holds; its ids are those of `counted`."""
        given = self[index]
        if given.value is None:
            size = given.size(0)
            return UNKNOWN if size is None or given.rank != 1 else fact((None,) * size)
        return Fact.of([self.counted(index, element) for element in range(given.value.size)])

    def literal(self, index: int) -> Optional[List[int]]:
        """The numbers of input `index`, which may not change; None if one is unknown.

        For axes, orders and the like; pins channels that such a number counts.
        """
        for element, counted in self._walk.sizes.counts_in(self[index]):
            self.taken.add((self._slots[index], element))
            self.pin(counted.ids, ComputedSize(f"its size is used by a {self.node.op}"))
        value = self[index].value
        if value is None or np.isnan(value).any():
            return None
        return [int(number) for number in value.ravel()]

    def renumber(self, index: int, ids: np.ndarray) -> None:
        """Takes input `index`, a vector of positions along an axis with these ids, along.

        Entries go as the channels that they pick, and those that stay are renumbered. What is
        picked by anything else than a constant is pinned.
        """
        value, own, param = self[index].value, self[index].channels(0), self._index_vector(index)
        if own is None or value is None or param is None:
            for axis in (own, ids):
                self.pin(axis, OpenSize("it is picked by positions that are not constant"))
            return
        self.tie(own, ids[value.astype(np.int64)])
        renumber = Renumber(self.node.name, self._slots[index], param, ids)
        self._walk.sizes.renumbers.append(renumber)

    def same_batch(self, index: int, sizes: int) -> bool:
        """Whether input `sizes` begins with the open size of the first axis of input `index`."""
        numbers, batch = self[sizes].origins, self[index].batch
        if self[index].size(0) is not None or batch is None or numbers is None or not numbers.size:
            return False
        return float(numbers.ravel()[0]) == batch

    def _source(self, index: int, element: int) -> Optional[Counted]:
        """What a number counts, if it comes from the size of an axis; it is taken care of."""
        self.taken.add((self._slots[index], element))
        origin = origin_of(self[index], element)
        sources: List[Counted] = self._walk.sizes.counts(origin) if origin <= FIRST else []
        return sources[0] if sources else None

    def _index_vector(self, index: int) -> Optional[str]:
        """The constant whose elements an input is, all and in order, if it only picks by them."""
        origins, graph = self[index].origins, self._graph
        if origins is None or origins.ndim != 1 or not origins.size or origins[0] < 0:
            return None
        param, first = self._walk.sizes.element(origins[0])
        whole = first == 0 and graph[param].attrs["value"].size == origins.size
        if not whole or (np.diff(origins) != 1).any():
            return None
        uses = uses_behind(graph, Port(param), IDENTITIES | {"Cast"})
        picks = [graph[use.node].op in ("Gather", "GatherV2") and use.index == 1 for use in uses]
        return str(param) if all(picks) else None

    # --- The graph around the op.

    def is_constant(self, index: int) -> bool:
        """Whether input `index` is computed from constants alone."""
        constant: bool = self._walk.is_constant(self.node, self._slots[index])
        return constant

    def is_read(self, output: int) -> bool:
        """Whether an output of this op is read by another one, or is an output of the graph."""
        port, graph = Port(self.node.name, output), self._graph
        return bool(graph.uses_of(port)) or port in graph.outputs

    def given_shape(self) -> Dims:
        """The shape that the user gave for this input, or None."""
        shape: Dims = self._graph.input_shapes.get(self.node.name)
        return shape

    def shape_attr(self, key: str) -> Dims:
        """A shape attribute; None if absent or of open rank."""
        value = self.node.attrs.get(key)
        return None if value is None else value.dims

    def sources(self, node: Node) -> List[Port]:
        """Where the inputs of a node come from, behind identities."""
        graph = self._graph
        return [behind(graph, port) for port in graph.data_inputs(node)]

    def maker(self, index: int) -> Node:
        """The op that input `index` comes from, behind identities."""
        node: Node = self._graph[self.sources(self.node)[index].node]
        return node

    def readers(self, node: Optional[Node] = None) -> List[Node]:
        """What reads the first output of a node, by default of this one, behind identities."""
        graph = self._graph
        return [graph[use.node] for use in uses_behind(graph, Port((node or self.node).name))]


def _checked(
    matrix: Callable[[np.ndarray], np.ndarray], node: Node
) -> Callable[[np.ndarray], np.ndarray]:
    """A `matrix` of an extension, whose failures name it."""

    def checked(weights: np.ndarray) -> np.ndarray:
        with blaming("matrix", matrix, node.name, AnalysisError, node.op):
            result = np.asarray(matrix(weights))
            if result.ndim != 3:
                raise ValueError(
                    f"an array of shape {result.shape}, not of (taps, channels in, channels out)"
                )
        return result

    return checked
