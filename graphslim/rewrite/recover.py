"""The plan that one graph was made from another by, recovered from what constants of both hold.

`apply` copies the numbers of channels that stay bit for bit, so that these are found again in the
original: group by group, each channel by its slices of the constants whose other axes are known.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.analysis.dead import constants_left
from graphslim.analysis.values import Values
from graphslim.channels.groups import Binding, Channels, Group, analyse
from graphslim.channels.walk import ParamAxis
from graphslim.errors import PlanError
from graphslim.ir import Graph, Node
from graphslim.plans.fit import removal_of
from graphslim.plans.make import DEAD_BELOW, folds_of, plan_given
from graphslim.plans.plan import Plan
from graphslim.rewrite.apply import apply

_SLICED = ("producer", "consumer", "follower")


def recover_plan(graph: Graph, slim: Graph) -> Plan:
    """The plan by which a graph was narrowed, from the graph and what is left of it.

    Channels that nothing tells apart are taken to stay in the order of their numbers; what is
    written by either choice is the same. The plan is carried out to make sure.

    Args:
        graph: the original.
        slim: the graph without some channels, as `apply` or `prune` wrote it.

    Raises:
        PlanError: the channels of `slim` are not found again: its weights were changed since, or
            its nodes are not those of the original.
    """
    plan = plan_given(graph, _Search(graph, slim).solved())
    if _same_constants(apply(graph, plan), slim):
        return plan
    channels = analyse(graph)
    values = Values(graph, channels, DEAD_BELOW, at_once=False)
    left = constants_left(channels, values, DEAD_BELOW, removal_of(channels, plan))
    plan = plan._replace(folds=tuple(folds_of(left)))
    if plan.folds and _same_constants(apply(graph, plan), slim):
        return plan
    raise _lost(slim, "some of its weights are not those of the original")


def _lost(slim: Graph, why: str) -> PlanError:
    return PlanError(
        f"the plan that it was pruned by is not found again: {why}",
        slim.name,
        "give the plan with --plan",
    )


def _same_constants(first: Graph, second: Graph) -> bool:
    """Whether two graphs have the same nodes, and constants of the same numbers, bit for bit."""
    if {node.name: node.op for node in first} != {node.name: node.op for node in second}:
        return False
    return all(
        node.attrs["value"].shape == second[node.name].attrs["value"].shape
        and _bits(node) == _bits(second[node.name])
        for node in first
        if node.op == "Const"
    )


def _bits(constant: Node) -> bytes:
    numbers = constant.attrs["value"].numbers()
    return repr(numbers.tolist()).encode() if numbers.dtype.hasobject else numbers.tobytes()


class _Pair(NamedTuple):
    """A group in both graphs, with what each binding is in either."""

    group: Group
    slim: Group
    bindings: Sequence[Tuple[Binding, Binding]]


class _Search:
    """Which channels stay, as far as it is known."""

    def __init__(self, graph: Graph, slim: Graph) -> None:
        self._graph, self._slim = graph, slim
        self._channels = analyse(graph)
        self._pairs = list(self._paired(analyse(slim)))
        self._gone = np.zeros(self._channels.count, bool)
        self._known = np.ones(self._channels.count, bool)
        for pair in self._pairs:
            self._known[pair.group.channels] = False
        self._axes: Dict[str, List[ParamAxis]] = {}
        for axis in self._channels.axes:
            if axis.use is None:
                self._axes.setdefault(axis.param, []).append(axis)

    def _paired(self, narrow: Channels) -> Iterator[_Pair]:
        """The groups that are narrower in the second graph.

        Raises:
            PlanError: a group is not there, or wider.
        """
        others = {group.id: group for group in narrow.groups}
        for group in self._channels.groups:
            other = others.get(group.id)
            if other is None or len(other) > len(group):
                raise _lost(self._slim, f"it has no channels of {group.id}, or more of them")
            if len(other) == len(group):
                continue
            theirs = {_place(binding): binding for binding in narrow.bindings(other)}
            bindings = [
                (binding, theirs[_place(binding)])
                for binding in self._channels.bindings(group)
                if binding.role in _SLICED and _place(binding) in theirs
            ]
            yield _Pair(group, other, bindings)

    def solved(self) -> Mapping[str, Sequence[int]]:
        """By group, the channels that go.

        Raises:
            PlanError: no choice of channels holds the numbers of the second graph.
        """
        # Again once all are known: by then every constant tells channels apart.
        for _ in range(2):
            waiting, settled = self._pairs, True
            while waiting:
                unsolved = [pair for pair in waiting if not self._solve(pair, settled)]
                if len(unsolved) == len(waiting) and not settled:
                    name = unsolved[0].group.id
                    raise _lost(self._slim, f"nothing shows which channels of {name} stay")
                # Where channels are alike so far, others may show first which of them stay.
                settled = len(unsolved) < len(waiting)
                waiting = unsolved
        return {
            pair.group.id: np.flatnonzero(self._gone[pair.group.channels]).tolist()
            for pair in self._pairs
        }

    def _solve(self, pair: _Pair, settled: bool) -> bool:
        """Finds the channels of a group that stay; whether what is needed for that is known.

        Args:
            pair: the group.
            settled: leave a group alone of which other channels might stay just as well.

        Raises:
            PlanError: there are none that hold these numbers.
        """
        found = [self._tables(*binding) for binding in pair.bindings]
        tables = [each for each in found if each is not None]
        # What was folded into offsets changed these alone.
        for least in (1, 2):
            used = [(ours, theirs) for ours, theirs, rank in tables if rank >= least]
            if not used or len({len(theirs) for _, theirs in used}) > 1:
                continue
            wide, narrow = [list(zip(*tables)) for tables in zip(*used)]
            kept = _subsequence(wide, narrow)
            if kept is not None:
                last = _subsequence(wide[::-1], narrow[::-1]) or []
                if settled and [len(wide) - 1 - place for place in last[::-1]] != kept:
                    return False
                self._gone[pair.group.channels] = True
                self._gone[pair.group.channels[kept]] = False
                self._known[pair.group.channels] = True
                return True
        if tables:
            raise _lost(self._slim, f"the numbers of its channels of {pair.group.id} are others")
        return False

    def _tables(
        self, ours: Binding, theirs: Binding
    ) -> Optional[Tuple[List[bytes], List[bytes], int]]:
        """Each channel's slices of a constant in both graphs, and its rank.

        Returns None where the constant is not there, or it is not known how its other axes are cut.
        """
        name = ours.param
        if any(name not in each or each[name].op != "Const" for each in (self._graph, self._slim)):
            return None
        wide, narrow = [each[name].attrs["value"].numbers() for each in (self._graph, self._slim)]
        if wide.dtype != narrow.dtype or wide.ndim != narrow.ndim or wide.dtype.hasobject:
            return None
        for axis in self._axes.get(name, ()):
            if axis.axis == ours.axis or wide.shape[axis.axis] == narrow.shape[axis.axis]:
                continue
            labels = self._channels.label[axis.start : axis.start + axis.size]
            if not self._known[labels].all():
                return None
            wide = np.compress(~self._gone[labels], wide, axis.axis)
        rows = [np.moveaxis(numbers, ours.axis, 0) for numbers in (wide, narrow)]
        if rows[0].shape[1:] != rows[1].shape[1:]:
            return None
        tables = _slices(rows[0], ours), _slices(rows[1], theirs)
        if set(map(len, tables[0])) != set(map(len, tables[1])):
            # A convolution whose groups have become single channels ties them in another way.
            kept = _subsequence(*[[(row.tobytes(),) for row in each] for each in rows])
            if kept is None or len(ours.positions) != len(rows[0]):
                return None
            stays = np.unique(ours.channels[np.isin(ours.positions, kept)])
            tables = tables[0], [tables[0][channel] for channel in stays]
        return tables[0], tables[1], wide.ndim


def _place(binding: Binding) -> Tuple[str, int, str]:
    return binding.param, binding.axis, binding.role


def _slices(rows: np.ndarray, binding: Binding) -> List[bytes]:
    """By channel, the slices at its positions along the first axis."""
    slices = [b""] * (int(binding.channels.max(initial=-1)) + 1)
    for position, channel in zip(binding.positions.tolist(), binding.channels.tolist()):
        slices[channel] += rows[position].tobytes()
    return slices


def _subsequence(
    wide: Sequence[Tuple[bytes, ...]], narrow: Sequence[Tuple[bytes, ...]]
) -> Optional[List[int]]:
    """The first places, in order, at which one list has the items of another; None if nowhere."""
    kept: List[int] = []
    place = 0
    for item in narrow:
        while place < len(wide) and wide[place] != item:
            place += 1
        if place == len(wide):
            return None
        kept.append(place)
        place += 1
    return kept
