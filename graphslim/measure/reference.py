"""What a graph gives for some examples, kept, so that many graphs can be held against it."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from graphslim.analysis.cautions import tolerance_of
from graphslim.errors import VerifyError
from graphslim.ir import Graph
from graphslim.layout import needs_nhwc
from graphslim.measure.agreement import Agreement
from graphslim.measure.samples import Examples
from graphslim.measure.verify import measures_of, runnable
from graphslim.runtime import Session, unknown_ops

ROOM = 1 << 29
"""Bytes of inputs and outputs that are kept."""


class Reference:
    """A graph's answers to some examples.

    Args:
        graph: the graph.
        examples: the examples; of these so many are taken as there is room to keep.
        threads: threads within one op; 0 for as many as there are cores.
        room: bytes of inputs and outputs that are kept at most.

    Attributes:
        count: how many examples were taken.
        outputs: by the name of each output, its values over all examples, one run after another.

    Raises:
        VerifyError: the graph does not run, or holds an op that TensorFlow does not know.
        RuntimeUnavailable: TensorFlow is not there.
    """

    def __init__(
        self, graph: Graph, examples: Examples, threads: int = 1, room: int = ROOM
    ) -> None:
        unknown = unknown_ops(graph)
        if unknown:
            raise VerifyError(
                f"TensorFlow does not know {', '.join(unknown)}",
                graph.name,
                "name --outputs before it, or use a TensorFlow that has it",
            )
        self._graph, self._threads = graph, threads
        self._runs: List[Tuple[Mapping[str, np.ndarray], int, List[Any]]] = []
        self.count, self._about = 0, examples.about.as_dict()
        source = runnable(graph)
        probes = measures_of([source, source], graph.outputs, 1)
        self._fetches = [
            str(port)
            for port in (*graph.outputs, *[probe.source for probe in probes if probe.source])
        ]
        with Session(source, threads=threads, optimize=False) as session:
            for feeds, count in examples:
                values = session.run(feeds, self._fetches)
                room -= sum([np.asarray(array).nbytes for array in (*feeds.values(), *values)])
                if room < 0 and self._runs:
                    break
                self._runs.append((feeds, count, values))
                self.count += count
        self.outputs = self._joined([values for _, _, values in self._runs])

    def compare(self, other: Graph) -> Agreement:
        """How far another graph's answers are from these.

        Raises:
            VerifyError: the other graph does not run, or its outputs differ in shape.
        """
        measures = measures_of(
            [runnable(self._graph), runnable(other)], self._graph.outputs, len(self._runs)
        )
        for (_, count, expected), values in zip(self._runs, self._answers(other)):
            pairs = dict(zip(self._fetches, zip(expected, values)))
            for measure, port in zip(measures, self._graph.outputs):
                measure.add(*pairs[str(port)], count, pairs.get(str(measure.source)))
        return Agreement(
            tuple([measure.result() for measure in measures]),
            tolerance_of(self._graph),
            "original",
            needs_nhwc(self._graph) or needs_nhwc(other),
            self.count,
            data=self._about,
        )

    def outputs_of(self, other: Graph) -> Dict[str, np.ndarray]:
        """By the name of each output, another graph's values, like `outputs`.

        Raises:
            VerifyError: the other graph does not run.
        """
        return self._joined(self._answers(other))

    def _answers(self, other: Graph) -> List[List[Any]]:
        with Session(runnable(other), threads=self._threads, optimize=False) as session:
            return [session.run(feeds, self._fetches) for feeds, _, _ in self._runs]

    def _joined(self, answers: List[List[Any]]) -> Dict[str, np.ndarray]:
        columns = dict(zip(self._fetches, zip(*answers)))
        joined = {}
        for port in self._graph.outputs:
            arrays = [np.atleast_1d(np.asarray(array)) for array in columns[str(port)]]
            joined[str(port)] = np.concatenate(arrays)
        return joined
