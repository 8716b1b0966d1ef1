"""Settings for some groups or blocks alone, from a YAML or JSON file: names to what holds there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

import yaml

from graphslim.errors import PlanError
from graphslim.plans.options import COUNT, FLAG, NUMBER, SHARE, option, options_of
from graphslim.support.reading import (
    DEEPEST,
    LONGEST_NUMBER,
    parse_json,
    read_text,
    require_shallow,
)
from graphslim.support.text import meant

LARGEST = 1 << 17
"""Bytes of the largest YAML file that is read; PyYAML takes seconds for it."""

_FORM = "write a glob and what holds there, such as `stem*: {max_ratio: 0.25}`"


@dataclass(frozen=True)
class GroupSettings:
    """What holds for some groups instead of what holds for all; None where nothing else does.

    Attributes:
        ratio: the share of each group's channels that goes, whatever the budget.
        threshold: channels go whose scores are beyond it, whatever the budget.
        max_ratio: the largest share that may go.
        min_channels: keep at least so many.
        multiple_of: keep (or remove) a multiple of so many.
        exclude: whether the groups are left alone.
    """

    ratio: Optional[float] = option(None, SHARE)
    threshold: Optional[float] = option(None, NUMBER)
    max_ratio: Optional[float] = option(None, SHARE)
    min_channels: Optional[int] = option(None, COUNT)
    multiple_of: Optional[int] = option(None, COUNT)
    exclude: Optional[bool] = option(None, FLAG)

    def over(self, other: GroupSettings) -> GroupSettings:
        """These settings, and the other's where these say nothing."""
        return replace(other, **self.as_dict())

    def as_dict(self) -> Dict[str, Any]:
        """What is set, by name."""
        return {key: value for key, value in vars(self).items() if value is not None}

    @property
    def amount(self) -> bool:
        """Whether these settings say how much goes."""
        return self.ratio is not None or self.threshold is not None


KINDS = {name: known.kind for name, _, known in options_of(GroupSettings)}
"""What each setting takes, by name."""

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

    text = read_text(path, f"{_FORM}; if they are many, in JSON (*.json)", PlanError, LARGEST)
    return settings_of(parse_yaml(text, path, _FORM), path)


def by_name(settings: Any) -> ByName:
    """Settings from the path of a file, or from a mapping of globs to mappings.

    Raises:
        PlanError: the file cannot be read, a setting is unknown, or its value makes no sense.
    """
    if isinstance(settings, (str, os.PathLike)):
        return read_settings(os.fspath(settings))
    return settings_of(settings)


def settings_of(tree: Any, where: str = "settings") -> ByName:
    """Settings from a mapping of globs to mappings, checked; None holds none.

    Raises:
        PlanError: a setting is unknown, or its value makes no sense.
    """
    if tree is None:
        return ()
    if not isinstance(tree, Mapping):
        raise PlanError(f"holds {_kind(tree)} instead of a mapping", where, _FORM)
    settings: List[Tuple[str, GroupSettings]] = []
    for glob, given in tree.items():
        if not isinstance(glob, str) or not isinstance(given, Mapping):
            raise PlanError(f"{glob!r} holds {_kind(given)}, no mapping", where, _FORM)
        for key, value in given.items():
            _check(f"{where}: {glob}", key, value)
        settings.append((glob, GroupSettings(**dict(given))))
        if settings[-1][1].ratio is not None and settings[-1][1].threshold is not None:
            raise PlanError("ratio and threshold exclude each other", f"{where}: {glob}")
    return tuple(settings)


def _check(where: str, key: Any, value: Any) -> None:
    """Refuses an unknown setting, and one of a wrong kind."""
    if key not in KINDS:
        raise PlanError(f"no setting {key!r}", where, meant(str(key), KINDS))
    if not KINDS[key].fits(value):
        raise PlanError(f"{key} is {value!r}, and has to be {KINDS[key].wanted}", where)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


# --- YAML of plain data: mappings, lists, texts, numbers, true, false and null.

_TAGS = ("null", "bool", "int", "float", "str", "seq", "map")
_INTEGER = re.compile(rf"[-+]?[0-9]{{1,{LONGEST_NUMBER}}}$")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?$")


def parse_yaml(text: str, where: str, hint: str) -> Any:
    """The tree of a YAML text.

    Args:
        text: the YAML, one document.
        where: what messages call it.
        hint: what to do about one that is none.

    Raises:
        PlanError: it is no YAML, or of a kind that is not read.
    """
    try:
        tree = yaml.load(text, _Reader)
        require_shallow(tree)
        return tree
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise PlanError(f"not YAML{line}: {error.problem or error.context}", where, hint) from None
    except Exception as error:  # PyYAML's constructors raise whatever a bad value leads them to
        raise PlanError(f"not YAML: {' '.join(str(error).split())}", where, hint) from None


class _Reader(yaml.SafeLoader):
    """PyYAML's reader, without references, and with the types of JSON alone."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        """Begins a list or mapping in brackets; deep ones would take time by their depth squared.

        Raises:
            yaml.MarkedYAMLError: the lists are nested too deep.
        """
        if self.flow_level >= DEEPEST:
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {DEEPEST} levels", problem_mark=self.get_mark()
            )
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node; none that stands for another one.

        Raises:
            yaml.MarkedYAMLError: the node is a reference to another one.
        """
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem=f"the reference *{event.anchor}; write it out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Dict[Any, Any]:
        """A dict, of a mapping that has no key twice.

        Raises:
            yaml.MarkedYAMLError: a key is there twice.
        """
        tree: Dict[Any, Any] = super().construct_mapping(node, deep)
        if len(tree) < len(node.value):
            raise yaml.MarkedYAMLError(problem="a key is there twice", problem_mark=node.start_mark)
        return tree


def _number(loader: _Reader, node: Any) -> Any:
    """An int or float as Python reads it, where it looks like one."""
    text = loader.construct_scalar(node)
    if _INTEGER.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    raise yaml.MarkedYAMLError(problem=f"no number: {text[:40]}", problem_mark=node.start_mark)


def _resolvers() -> Dict[Any, List[Tuple[str, Any]]]:
    """By first character, which tag a bare word has: PyYAML's null and bool, and our numbers."""
    kept = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:bool")
    return {
        first: [(tag, pattern) for tag, pattern in known if tag in kept]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Reader.yaml_implicit_resolvers = _resolvers()
for _tag, _pattern in (("int", _INTEGER), ("float", _FLOAT)):
    _Reader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, list("-+.0123456789"))
_Reader.yaml_constructors = {
    tag: function
    for tag, function in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in _TAGS
}
for _tag in ("int", "float"):
    _Reader.add_constructor(f"tag:yaml.org,2002:{_tag}", _number)
