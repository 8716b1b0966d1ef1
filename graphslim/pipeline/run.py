"""Running passes in order."""

from __future__ import annotations

from typing import Iterable, List, Sequence, Tuple

from graphslim.errors import PassError
from graphslim.ir import Graph
from graphslim.pipeline.base import Outcome, Pass
from graphslim.pipeline.observers import Observer
from graphslim.pipeline.registry import find_pass


class Pipeline:
    """Passes in the order in which they run.

    Args:
        steps: passes, or names of passes.

    Raises:
        PassError: an unknown name, or a pass that stands before one it has to follow.
    """

    def __init__(self, steps: Iterable[object]) -> None:
        self.steps: List[Pass] = [
            step if isinstance(step, Pass) else find_pass(str(step))() for step in steps
        ]
        names = [step.name for step in self.steps]
        for place, step in enumerate(self.steps):
            for earlier, why in step.after.items():
                if earlier in names[place + 1 :]:
                    raise PassError(f"must come after {earlier}: {why}", step.name, "change the order")

    def run(self, graph: Graph, observers: Sequence[Observer] = ()) -> List[Tuple[str, Outcome]]:
        """Runs every pass on the graph, in place; gives what each reported.

        Raises:
            PassError: a pass reported a change that it did not make, or hid one.
        """
        done: List[Tuple[str, Outcome]] = []
        for step in self.steps:
            for observer in observers:
                observer.before(graph, step)
            version = graph.version
            outcome = step.run(graph)
            if outcome.changed != (graph.version != version):
                truth = "changed the graph" if graph.version != version else "changed nothing"
                raise PassError(f"{truth} and reports otherwise", step.name, "mend its Outcome")
            for observer in observers:
                observer.after(graph, step, outcome)
            done.append((step.name, outcome))
        return done
