"""Plans as JSON: written from their tuples, held against the schema, and read back.

The fields of the tuples in `plans.plan` say both ways what stands where. Errors name the place in
the file.
"""

from __future__ import annotations

import collections.abc
import functools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Sequence, Union, get_type_hints

from graphslim.errors import PlanError
from graphslim.support.reading import parse_json

FORMAT, VERSION = "graphslim-plan", 1
SCHEMA = Path(__file__).with_name("schema.json")
"""The schema of the plan file (JSON Schema, draft 7)."""
_NUMBERS = re.compile(r"\[\n\s+(-?\d[^\]\"\[{]*?)\n\s*\]")
"""A list of numbers that `json.dumps` has spread over lines."""
_KEYS = {"cuts": "bindings"}
"""Fields that the file calls otherwise."""
_LEFT_OUT = ("cuts", "achieved", "layers")
"""Fields that are not written where they are empty.

Without bindings, a group whose channels a person has edited leaves them to `apply`.
"""
_TOTALS = ("params", "macs")
"""Fields of a plan that the file has in an object `totals`."""
_TYPES = {
    "object": "an object",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
"""What people call the types that the schema uses."""


def written(plan: Any) -> str:
    """A plan as text; the same plan always gives the same text.

    Raises:
        PlanError: a score or a folded value is not a finite number.
    """
    tree: Dict[str, Any] = {"format": FORMAT, "version": VERSION}
    for name, item in _tree(plan).items():
        place = tree.setdefault("totals", {}) if name in _TOTALS else tree
        place[name] = item
    try:
        # Numbers of numpy are as good as Python's where a selection is made.
        text = json.dumps(tree, indent=1, allow_nan=False, default=lambda value: value.item())
    except ValueError as error:
        raise PlanError(f"holds what is not a number: {error}", "plan") from None
    return _NUMBERS.sub(lambda numbers: f"[{' '.join(numbers[1].split())}]", text) + "\n"


def read(kind: Any, text: str, where: str) -> Any:
    """A plan of what `written` wrote, or a person edited.

    Args:
        kind: the type of plans.
        text: the JSON.
        where: what messages call it.

    Raises:
        PlanError: it is no plan, of a version that this graphslim does not know, or breaks the
            schema.
    """
    tree = parse_json(text, where, error=PlanError)
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise PlanError(
            "not a graphslim plan", where, "make one with `graphslim plan` or --plan-out"
        )
    version = tree.get("version")
    if isinstance(version, bool) or version != VERSION:
        raise PlanError(f"plan version {version!r} is not known", where, "update graphslim")
    check(tree, where)
    return _reader(kind)({"folds": (), **tree, **tree["totals"]})


def _tree(value: Any) -> Any:
    """A value as JSON has it: an object for a tuple with names, a list for any other."""
    if hasattr(value, "_fields"):
        return {
            _KEYS.get(name, name): _tree(item)
            for name, item in zip(value._fields, value)
            if item or name not in _LEFT_OUT
        }
    if isinstance(value, collections.abc.Sequence) and not isinstance(value, str):
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
        # 1 and 1.0 are the same number, and lists and objects cannot be counted.
        shown = [item if isinstance(item, (int, float)) else _shown(item) for item in value]
        return f"holds {Counter(shown).most_common(1)[0][0]} twice"
    if rule in ("minItems", "maxItems"):
        return f"must hold {limit} items, and holds {len(value)}"
    wanted = {
        "type": lambda: " or ".join(_TYPES[kind] for kind in _listed(limit)),
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
