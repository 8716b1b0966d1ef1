"""What a network loses, as one number: error, decisions, accuracy, or a function of the user's."""

from __future__ import annotations

import math
import os
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from graphslim.analysis.cautions import tolerance_of
from graphslim.errors import GraphslimError, VerifyError
from graphslim.ir import Graph
from graphslim.layout import needs_nhwc
from graphslim.measure.agreement import Agreement
from graphslim.measure.samples import Examples
from graphslim.measure.verify import measures_of, runnable
from graphslim.runtime import Session, unknown_ops
from graphslim.support.importing import user_object
from graphslim.support.reading import read_arrays
from graphslim.support.text import is_finite, meant

Outputs = Mapping[str, np.ndarray]
"""By the name of each output, its values over all examples."""
_OPTION = "--metric"

NAMES: Dict[str, str] = {
    "error": "the error as a share of what the output varies by",
    "agreement": "the share of decisions that are others (top-1 agreement)",
    "iou": "what the mean intersection over union of pictures lacks to 1",
    "accuracy": "the share of examples that are right no more, by --labels",
}
"""By name, what a metric counts."""
ROOM = 1 << 29
"""Bytes of inputs and outputs that are kept."""


class Reference:
    """A graph's answers to some examples.

    Args:
        graph: the graph.
        examples: the examples; of these so many are taken as there is room to keep.
        threads: threads within one op; 0 for as many as there are cores.

    Attributes:
        count: how many examples were taken.

    Raises:
        VerifyError: the graph does not run, or holds an op that TensorFlow does not know.
        RuntimeUnavailable: TensorFlow is not there.
    """

    def __init__(self, graph: Graph, examples: Examples, threads: int = 1) -> None:
        unknown = unknown_ops(graph)
        if unknown:
            raise VerifyError(
                f"TensorFlow does not know {', '.join(unknown)}",
                graph.name,
                "name --outputs before it, or use a TensorFlow that has it",
            )
        self._graph, self._threads = graph, threads
        self._runs: List[Tuple[Mapping[str, np.ndarray], int, List[Any]]] = []
        self.count, self._about, room = 0, examples.about.as_dict(), ROOM
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

    @property
    def outputs(self) -> Outputs:
        """By the name of each output, its values over all examples, one run after another.

        Raises:
            VerifyError: the size of an output depends on the input.
        """
        return self._joined([values for _, _, values in self._runs])

    def outputs_of(self, other: Graph) -> Outputs:
        """Another graph's values, like `outputs`.

        Raises:
            VerifyError: the other graph does not run, or an output has no fixed size.
        """
        return self._joined(self._answers(other))

    def _answers(self, other: Graph) -> List[List[Any]]:
        with Session(runnable(other), threads=self._threads, optimize=False) as session:
            return [session.run(feeds, self._fetches) for feeds, _, _ in self._runs]

    def _joined(self, answers: List[List[Any]]) -> Outputs:
        columns = dict(zip(self._fetches, zip(*answers)))
        joined = {}
        for name in map(str, self._graph.outputs):
            arrays = [np.atleast_1d(np.asarray(array)) for array in columns[name]]
            if len({array.shape[1:] for array in arrays}) > 1:
                raise VerifyError(
                    "its size depends on the input, so that there is no array of all examples",
                    f"output {name}",
                    "name other --outputs, or use a metric that compares run by run, such as error",
                )
            joined[name] = np.concatenate(arrays)
        return joined


class Metric(NamedTuple):
    """A measure of what a network lost.

    Attributes:
        name: what it is called, in files too.
        labels: for metrics that need them, one for each example that is judged, along the first
            axis; else None.
        function: the user's; None for those that are built in.
    """

    name: str
    labels: Optional[np.ndarray] = None
    function: Optional[Callable[..., Any]] = None

    def loss(self, reference: Reference, changed: Graph) -> float:
        """What a changed graph lost, compared with a reference's; about 0 for no loss.

        Raises:
            GraphslimError: the outputs are no decisions, the labels do not fit, or the user's
                function raises an exception or gives no finite number.
            VerifyError: the changed graph does not run.
        """
        if self.function is None and self.name != "accuracy":
            agreement = reference.compare(changed)
            if self.name == "error":
                return agreement.error
            shares = [
                output.mean_iou if self.name == "iou" else output.agreement
                for output in agreement.outputs
            ]
            known = [share for share in shares if share is not None]
            if not known:
                kind = "picture of classes" if self.name == "iou" else "decision (softmax, ArgMax)"
                raise GraphslimError(
                    f"no output is a {kind}",
                    f"{_OPTION} {self.name}",
                    "use error, accuracy with --labels, or a function of your own",
                )
            return 1 - sum(known) / len(known)
        outputs = reference.outputs_of(changed)
        if self.labels is not None:
            return self._scored(outputs) - self._scored(reference.outputs)
        return self._called(reference.outputs, outputs)

    def _scored(self, outputs: Outputs) -> float:
        """The loss of outputs by the labels."""
        assert self.labels is not None
        if self.function is not None:
            return self._called(outputs, self.labels)
        values = np.asarray(next(iter(outputs.values())))
        classes = values.argmax(-1) if values.ndim > self.labels.ndim else values
        # Networks of convolutions alone give an axis of one position or two beside the classes.
        if classes.size == self.labels.size:
            classes = classes.reshape(self.labels.shape)
        if classes.shape != self.labels.shape:
            raise GraphslimError(
                f"have the shape {list(self.labels.shape)}, and the classes {list(classes.shape)}",
                "--labels",
                "give the number of a class for each example",
            )
        return float((classes != self.labels).mean())

    def _called(self, *values: Any) -> float:
        assert self.function is not None
        try:
            loss = self.function(*values)
        except Exception as error:  # a user's function may raise anything
            raise GraphslimError(
                f"the function raises {type(error).__name__}: {error}", f"{_OPTION} {self.name}"
            ) from error
        if not is_finite(loss):
            raise GraphslimError(
                f"gives {loss!r}, no finite number",
                f"{_OPTION} {self.name}",
                "it gets the outputs by name, of the original and of the candidate (or, with "
                "--labels, of one network and the labels), and gives a loss",
            )
        return float(loss)


def find_metric(name: str, labels: Optional[np.ndarray] = None) -> Metric:
    """The metric of a name, or of `package.module:function` or `file.py:function`.

    Raises:
        GraphslimError: there is no such metric, or labels are missing or too many.
    """
    function = user_object(name, _OPTION, GraphslimError) if ":" in name else None
    if function is None and name not in NAMES:
        raise GraphslimError(f"no metric {name!r}", _OPTION, meant(name, NAMES))
    if name == "accuracy" and labels is None:
        raise GraphslimError("needs --labels", f"{_OPTION} {name}", "or choose another metric")
    if labels is not None and function is None and name != "accuracy":
        raise GraphslimError(
            f"the metric {name!r} needs none", "--labels", "add --metric accuracy, or leave it out"
        )
    return Metric(name, labels, function)


def check_loss(loss: float, what: str) -> float:
    """A loss that is a number.

    Raises:
        GraphslimError: the loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise GraphslimError("the loss is not finite", what, "give real data with --data")
    return loss


def read_labels(labels: Any) -> Optional[np.ndarray]:
    """Labels from the path of an .npy or of an .npz with one array, or as they are.

    Raises:
        GraphslimError: the file cannot be read, or holds several arrays.
    """
    if labels is None:
        return None
    if not isinstance(labels, (str, os.PathLike)):
        return np.asarray(labels)
    arrays = read_arrays(os.fspath(labels))
    if len(arrays) != 1:
        raise GraphslimError(
            f"holds {len(arrays)} arrays", os.fspath(labels), "give an .npy with one label each"
        )
    return next(iter(arrays.values()))
