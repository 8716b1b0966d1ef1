"""What a pass is, and what it reports."""

from __future__ import annotations

from typing import ClassVar, Mapping, NamedTuple, Optional, Tuple

from graphslim.ir import Graph
from graphslim.plans import Plan


class Outcome(NamedTuple):
    """What a pass did.

    Attributes:
        changed: whether the graph is another than before.
        notes: one line each, for people.
        plan: what it removed, if that was a plan.
    """

    changed: bool
    notes: Tuple[str, ...] = ()
    plan: Optional[Plan] = None


class Pass:
    """One change to a graph, or one thing found in it.

    A subclass has a `name` (verb-noun, `find-...` for one that only looks), a docstring whose first
    line says what it does, and `run`. Options are the fields of a dataclass, all with defaults.
    `after` names passes that have to come earlier if they run at all, and why.
    """

    name: ClassVar[str] = ""
    after: ClassVar[Mapping[str, str]] = {}

    def run(self, graph: Graph) -> Outcome:
        """Works on the graph in place.

        Raises:
            GraphslimError: what a pass cannot do, said plainly; the graph is then to be discarded.
        """
        raise NotImplementedError(self.name)

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0] if cls.__doc__ else ""
