"""The dictionaries of the published class: from pickles, JSON or arguments, and to JSON."""

from __future__ import annotations

import json
import os
import pickletools
import re
from typing import Any, Callable, Dict, List, Mapping, Optional

import numpy as np

from graphslim.errors import LoadError
from graphslim.support.reading import DEEPEST, parse_json, read_bytes, read_text
from graphslim.support.writing import replacing

LARGEST = 1 << 20
"""Bytes of the largest file that is read; lists of filters are a hundred times smaller."""
LONGEST_NUMBER = 1024
"""Bits of the largest whole number that is read."""
_MOST = 1 << 20
"""Values that a pickle may stand for; a value that is stored once and used again counts twice."""

_ENDLESS = re.compile(rb"[0-9]{400}")
"""A decimal number so long that converting it would take too long."""
_KEYS = (str, int, float, type(None))
"""Types of keys; no tuples, since hashing a deeply shared tuple may take endless time."""
_LARGEST_KEY = 1 << 63
"""Largest whole number allowed as a key: larger ones can be chosen to share one hash."""

_VALUES = frozenset(
    ("INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
    + ("STRING", "BINSTRING", "SHORT_BINSTRING")
    + ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
)
"""Opcodes whose argument is the value."""

_FRESH: Dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
"""Opcodes that put a new value on the stack."""


class _Refused(Exception):
    """A pickle holds something that it may not hold, or makes no sense; the message says what."""


class _Machine:
    """The stack machine of pickles, with the opcodes that plain data needs."""

    def __init__(self) -> None:
        self._stack: List[Any] = []
        self._outer: List[List[Any]] = []
        self._memo: Dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """The value that a pickle stands for."""
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                value = self._stack.pop()
                _require_small(value)
                return value
            self._step(opcode.name, argument)
        raise _Refused("it does not end")

    def _step(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            if isinstance(argument, int) and argument.bit_length() > LONGEST_NUMBER:
                raise _Refused(f"it holds a number of {argument.bit_length()} bits")
            self._stack.append(argument)
        elif name in _FRESH:
            self._stack.append(_FRESH[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name in ("PROTO", "FRAME"):
            return
        else:
            act = getattr(self, f"_do_{name.lower()}", None)
            if act is None:
                raise _Refused(f"it holds {_described(name, argument)}")
            act()

    def _marked(self) -> List[Any]:
        """The items above the last mark; removes them and the mark."""
        items, self._stack = self._stack, self._outer.pop()
        return items

    def _last(self, count: int) -> List[Any]:
        if len(self._stack) < count:
            raise IndexError
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _top(self, kind: type) -> Any:
        """The container that is being filled."""
        if not isinstance(self._stack[-1], kind):
            raise _Refused(f"it fills a {type(self._stack[-1]).__name__} like a {kind.__name__}")
        return self._stack[-1]

    def _do_mark(self) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _do_pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._marked()

    def _do_pop_mark(self) -> None:
        self._marked()

    def _do_dup(self) -> None:
        self._stack.append(self._stack[-1])

    def _do_list(self) -> None:
        items = self._marked()
        self._stack.append(items)

    def _do_tuple(self) -> None:
        items = tuple(self._marked())
        self._stack.append(items)

    def _do_tuple1(self) -> None:
        self._stack.append(tuple(self._last(1)))

    def _do_tuple2(self) -> None:
        self._stack.append(tuple(self._last(2)))

    def _do_tuple3(self) -> None:
        self._stack.append(tuple(self._last(3)))

    def _do_frozenset(self) -> None:
        items = frozenset(_keys(self._marked()))
        self._stack.append(items)

    def _do_dict(self) -> None:
        items = self._marked()
        self._stack.append(_pairs(items))

    def _do_append(self) -> None:
        items = self._last(1)
        self._top(list).extend(items)

    def _do_appends(self) -> None:
        items = self._marked()
        self._top(list).extend(items)

    def _do_additems(self) -> None:
        items = self._marked()
        self._top(set).update(_keys(items))

    def _do_setitem(self) -> None:
        items = self._last(2)
        self._top(dict).update(_pairs(items))

    def _do_setitems(self) -> None:
        items = self._marked()
        self._top(dict).update(_pairs(items))


def _pairs(items: List[Any]) -> Dict[Any, Any]:
    if len(items) % 2:
        raise _Refused("a key has no value")
    return dict(zip(_keys(items[::2]), items[1::2]))


def _keys(items: List[Any]) -> List[Any]:
    """Members of a set, or keys of a dict, if they are of the types that may be."""
    wrong = [item for item in items if not isinstance(item, _KEYS)]
    if wrong:
        raise _Refused(f"it has a {type(wrong[0]).__name__} as a key")
    if any(isinstance(item, int) and abs(item) > _LARGEST_KEY for item in items):
        raise _Refused("it has a number of more than 64 bits as a key")
    return items


def _require_small(tree: Any) -> None:
    """Refuses a value that is nested deeply, or in itself, or holds more than `_MOST` values.

    A small file may hold one list many times over, and each occurrence has to be walked.
    """
    level, count = [tree], 0
    for _ in range(DEEPEST):
        boxes = [item for item in level if isinstance(item, (dict, list, tuple, set, frozenset))]
        count += sum([len(box) for box in boxes])
        if count > _MOST:
            raise _Refused(f"it stands for more than {_MOST:,} values")
        level = [
            child for box in boxes for child in (box.values() if isinstance(box, dict) else box)
        ]
        if not level:
            return
    raise _Refused(f"it is nested deeper than {DEEPEST} levels")


def _described(name: str, argument: Any) -> str:
    """An opcode that is refused, with the object that it names, for one line of text."""
    named = f" ({str(argument)[:60]!r})" if isinstance(argument, str) else ""
    return f"more than containers, numbers and strings: {name}{named}"


def parse_pickle(data: bytes, where: str) -> Any:
    """The plain data that a pickle holds: dicts, lists, tuples, sets, numbers, strings, None.

    Args:
        data: the pickle, of any protocol.
        where: the name of the pickle in messages.

    Raises:
        LoadError: the pickle is damaged, or holds anything else. No code in it has been run.
    """
    try:
        if _ENDLESS.search(data):
            raise _Refused("it holds a number of more than 400 digits")
        return _Machine().run(data)
    except _Refused as error:
        reason: Optional[str] = str(error)
    except Exception:  # whatever a damaged opcode leads the interpreter or `pickletools` to
        reason = None
    raise LoadError(
        f"not read: {reason}" if reason else "not a pickle, or a damaged one",
        where,
        "only pickles of plain dictionaries, as the published `Pruning` class wrote them, are read",
    )


def read_pickle(path: str) -> Any:
    """The plain data of a pickle's file; see `parse_pickle`.

    Raises:
        LoadError: the file cannot be read, is too large or damaged, or holds more than plain data.
    """
    return parse_pickle(read_bytes(path, largest=LARGEST), path)


# ------------------------------------------------------------------ dictionaries and files
Filters = Dict[str, List[int]]
"""By scope, the filters that go, in rising order."""


def read_dictionary(source: Any, argument: str) -> Dict[str, Any]:
    """A dictionary with strings as keys, copied from a mapping or read from a file.

    Args:
        source: a mapping; the path of a `.json` or of an old pickle; None for an empty dictionary.
        argument: the name of the argument, for messages.

    Raises:
        LoadError: the file cannot be read, or holds no such dictionary.
    """
    if source is None:
        return {}
    where, tree = argument, source
    if isinstance(source, (str, os.PathLike)):
        where = os.fspath(source)
        is_json = where.endswith(".json")
        tree = parse_json(read_text(where), where) if is_json else read_pickle(where)
    if not isinstance(tree, Mapping):
        raise LoadError(f"holds a {type(tree).__name__}, not a dictionary", where)
    for key in tree:
        if not isinstance(key, str):
            raise LoadError(f"has the key {key!r}, not a name", where)
    return dict(tree)


def read_filters(source: Any, argument: str) -> Filters:
    """By scope, a list of filter numbers, checked and sorted; see `read_dictionary`.

    Raises:
        LoadError: as for `read_dictionary`; or a list holds a number twice, or anything but whole
            numbers from 0 on.
    """
    where = os.fspath(source) if isinstance(source, (str, os.PathLike)) else argument
    by_scope: Filters = {}
    for scope, filters in read_dictionary(source, argument).items():
        if not isinstance(filters, (list, tuple, np.ndarray)):
            raise LoadError(f"holds a {type(filters).__name__}, no list of filters", where, scope)
        numbers = [_number(number, where, scope) for number in filters]
        if len(set(numbers)) != len(numbers):
            raise LoadError("names a filter twice", where, scope)
        by_scope[scope] = sorted(numbers)
    return by_scope


def write_dictionary(path: str, tree: Mapping[str, Any]) -> None:
    """Writes JSON, a line for each key; the file appears whole or not at all.

    Raises:
        EmitError: the file cannot be written.
    """
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in tree.items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n" if lines else "{}\n")


def write_text(path: str, text: str) -> None:
    """Writes a text; the file appears whole or not at all.

    Raises:
        EmitError: the file cannot be written.
    """
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def _number(value: Any, where: str, scope: str) -> int:
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_whole or value < 0:
        shown = repr(value)[:40] if isinstance(value, (bool, int, float, str)) else "a container"
        raise LoadError(f"holds {shown} where a filter's number has to be", where, scope)
    return int(value)
