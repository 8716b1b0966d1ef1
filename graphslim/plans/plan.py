"""The plan: which channels go, why, and every binding that they touch, as a value and as JSON."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from graphslim.errors import PlanError

FORMAT, VERSION = "graphslim-plan", 1


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
    why: str
    scores: Tuple[float, ...]
    cuts: Tuple[Cut, ...]


class Fold(NamedTuple):
    """Constants that removed channels leave at a contraction, to be folded into its offset."""

    node: str
    indices: Tuple[int, ...]
    values: Tuple[float, ...]


class Plan(NamedTuple):
    """A plan. Applying it is mechanical; see `graphslim.apply`.

    Attributes:
        model: `name` and `sha256` of the file that it was made for.
        settings: how it was chosen.
        groups: what goes, group by group.
        folds: what is put back.
        params, macs: before and after; multiply-accumulates are None where a size is open.
    """

    model: Mapping[str, str]
    settings: Mapping[str, Any]
    groups: Tuple[GroupPlan, ...]
    folds: Tuple[Fold, ...]
    params: Tuple[int, int]
    macs: Tuple[Optional[int], Optional[int]]

    @property
    def removed(self) -> int:
        """How many channels go."""
        return sum([len(group.removed) for group in self.groups])

    def to_json(self) -> str:
        """The plan as text; the same plan always gives the same text."""
        groups = [
            {
                "id": group.id,
                "block": group.block,
                "channels": group.channels,
                "removed": list(group.removed),
                "why": group.why,
                "scores": list(group.scores),
                "bindings": [
                    {
                        "param": cut.param,
                        "axis": cut.axis,
                        "role": cut.role,
                        "removed": list(cut.removed),
                    }
                    for cut in group.cuts
                ],
            }
            for group in self.groups
        ]
        tree = {
            "format": FORMAT,
            "version": VERSION,
            "model": dict(self.model),
            "settings": dict(self.settings),
            "groups": groups,
            "folds": [
                {"node": fold.node, "indices": list(fold.indices), "values": list(fold.values)}
                for fold in self.folds
            ],
            "totals": {"params": list(self.params), "macs": list(self.macs)},
        }
        return json.dumps(tree, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "plan") -> Plan:
        """Reads what `to_json` wrote.

        Raises:
            PlanError: it is no plan, or of a version that this graphslim does not know.
        """
        try:
            tree = json.loads(text)
        except ValueError as error:
            raise PlanError(f"not JSON: {error}", where) from None
        if not isinstance(tree, dict) or tree.get("format") != FORMAT:
            raise PlanError("not a graphslim plan", where, "make one with --plan-out")
        if tree.get("version") != VERSION:
            raise PlanError(
                f"plan version {tree.get('version')} is not known", where, "update graphslim"
            )
        try:
            params, macs = tree["totals"]["params"], tree["totals"]["macs"]
            return cls(
                tree["model"],
                tree["settings"],
                tuple([_group(item) for item in tree["groups"]]),
                tuple(
                    [
                        Fold(item["node"], _ints(item["indices"]), _floats(item["values"]))
                        for item in tree.get("folds", [])
                    ]
                ),
                (params[0], params[1]),
                (macs[0], macs[1]),
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise PlanError(
                f"the plan lacks or mistypes something: {error}", where, "make it again"
            ) from None

    def __str__(self) -> str:
        lines: List[str] = []
        for group in self.groups:
            left = group.channels - len(group.removed)
            lines.append(f"{group.id}: {group.channels} -> {left} channels ({group.why})")
            lines.extend(
                [f"  {cut.role} {cut.param}[{cut.axis}] -{len(cut.removed)}" for cut in group.cuts]
            )
        return "\n".join(lines) or "nothing to remove"


def _group(item: Dict[str, Any]) -> GroupPlan:
    cuts = [
        Cut(cut["param"], cut["axis"], cut["role"], _ints(cut["removed"]))
        for cut in item["bindings"]
    ]
    return GroupPlan(
        item["id"],
        item.get("block"),
        item["channels"],
        _ints(item["removed"]),
        item.get("why", "given"),
        _floats(item.get("scores", ())),
        tuple(cuts),
    )


def _ints(items: Sequence[Any]) -> Tuple[int, ...]:
    return tuple([int(item) for item in items])


def _floats(items: Sequence[Any]) -> Tuple[float, ...]:
    return tuple([float(item) for item in items])
