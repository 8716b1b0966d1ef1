"""Loads the passes, criteria, patterns and rules of ops that other packages bring."""

from __future__ import annotations

import importlib
import sys
from typing import Any, List

from graphslim.errors import PassError
from graphslim.support.importing import collecting, metadata, warn_of

ENTRY_POINTS = "graphslim.passes"
"""Group of entry points, and name of the package of built-in passes."""
_loaded = False


def load_plugins() -> None:
    """Imports the built-in passes, then every entry point of the group, once.

    A plug-in that fails causes a `DefinitionWarning`, and the others are loaded all the same.

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
            failure = PassError(f"{type(error).__name__}: {error}", hint=_remedy(error))
            refused = [(point, failure)]
        warn_of(refused, f"plug-in {point.name}")


def _remedy(error: Exception) -> str:
    """What to do about a plug-in that could not be loaded."""
    if isinstance(error, ModuleNotFoundError):
        return f"install {error.name} for {sys.executable}, or uninstall the plug-in"
    if isinstance(error, ImportError):
        return (
            f"the plug-in was written for another version of {error.name or 'what it imports'}: "
            "update or uninstall it"
        )
    return "update or uninstall it"


def _entry_points() -> List[Any]:
    points: Any = metadata().entry_points()
    if hasattr(points, "select"):
        return list(points.select(group=ENTRY_POINTS))
    return list(points.get(ENTRY_POINTS, []))
