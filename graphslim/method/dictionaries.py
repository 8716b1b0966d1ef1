"""The dictionaries of the published class: from pickles, JSON or arguments, and to JSON."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Mapping

import numpy as np

from graphslim.errors import LoadError
from graphslim.method.pickles import read_pickle
from graphslim.support.reading import parse_json, read_text
from graphslim.support.writing import replacing

Filters = Dict[str, List[int]]
"""By scope, the filters that go, in rising order."""


def read_dictionary(given: Any, name: str) -> Dict[str, Any]:
    """A dictionary with strings as keys, from itself or from a file; the caller's is not kept.

    Args:
        given: a mapping; the path of a `.json` or of an old pickle; None for an empty one.
        name: the argument, for messages.

    Raises:
        LoadError: the file cannot be read, or it is no such dictionary.
    """
    if given is None:
        return {}
    where = name
    if isinstance(given, (str, os.PathLike)):
        where = os.fspath(given)
        is_json = where.endswith(".json")
        given = parse_json(read_text(where), where) if is_json else read_pickle(where)
    if not isinstance(given, Mapping):
        raise LoadError(f"holds a {type(given).__name__}, not a dictionary", where)
    for key in given:
        if not isinstance(key, str):
            raise LoadError(f"has the key {key!r}, not a name", where)
    return dict(given)


def read_filters(given: Any, name: str) -> Filters:
    """By scope, a list of filter numbers, checked and sorted; see `read_dictionary`.

    Raises:
        LoadError: also where a list holds anything but different numbers from 0 on.
    """
    where = os.fspath(given) if isinstance(given, (str, os.PathLike)) else name
    found: Filters = {}
    for scope, filters in read_dictionary(given, name).items():
        if not isinstance(filters, (list, tuple, np.ndarray)):
            raise LoadError(f"holds a {type(filters).__name__}, no list of filters", where, scope)
        numbers = [_number(one, where, scope) for one in filters]
        if len(set(numbers)) != len(numbers):
            raise LoadError("names a filter twice", where, scope)
        found[scope] = sorted(numbers)
    return found


def write_dictionary(path: str, tree: Mapping[str, Any]) -> None:
    """Writes JSON, a line for each key; the file appears whole or not at all.

    Raises:
        EmitError: it cannot be written.
    """
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in tree.items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n" if lines else "{}\n")


def write_text(path: str, text: str) -> None:
    """Writes a text; the file appears whole or not at all.

    Raises:
        EmitError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def _number(value: Any, where: str, scope: str) -> int:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < 0:
        shown = repr(value)[:40] if isinstance(value, (bool, int, float, str)) else "a container"
        raise LoadError(f"holds {shown} where a filter's number has to be", where, scope)
    return int(value)
