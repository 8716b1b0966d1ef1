"""The plan: which channels go, why, and every binding that they touch; its file and its schema."""

from __future__ import annotations

import collections.abc
import functools
import hashlib
import json
import re
from collections import Counter
from pathlib import Path
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
    Union,
    get_type_hints,
)

from graphslim.errors import PlanError
from graphslim.support.reading import parse_json, read_text
from graphslim.support.text import count, plural, share

FORMAT, VERSION = "graphslim-plan", 1
_NUMBERS = re.compile(r"\[\n\s+(-?\d[^\]\"\[{]*?)\n\s*\]")
"""A list of numbers that `json.dumps` has spread over lines."""
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
        tree: Dict[str, Any] = {"format": FORMAT, "version": VERSION}
        for name, item in _tree(self).items():
            place = tree.setdefault("totals", {}) if name in _TOTALS else tree
            place[name] = item
        try:
            # Numbers of numpy are as good as Python's where a selection is made.
            text = json.dumps(tree, indent=1, allow_nan=False, default=lambda value: value.item())
        except ValueError as error:
            raise PlanError(f"holds what is not a number: {error}", "plan") from None
        return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"

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
        tree = _parsed(text, where)
        check(tree, where)
        plan: Plan = _reader(cls)({"folds": (), **tree, **tree["totals"]})
        _check_sense(plan, where)
        return plan

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


def _parsed(text: str, where: str) -> Any:
    """The tree of a plan's text, of a version that is known."""
    tree = parse_json(text, where, error=PlanError)
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise PlanError(
            "not a graphslim plan", where, "make one with `graphslim plan` or --plan-out"
        )
    version = tree.get("version")
    if isinstance(version, bool) or version != VERSION:
        raise PlanError(f"plan version {version!r} is not known", where, "update graphslim")
    return tree


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
        twice = folded.intersection([(fold.node, one) for one in fold.indices])
        if twice:
            raise PlanError(
                f"folds[{index}]: folds channel {min(twice)[1]} a second time",
                f"{where}: {fold.node}",
            )
        folded.update([(fold.node, one) for one in fold.indices])
        if len(fold.indices) != len(fold.values):
            raise PlanError(
                f"folds[{index}]: {len(fold.indices)} indices and {len(fold.values)} values",
                f"{where}: {fold.node}",
            )


# --- Between plans and trees of JSON: the fields of the tuples above say both ways how.

_KEYS = {"cuts": "bindings"}
"""Fields that the file calls otherwise."""
_LEFT_OUT = ("cuts", "achieved", "layers")
"""Fields that are not written where they are empty.

Without bindings, a group whose channels a person has edited leaves them to `apply`.
"""
_TOTALS = ("params", "macs")
"""Fields of a plan that the file has in an object `totals`."""


def _tree(value: Any) -> Any:
    """A value as JSON has it: an object for a tuple with names, a list for any other."""
    if hasattr(value, "_fields"):
        return {
            _KEYS.get(name, name): _tree(item)
            for name, item in zip(value._fields, value)
            if item or name not in _LEFT_OUT
        }
    if isinstance(value, (tuple, Late)):
        return [_tree(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _reader(kind: Any) -> Callable[[Any], Any]:
    """What makes a value of a type of its tree, which fits the schema."""
    if hasattr(kind, "_fields"):
        hints, defaults = get_type_hints(kind), kind._field_defaults
        fields = [(name, _KEYS.get(name, name), _reader(hint)) for name, hint in hints.items()]
        return lambda tree: kind(
            *[read(tree[key]) if key in tree else defaults.get(name) for name, key, read in fields]
        )
    if getattr(kind, "__origin__", None) in (tuple, collections.abc.Sequence):
        each = _reader(kind.__args__[0])
        return lambda tree: tuple(map(each, tree))
    if getattr(kind, "__origin__", None) is Union:  # with None
        some = _reader(kind.__args__[0])
        return lambda tree: None if tree is None else some(tree)
    return kind if kind in (int, float) else lambda tree: tree


# --- A plan held against the published JSON schema, with errors that name the place in the file.

SCHEMA = Path(__file__).with_name("schema.json")
"""The schema of the plan file (JSON Schema, draft 7)."""

_KINDS = {
    "object": "an object",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "null": "null",
}
"""What people call the types that the schema uses."""


def check(tree: Any, where: str) -> None:
    """Refuses a tree that breaks the schema.

    Args:
        tree: what `parse_json` made of the file.
        where: what messages call the file.

    Raises:
        PlanError: the schema is broken; the message names a place, such as `groups[3].removed[0]`.
    """
    from fastjsonschema import JsonSchemaValueException  # only who reads a plan waits for it

    try:
        _validator()(tree)
    except JsonSchemaValueException as fault:
        place = (fault.name or "")[len("data") :].lstrip(".")
        what = _fault(fault.rule or "", fault.rule_definition, fault.value, fault.definition)
        text = f"{place}: {what}" if place else what
        raise PlanError(text, where, "edit it, or make it again") from None


@functools.lru_cache(maxsize=None)
def _validator() -> Callable[[Any], Any]:
    import fastjsonschema

    validator: Callable[[Any], Any] = fastjsonschema.compile(
        json.loads(SCHEMA.read_text(encoding="utf-8"))
    )
    return validator


def _fault(rule: str, limit: Any, value: Any, schema: Mapping[str, Any]) -> str:
    """What is wrong with a value that breaks a rule of the schema, in words."""
    if rule == "required":
        absent = next(key for key in limit if key not in value)
        return f"lacks {absent!r}, which a plan needs"
    if rule == "additionalProperties":
        unknown = next(key for key in value if key not in schema["properties"])
        return f"has {unknown!r}, which a plan has not"
    if rule == "uniqueItems":
        return f"holds {_shown(Counter(value).most_common(1)[0][0])} twice"
    if rule in ("minItems", "maxItems"):
        return f"must hold {limit} items, and holds {len(value)}"
    wanted = {
        "type": lambda: " or ".join(_KINDS[kind] for kind in _listed(limit)),
        "const": lambda: _shown(limit),
        "enum": lambda: f"one of {', '.join(limit)}",
        "minimum": lambda: f"{limit} or more",
        "maximum": lambda: f"{limit} at most",
    }[rule]()
    return f"must be {wanted}, and is {_shown(value)}"


def _listed(kinds: Any) -> Sequence[str]:
    return [kinds] if isinstance(kinds, str) else kinds


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


# --- Plans as files.


def read_plan(path: str) -> Plan:
    """Reads a plan file.

    Raises:
        PlanError: the file cannot be read, or holds no plan.
    """
    return Plan.from_json(read_text(path, "give a plan that graphslim wrote", PlanError), path)
