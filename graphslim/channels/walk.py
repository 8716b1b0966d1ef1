"""The walk over a graph that names every channel: facts, ties, pins and contractions.

After each visit the walk looks for axes of which the rule of the op said nothing, and pins them:
no op drops channels silently. A channel that nobody needs counts as dead, so that a rule which
forgets one would have it removed.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import (
    Any,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Type,
)

import numpy as np

from graphslim.channels.computed import ComputedWeights, element_type
from graphslim.channels.facts import LONGEST, UNKNOWN, Fact, Ids, Joint, checked, fact
from graphslim.channels.kinds import Reading, RuleResult
from graphslim.channels.notes import Contraction, Pin, Resize, Statistic
from graphslim.channels.origins import origin_of
from graphslim.channels.pieces import Ranges
from graphslim.channels.reasons import (
    IsInput,
    IsOutput,
    Reason,
    Unsaid,
    WeightsMade,
    WeightsMadeInRun,
)
from graphslim.channels.rules import CHANNEL_RULES, guarded, stated, wall
from graphslim.channels.sizes import Sizes
from graphslim.channels.visit import OpVisit
from graphslim.errors import AnalysisError
from graphslim.ir import IDENTITIES, Graph, Node, Port, Use
from graphslim.ir.families import BROADCASTING, MEASURES
from graphslim.ir.query import constant_nodes
from graphslim.support.importing import is_built_in, named

_REPEATED = 5
"""So many kinds of notes, the first of `Walk._notes`, may be of the channels that an op reads
alone, and then hold for other ops of its kind too."""
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


def fact_at(facts: Mapping[str, Sequence[Fact]], port: Port) -> Fact:
    """What is known of the tensor at a port; of one that is not there, nothing.

    Args:
        facts: per node, the fact of each output.
        port: the port.
    """
    outs, place = facts.get(port.node, ()), port.port
    return outs[place] if 0 <= place < len(outs) else UNKNOWN


class Walk:
    """One walk over the graph, in topological order; each op is visited by its rule (`OpVisit`).

    Attributes:
        graph: the graph.
        facts: per node, the fact of each output.
        axes: every axis of every parameter.
        ties: pairs of id arrays that are one channel, position by position.
        pins: channels that may not go.
        marks: ids with the role that they have for a parameter, and the node that says so.
        contractions, statistics, joints: those that the rules noted.
        heads: ids of axes of attention heads, where whole ones are asked for.
        sizes: the numbers that count channels.
        computed: the weights that are computed from constants.
        ranges: the ranges in which ids were given out.
        looked_around: whether a rule has used more of the graph than the op and what it reads.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.facts: Dict[str, Sequence[Fact]] = {}
        self.axes: List[ParamAxis] = []
        self.ties: List[Tuple[np.ndarray, np.ndarray]] = []
        self.pins: List[Pin] = []
        self.marks: List[Tuple[np.ndarray, str, str]] = []
        self.contractions: List[Contraction] = []
        self.statistics: List[Statistic] = []
        self.heads: List[np.ndarray] = []
        self.joints: List[Joint] = []
        self.sizes = Sizes(graph)
        self.computed = ComputedWeights(graph, self.facts)
        self.ranges = Ranges()
        self.looked_around = False
        self._results: Dict[Any, RuleResult] = {}
        self._spent = 0
        self._budget = FOLLOWED + (len(graph.origin.data) if graph.origin else 0)
        self._fed = frozenset(graph.inputs)
        self._single = self._fed.union(graph.input_shapes)
        self._constants: Set[str] = set(constant_nodes(graph))
        plain = ("Const", *IDENTITIES)  # constants begin a tensor, the others pass one on
        self._plain = {op for op in plain if is_built_in(CHANNEL_RULES.get(op))}
        read = [port for node in graph for port in graph.inputs_of(node)]
        reads = Counter([port for port in (*graph.outputs, *read) if port.node in self._constants])
        self._several = {port for port, times in reads.items() if times > 1}
        self._shared: Dict[Port, Optional[Node]] = {}

    @property
    def count(self) -> int:
        """How many ids there are."""
        return self.ranges.count

    def run(self) -> None:
        """Visits every node; what the rules say is left in the attributes."""
        for node in self.graph.order():
            guarded(self.visit, self.graph, node, node, rule=CHANNEL_RULES.get(node.op))
        for port in self.graph.outputs:
            known = self.fact(port)
            counted = [counted.ids for _, counted in self.sizes.counts_in(known)]
            op = OpVisit(self.graph[port.node], (), self)
            for ids in (*known.ids, *counted):
                op.pin(ids, IsOutput("it is a graph output"))

    def visit(self, node: Node) -> None:
        """Notes what the rule of an op says, which is asked once for all ops of a kind."""
        facts, is_single = self.read(node), node.name in self._single
        if len(facts) < 2 and node.op in self._plain and not is_single:
            if not facts:
                begun = CHANNEL_RULES[node.op](OpVisit(node, (), self))
                facts = [begun] if isinstance(begun, Fact) else [*begun]
                self.spend([ids for known in facts for ids in known.ids])
            self.facts[node.name] = facts
            return
        if len(facts) * (self._spent + self.count) > 4 * LONGEST:
            facts = self._room_for(node, facts)
        ports = self.graph.data_inputs(node)
        is_constant = [port.node in self._constants for port in ports]
        reading = Reading(node, facts, is_constant, self.ranges)
        result = None if is_single else self._results.get(reading.key)
        if result is None:
            self._apply_rule(node, facts, reading)
        else:
            self._reuse(node, facts, reading, result)

    def _reuse(self, node: Node, facts: List[Fact], reading: Reading, result: RuleResult) -> None:
        """Notes of an op what its rule gave for another op of the same kind."""
        name, ids = node.name, [*reading.arrays, None]  # type: str, List[Any]
        self.facts[name] = result.outputs(reading, facts, self.sizes)
        self.ties += [(ids[first], ids[second]) for first, second in result.ties]
        self.pins += [Pin(ids[place], why, name) for place, why in result.pins]
        self.marks += [(ids[place], role, name) for place, role in result.marks]
        for *about, into, out, matrix, uniform in result.contractions:
            places = ids[into], None if out is None else ids[out]
            summed = Contraction._make((name, *about, *places, matrix, uniform))
            self.contractions.append(summed)
        for slot, element, place, sign in result.resizes:
            param, at = self.sizes.element(origin_of(facts[slot], element))
            self.sizes.resizes.append(Resize(name, slot, element, param, at, ids[place], sign))

    def _apply_rule(self, node: Node, facts: List[Fact], reading: Reading) -> None:
        """Applies the rule of an op, pins what it forgot, and keeps its result for ops alike."""
        op, notes = OpVisit(node, facts, self), self._notes()
        before, count = [len(kind) for kind in notes], self.count
        rule = CHANNEL_RULES.get(node.op)
        self.looked_around = reading.key is None or not is_built_in(rule)
        outs = self.facts[node.name] = self._outputs(op)
        if rule is None:
            return
        noted = [kind[length:] for kind, length in zip(notes, before)]
        self._audit(op, reading, outs, noted)
        is_made = node.op != "Const" and node.name in self._constants
        if is_made and (noted[2] or self._pins_many(op, before[1])):
            self.looked_around = True
            if self.computed.store(node, outs):
                for kind, length in zip(notes, before):
                    del kind[length:]
                sizes = [size or 0 for size in outs[0].shape or ()]
                self.facts[node.name] = [self.parameter(node, sizes)]
                return
            self._tell_of_weights(op, before[1])
        if node.name in self._fed:
            for ids in [ids for known in self.facts[node.name] for ids in known.ids]:
                op.pin(ids, IsInput("it is a graph input"))
        is_single = node.name in self._single  # its user states a shape of its own for it
        if (
            not is_single
            and not self.looked_around
            and self.count == count
            and not any(noted[_REPEATED:])
        ):
            noted[1] = self.pins[before[1] :]
            with suppress(KeyError):
                self._results[reading.key] = RuleResult.of(reading, facts, outs, noted[:_REPEATED])

    def _outputs(self, op: OpVisit) -> List[Fact]:
        """The outputs of an op by its rule; without one, its inputs are pinned."""
        node, rule = op.node, CHANNEL_RULES.get(op.node.op)
        if rule is None:
            first = len(self.pins)
            op.pin_all(wall(node))
            self._tell_of_weights(op, first)
            return self.sizes.follow(op, stated(node, op.facts))
        result = rule(op)
        outs = [result] if isinstance(result, Fact) else list(result or ())
        if result is None or not all([isinstance(out, Fact) for out in outs]):
            raise TypeError("a channel rule gives a Fact, or a list of them")
        if not is_built_in(rule):
            outs = [checked(out) for out in outs]
        return self.sizes.follow(op, _with_stated_shapes(node, outs))

    def fact(self, port: Port) -> Fact:
        """What is known of the tensor at a port."""
        return fact_at(self.facts, port)

    def read(self, node: Node) -> List[Fact]:
        """What a node reads.

        A vector that several ops read, such as the ones that grappler merged, couples none of
        them: each has ids of its own for it, and gets a copy of its own where their widths come
        to differ.
        """
        ports = self.graph.data_inputs(node)
        facts = [fact_at(self.facts, port) for port in ports]
        if not self._several or self._several.isdisjoint(ports):
            return facts
        if node.op in IDENTITIES:
            self._several.add(Port(node.name))
            return facts
        for slot, port in enumerate(ports):
            if port in self._several and port not in self._shared:
                self._shared[port] = self._shared_vector(port)
            source = self._shared.get(port)
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
        self._check(self.ranges.count + size + self._spent)
        return self.ranges.new(size)

    def parameter(self, node: Node, shape: Sequence[int]) -> Fact:
        """The fact of a parameter: fresh ids on every axis."""
        per_axis: List[Ids] = []
        for axis, size in enumerate(shape):
            follows = size <= LONGEST
            if follows:
                self.axes.append(ParamAxis(node.name, axis, self.ranges.count, size))
            per_axis.append(self.fresh(size) if follows else None)
        return Fact(tuple(shape), tuple(per_axis))

    def _shared_vector(self, port: Port) -> Optional[Node]:
        """The vector at a port of a constant that several read, behind identities; else None."""
        path = [port]
        while self.graph[path[-1].node].op in IDENTITIES:
            path.append(self.graph.data_inputs(path[-1].node)[0])
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

    def _notes(self) -> Tuple[List[Any], ...]:
        """All that a visit may add to."""
        sizes = self.sizes
        repeated = self.ties, self.pins, self.contractions, self.marks, sizes.resizes
        singles = self.joints, self.statistics, self.heads, self.axes
        return (*repeated, *singles, sizes.renumbers, sizes.awaited)

    def _audit(
        self, op: OpVisit, reading: Reading, outs: Sequence[Fact], noted: Sequence[Sequence[Any]]
    ) -> None:
        """Pins the channels that the rule of an op forgot, and counts the arrays that are new.

        Args:
            op: the visit.
            reading: what it reads.
            outs: what it gives: their ids are carried on.
            noted: the notes that it left, in the order of `_notes`.
        """
        ties, pins, contractions, _, _, joints, statistics = noted[:7]
        given = {id(ids): ids for out in outs for ids in out.ids if ids is not None}
        made = {**given, **{id(first): first for first, _ in ties}}
        if not made.keys() <= reading.places.keys():
            self.spend([ids for key, ids in made.items() if key not in reading.places])
        # Most ops hand on the very arrays that they read, and nothing is left to search for.
        unseen = [ids for ids in reading.arrays if id(ids) not in given and len(ids)]
        if not unseen or op.node.op in MEASURES:
            return
        seen = [*given.values(), *[note.ids for note in (*pins, *statistics)]]
        seen += [ids for summed in contractions for ids in (summed.into, summed.out)]
        seen += [ids for joint in joints for ids in (joint.flat, *joint.factors)]
        handled = _Handled(self.ranges, seen)
        handled.follow(ties)
        forgotten = [ids for ids in unseen if ids not in handled]
        if forgotten and not handled.are_ranges(
            [*forgotten, *[ids for pair in ties for ids in pair]]
        ):
            self.looked_around = True
            handled.compares = True
            handled.follow(ties)
        why: str = f"a {op.node.op} uses it in a way that is not followed"
        rule = CHANNEL_RULES[op.node.op]
        for ids in forgotten:
            if ids not in handled:
                if not is_built_in(rule):
                    index, axis = _place_of_axis(op, ids)
                    says = f"says nothing of axis {axis} of input {index}"
                    why = Unsaid(f"{named('rule', rule, op.node.op)}, {says}")
                op.pin(ids, why)

    def _pins_many(self, op: OpVisit, first: int) -> bool:
        """Whether one of the pins from the first on holds more than an axis of size 1.

        Those of axes, sizes and the like do not count.
        """
        numbers = {id(ids) for known in op.facts if known.value is not None for ids in known.ids}
        return any(len(pin.ids) > 1 and id(pin.ids) not in numbers for pin in self.pins[first:])

    def _tell_of_weights(self, op: OpVisit, first: int) -> None:
        """Says of the pins from the first on that it is weights that are held, if they are."""
        node = op.node
        if len(self.pins) == first or node.op == "Const" or node.name not in self._constants:
            return
        dtype = element_type(node)
        if dtype is None or not dtype.is_floating or not self._pins_many(op, first):
            return
        kind: Type[Reason] = WeightsMade
        if self.computed.is_opaque(node):
            how = "in a way that is not known"
        elif self.computed.is_computable(node):
            how = "to numbers that are not known"
        else:
            kind, how = WeightsMadeInRun, "while the graph runs"
        why = kind(f"weights are computed from it by a {node.op}, {how}")
        self.pins[first:] = [pin._replace(why=why) for pin in self.pins[first:]]

    # --- What keeps a walk within bounds.

    def spend(self, arrays: Iterable[Ids]) -> None:
        """Counts the positions of arrays that a walk keeps beside the ranges of ids.

        Raises:
            AnalysisError: there are more positions than a file of this size may state.
        """
        self._spent += sum([len(ids) for ids in arrays if ids is not None])
        self._check(self._spent + self.ranges.count)

    def _check(self, positions: int) -> None:
        if positions > self._budget:
            raise AnalysisError(
                f"the graph states more channels than are followed: {positions:,} positions, "
                f"where a file of this size may have {self._budget:,}",
                hint="its sizes look damaged",
            )

    def _room_for(self, node: Node, inputs: List[Fact]) -> List[Fact]:
        """What a node reads, without ids if they are too many to lay side by side."""
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


def _place_of_axis(op: OpVisit, ids: np.ndarray) -> Tuple[int, int]:
    """The input and its axis that an array of ids is of."""
    return next(
        (index, axis)
        for index, known in enumerate(op.facts)
        for axis, array in enumerate(known.ids)
        if array is ids
    )


class _Handled:
    """Ids that the rule of an op has handled, for the search for those that it forgot.

    Attributes:
        compares: whether arrays are compared id by id, since an op may take a part of an axis.
            Two ranges as they were given out have no id in common.

    Args:
        ranges: in which the ids were given out.
        seen: arrays of ids.
    """

    def __init__(self, ranges: Ranges, seen: Iterable[Ids]) -> None:
        self._ranges, self.compares = ranges, False
        self._arrays = {id(ids): ids for ids in seen if ids is not None and len(ids)}

    def follow(self, ties: Iterable[Tuple[np.ndarray, np.ndarray]]) -> None:
        """Adds what is tied to ids that are handled."""
        left = [pair for pair in ties if len(pair[0])]
        while left:
            linked = [first in self or second in self for first, second in left]
            if not any(linked):
                break
            for pair in (pair for pair, is_linked in zip(left, linked) if is_linked):
                self._arrays.update({id(ids): ids for ids in pair})
            left = [pair for pair, is_linked in zip(left, linked) if not is_linked]

    def are_ranges(self, others: Iterable[np.ndarray]) -> bool:
        """Whether these arrays, and others, are ranges of ids as they were given out."""
        index = self._ranges.index
        return None not in [index(ids) for ids in (*self._arrays.values(), *others)]

    def __contains__(self, ids: np.ndarray) -> bool:
        if id(ids) in self._arrays or not (self.compares and self._arrays):
            return id(ids) in self._arrays
        arrays, index = [*self._arrays.values()], self._ranges.index
        if index(ids) is None:
            # Most of the time the first one tells, and spares the search.
            known = np.concatenate(arrays)
            return bool((known == ids[0]).any()) or bool(np.isin(ids, known).any())
        cut = [known for known in arrays if index(known) is None]
        return any([((known >= ids[0]) & (known <= ids[-1])).any() for known in cut])
