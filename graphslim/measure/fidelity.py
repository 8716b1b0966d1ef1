"""How far one output of two graphs differs in its values and in its decisions, run by run.

Of each run only sums, one mean per position, and the largest hundredth of the differences are
kept, so that thousands of inputs take no more memory than a few.

Which outputs are decisions (classes behind an ArgMax, probabilities behind a softmax, masks) is
recognised by structure alone. Logits without a softmax count as numbers: nothing in the graph tells
whether the largest of them is a decision.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from graphslim.channels.groups import analyse
from graphslim.errors import VerifyError
from graphslim.ir import Graph, Node, Port
from graphslim.ir.families import IDENTITIES, QUOTIENTS, RESHAPES, RESIZES, SMOOTH_RESIZES
from graphslim.ir.query import behind

# --- What an output decides.

CLASSES, PROBABILITIES, MASK = "classes", "probabilities", "mask"
"""Kinds of decisions."""
_CHOICES = {"ArgMax": 0, "ArgMin": 0, "TopKV2": 1, "TopK": 1}
"""By op, the output that holds the positions of the best entries of the first input."""
_MOVES = RESHAPES | {"Transpose", "StridedSlice", "Slice"}
"""Ops that move decisions or drop some of them, and change none."""


class Decision(NamedTuple):
    """A kind of decision that an output is.

    Attributes:
        kind: `classes`: the numbers of classes; `probabilities`: one number for each class along
            `axis`, the largest of which is the decision; `mask`: a sigmoid, yes above 0.5.
        axis: the axis of the classes, counted from the end (below 0); -1 if there is no such axis.
        source: for `classes`, the tensor whose best entries they are. Graphs are compared at this
            tensor, since rounding may change a class where two entries are nearly equal.
    """

    kind: str
    axis: int = -1
    source: Optional[Port] = None

    def decide(self, values: np.ndarray) -> np.ndarray:
        """The decisions that an output's values stand for.

        Args:
            values: of any shape; float where the output holds probabilities or a mask.

        Returns:
            integers or bools of the same shape, for probabilities without the axis of the classes.
        """
        if self.kind == PROBABILITIES:
            return np.asarray(values.argmax(self.axis))
        return values > 0.5 if self.kind == MASK else values


def decision_of(graph: Graph, output: Port) -> Optional[Decision]:
    """The decision that an output of a graph is; None if it is not recognised as one."""
    port = output
    moves: List[Node] = []
    while True:
        node = graph[port.node]
        inputs = graph.data_inputs(node)
        if _CHOICES.get(node.op) == port.port:
            # A mix of probabilities is a probability, a mix of the numbers of classes is nonsense.
            if any(move.op in SMOOTH_RESIZES for move in moves):
                return None
            return Decision(CLASSES, source=inputs[0] if inputs else None)
        if node.op == "Sigmoid":
            return Decision(MASK)
        if _is_softmax(graph, node):
            axis = _axis_behind(graph, Port(node.name), moves)
            return None if axis is None else Decision(PROBABILITIES, axis)
        goes_on = node.op in _MOVES | IDENTITIES | RESIZES | {"Cast", "EnsureShape"}
        if not inputs or port.port or not goes_on:
            return None
        moves.append(node)
        port = inputs[0]


def _is_softmax(graph: Graph, node: Node) -> bool:
    """Whether a node is a softmax, written as an op or as exponentials over their sum."""
    if node.op in ("Softmax", "LogSoftmax"):
        return True
    inputs = graph.data_inputs(node)
    if node.op not in QUOTIENTS or len(inputs) != 2:
        return False
    total, part = graph[inputs[1].node], graph[inputs[0].node]
    if total.op != "Sum" or graph.data_inputs(total)[0] != inputs[0] or part.op != "Exp":
        return False
    axes = graph[graph.data_inputs(total)[1].node]
    if axes.op != "Const":
        return False
    rank = analyse(graph).fact(inputs[0]).rank
    return rank is not None and axes.attrs["value"].numbers().ravel().tolist() in ([-1], [rank - 1])


def _axis_behind(graph: Graph, softmax: Port, moves: List[Node]) -> Optional[int]:
    """The axis of an output that the last axis of a softmax becomes; None if it is not kept.

    Args:
        graph: the graph.
        softmax: the output of the softmax.
        moves: the ops between the softmax and the output, from the output back.

    Returns:
        the axis, counted from the end (below 0).
    """
    facts = analyse(graph)
    shape, axis = facts.fact(softmax).shape, -1
    classes = shape[-1] if shape else None
    for node in reversed(moves):
        if node.op == "Transpose":
            order = graph[graph.data_inputs(node)[1].node]
            if order.op != "Const":
                return None
            places = [int(place) for place in order.attrs["value"].numbers().ravel()]
            axis = places.index(axis % len(places)) - len(places)
        elif node.op in _MOVES and axis != -1:
            return None
        shape = facts.fact(Port(node.name)).shape
        if shape and shape[axis] not in (None, classes):
            return None
    # A size that was open on the way has to be the number of classes in the end.
    return axis if shape and classes is not None and shape[axis] == classes else None


SQUASHES = frozenset(("Softmax", "LogSoftmax", "Sigmoid", "ArgMax"))
"""Ops whose gradient vanishes where a network is certain, or always."""


def logits_of(graph: Graph, output: Port) -> Port:
    """What an output says before it is squashed: the output itself, or the input of the squash."""
    source = behind(graph, output, IDENTITIES | RESHAPES)
    while graph[source.node].op in SQUASHES and source.node not in graph.inputs:
        output = graph.data_inputs(source.node)[0]
        source = behind(graph, output, IDENTITIES | RESHAPES)
    return output


# --- How far two graphs differ.

WITHIN = 0.99
"""The percentile of the differences that is reported, as a share."""
_LEAST_KEPT = 10_000
"""The number of largest differences that are kept at least."""
FLAT = 1e-3
"""An output counts as constant if it varies by less than this share of its magnitude."""
_ROUNDING = 8 * float(np.finfo(np.float32).eps)
"""What two orders of summing may make of a number, as a share of the largest number beside it."""


class OutputDifference(NamedTuple):
    """How far one output differs between two graphs, over all inputs.

    Attributes:
        name: the output's port.
        shape: the output's shape in the first run.
        absolute: the largest difference.
        relative: the largest difference as a share of `span`; for classes that are compared
            directly, the share that differs.
        span: the range max - min of the first graph's output; its magnitude if that is 0.
        error: root mean square of the differences as a share of `variation`. At 1 the second graph
            is no nearer to the first than the mean over the inputs is. None if the output does not
            vary, or holds no numbers.
        within: 99 % of the differences are at most this share of the range; None without numbers.
        variation: root mean square deviation of the first graph's output from its mean over the
            inputs, position by position; for a single input, from the mean of all its numbers.
        varies: whether the output varies over the inputs; None if there is one input only.
        decision: `classes`, `probabilities` or `mask`; None if the output is no decision.
        agreement: the share of decisions that are the same: top-1 agreement.
        ious: for decisions about the pixels of a picture, pairs of a class that one of the graphs
            chose and its intersection over union; for a mask only the class 1 (yes); else empty.
        compared_at: the tensor that the numbers above were measured at, if it is not the output
            itself: for classes, the tensor whose best entries they are.
        rounding: a difference that is no larger may come from the rounding of float32 alone; it
            counts where an output's range is a small share of its magnitude.
    """

    name: str
    shape: Tuple[int, ...]
    absolute: float
    relative: float
    span: float
    error: Optional[float] = None
    within: Optional[float] = None
    variation: float = 0.0
    varies: Optional[bool] = None
    decision: Optional[str] = None
    agreement: Optional[float] = None
    ious: Tuple[Tuple[int, float], ...] = ()
    compared_at: Optional[str] = None
    rounding: float = 0.0

    @property
    def mean_iou(self) -> Optional[float]:
        """The mean of the classes' intersections over unions; None without any."""
        return sum([iou for _, iou in self.ious]) / len(self.ious) if self.ious else None

    def as_dict(self) -> Dict[str, Any]:
        """A tree for JSON; numbers that are not finite, which JSON cannot hold, are null."""
        tree: Dict[str, Any] = {**self._asdict(), "shape": list(self.shape)}
        tree["ious"] = {str(number): iou for number, iou in self.ious}
        tree["mean_iou"] = self.mean_iou
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in tree.items()
        }


class Measures:
    """The differences between two graphs at one output.

    Args:
        name: the output's port.
        runs: how many runs there will be.
        decision: the decision that the output is, or None; with `source` only if both graphs have
            that tensor.
    """

    def __init__(self, name: str, runs: int = 1, decision: Optional[Decision] = None) -> None:
        self._name, self._decision = name, decision
        self._shape: Optional[Tuple[int, ...]] = None
        self._numbers = _Numbers(runs)
        self._choices = _Choices()
        self._text_differs = False

    @property
    def source(self) -> Optional[Port]:
        """The tensor whose values `add` needs beside those of the output; None if there is none."""
        return self._decision.source if self._decision is not None else None

    def add(
        self, first: Any, second: Any, examples: int = 1, sources: Optional[Tuple[Any, Any]] = None
    ) -> None:
        """Adds the values of one run.

        Args:
            first, second: the values of the two graphs, of one shape and element type, whatever
                these are.
            examples: how many examples were run.
            sources: the values of both graphs at `source`, if there is one.

        Raises:
            VerifyError: shapes or element types differ, or the first is not finite.
        """
        place = f"output {self._name}"
        first, second = _alike(first, second, place)
        self._shape = first.shape if self._shape is None else self._shape
        if not first.size:
            return
        if first.dtype.kind == "c":
            first, second = [np.stack([part.real, part.imag], -1) for part in (first, second)]
        if first.dtype.kind not in "fiub":
            self._text_differs |= not bool((first == second).all())
            return
        decision = self._decision
        if decision is not None:
            self._choices.add(decision.decide(first), decision.decide(second))
        if sources is not None:
            self._numbers.add(*_alike(*sources, place), examples, place)
        elif decision is None or decision.kind != CLASSES:
            self._numbers.add(first, second, examples, place)

    def result(self) -> OutputDifference:
        """The difference over all runs."""
        shape = self._shape or ()
        if self._text_differs:
            return OutputDifference(self._name, shape, math.inf, math.inf, 0.0)
        numbers, choices, decision = self._numbers, self._choices, self._decision
        agreement, ious = choices.agreement, choices.ious
        if decision is not None and decision.kind == MASK:
            # Only the foreground counts; the background would make the mean look better.
            ious = tuple([pair for pair in ious if pair[0]])
        if decision is not None and decision.kind == CLASSES and not numbers.count:
            share = 0.0 if agreement is None else 1 - agreement
            difference = OutputDifference(self._name, shape, float(share > 0), share, 1.0)
        else:
            difference = numbers.result(self._name, shape)
        return difference._replace(
            decision=None if decision is None else decision.kind,
            agreement=agreement,
            ious=ious,
            compared_at=None if self.source is None else str(self.source),
        )


def difference(name: str, first: Any, second: Any) -> OutputDifference:
    """How far two values of one output differ.

    Args:
        name: the output's port.
        first, second: arrays of one shape and element type, whatever these are.

    Raises:
        VerifyError: their shapes or element types differ, or the first is not finite.
    """
    measures = Measures(name)
    measures.add(first, second)
    return measures.result()


def _alike(first: Any, second: Any, place: str) -> Tuple[np.ndarray, np.ndarray]:
    """Two values as arrays.

    Raises:
        VerifyError: the shapes or element types differ.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape:
        raise VerifyError(f"has shape {list(second.shape)} instead of {list(first.shape)}", place)
    if first.dtype != second.dtype and not {first.dtype.kind, second.dtype.kind} <= set("OSU"):
        raise VerifyError(f"is of type {second.dtype} instead of {first.dtype}", place)
    return first, second


class _Deviations:
    """The mean of rows, and the sum of their squared deviations from it.

    They are merged run by run as in Chan, Golub and LeVeque (1979), whose sums do not cancel.
    """

    def __init__(self) -> None:
        self.rows, self.squares = 0, 0.0
        self.mean: Union[float, np.ndarray] = 0.0

    def add(self, rows: np.ndarray) -> None:
        """Merges rows of numbers, float64 of shape (n, ...); of the same shape every time."""
        mean, size, total = rows.mean(0), len(rows), self.rows + len(rows)
        shift = mean - self.mean
        self.squares += float(np.square(rows - mean).sum())
        self.squares += float(np.square(shift).sum()) * self.rows * size / total
        self.mean = self.mean + shift * (size / total)
        self.rows = total


class _Numbers:
    """Sums over the values of the first graph, and over the differences of the second graph."""

    def __init__(self, runs: int) -> None:
        self._runs = runs
        self._largest = np.zeros(0)
        self._capacity = 0
        self._squares = self._values = 0.0
        self._low, self._high = math.inf, -math.inf
        self._rounds = False
        self._all = _Deviations()
        self._by_position: Optional[_Deviations] = _Deviations()

    @property
    def count(self) -> int:
        return self._all.rows

    def add(self, first: np.ndarray, second: np.ndarray, examples: int, place: str) -> None:
        self._rounds = first.dtype.kind == "f"
        first, second = first.astype(np.float64), second.astype(np.float64)
        if not np.isfinite(first).all():
            raise VerifyError(
                "is not finite in the original itself", place, "give real data with --data"
            )
        differences = np.abs(first - second).ravel()
        differences[np.isnan(differences)] = np.inf
        self._low, self._high = min(self._low, first.min()), max(self._high, first.max())
        self._squares += float(np.square(differences).sum())
        self._values += float(np.square(first).sum())
        self._keep_largest(differences)
        self._all.add(first.ravel())
        by_examples = first.ndim > 0 and first.shape[0] == examples
        rows = first.reshape(examples if by_examples else 1, -1)
        positions = self._by_position
        if positions is not None and np.shape(positions.mean) in ((), rows.shape[1:]):
            positions.add(rows)
        else:
            # Outputs whose size depends on the input, such as boxes, have no mean over the inputs.
            self._by_position = None

    def _keep_largest(self, differences: np.ndarray) -> None:
        """Keeps as many of the largest differences as the percentile needs.

        The first run sets the number; later runs are larger only where sizes depend on the input,
        and such outputs are small.
        """
        if not self._capacity:
            self._capacity = max(
                _LEAST_KEPT, math.floor((1 - WITHIN) * len(differences) * self._runs) + 1
            )
        largest = np.concatenate([self._largest, differences])
        if len(largest) > self._capacity:
            largest = np.partition(largest, len(largest) - self._capacity)[-self._capacity :]
        self._largest = largest

    def result(self, name: str, shape: Tuple[int, ...]) -> OutputDifference:
        if not self.count:
            return OutputDifference(name, shape, 0.0, 0.0, 0.0)
        spread, varies = self._all, None
        if self._by_position is not None and self._by_position.rows > 1:
            spread = self._by_position
        variation = math.sqrt(spread.squares / self.count)
        if spread is self._by_position:
            varies = variation > FLAT * math.sqrt(self._values / self.count)
        mean_error = math.sqrt(self._squares / self.count)
        span = self._high - self._low or abs(self._high) or 1.0
        largest = np.sort(self._largest)[::-1]
        rank = min(math.floor((1 - WITHIN) * self.count), len(largest) - 1)
        return OutputDifference(
            name,
            shape,
            absolute=float(largest[0]),
            relative=float(largest[0]) / span,
            span=span,
            error=None if varies is False or not variation else mean_error / variation,
            within=float(largest[rank]) / span,
            variation=variation,
            varies=varies,
            rounding=_ROUNDING * max(abs(self._low), abs(self._high)) if self._rounds else 0.0,
        )


class _Choices:
    """Counts how often two graphs decide alike, and the pixels of each class."""

    def __init__(self) -> None:
        self._same = self._all = 0
        self._both: Counter = Counter()
        self._either: Counter = Counter()

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        equal = first == second
        self._same, self._all = self._same + int(equal.sum()), self._all + first.size
        # With two axes beside that of the examples, the decisions are about pixels of a picture.
        if first.ndim and sum([size > 1 for size in first.shape[1:]]) >= 2:
            self._both += _counts(first[equal])
            self._either += _counts(first) + _counts(second[~equal])

    @property
    def agreement(self) -> Optional[float]:
        return self._same / self._all if self._all else None

    @property
    def ious(self) -> Tuple[Tuple[int, float], ...]:
        return tuple(
            [(key, self._both[key] / union) for key, union in sorted(self._either.items())]
        )


def _counts(classes: np.ndarray) -> Counter:
    numbers, times = np.unique(classes, return_counts=True)
    return Counter(dict(zip(numbers.astype(int).tolist(), times.tolist())))
