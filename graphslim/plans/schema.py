"""Holds a plan against the published JSON schema, with errors that name the place in the file."""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from graphslim.errors import PlanError

SCHEMA = Path(__file__).with_name("schema.json")
"""The schema of the plan file (JSON Schema, draft 7)."""

_KINDS: Mapping[str, Tuple[str, Callable[[Any], bool]]] = {
    "object": ("an object", lambda value: isinstance(value, dict)),
    "array": ("a list", lambda value: isinstance(value, list)),
    "string": ("a text", lambda value: isinstance(value, str)),
    "integer": ("a whole number", lambda value: _is_number(value) and value == value // 1),
    "number": ("a number", lambda value: _is_number(value)),
    "null": ("null", lambda value: value is None),
}
"""For each type that the schema uses: how people call it, and whether a value is of it."""


def check(tree: Any, where: str) -> None:
    """Refuses a tree that breaks the schema.

    Args:
        tree: what `json.loads` made of the file.
        where: what messages call the file.

    Raises:
        PlanError: it does; the message names the first place, such as `groups[3].removed[0]`.
    """
    schema = _schema()
    found = _first_fault(tree, schema, schema["definitions"], "")
    if found is not None:
        place, what = found
        raise PlanError(f"{place}: {what}" if place else what, where, "edit it, or make it again")


@functools.lru_cache(maxsize=None)
def _schema() -> Dict[str, Any]:
    tree: Dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return tree


def _first_fault(
    value: Any, rule: Mapping[str, Any], named: Mapping[str, Any], place: str
) -> Optional[Tuple[str, str]]:
    """The first place that breaks a rule of the schema, and how; None if all is well."""
    if "$ref" in rule:
        rule = named[rule["$ref"].rsplit("/", 1)[-1]]
    fault = _own_fault(value, rule)
    if fault is not None:
        return place, fault
    inner: List[Tuple[Any, Mapping[str, Any], str]] = []
    if isinstance(value, dict):
        rules = rule.get("properties", {})
        inner = [
            (value[key], rules[key], f"{place}.{key}" if place else key)
            for key in value
            if key in rules
        ]
    elif isinstance(value, list) and "items" in rule:
        inner = [(item, rule["items"], f"{place}[{index}]") for index, item in enumerate(value)]
    for item, its_rule, its_place in inner:
        found = _first_fault(item, its_rule, named, its_place)
        if found is not None:
            return found
    if rule.get("uniqueItems") and isinstance(value, list) and len(set(value)) < len(value):
        return place, f"holds {_shown(Counter(value).most_common(1)[0][0])} twice"
    return None


def _own_fault(value: Any, rule: Mapping[str, Any]) -> Optional[str]:
    """What is wrong with a value itself, its items left aside."""
    kinds = rule.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_KINDS[kind][1](value) for kind in kinds):
        wanted = " or ".join([_KINDS[kind][0] for kind in kinds])
        return f"must be {wanted}, and is {_shown(value)}"
    if "const" in rule and value != rule["const"]:
        return f"must be {_shown(rule['const'])}, and is {_shown(value)}"
    if "enum" in rule and value not in rule["enum"]:
        return f"must be one of {', '.join(rule['enum'])}, and is {_shown(value)}"
    if "minimum" in rule and _is_number(value) and value < rule["minimum"]:
        return f"must be {rule['minimum']} or more, and is {_shown(value)}"
    if "maximum" in rule and _is_number(value) and value > rule["maximum"]:
        return f"must be {rule['maximum']} at most, and is {_shown(value)}"
    if isinstance(value, dict):
        return _fault_of_keys(value, rule)
    if isinstance(value, list):
        least, most = rule.get("minItems", 0), rule.get("maxItems", math.inf)
        if not least <= len(value) <= most:
            return f"must hold {least} {'' if least == most else 'or more '}items, and holds " + (
                str(len(value))
            )
    return None


def _fault_of_keys(value: Mapping[str, Any], rule: Mapping[str, Any]) -> Optional[str]:
    lacks = [key for key in rule.get("required", []) if key not in value]
    if lacks:
        return f"lacks {lacks[0]!r}"
    if rule.get("additionalProperties") is False:
        unknown = [key for key in value if key not in rule["properties"]]
        if unknown:
            return f"has {unknown[0]!r}, which a plan has not"
    return None


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
