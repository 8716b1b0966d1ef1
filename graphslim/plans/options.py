"""How an option is declared: once, for keyword arguments, the command line, files and passes."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import (
    Any,
    Callable,
    Iterable,
    Iterator,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
    cast,
)

from graphslim.errors import KEYWORDS, PlanError
from graphslim.support.text import is_count, is_finite, is_share, meant

_C = TypeVar("_C", bound=type)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Kind(NamedTuple):
    """What values an option takes.

    Attributes:
        fits: whether a value is one of them.
        wanted: what a value has to be, for messages.
        refused: what to say of another value, which takes the place of `{}`; by default that there
            is no such option.
        choices: the names that may be given, if that is all.
    """

    fits: Callable[[Any], bool]
    wanted: str = ""
    refused: str = ""
    choices: Tuple[str, ...] = ()


NUMBER = Kind(is_finite, "a finite number", "{} is no finite number")
SHARE = Kind(is_share, "a number from 0 to 1", "must be from 0 to 1")
PART = Kind(
    lambda value: is_share(value) and value > 0,
    "a number above 0, and at most 1",
    "{} is no share above 0, and at most 1",
)
MAGNITUDE = Kind(
    lambda value: is_finite(value) and value >= 0, "0 or more", "must be a number of 0 or more"
)
COUNT = Kind(is_count, "a whole number from 1 on", "must be 1 or more")
ANY_COUNT = Kind(lambda value: value == 0 or is_count(value), "0 or more", "must be 0 or more")
FLAG = Kind(lambda value: isinstance(value, bool), "true or false")
NAME = Kind(lambda value: isinstance(value, str), "a name", "{!r} is no name")
GLOBS = Kind(
    lambda value: all([isinstance(glob, str) for glob in value]), "texts", "{!r} holds no globs"
)
SETTINGS = Kind(lambda value: True)
CURVES = Kind(lambda value: True)


def one_of(choices: Iterable[str], refused: str = "") -> Kind:
    """The kind of an option that takes one of several names."""
    names = tuple(choices)
    return Kind(lambda value: value in names, f"one of: {', '.join(names)}", refused, names)


class Option(NamedTuple):
    """What is known of an option besides its name and its default.

    Attributes:
        kind: what it takes.
        text: what it does, for the help of commands and for docstrings.
        letter: what stands for its value in the help of commands.
        spelled: its keyword argument, if that is not the name of the field; the command line has
            it with dashes.
        hint: what to do about a value that it does not take.
        flag: how the command line spells it, if not as the keyword argument with dashes.
    """

    kind: Kind
    text: str
    letter: Optional[str] = None
    spelled: Optional[str] = None
    hint: Optional[str] = None
    flag: Optional[str] = None

    def flag_of(self, name: str) -> str:
        """How the command line spells the option of a field."""
        return self.flag or flag_of(self.spelled or name)


def option(default: Any, kind: Kind, text: str = "", *more: Any, **named: Any) -> Any:
    """A dataclass field that is an option; the arguments are its default and those of `Option`."""
    known = Option(kind, text, *more, **named)
    return dataclasses.field(default=default, metadata={"option": known})


def options_of(declared: Type[Any]) -> Iterator[Tuple[str, Any, Option]]:
    """The options that a dataclass declares, in order: name of the field, default, the rest."""
    for field in dataclasses.fields(declared):
        if "option" in field.metadata:
            yield field.name, field.default, field.metadata["option"]


def declares_options(declared: _C) -> _C:
    """Describes each option of a dataclass in its docstring, and lets messages spell it."""
    lines = [inspect.cleandoc(declared.__doc__ or ""), "", "Attributes:"]
    for name, _, known in options_of(declared):
        keyword = known.spelled or name
        KEYWORDS[known.flag_of(name)[2:]] = keyword
        lines.append(f"    {name}: {known.text}")
    declared.__doc__ = "\n".join(lines)
    return declared


def check_options(declared: Any) -> None:
    """Refuses a value that an option does not take; None only fits where it is the default.

    Raises:
        PlanError: an option is out of range or unknown.
    """
    for name, default, known in options_of(type(declared)):
        value = getattr(declared, name)
        if value is default:
            continue
        if value is None or not known.kind.fits(value):
            refused = known.kind.refused
            raise PlanError(
                refused.format(value) if refused else f"no {name} {value!r}",
                known.flag_of(name),
                known.kind.wanted if known.kind.choices else known.hint,
            )


def flag_of(keyword: str) -> str:
    """An option as the command line spells it."""
    return "--" + keyword.replace("_", "-")


def takes(
    declared: Type[Any], names: Optional[Sequence[str]] = None
) -> Callable[[_Function], _Function]:
    """Gives a function with `**options` the signature that names each option of a dataclass.

    Args:
        declared: the dataclass.
        names: the fields whose options the function takes; by default all.
    """

    def described(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        options = [
            inspect.Parameter(known.spelled or name, inspect.Parameter.KEYWORD_ONLY, default=value)
            for name, value, known in options_of(declared)
            if (known.spelled or name) not in signature.parameters
            and (names is None or name in names)
        ]
        keywords_known = {parameter.name for parameter in (*own, *options)}

        @functools.wraps(function)
        def call(*positional: Any, **keywords: Any) -> Any:
            for name in keywords:
                if name not in keywords_known:
                    raise TypeError(
                        f"{function.__name__}() got an unexpected keyword argument {name!r}; "
                        f"{meant(name, keywords_known)}"
                    )
            return function(*positional, **keywords)

        call.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
        return cast(_Function, call)

    return described
