"""How far the values of one output of two graphs are apart, gathered run by run.

Nothing of a run is kept but sums, one mean per position, and the largest hundredth of the
differences, so that thousands of inputs take no more memory than a few.
"""

from __future__ import annotations

import math
from typing import Any, Dict, NamedTuple, Optional, Tuple

import numpy as np

from graphslim.errors import VerifyError
from graphslim.fidelity.decisions import CLASSES, MASK, Decision
from graphslim.ir import Port

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
        one, other = _alike(first, second, place)
        self._shape = one.shape if self._shape is None else self._shape
        if not one.size:
            return
        if one.dtype.kind not in "fiub":
            self._text_differs |= not bool((one == other).all())
            return
        decision = self._decision
        if decision is not None:
            self._choices.add(decision.made(one), decision.made(other))
        if sources is not None:
            self._numbers.add(*_alike(*sources, place), examples, place)
        elif decision is None or decision.kind != CLASSES:
            self._numbers.add(one, other, examples, place)

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
            found = OutputDifference(self._name, shape, float(apart > 0), apart, 1.0)
        else:
            found = numbers.result(self._name, shape)
        return found._replace(
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
        VerifyError: they are of different shape or element type.
    """
    one, other = np.asarray(first), np.asarray(second)
    if one.shape != other.shape:
        raise VerifyError(f"has shape {list(other.shape)} instead of {list(one.shape)}", place)
    if one.dtype != other.dtype and not (one.dtype.kind in "OSU" and other.dtype.kind in "OSU"):
        raise VerifyError(f"is of type {other.dtype} instead of {one.dtype}", place)
    return one, other


class _Numbers:
    """Sums over differences and values.

    Variances are merged run by run as in Chan, Golub and LeVeque (1979), whose sums do not cancel.
    """

    def __init__(self, runs: int) -> None:
        self.count = 0
        self._runs = runs
        self._kept = np.zeros(0)
        self._most = 0
        self._squares = self._values = self._spread = self._mean = 0.0
        self._low, self._high = math.inf, -math.inf
        self._examples = 0
        self._means: Optional[np.ndarray] = None
        self._over_inputs: Optional[float] = 0.0

    def add(self, first: np.ndarray, second: np.ndarray, examples: int, place: str) -> None:
        one, other = first.astype(np.float64), second.astype(np.float64)
        if not np.isfinite(one).all():
            raise VerifyError(
                "is not finite in the original itself", place, "give real data with --data"
            )
        apart = np.abs(one - other).ravel()
        apart[np.isnan(apart)] = np.inf
        self._low, self._high = min(self._low, one.min()), max(self._high, one.max())
        self._squares += float(np.square(apart).sum())
        self._values += float(np.square(one).sum())
        self._keep_largest(apart)
        self._add_spread(one)
        by_examples = one.ndim > 0 and one.shape[0] == examples
        self._add_examples(one.reshape(examples if by_examples else 1, -1))
        self.count += one.size

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

    def _add_spread(self, values: np.ndarray) -> None:
        """Merges the deviations from the mean of all numbers."""
        size, mean = values.size, float(values.mean())
        apart, total = mean - self._mean, self.count + size
        self._spread += float(np.square(values - mean).sum()) + apart**2 * self.count * size / total
        self._mean += apart * size / total

    def _add_examples(self, rows: np.ndarray) -> None:
        """Merges the deviations from the mean over the inputs; shape (examples, positions)."""
        means = rows.mean(0)
        if self._means is None:
            self._means = np.zeros_like(means)
        if self._over_inputs is None or self._means.shape != means.shape:
            # Outputs whose size goes by the input, as boxes do, have no mean over the inputs.
            self._over_inputs = None
            return
        size, apart = len(rows), means - self._means
        total = self._examples + size
        self._over_inputs += float(np.square(rows - means).sum())
        self._over_inputs += float(np.square(apart).sum()) * self._examples * size / total
        self._means = self._means + apart * (size / total)
        self._examples = total

    def result(self, name: str, shape: Tuple[int, ...]) -> OutputDifference:
        if not self.count:
            return OutputDifference(name, shape, 0.0, 0.0, 0.0)
        several = self._examples > 1 and self._over_inputs is not None
        spread = self._over_inputs if several else self._spread
        variation = math.sqrt((spread or 0.0) / self.count)
        varies = variation > FLAT * math.sqrt(self._values / self.count) if several else None
        mean_error = math.sqrt(self._squares / self.count)
        span = self._high - self._low or abs(self._high) or 1.0
        kept = np.sort(self._kept)[::-1]
        rank = min(math.floor((1 - WITHIN) * self.count), len(kept) - 1)
        absolute = float(kept[0])
        return OutputDifference(
            name,
            shape,
            absolute,
            absolute / span,
            span,
            None if varies is False or not variation else mean_error / variation,
            float(kept[rank]) / span,
            variation,
            varies,
        )


class _Choices:
    """How often two graphs decide alike, and the classes of pixels."""

    def __init__(self) -> None:
        self._same = self._all = 0
        self._both: Dict[int, int] = {}
        self._either: Dict[int, int] = {}

    def add(self, one: np.ndarray, other: np.ndarray) -> None:
        equal = one == other
        self._same, self._all = self._same + int(equal.sum()), self._all + one.size
        # Two axes beside that of the examples: decisions about the pixels of a picture.
        if one.ndim and sum([size > 1 for size in one.shape[1:]]) >= 2:
            _count(self._both, one[equal])
            _count(self._either, one)
            _count(self._either, other[~equal])

    @property
    def agreement(self) -> Optional[float]:
        return self._same / self._all if self._all else None

    @property
    def ious(self) -> Tuple[Tuple[int, float], ...]:
        return tuple(
            [(key, self._both.get(key, 0) / of) for key, of in sorted(self._either.items())]
        )


def _count(counts: Dict[int, int], classes: np.ndarray) -> None:
    for number, times in zip(*np.unique(classes, return_counts=True)):
        counts[int(number)] = counts.get(int(number), 0) + int(times)
