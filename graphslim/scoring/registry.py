"""Criteria by name: the decorator that registers them, and the search for a name."""

from __future__ import annotations

import functools
import inspect
from types import MappingProxyType
from typing import Any, Callable, Dict, Mapping, NamedTuple, Sequence, TypeVar

import numpy as np

from graphslim.errors import PlanError
from graphslim.support.importing import blaming, definition, load_plugins, place_of, user_object
from graphslim.support.text import meant

KINDS = ("weights", "responses", "gradients", "moments")
ROLES = ("producer", "consumer", "follower", "scale")
_OPTION = "--criterion"


def _first(scores: np.ndarray, axis: int) -> np.ndarray:
    return np.take_along_axis(scores, np.isnan(scores).argmin(axis)[None], axis)[0]


AGGREGATES: Mapping[str, Callable[..., np.ndarray]] = MappingProxyType(
    {
        "mean": np.nanmean,
        "max": np.nanmax,
        "sum": np.nansum,
        "product": np.nanprod,
        "first": _first,
    }
)
"""Ways to make one score of those of several bindings."""


def check_aggregate(aggregate: str, where: str) -> None:
    """Refuses a name that is no way to aggregate.

    Args:
        aggregate: the name.
        where: what gave it, for the message.

    Raises:
        PlanError: the name is no key of `AGGREGATES`.
    """
    if aggregate not in AGGREGATES:
        raise PlanError(
            f"no way to aggregate called {aggregate!r}",
            where,
            f"one of: {', '.join(AGGREGATES)}",
        )


class Criterion(NamedTuple):
    """A rule that scores channels.

    Attributes:
        name: what it is called on the command line and in plans.
        function: from numbers to scores, float64 of shape (channels,); see `criterion`.
        kind: what the function gets: `weights`, `responses`, `gradients` or `moments`.
        roles: for `weights`, which bindings it scores.
        redundant: whether a larger score means more redundant rather than more worth keeping.
        comparable: whether the scores of different groups compare as they are.
        additive: whether they are losses that add up over groups; see `criterion`.
        aggregate: how the scores of a group's bindings become one, where nobody says.
        as_stored: whether the function takes weights of any floating type; see `criterion`.
    """

    name: str
    function: Callable[..., Any]
    kind: str = "weights"
    roles: Sequence[str] = ("producer",)
    redundant: bool = False
    comparable: bool = False
    aggregate: str = "mean"
    as_stored: bool = False
    additive: bool = False

    @property
    def source(self) -> str:
        """What it computes and where it is from: the first paragraph of its docstring."""
        return " ".join((inspect.getdoc(self.function) or "").split("\n\n")[0].split())

    @property
    def takes_random(self) -> bool:
        """Whether the function asks for a seeded generator, by a parameter named `random`."""
        return _takes_random(self.function)

    def scores(self, where: str, *given: Any, **options: Any) -> np.ndarray:
        """What the function gives for some arguments: float64 of any shape; empty if no numbers.

        Args:
            where: the layer, tensor or group that is scored.
            *given, **options: the arguments.

        Raises:
            PlanError: the function fails.
        """
        with blaming("criterion", self.function, where, PlanError):
            answer = self.function(*given, **options)
        try:
            return np.asarray(answer, np.float64)
        except (TypeError, ValueError):
            return np.zeros(0)


@functools.lru_cache(maxsize=64)
def _takes_random(function: Callable[..., Any]) -> bool:
    return "random" in inspect.signature(function).parameters


_CRITERIA: Dict[str, Criterion] = {}
F = TypeVar("F", bound=Callable[..., Any])


def criterion(
    name: str,
    roles: Sequence[str] = ("producer",),
    kind: str = "weights",
    redundant: bool = False,
    comparable: bool = False,
    aggregate: str = "mean",
    as_stored: bool = False,
    additive: bool = False,
) -> Callable[[F], F]:
    """Decorator that makes a function a criterion; the function itself stays as it is.

    Args:
        name: what it is called on the command line and in plans.
        roles: for kind `weights`, what is scored of a group: `producer` (the filters that make its
            channels), `consumer` (the weights that read them), `follower` (the vectors and
            depthwise filters on the way), `scale` (those followers that scale in a batch norm).
        kind: what the function gets. `weights`: one array of shape (channels, k), float64, what
            one layer holds for each of its channels. `responses`: one of shape (examples,
            positions, channels). `gradients`: two of that shape, responses and gradients.
            `moments`: the number of channels of a group, and a list of the layers that read them,
            each a `graphslim.scoring.elimination.Moments`.
        redundant: larger scores mean more redundant, as a share from 0 to 1.
        comparable: scores of different groups compare as they are; without it, they are divided
            by their mean over the group for a ranking over the whole network.
        aggregate: how the scores of what a group has of such layers become one, unless the user
            says another: `mean`, `max`, `sum`, `product`, or `first` for the first layer's alone.
        as_stored: for kind `weights`, whether the function takes an array of any floating type, and
            gives something else than a number wherever a weight is not finite: it is then called
            with the weights as they are stored, which need no copy.
        additive: scores are losses of the network that add up over groups. For a budget of
            multiply-accumulates, parameters, bytes or time they are divided by how much of that
            one channel of the group saves, and ranked so.

    A function with a parameter named `random` gets a seeded `numpy.random.RandomState` by it.

    Raises:
        PlanError: a name that is taken, no docstring, or an unknown role, kind or aggregate.
    """
    ranked = (redundant, comparable, aggregate, as_stored, additive)

    def registered(function: F) -> F:
        with definition(function):
            if not isinstance(name, str):
                raise PlanError(
                    "the decorator has no name", place_of(function), 'write @criterion("name")'
                )
            if name in _CRITERIA:
                raise PlanError(
                    "a criterion of that name is registered already, of "
                    + place_of(_CRITERIA[name].function),
                    name,
                    "give yours another",
                )
            _CRITERIA[name] = _checked(Criterion(name, function, kind, roles, *ranked))
        return function

    bare: Any = name if callable(name) else None
    return registered if bare is None else registered(bare)


def criteria() -> Dict[str, Criterion]:
    """All registered criteria by name, in the order in which they were registered."""
    load_plugins()
    return dict(_CRITERIA)


def find_criterion(name: str) -> Criterion:
    """The criterion of a name, or of `package.module:function` or `file.py:function`.

    What is named that way is imported; a function without the decorator is taken as a criterion
    on the weights of producers, larger scores being more worth keeping.

    Raises:
        PlanError: there is no such criterion.
    """
    if ":" in name:
        return _imported(name)
    if name not in _CRITERIA:
        load_plugins()
    if name not in _CRITERIA:
        hint = meant(name, _CRITERIA)
        if name.endswith(".py"):
            hint = f"name the function too: {name}:function"
        raise PlanError(f"no criterion {name!r}", _OPTION, hint)
    return _CRITERIA[name]


def _imported(name: str) -> Criterion:
    function = user_object(name, _OPTION, PlanError)
    for known in _CRITERIA.values():
        if known.function is function:
            return known
    return _checked(Criterion(name.rpartition(":")[2], function))


def _checked(rule: Criterion) -> Criterion:
    """A criterion as it is registered.

    Raises:
        PlanError: no name or docstring, or an unknown role, kind or aggregate.
    """
    name, kind, roles = rule.name, rule.kind, rule.roles
    if not name or not rule.source:
        raise PlanError(
            "a criterion needs a name and a docstring", name or _OPTION, "say what it measures"
        )
    if kind not in KINDS:
        raise PlanError(f"no kind {kind!r}", name, meant(kind, KINDS))
    if not roles or isinstance(roles, str) or not set(roles) <= set(ROLES):
        raise PlanError(f"bad roles {roles!r}", name, f"a tuple of some of: {', '.join(ROLES)}")
    check_aggregate(rule.aggregate, name)
    return rule._replace(roles=tuple(roles))
