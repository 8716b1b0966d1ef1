"""Passes, their register, the pipeline that runs them in order, and what observes it."""

from __future__ import annotations

import os
import time
from typing import (
    ClassVar,
    Collection,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
)

from graphslim.errors import GraphslimError, IRError, PassError
from graphslim.graphdef import save
from graphslim.ir import Graph
from graphslim.ir.verify import check
from graphslim.match import PATTERNS, find_blocks
from graphslim.match.pattern import REFUSED
from graphslim.plans import Plan
from graphslim.support.importing import (
    definition,
    is_built_in,
    load_plugins,
    named,
    place_of,
    raised_by_graphslim,
    user_object,
    warn_of,
)
from graphslim.support.text import meant, plural


class Outcome(NamedTuple):
    """The report of a pass.

    Attributes:
        changed: whether the pass changed the graph.
        notes: lines for people to read.
        plan: the plan by which the pass removed channels, if it did.
    """

    changed: bool
    notes: Tuple[str, ...] = ()
    plan: Optional[Plan] = None


class Pass:
    """A pass changes a graph, or finds something in it.

    A subclass has a `name` (verb-noun, `find-...` for one that only looks), a docstring whose first
    line says what it does, and `run`. Options are the fields of a dataclass, all with defaults.
    `after` names passes that have to come earlier if they run at all, and why.
    """

    name: ClassVar[str] = ""
    after: ClassVar[Mapping[str, str]] = {}

    def run(self, graph: Graph) -> Outcome:
        """Works on the graph in place.

        Raises:
            GraphslimError: the pass cannot do its work; the graph is then to be discarded.
        """
        raise NotImplementedError(self.name)

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (cls.__doc__ or "").strip().partition("\n")[0]


# --- The base of passes that recognise blocks.


class FindBlocks(Pass):
    """Finds all blocks of one kind and puts them into `graph.blocks`; `kind` names the pattern."""

    kind: ClassVar[str] = ""

    @classmethod
    def is_declared(cls) -> bool:
        """Whether the pass has a `run` of its own, or its kind of block has a pattern.

        Of a kind that nobody declared, and that is no pattern that was refused, a
        `DefinitionWarning` tells.
        """
        declared = cls.run is not FindBlocks.run or cls.kind in PATTERNS
        if not declared and cls.kind not in REFUSED:
            warn_of([(cls, _undeclared(cls))], cls.__name__)
        return declared

    def run(self, graph: Graph) -> Outcome:
        """Replaces the blocks of this kind.

        Raises:
            PassError: no pattern of that kind is declared.
        """
        if self.kind not in PATTERNS:
            raise _undeclared(type(self))
        blocks = find_blocks(graph, PATTERNS[self.kind])
        graph.blocks = [block for block in graph.blocks if block.kind != self.kind] + blocks
        return Outcome(False, (plural(len(blocks), f"{self.kind} block"),))


def _undeclared(cls: Type[FindBlocks]) -> PassError:
    """The error of a pass whose kind of block has no pattern."""
    hint = f"declare it with @block_pattern; {meant(cls.kind, PATTERNS)}"
    return PassError(f"no block pattern {cls.kind!r}", cls.name, hint)


# --- Observers of a pipeline: the verifier, a stopwatch, a dump of the graph.


class Observer:
    """Its methods are called before and after each pass of a pipeline."""

    def before(self, graph: Graph, step: Pass) -> None:
        """Called before a pass runs."""

    def after(self, graph: Graph, step: Pass, outcome: Outcome) -> None:
        """Called after a pass ran."""


class CheckInvariants(Observer):
    """Checks the invariants of the IR after each pass.

    Raises:
        PassError: raised by `after`; it names the pass that broke an invariant.
    """

    def after(self, graph: Graph, step: Pass, outcome: Outcome) -> None:
        """Checks the graph."""
        try:
            check(graph)
        except IRError as error:
            raise PassError(
                f"left a broken graph: {error.told}", step.name, "this is a bug in the pass"
            ) from error


class Timing(Observer):
    """Notes the wall time of each pass, in seconds, in `seconds`."""

    def __init__(self) -> None:
        self.seconds: List[Tuple[str, float]] = []
        self._start = 0.0

    def before(self, graph: Graph, step: Pass) -> None:
        """Starts the watch."""
        self._start = time.perf_counter()

    def after(self, graph: Graph, step: Pass, outcome: Outcome) -> None:
        """Stops the watch."""
        self.seconds.append((step.name, time.perf_counter() - self._start))


class Dump(Observer):
    """Writes the graph to `NN-pass-name.pbtxt` in a folder after passes.

    Args:
        folder: the folder, which is there already.
        names: of the passes after which the graph is written; by default all.

    Attributes:
        written: the paths of the files so far.
    """

    def __init__(self, folder: str, names: Optional[Collection[str]] = None) -> None:
        self.folder, self.names = folder, names
        self.written: List[str] = []
        self._count = 0

    def after(self, graph: Graph, step: Pass, outcome: Outcome) -> None:
        """Writes the graph, if the pass is one of the named ones."""
        self._count += 1
        if self.names is None or step.name in self.names:
            path = self.target(self._count, step.name)
            save(graph, path)
            self.written.append(path)

    def target(self, number: int, name: str) -> str:
        """The file for the graph after a pass, which is the `number`-th that runs."""
        return os.path.join(self.folder, f"{number:02d}-{name}.pbtxt")


# --- Passes by name: the built-in ones, and those that other packages bring by an entry point.

_PASSES: Dict[str, Type[Pass]] = {}
P = TypeVar("P", bound=Type[Pass])


def register(cls: P) -> P:
    """Class decorator that makes a pass known by its `name`.

    Raises:
        PassError: the class has no name or no docstring, or its name is taken, or it finds a kind
            of block that another pass finds.
    """
    with definition(cls):
        if not (isinstance(cls, type) and issubclass(cls, Pass)):
            raise PassError("is not a Pass", place_of(cls), "subclass graphslim.Pass")
        if not cls.name or not cls.summary():
            raise PassError("a pass needs a name and a docstring", cls.__name__)
        if cls.run is Pass.run:
            raise PassError("a pass needs a run(self, graph)", cls.name, "it gives an Outcome")
        if cls.name in _PASSES:
            raise PassError(
                "a pass of that name is registered already, of " + place_of(_PASSES[cls.name]),
                cls.name,
                "give yours another",
            )
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
    cls = user_object(name, name, PassError, "Class")
    if not (isinstance(cls, type) and issubclass(cls, Pass)):
        raise PassError("is not a Pass", name, "subclass graphslim.Pass")
    if not cls.name:
        raise PassError("is a Pass without a name", name, "give the class a name = '...'")
    return cls


# --- Running passes in order.


class Pipeline:
    """Passes in the order in which they run.

    Args:
        steps: passes, or names of passes; or the name of one.

    Raises:
        PassError: a name is unknown, or a pass comes before a pass that it has to follow.
    """

    def __init__(self, steps: Iterable[object]) -> None:
        self.steps: List[Pass] = [
            step if isinstance(step, Pass) else _new_pass(str(step))
            for step in ((steps,) if isinstance(steps, str) else steps)
        ]
        names = [step.name for step in self.steps]
        for place, step in enumerate(self.steps):
            for earlier, why in step.after.items():
                if earlier in names[place + 1 :]:
                    raise PassError(
                        f"must come after {earlier}: {why}", step.name, "change the order"
                    )

    def run(self, graph: Graph, observers: Sequence[Observer] = ()) -> List[Tuple[str, Outcome]]:
        """Runs every pass on the graph, in place; returns each pass's name and outcome.

        Raises:
            PassError: a pass failed, or reported a change that it did not make, or hid one.
            GraphslimError: a pass cannot do its work.
        """
        done: List[Tuple[str, Outcome]] = []
        for step in self.steps:
            for observer in observers:
                observer.before(graph, step)
            version = graph.version
            outcome = _outcome(step, graph)
            if outcome.changed != (graph.version != version):
                truth = "changed the graph" if graph.version != version else "changed nothing"
                raise PassError(f"{truth} and reports otherwise", step.name, "mend its Outcome")
            for observer in observers:
                observer.after(graph, step, outcome)
            done.append((step.name, outcome))
        return done


def _new_pass(name: str) -> Pass:
    cls = find_pass(name)
    try:
        return cls()
    except GraphslimError:
        raise
    except Exception as error:  # above all a TypeError, for options without a default
        raise PassError(
            f"cannot be made: {error}", name, "give each of its options a default"
        ) from error


def _outcome(step: Pass, graph: Graph) -> Outcome:
    """What a pass reports; of a failure of one that is not built in, the hint names its place."""
    kind = type(step)
    own = "" if is_built_in(kind) else named("pass", kind)
    try:
        outcome = step.run(graph)
    except MemoryError:
        raise
    except GraphslimError as error:
        if not own or error.where == step.name or not raised_by_graphslim(error):
            raise  # what a pass says itself
        hint = f"{error.hint}; see {own}" if error.hint else f"see {own}"
        raise type(error)(error.what, error.where, hint) from error
    except Exception as error:  # a pass may raise anything
        hint = f"mend {own}; --debug prints the line" if own else "a bug in the pass"
        raise PassError(f"fails: {type(error).__name__}: {error}", step.name, hint) from error
    if not isinstance(outcome, Outcome):
        raise PassError(f"gives {outcome!r}, not an Outcome", step.name, "let run() return one")
    return outcome
