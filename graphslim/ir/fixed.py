"""Lists, mappings and fields that refuse a change which would not reach the file."""

from __future__ import annotations

from typing import Any, ClassVar, Dict, List, Mapping, NoReturn

from graphslim.errors import IRError

put = object.__setattr__
"""Sets a fixed field, for the class itself alone."""


class FixedFields:
    """Refuses to set the fields that `FIXED` names, each with what to do instead."""

    __slots__ = ()
    FIXED: ClassVar[Mapping[str, str]] = {}

    def __setattr__(self, key: str, value: Any) -> None:
        hint = self.FIXED.get(key)
        if hint is not None:
            raise IRError(f"its {key} is read-only", getattr(self, "name", None), hint)
        put(self, key, value)


class FixedList(List[Any]):
    """A list that cannot be changed in place."""

    def __reduce__(self) -> Any:
        return FixedList, (list(self),)


class FixedDict(Dict[Any, Any]):
    """A mapping that cannot be changed in place."""

    def __reduce__(self) -> Any:
        return FixedDict, (dict(self),)


def _refuse(self: Any, *_: Any, **__: Any) -> NoReturn:
    kind = "list" if isinstance(self, list) else "mapping"
    raise IRError(
        f"this {kind} is read-only",
        hint="an attribute is set as a whole with graph.set_attr, what belongs to the graph by "
        "assignment, such as graph.outputs = [...]",
    )


for _method in ("append", "extend", "insert", "remove", "reverse", "sort", "__imul__", "__iadd__"):
    setattr(FixedList, _method, _refuse)
for _method in ("update", "setdefault", "popitem", "__ior__"):
    setattr(FixedDict, _method, _refuse)
for _method in ("__setitem__", "__delitem__", "clear", "pop"):
    setattr(FixedList, _method, _refuse)
    setattr(FixedDict, _method, _refuse)
