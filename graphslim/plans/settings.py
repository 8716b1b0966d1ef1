"""Settings for some groups or blocks alone, from a YAML or JSON file: names to what holds there."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from graphslim.errors import PlanError
from graphslim.support.reading import parse_json, read_text
from graphslim.support.text import is_count, is_finite, is_share, meant

LARGEST = 1 << 17
"""Bytes of the largest YAML file that is read; PyYAML takes seconds for it."""

_FORM = "write a glob and what holds there, such as `stem*: {max_ratio: 0.25}`"


class GroupSettings(NamedTuple):
    """What holds for some groups instead of what holds for all; None where nothing else does.

    Attributes:
        ratio: the share of each one's channels that goes, whatever the budget.
        threshold: their scores beyond it go, whatever the budget.
        max_ratio: the largest share that may go.
        min_channels: keep at least so many.
        multiple_of: keep (or remove) a multiple of so many.
        exclude: whether they are left alone.
    """

    ratio: Optional[float] = None
    threshold: Optional[float] = None
    max_ratio: Optional[float] = None
    min_channels: Optional[int] = None
    multiple_of: Optional[int] = None
    exclude: Optional[bool] = None

    def over(self, other: GroupSettings) -> GroupSettings:
        """These settings, and the other's where these say nothing."""
        return other._replace(**self.as_dict())

    def as_dict(self) -> Dict[str, Any]:
        """What is set, by name."""
        return {key: value for key, value in self._asdict().items() if value is not None}


ByName = Tuple[Tuple[str, GroupSettings], ...]
"""Globs and what holds for the groups and blocks that they match; a later one overrules."""


def read_settings(path: str) -> ByName:
    """Reads a settings file, YAML or (by its name `.json`) JSON.

    Raises:
        PlanError: it cannot be read, or does not map globs to settings.
    """
    if path.endswith(".json"):
        text = read_text(path, _FORM, PlanError)
        return settings_of(parse_json(text, path, _FORM, PlanError), path)
    from graphslim.plans.plain_yaml import parse_yaml  # here, since few plans need it

    text = read_text(path, f"{_FORM}; if they are many, in JSON (*.json)", PlanError, LARGEST)
    return settings_of(parse_yaml(text, path, _FORM), path)


def settings_of(tree: Any, where: str = "settings") -> ByName:
    """Settings from a mapping of globs to mappings, checked; None holds none.

    Raises:
        PlanError: a setting is unknown, or its value makes no sense.
    """
    if tree is None:
        return ()
    if not isinstance(tree, Mapping):
        raise PlanError(f"holds {_kind(tree)} instead of a mapping", where, _FORM)
    found: List[Tuple[str, GroupSettings]] = []
    for glob, given in tree.items():
        if not isinstance(glob, str) or not isinstance(given, Mapping):
            raise PlanError(f"{glob!r} holds {_kind(given)}, no mapping", where, _FORM)
        for key, value in given.items():
            _check(f"{where}: {glob}", key, value)
        found.append((glob, GroupSettings(**dict(given))))
        if found[-1][1].ratio is not None and found[-1][1].threshold is not None:
            raise PlanError("ratio and threshold exclude each other", f"{where}: {glob}")
    return tuple(found)


def _check(where: str, key: Any, value: Any) -> None:
    """Refuses an unknown setting, and one of a wrong kind."""
    if key not in GroupSettings._fields:
        raise PlanError(f"no setting {key!r}", where, meant(str(key), GroupSettings._fields))
    if key == "exclude":
        fits, wanted = isinstance(value, bool), "true or false"
    elif key in ("min_channels", "multiple_of"):
        fits, wanted = is_count(value), "a whole number from 1 on"
    elif key == "threshold":
        fits, wanted = is_finite(value), "a finite number"
    else:
        fits, wanted = is_share(value), "a number from 0 to 1"
    if not fits:
        raise PlanError(f"{key} is {value!r}, and has to be {wanted}", where)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
