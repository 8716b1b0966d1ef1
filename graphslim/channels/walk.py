"""The walk over a graph that names every channel: facts, ties, pins and contractions.

After each visit the walk looks for axes of which the rule of the op said nothing, and pins them:
no op drops channels silently. A channel that nobody needs counts as dead, so that a rule which
forgets one would have it removed.
"""

from __future__ import annotations

from collections import Counter
from typing import (
    Any,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Type,
)

import numpy as np

from graphslim.channels.computed import ComputedWeights, element_type
from graphslim.channels.facts import LONGEST, UNKNOWN, Fact, Ids, Joint, fact
from graphslim.channels.pieces import Ranges
from graphslim.channels.reasons import IsInput, IsOutput, Reason, WeightsMade, WeightsMadeInRun
from graphslim.channels.rules import CHANNEL_RULES, guarded, stated, wall
from graphslim.channels.sizes import Sizes
from graphslim.channels.visit import Contraction, OpVisit, Pin
from graphslim.errors import AnalysisError
from graphslim.ir import IDENTITIES, Graph, Node, Port, Use
from graphslim.ir.families import BROADCASTING, MEASURES
from graphslim.ir.query import constant_nodes

FOLLOWED = 1 << 23
"""How many positions one walk follows in all, beside one for each byte of the file."""


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


class Walk:
    """One walk over the graph, in topological order; each op is visited by its rule (`OpVisit`).

    Attributes:
        graph: the graph.
        facts: per node, the fact of each output.
        axes: every axis of every parameter.
        ties: pairs of id arrays that are one channel, position by position.
        pins: channels that may not go.
        marks: ids with the role that they have for a parameter, and the node that says so.
        contractions, joints: as the rules noted them.
        sizes: the numbers that count channels.
        computed: the weights that are computed from constants.
        ranges: the ranges in which ids were given out.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.facts: Dict[str, Sequence[Fact]] = {}
        self.axes: List[ParamAxis] = []
        self.ties: List[Tuple[np.ndarray, np.ndarray]] = []
        self.pins: List[Pin] = []
        self.marks: List[Tuple[np.ndarray, str, str]] = []
        self.contractions: List[Contraction] = []
        self.joints: List[Joint] = []
        self.sizes = Sizes(graph)
        self.computed = ComputedWeights(graph, self.facts)
        self.ranges = Ranges()
        self._shared: Dict[Port, Optional[Node]] = {}
        self._spent, self._seen = 0, {}  # type: int, Dict[int, np.ndarray]
        self._budget = FOLLOWED + (len(graph.origin.data) if graph.origin else 0)
        self._fed = frozenset(graph.inputs)
        self._reads = Counter(graph.outputs)
        for node in graph:
            self._reads.update(graph.inputs_of(node))
        self._constants: Set[str] = set(constant_nodes(graph))

    @property
    def count(self) -> int:
        """How many ids there are."""
        return self.ranges.count

    def run(self) -> None:
        """Visits every node; what the rules say is left in the attributes."""
        for node in self.graph.order():
            guarded(self.visit, self.graph, node, node)
        for port in self.graph.outputs:
            known = self.fact(port)
            counted = [counted.ids for _, counted in self.sizes.counts_in(known)]
            op = OpVisit(self.graph[port.node], (), self)
            for ids in (*known.ids, *counted):
                op.pin(ids, IsOutput("it is a graph output"))

    def visit(self, node: Node) -> None:
        """Lets the rule of an op work, and sees to what it forgets."""
        op = OpVisit(node, self._room_for(node, self.read(node)), self)
        is_made = node.op != "Const" and node.name in self._constants
        before = [len(kind) for kind in (self._notes() if is_made else self._audited())]
        computable = self.computed.note(node) if node.name in self._constants else False
        rule = CHANNEL_RULES.get(node.op)
        if rule is None:
            op.pin_all(wall(node))
            self._tell_of_weights(op, before[1], computable)
            self.facts[node.name] = self.sizes.follow(op, stated(node, op.facts))
            return
        result = rule(op)
        outs = [result] if isinstance(result, Fact) else list(result or ())
        if result is None or not all([isinstance(out, Fact) for out in outs]):
            raise TypeError("a channel rule gives a Fact, or a list of them")
        outs = self.facts[node.name] = self.sizes.follow(op, _with_stated_shapes(node, outs))
        self.spend([ids for out in outs for ids in out.ids if ids is not None])
        self._audit(op, outs, before)
        if is_made:
            weighs = len(self.contractions) > before[2] or self._pins_many(op, before[1])
            if weighs and computable and self.computed.store(node, outs):
                for kind, length in zip(self._notes(), before):
                    del kind[length:]
                sizes = [size or 0 for size in outs[0].shape or ()]
                self.facts[node.name] = [self.parameter(node, sizes)]
                return
            self._tell_of_weights(op, before[1], computable)
        if node.name in self._fed:
            for ids in (ids for out in outs for ids in out.ids):
                op.pin(ids, IsInput("it is a graph input"))

    def fact(self, port: Port) -> Fact:
        """What is known of the tensor at a port."""
        outs, place = self.facts.get(port.node, ()), port.port
        return outs[place] if 0 <= place < len(outs) else UNKNOWN

    def read(self, node: Node) -> List[Fact]:
        """What a node reads.

        A vector that several ops read, such as the ones that grappler merged, couples none of
        them: each has ids of its own for it, and gets a copy of its own where their widths come
        to differ.
        """
        ports = self.graph.data_inputs(node)
        facts = [self.fact(port) for port in ports]
        if node.op in IDENTITIES:
            return facts
        for slot, port in enumerate(ports):
            if port.node not in self._constants:
                continue
            if port not in self._shared:
                self._shared[port] = self._shared_vector(port)
            source = self._shared[port]
            if source is not None:
                shape, size = source.attrs["value"].shape, source.attrs["value"].size
                axis, use = shape.index(size), Use(node.name, slot)
                self.axes.append(ParamAxis(source.name, axis, self.count, size, use))
                facts[slot] = fact(shape, {axis: self.fresh(size)})
        return facts

    def is_constant(self, node: Node, index: int) -> bool:
        """Whether input `index` of a node is computed from constants alone."""
        return self.graph.data_inputs(node)[index].node in self._constants

    def fresh(self, size: int) -> np.ndarray:
        """New ids that belong to no parameter; int64 of shape (size,)."""
        self._check(self.count + size + self._spent)
        return self.ranges.new(size)

    def parameter(self, node: Node, shape: Sequence[int]) -> Fact:
        """The fact of a parameter: fresh ids on every axis."""
        ids: Dict[int, Ids] = {}
        for axis, size in enumerate(shape):
            if size <= LONGEST:
                self.axes.append(ParamAxis(node.name, axis, self.count, size))
                ids[axis] = self.fresh(size)
        return fact(tuple(shape), ids)

    def _shared_vector(self, port: Port) -> Optional[Node]:
        """The vector at a port of a constant, behind identities, if others read it too."""
        path = [port]
        while self.graph[path[-1].node].op in IDENTITIES:
            path.append(self.graph.data_inputs(path[-1].node)[0])
        # Each identity on the way is itself one reader of what stands before it.
        if sum([self._reads[passed] for passed in path]) <= len(path):
            return None
        node = self.graph[path[-1].node]
        tensor = node.attrs["value"] if node.op == "Const" else None
        if tensor is None or not tensor.dtype.is_floating:
            return None
        if tensor.size <= 1 or tensor.size != max(tensor.shape):
            return None
        uses = [use for passed in path for use in self.graph.uses_of(passed)]
        # One of several axes may be a filter that convolutions share: that is one parameter.
        readers = {self.graph[use.node].op for use in uses} - IDENTITIES
        return node if len(tensor.shape) == 1 or readers <= BROADCASTING else None

    # --- What a visit leaves behind, and what its rule forgot.

    def _audited(self) -> Tuple[List[Any], ...]:
        """The notes that tell the audit what a rule has seen to."""
        return self.ties, self.pins, self.contractions, self.joints

    def _notes(self) -> Tuple[List[Any], ...]:
        """All that a visit may add to; first what the audit looks at, in its order."""
        sizes = self.sizes
        lists: Tuple[List[Any], ...] = (self.marks, self.axes)
        return (*self._audited(), *lists, sizes.resizes, sizes.renumbers, sizes.awaited)

    def _audit(self, op: OpVisit, outs: Sequence[Fact], before: Sequence[int]) -> None:
        """Pins the channels that the rule of an op forgot.

        Args:
            op: the visit.
            outs: what the op gives: their ids are carried on.
            before: how many notes of each kind there were when the visit began.
        """
        given = [ids for out in outs for ids in out.ids if ids is not None]
        known = {id(ids) for ids in given}
        # Most ops hand on the very arrays that they read, and nothing is left to search for.
        unseen = [
            ids
            for read in op.facts
            for ids in read.ids
            if ids is not None and id(ids) not in known and len(ids)
        ]
        if not unseen or op.node.op in MEASURES:
            return
        ties, pins, contractions, joints = before[:4]
        seen = [*given, *[pin.ids for pin in self.pins[pins:]]]
        for summed in self.contractions[contractions:]:
            seen += [summed.into] if summed.out is None else [summed.into, summed.out]
        for joint in self.joints[joints:]:
            seen += [joint.flat, *[ids for ids in joint.factors if ids is not None]]
        among = _Among(self.ranges, seen)
        among.follow(self.ties[ties:])
        for ids in unseen:
            if ids not in among:
                op.pin(ids, f"a {op.node.op} uses it in a way that is not followed")

    def _pins_many(self, op: OpVisit, first: int) -> bool:
        """Whether one of the pins from the first on holds more than an axis of size 1.

        Those of axes, sizes and the like do not count.
        """
        numbers = {id(ids) for known in op.facts if known.value is not None for ids in known.ids}
        return any(len(pin.ids) > 1 and id(pin.ids) not in numbers for pin in self.pins[first:])

    def _tell_of_weights(self, op: OpVisit, first: int, computable: bool) -> None:
        """Says of the pins from the first on that it is weights that are held, if they are."""
        node = op.node
        if len(self.pins) == first or node.op == "Const" or node.name not in self._constants:
            return
        dtype = element_type(node)
        if dtype is None or not dtype.is_floating or not self._pins_many(op, first):
            return
        kind: Type[Reason] = WeightsMade
        if node.name in self.computed.opaque:
            how = "in a way that is not known"
        elif computable:
            how = "to numbers that are not known"
        else:
            kind, how = WeightsMadeInRun, "while the graph runs"
        why = kind(f"weights are computed from it by a {node.op}, {how}")
        self.pins[first:] = [pin._replace(why=why) for pin in self.pins[first:]]

    # --- What keeps a walk within bounds.

    def spend(self, arrays: Iterable[np.ndarray]) -> None:
        """Counts the positions of arrays that a walk keeps; each array once.

        Raises:
            AnalysisError: there are more positions than a file of this size may state.
        """
        before = self._spent
        for ids in arrays:
            if id(ids) not in self._seen:
                self._seen[id(ids)] = ids
                self._spent += len(ids)
        if self._spent > before:
            self._check(self._spent + self.count)

    def _check(self, positions: int) -> None:
        if positions > self._budget:
            raise AnalysisError(
                f"the graph states more channels than are followed: {positions:,} positions, "
                f"where a file of this size may have {self._budget:,}",
                hint="its sizes look damaged",
            )

    def _room_for(self, node: Node, inputs: List[Fact]) -> List[Fact]:
        """What a node reads, without ids if they are too many to lay side by side."""
        if len(inputs) * (self._spent + self.count) <= 4 * LONGEST:
            return inputs
        lengths = [len(ids) for known in inputs for ids in known.ids if ids is not None]
        if sum(lengths) <= 4 * LONGEST:
            return inputs
        OpVisit(node, inputs, self).pin_all("it has too many positions to follow")
        return [known._replace(ids=(None,) * len(known.ids)) for known in inputs]


def _with_stated_shapes(node: Node, outs: List[Fact]) -> List[Fact]:
    """The outputs of an op, with the shapes that its attributes state where a rule knows none."""
    if not [out for out in outs if out.shape is None] or "_output_shapes" not in node.attrs:
        return outs
    shapes = stated(node, ())
    return [
        shapes[place] if out.shape is None and place < len(shapes) else out
        for place, out in enumerate(outs)
    ]


class _Among:
    """Ids that the rule of an op has seen to, for the search for those that it forgot.

    Args:
        ranges: in which the ids were given out.
        seen: arrays of ids.
    """

    def __init__(self, ranges: Ranges, seen: Sequence[np.ndarray]) -> None:
        self._ranges, self._arrays = ranges, {id(ids): ids for ids in seen if len(ids)}

    def follow(self, ties: Sequence[Tuple[np.ndarray, np.ndarray]]) -> None:
        """Adds what is tied to ids that are seen to."""
        left = [pair for pair in ties if len(pair[0])]
        while left:
            linked = [first in self or second in self for first, second in left]
            if not any(linked):
                break
            for pair in (pair for pair, is_linked in zip(left, linked) if is_linked):
                self._arrays.update({id(ids): ids for ids in pair})
            left = [pair for pair, is_linked in zip(left, linked) if not is_linked]

    def __contains__(self, ids: np.ndarray) -> bool:
        """Whether one of some ids is there: an op may take a part of an axis."""
        if id(ids) in self._arrays:
            return True
        arrays = list(self._arrays.values())
        if self._ranges.index(ids) is not None:
            # Two ranges as they were given out have no id in common.
            arrays = [other for other in arrays if self._ranges.index(other) is None]
        if not arrays:
            return False
        known = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        # Most of the time one of these two tells, and spares the search.
        if (known == ids[0]).any():
            return True
        if ids.max() < known.min() or ids.min() > known.max():
            return False
        # The kernel's axes and shapes are short: comparing them is quicker than sorting.
        return bool((known[:, None] == ids).any() if len(ids) <= 8 else np.isin(ids, known).any())
