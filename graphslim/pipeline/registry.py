"""Passes by name: the built-in ones, and those that other packages bring by an entry point."""

from __future__ import annotations

import os
from typing import Dict, Type, TypeVar

from graphslim.errors import GraphslimError, PassError
from graphslim.pipeline.base import FindBlocks, Pass
from graphslim.support.importing import definition, import_named
from graphslim.support.plugins import load_plugins
from graphslim.support.text import meant

_PASSES: Dict[str, Type[Pass]] = {}
P = TypeVar("P", bound=Type[Pass])


def register(cls: P) -> P:
    """Class decorator that makes a pass known by its `name`.

    Raises:
        PassError: the class has no name or no docstring, or its name is taken, or it finds a kind
            of block that another pass finds.
    """
    with definition(cls):
        if not cls.name or not cls.summary():
            raise PassError("a pass needs a name and a docstring", cls.__name__)
        if cls.name in _PASSES:
            raise PassError("a pass of that name is registered already", cls.name)
        _refuse_kind_of_another(cls)
        _PASSES[cls.name] = cls
    return cls


def _refuse_kind_of_another(cls: Type[Pass]) -> None:
    """Two passes that find one kind of block would take each other's blocks away."""
    if not issubclass(cls, FindBlocks) or not cls.kind:
        return
    for name, other in _PASSES.items():
        if issubclass(other, FindBlocks) and other.kind == cls.kind:
            raise PassError(
                f"the pass {name} finds blocks of the kind {cls.kind!r} already",
                cls.name,
                "declare a kind of another name",
            )


def passes() -> Dict[str, Type[Pass]]:
    """All passes by name, plug-ins loaded."""
    load_plugins()
    return dict(_PASSES)


def find_pass(name: str) -> Type[Pass]:
    """The pass of a name, or of `package.module:Class` or `file.py:Class`, which is imported.

    Raises:
        PassError: no pass has that name, or it cannot be imported.
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
    cls = getattr(module, attribute, None)
    if cls is None:
        raise PassError(f"there is no {attribute!r} in {place}", name, "name a class of it")
    if not (isinstance(cls, type) and issubclass(cls, Pass)):
        raise PassError("is not a Pass", name, "subclass graphslim.Pass")
    if not cls.name:
        raise PassError("is a Pass without a name", name, "give the class a name = '...'")
    return cls
