"""How far one output of two graphs is apart: its values, and what it decides, gathered run by run.

Nothing of a run is kept but sums, one mean per position, and the largest hundredth of the
differences, so that thousands of inputs take no more memory than a few.

Which outputs are decisions (classes behind an ArgMax, probabilities behind a softmax, masks) is
found by structure alone. Logits without a softmax stay numbers: nothing in the graph tells whether
the largest of them is what matters.
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

# --- What an output decides.

CLASSES, PROBABILITIES, MASK = "classes", "probabilities", "mask"
"""Kinds of decisions."""
_CHOICES = {"ArgMax": 0, "ArgMin": 0, "TopKV2": 1, "TopK": 1}
"""By op, the output that is the positions of the best of what the op reads first."""
_MOVES = RESHAPES | {"Transpose", "StridedSlice", "Slice"}
"""Ops that move decisions about, or drop some, and change none."""


class Decision(NamedTuple):
    """What an output decides.

    Attributes:
        kind: `classes`: the numbers of classes; `probabilities`: one number for each class along
            `axis`, the largest of which is the decision; `mask`: a sigmoid, yes above 0.5.
        axis: of the classes, counted from the end (below 0); -1 where there is no such axis.
        source: for `classes`, the tensor whose best entries they are. Two graphs that compute the
            same may differ in a class where two entries are nearly equal, so that they are held
            against each other there.
    """

    kind: str
    axis: int = -1
    source: Optional[Port] = None

    def made(self, values: np.ndarray) -> np.ndarray:
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
    """What an output of a graph decides; None where it is no decision that is known."""
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
    whole, part = graph[inputs[1].node], graph[inputs[0].node]
    if whole.op != "Sum" or graph.data_inputs(whole)[0] != inputs[0] or part.op != "Exp":
        return False
    axes = graph[graph.data_inputs(whole)[1].node]
    if axes.op != "Const":
        return False
    rank = analyse(graph).fact(inputs[0]).rank
    return rank is not None and axes.attrs["value"].numbers().ravel().tolist() in ([-1], [rank - 1])


def _axis_behind(graph: Graph, softmax: Port, moves: List[Node]) -> Optional[int]:
    """Where the classes, on the last axis behind a softmax, stand behind the ops that follow it.

    Args:
        graph: the graph.
        softmax: what the softmax gives.
        moves: what stands between it and the output, from the output back.
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
    # Where a size is open on the way, it has to be there again in the end.
    return axis if shape and classes is not None and shape[axis] == classes else None


# --- How far two graphs are apart.

WITHIN = 0.99
"""The share of the numbers that the percentile of the differences is about."""
_KEPT = 10_000
"""So many of the largest differences are kept in any case."""
FLAT = 1e-3
"""An output that varies over the inputs by less than this share of its magnitude tells nothing."""


class OutputDifference(NamedTuple):
    """How far one output of two graphs is apart, over all inputs.

    Attributes:
        name: the output's port.
        shape: its shape, in the first run.
        absolute: the largest difference.
        relative: the same as a share of the range of the first graph's output; of classes that are
            compared as such, the share that differs.
        span: that range, max - min (or the largest magnitude, if that is all there is).
        error: root mean square of the differences as a share of `variation`. At 1 the second graph
            is no nearer to the first than the mean over the inputs is. None where the output does
            not vary, or holds no numbers.
        within: 99 % of the differences are at most this share of the range; None for no numbers.
        variation: root mean square of what the first graph's output deviates from its mean over
            the inputs, position by position; over all its numbers where there is one input.
        varies: whether the output varies over the inputs at all; None where that cannot be told
            from one input.
        decision: how the output decides: `classes`, `probabilities` or `mask`; None if it does not.
        agreement: the share of decisions that are the same: top-1 agreement.
        ious: for decisions about the pixels of a picture, the intersection over union of each
            class that one of the graphs chose, of a mask that of its yes (1); else empty.
        compared_at: the tensor that the numbers above are of, where it is not the output itself:
            of classes, what the best entry is chosen from.
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

    @property
    def mean_iou(self) -> Optional[float]:
        """The mean of the classes' intersections over unions; None where there are none."""
        return sum([iou for _, iou in self.ious]) / len(self.ious) if self.ious else None

    def as_dict(self) -> Dict[str, Any]:
        """For JSON; a number that is not finite, for which JSON has no word, is null."""
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
        decision: how the output decides, if it does; its `source` only where both graphs have it.
    """

    def __init__(self, name: str, runs: int = 1, decision: Optional[Decision] = None) -> None:
        self._name, self._decision = name, decision
        self._shape: Optional[Tuple[int, ...]] = None
        self._numbers = _Numbers(runs)
        self._choices = _Choices()
        self._text_differs = False

    @property
    def source(self) -> Optional[Port]:
        """The tensor that has to be given to `add` beside the output."""
        return self._decision.source if self._decision is not None else None

    def add(
        self, first: Any, second: Any, examples: int = 1, sources: Optional[Tuple[Any, Any]] = None
    ) -> None:
        """Takes in the values of one run.

        Args:
            first, second: what the graphs gave, any shape and element type.
            examples: how many examples the run was of.
            sources: the values at `source`, where there is one.

        Raises:
            VerifyError: shapes or element types differ, or the first is not finite.
        """
        place = f"output {self._name}"
        first, second = _alike(first, second, place)
        self._shape = first.shape if self._shape is None else self._shape
        if not first.size:
            return
        if first.dtype.kind not in "fiub":
            self._text_differs |= not bool((first == second).all())
            return
        decision = self._decision
        if decision is not None:
            self._choices.add(decision.made(first), decision.made(second))
        if sources is not None:
            self._numbers.add(*_alike(*sources, place), examples, place)
        elif decision is None or decision.kind != CLASSES:
            self._numbers.add(first, second, examples, place)

    def result(self) -> OutputDifference:
        """What all runs together come to."""
        shape = self._shape or ()
        if self._text_differs:
            return OutputDifference(self._name, shape, math.inf, math.inf, 0.0)
        numbers, choices, decision = self._numbers, self._choices, self._decision
        agreement, ious = choices.agreement, choices.ious
        if decision is not None and decision.kind == MASK:
            # What matters of a mask is what it shows; the rest would flatter it.
            ious = tuple([pair for pair in ious if pair[0]])
        if decision is not None and decision.kind == CLASSES and not numbers.count:
            apart = 0.0 if agreement is None else 1 - agreement
            difference = OutputDifference(self._name, shape, float(apart > 0), apart, 1.0)
        else:
            difference = numbers.result(self._name, shape)
        return difference._replace(
            decision=None if decision is None else decision.kind,
            agreement=agreement,
            ious=ious,
            compared_at=None if self.source is None else str(self.source),
        )


def difference(name: str, first: Any, second: Any) -> OutputDifference:
    """How far two values of one output are apart.

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
        apart = mean - self.mean
        self.squares += float(np.square(rows - mean).sum())
        self.squares += float(np.square(apart).sum()) * self.rows * size / total
        self.mean = self.mean + apart * (size / total)
        self.rows = total


class _Numbers:
    """Sums over the values of the first graph and their differences from the second's."""

    def __init__(self, runs: int) -> None:
        self._runs = runs
        self._kept = np.zeros(0)
        self._most = 0
        self._squares = self._values = 0.0
        self._low, self._high = math.inf, -math.inf
        self._all = _Deviations()
        self._by_position: Optional[_Deviations] = _Deviations()

    @property
    def count(self) -> int:
        return self._all.rows

    def add(self, first: np.ndarray, second: np.ndarray, examples: int, place: str) -> None:
        first, second = first.astype(np.float64), second.astype(np.float64)
        if not np.isfinite(first).all():
            raise VerifyError(
                "is not finite in the original itself", place, "give real data with --data"
            )
        apart = np.abs(first - second).ravel()
        apart[np.isnan(apart)] = np.inf
        self._low, self._high = min(self._low, first.min()), max(self._high, first.max())
        self._squares += float(np.square(apart).sum())
        self._values += float(np.square(first).sum())
        self._keep_largest(apart)
        self._all.add(first.ravel())
        by_examples = first.ndim > 0 and first.shape[0] == examples
        rows = first.reshape(examples if by_examples else 1, -1)
        positions = self._by_position
        if positions is not None and np.shape(positions.mean) in ((), rows.shape[1:]):
            positions.add(rows)
        else:
            # Outputs whose size goes by the input, as boxes do, have no mean over the inputs.
            self._by_position = None

    def _keep_largest(self, apart: np.ndarray) -> None:
        """Keeps as many of the largest differences as the percentile can need.

        No run is larger than the first but where sizes go by the input, which are small.
        """
        if not self._most:
            self._most = max(_KEPT, math.floor((1 - WITHIN) * len(apart) * self._runs) + 1)
        kept = np.concatenate([self._kept, apart])
        if len(kept) > self._most:
            kept = np.partition(kept, len(kept) - self._most)[-self._most :]
        self._kept = kept

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
        kept = np.sort(self._kept)[::-1]
        rank = min(math.floor((1 - WITHIN) * self.count), len(kept) - 1)
        return OutputDifference(
            name,
            shape,
            absolute=float(kept[0]),
            relative=float(kept[0]) / span,
            span=span,
            error=None if varies is False or not variation else mean_error / variation,
            within=float(kept[rank]) / span,
            variation=variation,
            varies=varies,
        )


class _Choices:
    """How often two graphs decide alike, and the classes of pixels."""

    def __init__(self) -> None:
        self._same = self._all = 0
        self._both: Counter = Counter()
        self._either: Counter = Counter()

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        equal = first == second
        self._same, self._all = self._same + int(equal.sum()), self._all + first.size
        # Two axes beside that of the examples: decisions about the pixels of a picture.
        if first.ndim and sum([size > 1 for size in first.shape[1:]]) >= 2:
            self._both += _counts(first[equal])
            self._either += _counts(first) + _counts(second[~equal])

    @property
    def agreement(self) -> Optional[float]:
        return self._same / self._all if self._all else None

    @property
    def ious(self) -> Tuple[Tuple[int, float], ...]:
        return tuple([(key, self._both[key] / of) for key, of in sorted(self._either.items())])


def _counts(classes: np.ndarray) -> Counter:
    numbers, times = np.unique(classes, return_counts=True)
    return Counter(dict(zip(numbers.astype(int).tolist(), times.tolist())))
