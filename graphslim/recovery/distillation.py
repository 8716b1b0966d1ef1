"""Training a narrowed graph to answer as its original does: distillation, without labels.

The original is the teacher (Hinton et al. 2015, arXiv 1503.02531). The pupil is to give the same
outputs, or what stands before the op that squashes them (Ba and Caruana 2014, arXiv 1312.6184), and
the same features on the way there, in the channels that it still has (Romero et al. 2015, arXiv
1412.6550): an output that hardly varies teaches little, features do.
"""

from __future__ import annotations

import math
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.ir import Graph
from graphslim.measure.samples import Examples
from graphslim.measure.shares import Shares
from graphslim.recovery.targets import Feature, targets_of
from graphslim.runtime.pupil import Arrays, Pupil
from graphslim.support.progress import Tick, silent

STEPS = 2000
SECONDS = 480.0
RATES = (3e-2, 1e-2, 3e-3, 1e-3)
"""The largest steps of a weight that are tried, as shares of the size of the weights beside it. A
network that lost much needs large ones, which destroy one that lost little."""
AT_ONCE = 32
"""The smallest number of images from which one step is made."""
_TRIAL, _WARM_UP, _EVALUATIONS = 0.02, 0.05, 20
"""Shares of the steps that one rate is tried for and in which it rises; measurements in all."""
_CHOOSING = 0.25
"""The share of the time after which no further step is made to choose the rate."""
_RISEN, _BACK_OFF, _FALLS = 2.0, 0.3, 4
"""Where the loss over the images for tuning is this many times the smallest, the best weights are
taken again, with this share of the rate; so many times at most."""
_KEPT = ("best", "curve", "steps", "rate", "_lowest", "_ticks", "_planned", "_falls", "_tried")
"""What of a training has to be kept to go on with it, beside what moves in each step."""


Save = Callable[[Callable[[], Dict[str, Any]]], None]
"""Called with what gives the state of a training, which is a tree of numbers and arrays."""


def unsaved(state: Callable[[], Dict[str, Any]]) -> None:
    """Keeps no state."""


class Point(NamedTuple):
    """A measurement while training.

    Attributes:
        step: after how many steps.
        seconds: since training began.
        loss: the mean loss over the tuning images; 1 is that of a constant answer.
    """

    step: int
    seconds: float
    loss: float


class Distilled(NamedTuple):
    """The outcome of distillation.

    Attributes:
        weights: those with the smallest loss over the images for tuning.
        curve: that loss as training went on; the first point is the graph as it came.
        steps: how many steps were made.
        rate: the rate that was chosen.
        interrupted: whether it was ended from the keyboard.
        gpus: the graphics card that it was trained on; empty without one.
    """

    weights: Arrays
    curve: Tuple[Point, ...]
    steps: int
    rate: float
    interrupted: bool = False
    gpus: Tuple[str, ...] = ()


class _Adam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980), each constant in steps of its own size.

    What suits a kernel of small weights suits a scale of batch norm near 1 too.
    """

    def __init__(self, weights: Arrays) -> None:
        self._sizes = {name: _size(numbers) for name, numbers in weights.items()}
        self._steps = 0
        self._means: Arrays = {}
        self._squares: Arrays = {}

    def move(self, weights: Arrays, slopes: Mapping[str, np.ndarray], rate: float) -> None:
        """One step down the slopes; the arrays of `weights` are replaced."""
        self._steps += 1
        first, second = 1 - 0.9**self._steps, 1 - 0.999**self._steps
        for name, slope in slopes.items():
            mean = self._means.setdefault(name, np.zeros_like(slope))
            square = self._squares.setdefault(name, np.zeros_like(slope))
            mean += 0.1 * (slope - mean)
            square += 0.001 * (np.square(slope) - square)
            step = (mean / first) / (np.sqrt(square / second) + 1e-12)
            weights[name] = weights[name] - np.float32(rate * self._sizes[name]) * step

    def state(self) -> Dict[str, Any]:
        """All that it has to know to go on."""
        return dict(vars(self))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on where another one was."""
        vars(self).update(state)
        for moments in (self._means, self._squares):
            moments.update({name: np.array(array) for name, array in moments.items()})


def _size(numbers: np.ndarray) -> float:
    """The root mean square of numbers; of zeros, a small number that lets them move."""
    return float(np.sqrt(np.square(numbers, dtype=np.float64).mean())) or 0.01


def distill(
    original: Graph,
    slim: Graph,
    names: Sequence[str],
    features: Sequence[Feature],
    shares: Shares,
    *,
    steps: int = STEPS,
    seconds: float = SECONDS,
    seed: int = 0,
    threads: int = 0,
    progress: Tick = silent,
    begun: Optional[Mapping[str, Any]] = None,
    save: Save = unsaved,
) -> Distilled:
    """Fits constants of a graph by gradients, so that it answers as the original does.

    Ctrl-C ends it, and what is best so far is returned.

    Args:
        original: the teacher, as TensorFlow can run it.
        slim: the graph to train, as TensorFlow can run it.
        names: its constants that may change.
        features: tensors on the way to the outputs that it is to imitate too.
        shares: the images.
        steps: the largest number of steps.
        seconds: the longest time; where it is too short for all steps, fewer are planned. Of what
            was begun, one step and the measurements of the loss beside it are still ended.
        seed: of the order of the images.
        threads: threads within one op; 0 for as many as there are cores.
        progress: called after each step.
        begun: what an earlier training of the same arguments handed to `save`; it is gone on with.
        save: called after each step, and each rate that was tried, with a function that gives all
            that has to be known to go on.

    Raises:
        VerifyError: TensorFlow cannot train the graph.
        RuntimeUnavailable: TensorFlow is not there.
    """
    weights = {name: _float32(slim, name) for name in names}
    targets = targets_of(original, slim, features, shares.training)
    with Pupil(original, slim, names, targets, threads) as pupil:
        training = _Training(pupil, shares, weights, steps, seconds, seed, progress, save)
        if begun is not None:
            training.restore(begun)
        interrupted = False
        try:
            training.run()
        except KeyboardInterrupt:
            interrupted = True
    curve, used = tuple(training.curve), tuple(pupil.gpus)
    return Distilled(training.best, curve, training.steps, training.rate, interrupted, used)


class _Training:
    """Training as it goes on.

    Attributes:
        best: the weights with the smallest loss over the images for tuning.
        curve: that loss.
        steps: the number of steps made, those of the trials of rates left out.
        rate: the rate; 0 until it is chosen.
    """

    def __init__(
        self,
        pupil: Pupil,
        shares: Shares,
        weights: Arrays,
        steps: int,
        seconds: float,
        seed: int,
        progress: Tick,
        save: Save,
    ) -> None:
        self._pupil, self._tuning, self._progress = pupil, shares.tuning, progress
        self._seconds, self._started = seconds, time.perf_counter()
        self._batches, self._save = _Batches(shares.training, seed), save
        self._planned, self._trial = steps, math.ceil(_TRIAL * steps)
        self._total = steps + self._trial * len(RATES)
        self._start, self._tried = weights, []  # type: Arrays, List[float]
        self._weights, self._adam, self._falls = dict(weights), _Adam(weights), 0
        self._ticks = 0
        self.best, self.steps, self.rate = dict(weights), 0, 0.0
        self.curve: List[Point] = []
        self._lowest = math.inf

    def state(self) -> Dict[str, Any]:
        """All that it has to know to go on, but for the graphs, the images and the options."""
        kept = {name: getattr(self, name) for name in _KEPT}
        moving = {"weights": self._weights, "adam": self._adam.state()}
        return {**kept, **moving, "batches": self._batches.state(), "elapsed": self._elapsed()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on where another one was."""
        vars(self).update({name: state[name] for name in _KEPT})
        self.curve, self._tried = list(self.curve), list(self._tried)
        self._weights = dict(state["weights"])
        self._adam.restore(state["adam"])
        self._batches.restore(state["batches"])
        self._started = time.perf_counter() - state["elapsed"]

    def run(self) -> None:
        """Trains until the steps, the time or the patience are used up."""
        if not self.curve:
            self._measure(self._start)
        if not self.rate:
            self._choose_rate()
            self._begin()
        while self.steps < self._planned:
            self._step(self._adam, self._weights, self.rate * _schedule(self.steps / self._planned))
            self.steps += 1
            every = math.ceil(self._planned / _EVALUATIONS)
            if self.steps % every == 0 or self.steps == self._planned:
                loss = self._measure(self._weights)
                self._plan()
                if not loss <= _RISEN * self._lowest:
                    if self._falls == _FALLS:
                        break
                    self._begin()
                    self._falls += 1
                    self.rate *= _BACK_OFF
            self._save(self.state)

    def _begin(self) -> None:
        """Goes on from the best weights."""
        self._weights, self._adam = dict(self.best), _Adam(self.best)

    def _choose_rate(self) -> None:
        """Takes the rate by which a few steps make the loss smallest.

        Where steps take long, fewer are made with each rate, or the smallest rates are left out.
        """
        for rate in RATES[len(self._tried) :]:
            given = _CHOOSING * self._seconds * (len(self._tried) + 1) / len(RATES)
            if self._tried and self._elapsed() > _CHOOSING * self._seconds:
                break
            weights, adam = dict(self._start), _Adam(self._start)
            for step in range(self._trial):
                if step and self._elapsed() > given:
                    break
                self._step(adam, weights, rate * (step + 1) / self._trial)
            self._tried.append(self._measure(weights))
            self._save(self.state)
        self._plan()
        finite = [loss if math.isfinite(loss) else math.inf for loss in self._tried]
        self.rate = RATES[finite.index(min(finite))]

    def _elapsed(self) -> float:
        return time.perf_counter() - self._started

    def _plan(self) -> None:
        """Leaves out steps for which there will be no time, so that the rate has fallen by then."""
        left = max(0.0, self._seconds - self._elapsed())
        fitting = self.steps + int(left * self._ticks / max(self._elapsed(), 1e-9))
        self._planned = min(self._planned, fitting)

    def _step(self, adam: _Adam, weights: Arrays, rate: float) -> None:
        """One step, from the mean gradients over as many runs as it takes."""
        totals: Arrays = {}
        count = 0
        while count < AT_ONCE:
            feeds, number = next(self._batches)
            for name, slope in self._pupil.slopes(feeds, weights).items():
                totals[name] = totals[name] + number * slope if name in totals else number * slope
            count += number
        adam.move(weights, {name: total / count for name, total in totals.items()}, rate)
        self._ticks += 1
        self._progress(min(self._ticks, self._total), self._total, "distillation")

    def _measure(self, weights: Arrays) -> float:
        """Adds a point to the curve, and keeps weights that are the best so far."""
        loss = self._loss(weights)
        self.curve.append(Point(self.steps, self._elapsed() if self.curve else 0.0, loss))
        if loss < self._lowest:
            self.best, self._lowest = dict(weights), loss
        return loss

    def _loss(self, weights: Arrays) -> float:
        """The mean loss over the images for tuning."""
        total, count = 0.0, 0
        for feeds, number in self._tuning:
            total += number * self._pupil.loss(feeds, weights)
            count += number
        return total / max(1, count)


def _float32(graph: Graph, name: str) -> np.ndarray:
    return np.asarray(graph[name].attrs["value"].numbers(), np.float32)


def _schedule(done: float) -> float:
    """The share of the rate when a share of the steps is done: it rises, then falls as a cosine."""
    if done < _WARM_UP:
        return (done + 0.002) / (_WARM_UP + 0.002)
    return 0.5 + 0.5 * math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP))


class _Batches:
    """Runs of the examples, without end, in another order each time."""

    def __init__(self, examples: Examples, seed: int) -> None:
        self._examples, self._rng = examples, np.random.RandomState(seed)
        self._begin(0)

    def _begin(self, first: int) -> None:
        """Begins a new order, at one of its runs."""
        self._before, self._taken = self._rng.get_state(), first
        self._runs = self._examples.drawn(self._rng).starting(first)

    def __next__(self) -> Tuple[Mapping[str, np.ndarray], int]:
        for run in self._runs:
            self._taken += 1
            return run
        self._begin(0)
        return next(self)

    def state(self) -> Tuple[Any, ...]:
        """The random state by which the order was made, and how many of its runs were taken."""
        return self._before, self._taken

    def restore(self, state: Tuple[Any, ...]) -> None:
        """Goes on where another one was."""
        before, taken = state
        self._rng.set_state(before)
        self._begin(taken)
