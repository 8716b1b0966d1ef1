"""The plan: which channels go, why, and every binding that they touch."""

from __future__ import annotations

import hashlib
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    TypeVar,
)

from graphslim.errors import PlanError
from graphslim.plans.json_form import read, written
from graphslim.support.reading import read_text
from graphslim.support.text import count, plural, share

_SHOWN = 18
"""Groups that `str` lists, so that a plan fits on a screen."""


Item = TypeVar("Item")


class Late(Sequence[Item]):
    """A tuple that is made once somebody looks at it; what it is made of must not change."""

    def __init__(self, make: Callable[[], Iterable[Item]]) -> None:
        self._make = make

    def _items(self) -> Tuple[Item, ...]:
        if not hasattr(self, "_made"):
            self._made = tuple(self._make())
            del self._make
        return self._made

    def __getitem__(self, index: Any) -> Any:
        return self._items()[index]

    def __len__(self) -> int:
        return len(self._items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (tuple, Late)) and self._items() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._items())

    def __reduce__(self) -> Tuple[Any, ...]:
        return tuple, (self._items(),)

    def __repr__(self) -> str:
        return repr(self._items())


class Cut(NamedTuple):
    """The part of one axis of a parameter that goes with a group.

    Attributes:
        param: the constant's node.
        axis: the axis; for role `shape`, the element that holds a size.
        role: `producer`, `consumer`, `follower`, `shape`, or `index`: a vector of positions.
        removed: positions along the axis; for `shape` and `index`, along the one counted.
    """

    param: str
    axis: int
    role: str
    removed: Tuple[int, ...]


class GroupPlan(NamedTuple):
    """What a plan does to one group.

    Attributes:
        id: the group's id.
        block: name of the block that it is the inside of, or None.
        channels: how many it has before.
        removed: the channels that go, by their index in the group.
        why: one word for why: `dead`, `given` or a criterion's name.
        scores: per channel, what the criterion said; empty where there is none.
        cuts: every binding touched.
    """

    id: str
    block: Optional[str]
    channels: int
    removed: Tuple[int, ...]
    why: str = "given"
    scores: Sequence[float] = ()
    cuts: Sequence[Cut] = ()


class Fold(NamedTuple):
    """Constants that removed channels leave at a contraction, to be folded into its offset."""

    node: str
    indices: Tuple[int, ...]
    values: Tuple[float, ...]


class Achieved(NamedTuple):
    """What a budget asked for, and what its plan comes to.

    Attributes:
        what: `ratio` (share of the channels in scope that goes), or `macs`, `params`, `size` or
            `latency` (share of the whole network's that remains).
        asked, achieved: the shares.
        reason: why they are more than 2 % of what was asked apart; None if they are not.
    """

    what: str
    asked: float
    achieved: float
    reason: Optional[str] = None


class Layer(NamedTuple):
    """A convolution or matrix product, known by its place in the network whatever its name.

    Attributes:
        node: the op.
        param: the constant that holds its weights.
        shape: that of the weights.
        structure: a digest of the layer's kind and of all that stands before and behind it; see
            `graphslim.plans.layers`.
    """

    node: str
    param: str
    shape: Tuple[int, ...]
    structure: str


class Model(Mapping[str, str]):
    """`name` and `sha256` of a file; the digest is made of its bytes once somebody asks for it."""

    def __init__(self, name: str, data: bytes) -> None:
        self._known, self._data = {"name": name}, data

    def __getitem__(self, key: str) -> str:
        if key == "sha256" and key not in self._known:
            self._known[key] = hashlib.sha256(self._data).hexdigest()
            self._data = b""
        return self._known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("name", "sha256"))

    def __len__(self) -> int:
        return 2

    def __reduce__(self) -> Tuple[Any, ...]:
        return dict, (dict(self),)

    def __repr__(self) -> str:
        return repr(dict(self))


class Plan(NamedTuple):
    """A plan. Applying it is mechanical; see `graphslim.apply`.

    Attributes:
        model: `name` and `sha256` of the file that it was made for.
        settings: how it was chosen.
        groups: what goes, group by group.
        folds: what is put back.
        params, macs: before and after; multiply-accumulates are None where a size is open.
        achieved: how near a plan with a budget came to it; None for one without.
        layers: every layer of the graph that it was made for, so that the plan can be carried over
            to a graph with other names; see `graphslim.plans.fit`.
    """

    model: Mapping[str, str]
    settings: Mapping[str, Any]
    groups: Tuple[GroupPlan, ...]
    folds: Tuple[Fold, ...]
    params: Tuple[int, int]
    macs: Tuple[Optional[int], Optional[int]]
    achieved: Optional[Achieved] = None
    layers: Sequence[Layer] = ()

    @property
    def removed(self) -> int:
        """How many channels go."""
        return sum([len(group.removed) for group in self.groups])

    @property
    def edited(self) -> bool:
        """Whether a person chose other channels of a group, whose bindings are left out then.

        `params` and `macs` are those of before, until the plan is carried out.
        """
        return any(group.removed and not group.cuts for group in self.groups)

    @property
    def through_norms(self) -> bool:
        """Whether its channels may go through norms, which then run over those that stay."""
        return self.settings.get("through_norms") is True

    @property
    def whole_heads(self) -> bool:
        """Whether it was made for whole attention heads to go."""
        return self.settings.get("whole_heads") is True

    def to_json(self) -> str:
        """The plan as text; the same plan always gives the same text.

        Raises:
            PlanError: a score or a folded value is not a finite number.
        """
        return written(self)

    @classmethod
    def from_json(cls, text: str, where: str = "plan") -> Plan:
        """Reads what `to_json` wrote, or a person edited.

        Args:
            text: the JSON.
            where: what messages call it.

        Raises:
            PlanError: it is no plan, of a version that this graphslim does not know, or breaks the
                schema; the message names the place.
        """
        plan: Plan = read(cls, text, where)
        _check_sense(plan, where)
        # What a budget came to is told of the channels that were chosen for it.
        return plan._replace(achieved=None) if plan.edited else plan

    def __str__(self) -> str:
        """A screenful: totals, and the groups that lose most; `to_json` holds every binding."""
        if not self.groups:
            return "nothing to remove"
        lines = [
            f"{plural(self.removed, 'channel')} to go from {plural(len(self.groups), 'group')}"
        ]
        for label, (before, after) in (("parameters", self.params), ("MACs", self.macs)):
            if before is None or after is None:
                lines.append(f"{label}: not known, for the size of an input is open")
                continue
            lines.append(f"{label}: {count(before)} -> {count(after)} ({share(before, after)})")
        if self.achieved is not None:
            what, asked, achieved, reason = self.achieved
            why = f" ({reason})" if reason else ""
            lines.append(f"{what}: asked for {asked:.4g}, achieved {achieved:.4g}{why}")
        ordered = sorted(self.groups, key=lambda group: -len(group.removed))
        for group in ordered[:_SHOWN]:
            left = group.channels - len(group.removed)
            lines.append(f"  {group.id}: {group.channels} -> {left} channels ({group.why})")
        more = len(ordered) - _SHOWN
        if more > 0:
            lines.append(
                f"  and {plural(more, 'more group')}, each of which loses no more channels"
            )
        return "\n".join(lines)


# --- Plans as files.


def read_plan(path: str) -> Plan:
    """Reads a plan file.

    Raises:
        PlanError: the file cannot be read, or holds no plan.
    """
    return Plan.from_json(read_text(path, "give a plan that graphslim wrote", PlanError), path)


def _check_sense(plan: Plan, where: str) -> None:
    """Refuses what the schema cannot: what two places of a plan say that contradict each other."""
    seen: Dict[str, int] = {}
    for index, group in enumerate(plan.groups):
        place = f"groups[{index}]"
        if group.id in seen:
            raise PlanError(
                f"{place}.id: {group.id!r} is that of groups[{seen[group.id]}] too", where
            )
        seen[group.id] = index
        if group.scores and len(group.scores) != group.channels:
            raise PlanError(
                f"{place}.scores: {len(group.scores)} scores for {group.channels} channels", where
            )
    folded: Set[Tuple[str, int]] = set()
    for index, fold in enumerate(plan.folds):
        places = [(fold.node, channel) for channel in fold.indices]
        twice = folded.intersection(places)
        if twice:
            raise PlanError(
                f"folds[{index}]: folds channel {min(twice)[1]} a second time",
                f"{where}: {fold.node}",
            )
        folded.update(places)
        if len(fold.indices) != len(fold.values):
            raise PlanError(
                f"folds[{index}]: {len(fold.indices)} indices and {len(fold.values)} values",
                f"{where}: {fold.node}",
            )
