"""Names of a package that are imported when somebody asks for them: commands start fast."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Callable, Mapping


def names_of(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package (PEP 562).

    Args:
        package: its name.
        places: by name, the module that has it, or is it.
    """

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(places[name])
        return module if places[name] == f"{package}.{name}" else getattr(module, name)

    return find
