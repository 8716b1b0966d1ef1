"""The base classes of passes, of passes that find blocks, and of observers of a pipeline."""

from __future__ import annotations

import os
import time
from typing import ClassVar, Collection, List, Mapping, NamedTuple, Optional, Tuple, Type

from graphslim.errors import IRError, PassError
from graphslim.graphdef import save
from graphslim.ir import Graph
from graphslim.ir.verify import check
from graphslim.match import PATTERNS, find_blocks
from graphslim.match.pattern import REFUSED
from graphslim.plans import Plan
from graphslim.support.importing import warn_of
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
        return (cls.__doc__ or "").strip().splitlines()[0] if cls.__doc__ else ""


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
    """Writes the graph to `NN-pass-name.pbtxt` in a folder after each of the named passes."""

    def __init__(self, folder: str, names: Collection[str]) -> None:
        self.folder, self.names, self.written = folder, set(names), []  # type: str, set, List[str]
        self._count = 0

    def after(self, graph: Graph, step: Pass, outcome: Outcome) -> None:
        """Writes the graph, if the pass is one of the named ones."""
        self._count += 1
        if step.name in self.names:
            path = os.path.join(self.folder, f"{self._count:02d}-{step.name}.pbtxt")
            save(graph, path)
            self.written.append(path)
