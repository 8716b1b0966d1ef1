"""Which ids are one channel: the ties of a walk, connected, and its joints, resolved.

A position of a flat axis goes if the channel of one of its factors does (see `facts.Joint`). Where
one factor alone may lose channels the position is one with its channel; where several may, it
belongs to all of them. Which may is known only when the walk has seen what pins them.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.channels.facts import Joint
from graphslim.channels.notes import Pin
from graphslim.channels.pieces import Ranges
from graphslim.channels.reasons import OtherAxis
from graphslim.channels.walk import Walk

_OTHER_PART = "another part of the axis that it was split from loses channels instead"
_NOT_FOLLOWED = OtherAxis(
    "it is flattened with another axis of channels in a way that is not followed"
)


def connected(
    count: int, ties: Sequence[Tuple[np.ndarray, np.ndarray]], ranges: Optional[Ranges] = None
) -> Tuple[np.ndarray, int]:
    """Labels 0, 1, ... of the components of `count` ids, in the order of their first id.

    Each round hooks every root that has a smaller neighbour below it, then shortens all paths to
    one step; the number of rounds is logarithmic (Shiloach and Vishkin 1982).

    Args:
        count: how many ids there are.
        ties: pairs of equally long id arrays that are one, position by position.
        ranges: the ranges that the ids were given out in. Where one is tied to another as a
            whole, the two are connected as one thing each, and their ids with them.

    Returns:
        the labels, int64 of shape (count,), and how many there are.
    """
    parent, cut = np.arange(count), list(ties)
    if ranges is not None and ranges.starts:
        starts = np.array(ranges.starts)
        sides = [(ranges.index(first), ranges.index(second)) for first, second in ties]
        whole = np.array([pair for pair in sides if None not in pair], np.int64).reshape(-1, 2)
        cut = [tie for tie, pair in zip(ties, sides) if None in pair]
        roots = joined(np.arange(len(starts)), [(whole[:, 0], whole[:, 1])])
        sizes = np.diff(starts, append=count)
        if not cut:
            widths = np.where(roots == np.arange(len(starts)), sizes, 0)
            numbers = np.cumsum(widths) - widths
            return parent + np.repeat(numbers[roots] - starts, sizes), int(widths.sum())
        parent += np.repeat(starts[roots] - starts, sizes)
    parent = joined(parent, cut)
    # A root is the first id of its component, so that counting roots numbers the components.
    number = np.cumsum(parent == np.arange(count)) - 1
    return number[parent], int(number[-1]) + 1 if count else 0


def joined(parent: np.ndarray, ties: Sequence[Tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """For each id the first one of its component, when more ties are added.

    Args:
        parent: the same before that; int64 of shape (count,).
        ties: as for `connected`.
    """
    if ties:
        first = np.concatenate([tie[0] for tie in ties])
        second = np.concatenate([tie[1] for tie in ties])
        while True:
            low, high = parent[first], parent[second]
            apart = low != high
            if not apart.any():
                break
            first, second = low[apart], high[apart]
            parent = _round(parent, first, second)
    return parent


def _round(parent: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Hooks roots onto smaller neighbours and shortens all paths to one step."""
    np.minimum.at(parent, np.maximum(first, second), np.minimum(first, second))
    while True:
        shorter = parent[parent]
        if (shorter == parent).all():
            return parent
        parent = shorter


class Owned(NamedTuple):
    """Channels that go if one of their owners goes, and not by themselves.

    Attributes:
        labels: the channels; int64 of shape (n,).
        owners: of each, filled up with the last; int64 of shape (n, m).
    """

    labels: np.ndarray
    owners: np.ndarray


def first_of(arrays: Sequence[np.ndarray], label: np.ndarray, count: int) -> np.ndarray:
    """Per channel the index of the first of some arrays of ids that has it, or -1.

    Args:
        arrays: ids, each int64 of shape (n,).
        label: the channel of each id; int64 of shape (ids,).
        count: how many channels there are.

    Returns:
        int64 of shape (count,).
    """
    index_of = np.full(count, -1)
    if arrays:
        ids = np.concatenate(arrays)
        number = np.repeat(np.arange(len(arrays)), [len(array) for array in arrays])
        index_of[label[ids[::-1]]] = number[::-1]  # of several the last one written stays
    return index_of


def resolved(walk: Walk) -> Tuple[np.ndarray, int, Owned]:
    """Which ids are one channel, and which channels belong to others.

    Args:
        walk: a walk that has run; it gets the ties and pins that follow.

    Returns:
        the channel of each id, int64 of shape (ids,); how many channels there are; and those that
        are owned.
    """
    joints = list({id(joint): joint for joint in walk.joints}.values())
    owners = [joint.owners() for joint in joints]
    while True:
        label, count = connected(walk.count, walk.ties, walk.ranges)
        if not joints:
            return label, count, Owned(np.zeros(0, np.int64), np.zeros((0, 0), np.int64))
        pin_of = first_of([pin.ids for pin in walk.pins], label, count)
        state = _State(walk, joints, owners, label, pin_of)
        if not (state.spread() or state.choose() or state.refuse()):
            return label, count, state.owned()


class _State:
    """What is known of the joints of a walk while its ties and pins are completed.

    Args:
        walk: the walk.
        joints: its joints, each once.
        owners: per joint the ids of the factors at each position; shape (factors, n).
        label: the channel of each id.
        pin_of: per channel the index of a pin, or -1.
    """

    def __init__(
        self,
        walk: Walk,
        joints: Sequence[Joint],
        owners: Sequence[np.ndarray],
        label: np.ndarray,
        pin_of: np.ndarray,
    ) -> None:
        self._walk, self._joints, self._owners = walk, joints, owners
        self._label, self._pin_of = label, pin_of

    def spread(self) -> bool:
        """Carries pins over between positions and owners, and ties those with one owner.

        Returns:
            whether there was anything to do.
        """
        before = len(self._walk.pins) + len(self._walk.ties)
        for joint, owners in zip(self._joints, self._owners):
            own, labels = self._label[joint.flat], self._label[owners]
            stays, pinned = self._pin_of[labels] >= 0, self._pin_of[own] >= 0
            everywhere = stays.all(axis=0)
            # A position that stays keeps all its owners, and one whose owners all stay stays.
            wanted = np.where(pinned & ~stays, self._pin_of[own], -1)
            self._pin(owners, wanted)
            self._pin(joint.flat, np.where(everywhere & ~pinned, self._pin_of[labels[0]], -1))
            first = np.argmax(~stays, axis=0)
            lead = owners[first, np.arange(len(first))]
            alone = ((labels == self._label[lead]) | stays).all(axis=0)
            alone &= ~everywhere & (own != self._label[lead])
            if alone.any():
                self._walk.ties.append((joint.flat[alone], lead[alone]))
        return len(self._walk.pins) + len(self._walk.ties) > before

    def _pin(self, ids: np.ndarray, wanted: np.ndarray) -> None:
        """Pins ids for the reason of an earlier pin, whose index `wanted` has; -1 for none."""
        for number in np.unique(wanted[wanted >= 0]).tolist():
            why = self._walk.pins[number]
            self._walk.pins.append(why._replace(ids=ids[wanted == number]))

    def choose(self) -> bool:
        """Chooses the part that loses channels of each axis that is split; pins the others.

        Data comes before constants, which follow it. Returns whether there was a choice.
        """
        stays, chosen = self._pin_of >= 0, False
        heads = np.zeros(len(self._pin_of), bool)
        for axis in self._walk.heads:
            heads[self._label[axis]] = True
        for joint in sorted(self._joints, key=self._of_constant):
            if joint.preferred is None:
                continue
            free = [float(np.mean(~stays[self._label[ids]])) for ids in joint.factors]
            if np.count_nonzero(free) > 1:
                chosen, best = True, joint.preferred
                worth = [share * (self._units(joint, at) > 1) for at, share in enumerate(free)]
                whole = [
                    ids is not None and bool(heads[self._label[ids]].all()) and free[at] > 0
                    for at, ids in enumerate(joint.factors)
                ]
                if any(whole):
                    best = whole.index(True)
                elif worth[best] < max(worth):
                    best = int(np.argmax(worth))
                for at, ids in enumerate(joint.factors):
                    if ids is not None and at != best:
                        self._walk.pins.append(Pin(ids, _OTHER_PART, joint.node))
                        stays[self._label[ids]] = True
        return chosen

    def _units(self, joint: Joint, place: int) -> int:
        """How many channels there would be if one factor alone lost them: 1 if all hang together.

        Positions that are one channel already, as in groups that were normalised, may tie all.
        """
        names, inverse = np.unique(self._label[joint.flat], return_inverse=True)
        lanes = np.moveaxis(inverse.reshape(joint.sizes), place, 0)
        lanes = lanes.reshape(joint.sizes[place], -1)
        return connected(len(names), [(np.repeat(lanes[:, 0], lanes.shape[1]), lanes.ravel())])[1]

    def _of_constant(self, joint: Joint) -> bool:
        return self._walk.is_constant(self._walk.graph[joint.node], 0)

    def refuse(self) -> bool:
        """Lets one axis alone lose channels where positions would belong to different owners.

        Returns whether there was such a place.
        """
        own, rows, place = self._shared()
        wrong = np.isin(own, rows[rows >= 0])
        order = np.argsort(own, kind="stable")
        differ = (np.diff(own[order]) == 0) & (np.diff(rows[order], axis=0) != 0).any(axis=1)
        wrong |= np.isin(own, own[order][1:][differ])
        among = [self._joints[index] for index in np.unique(place[wrong]).tolist()]
        if self._unite(among):
            return True
        for joint in among:
            factors = [ids for ids in joint.factors if ids is not None]
            free = [np.count_nonzero(self._pin_of[self._label[ids]] < 0) for ids in factors]
            best = len(free) - 1 - int(np.argmax(free[::-1]))
            for ids in (ids for at, ids in enumerate(factors) if at != best):
                self._walk.pins.append(Pin(ids, _NOT_FOLLOWED, joint.node))
        return bool(wrong.any())

    def _unite(self, joints: Sequence[Joint]) -> bool:
        """Ties the factors of flat axes that are one, position by position, and factored alike.

        So are the heads that a product gives and those that the weights behind it state. Returns
        whether there was anything to tie.
        """
        before = len(self._walk.ties)
        alike: Dict[Tuple[Tuple[int, ...], bytes], Joint] = {}
        for joint in joints:
            first = alike.setdefault((joint.sizes, self._label[joint.flat].tobytes()), joint)
            for ids, others in zip(joint.factors, first.factors):
                if ids is None or others is None:
                    continue
                if not np.array_equal(self._label[ids], self._label[others]):
                    self._walk.ties.append((ids, others))
        return len(self._walk.ties) > before

    def owned(self) -> Owned:
        """The channels that belong to several others."""
        own, rows, _ = self._shared()
        labels, first = np.unique(own, return_index=True)
        owners = np.where(rows < 0, rows.max(axis=1, keepdims=True), rows) if len(rows) else rows
        return Owned(labels, owners[first])

    def _shared(self) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The positions with several owners that may go.

        Returns:
            their channels, shape (n,); the owners, sorted, each once, -1 before them, shape (n, m);
            and the index of the joint of each, shape (n,).
        """
        most = max([len(owners) for owners in self._owners])
        pieces: List[Tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for index, (joint, owners) in enumerate(zip(self._joints, self._owners)):
            labels = self._label[owners]
            rows = np.full((labels.shape[1], most), -1)
            rows[:, : len(labels)] = np.where(self._pin_of[labels] >= 0, -1, labels).T
            rows.sort(axis=1)
            rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = -1
            rows.sort(axis=1)
            several = np.count_nonzero(rows >= 0, axis=1) > 1
            at = np.full(int(np.count_nonzero(several)), index)
            pieces.append((self._label[joint.flat][several], rows[several], at))
        own, shared, place = zip(*pieces)
        return np.concatenate(own), np.concatenate(shared), np.concatenate(place)
