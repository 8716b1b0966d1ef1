"""Running passes in order."""

from __future__ import annotations

from typing import Iterable, List, Sequence, Tuple

from graphslim.errors import GraphslimError, PassError
from graphslim.ir import Graph
from graphslim.pipeline.base import Observer, Outcome, Pass
from graphslim.pipeline.registry import find_pass


class Pipeline:
    """Passes in the order in which they run.

    Args:
        steps: passes, or names of passes.

    Raises:
        PassError: a name is unknown, or a pass comes before a pass that it has to follow.
    """

    def __init__(self, steps: Iterable[object]) -> None:
        self.steps: List[Pass] = [
            step if isinstance(step, Pass) else _new_pass(str(step)) for step in steps
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
    except TypeError as error:
        raise PassError(
            f"cannot be made: {error}", name, "give each of its options a default"
        ) from error


def _outcome(step: Pass, graph: Graph) -> Outcome:
    try:
        outcome = step.run(graph)
    except (GraphslimError, MemoryError):
        raise
    except Exception as error:  # a pass may raise anything
        raise PassError(
            f"fails: {type(error).__name__}: {error}", step.name, "a bug in the pass"
        ) from error
    if not isinstance(outcome, Outcome):
        raise PassError(f"gives {outcome!r}, not an Outcome", step.name, "let run() return one")
    return outcome
