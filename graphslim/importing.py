"""Imports a user's module, by its name or from a file, and what tells of installed packages."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any


def metadata() -> Any:
    """The module that tells of installed packages; Python 3.7 has only its backport."""
    old = sys.version_info < (3, 8)
    return importlib.import_module("importlib_metadata" if old else "importlib.metadata")


def import_named(name: str) -> ModuleType:
    """The module of a name such as `package.module`, or of a path such as `folder/file.py`.

    A file is executed once, whoever asks for it.

    Raises:
        ImportError: there is none; a user's module may raise anything else, too.
    """
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = os.path.abspath(name)
    key = f"graphslim_user_{hashlib.sha256(path.encode()).hexdigest()[:16]}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, path)
        if spec is None or spec.loader is None:
            raise ImportError(name)
        # Before it is executed, since dataclasses look their module up.
        sys.modules[key] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[key])
        except BaseException:
            del sys.modules[key]
            raise
    return sys.modules[key]
