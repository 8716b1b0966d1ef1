"""What may watch a pipeline: the verifier, a stopwatch, a dump of the graph."""

from __future__ import annotations

import os
import time
from typing import Collection, List, Tuple

from graphslim.errors import IRError, PassError
from graphslim.graphdef import save
from graphslim.ir import Graph
from graphslim.ir.verify import check
from graphslim.pipeline.base import Outcome, Pass


class Observer:
    """Told of each pass of a pipeline, before and after it ran."""

    def before(self, graph: Graph, one: Pass) -> None:
        """Called before a pass runs."""

    def after(self, graph: Graph, one: Pass, outcome: Outcome) -> None:
        """Called after a pass ran."""


class CheckInvariants(Observer):
    """Checks the invariants of the IR after each pass.

    Raises:
        PassError: from `after`, naming the pass that broke one.
    """

    def after(self, graph: Graph, one: Pass, outcome: Outcome) -> None:
        """Checks the graph."""
        try:
            check(graph)
        except IRError as error:
            raise PassError(
                f"left a broken graph: {error.told}", one.name, "this is a bug in the pass"
            ) from error


class Timing(Observer):
    """Notes the wall time of each pass, in seconds, in `seconds`."""

    def __init__(self) -> None:
        self.seconds: List[Tuple[str, float]] = []
        self._start = 0.0

    def before(self, graph: Graph, one: Pass) -> None:
        """Starts the watch."""
        self._start = time.perf_counter()

    def after(self, graph: Graph, one: Pass, outcome: Outcome) -> None:
        """Stops the watch."""
        self.seconds.append((one.name, time.perf_counter() - self._start))


class Dump(Observer):
    """Writes the graph to `NN-pass-name.pbtxt` in a folder after each of the named passes."""

    def __init__(self, folder: str, names: Collection[str]) -> None:
        self.folder, self.names, self.written = folder, set(names), []  # type: str, set, List[str]
        self._count = 0

    def after(self, graph: Graph, one: Pass, outcome: Outcome) -> None:
        """Writes the graph, if this pass is one of those."""
        self._count += 1
        if one.name in self.names:
            path = os.path.join(self.folder, f"{self._count:02d}-{one.name}.pbtxt")
            save(graph, path)
            self.written.append(path)
