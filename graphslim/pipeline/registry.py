"""Passes by name: the built-in ones, and those that other packages bring by an entry point."""

from __future__ import annotations

import importlib
import os
from typing import Any, Dict, List, Type, TypeVar

from graphslim.errors import GraphslimError, PassError
from graphslim.pipeline.base import Pass
from graphslim.support.importing import collecting, definition, import_named, metadata, warn_of
from graphslim.support.text import meant

ENTRY_POINTS = "graphslim.passes"
"""Group of entry points, and name of the package of built-in passes."""

_PASSES: Dict[str, Type[Pass]] = {}
_loaded = False
P = TypeVar("P", bound=Type[Pass])


def register(cls: P) -> P:
    """Class decorator that makes a pass known by its `name`.

    Raises:
        PassError: no name, no docstring, or a name that is taken.
    """
    with definition(cls):
        if not cls.name or not cls.summary():
            raise PassError("a pass needs a name and a docstring", cls.__name__)
        if cls.name in _PASSES:
            raise PassError("a pass of that name is registered already", cls.name)
        _PASSES[cls.name] = cls
    return cls


def passes() -> Dict[str, Type[Pass]]:
    """All passes by name, plug-ins loaded."""
    load_plugins()
    return dict(_PASSES)


def find_pass(name: str) -> Type[Pass]:
    """The pass of a name, or of `package.module:Class` or `file.py:Class`, which is imported.

    Raises:
        PassError: there is none.
    """
    load_plugins()
    if ":" in name:
        return _imported(name)
    if name not in _PASSES:
        hint = meant(name, _PASSES)
        if name.endswith(".py"):
            hint = f"name the class too: {name}:Class"
        raise PassError("no pass of that name", name, hint)
    return _PASSES[name]


def _imported(name: str) -> Type[Pass]:
    place, _, attribute = name.rpartition(":")
    if place.endswith(".py") and not os.path.isfile(place):
        raise PassError("no such file", name, "write path/to/file.py:Class")
    try:
        module = import_named(place, attribute)
    except GraphslimError:
        raise
    except Exception as error:  # a user's file may raise anything
        raise PassError(
            f"cannot be imported: {type(error).__name__}: {error}",
            name,
            "write package.module:Class or file.py:Class",
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        raise PassError(f"there is no {attribute!r} in {place}", name, "name a class of it")
    if not (isinstance(found, type) and issubclass(found, Pass)):
        raise PassError("is not a Pass", name, "subclass graphslim.Pass")
    if not found.name:
        raise PassError("is a Pass without a name", name, "give the class a name = '...'")
    return found


def load_plugins() -> None:
    """Imports the built-in passes, then every entry point of the group, once.

    A plug-in that fails is told by a `DefinitionWarning`, and blocks no other.

    Raises:
        PassError: the built-in passes are not installed.
    """
    global _loaded
    if _loaded:
        return
    _loaded = True
    try:
        importlib.import_module(ENTRY_POINTS)
    except ImportError as error:
        _loaded = False
        raise PassError(
            f"the built-in passes are not installed: {error}",
            ENTRY_POINTS,
            "pip install -e . in the checkout",
        ) from None
    for point in _entry_points():
        try:
            refused = collecting(point.load)
        except Exception as error:  # a plug-in may raise anything
            told = PassError(f"{type(error).__name__}: {error}", hint="update or remove it")
            refused = [(point, told)]
        warn_of(refused, f"plug-in {point.name}")


def _entry_points() -> List[Any]:
    found: Any = metadata().entry_points()
    if hasattr(found, "select"):
        return list(found.select(group=ENTRY_POINTS))
    return list(found.get(ENTRY_POINTS, []))
