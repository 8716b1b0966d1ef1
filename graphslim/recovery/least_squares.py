"""Fitting each layer's remaining weights, so that its sums are again what they were.

A layer that lost input channels gives other sums. On the activations of the original, the weights
of the channels that stay can take over what is linear in these: a ridge regression around the
weights as they are (Hoerl and Kennard 1970), of all layers at once, since each is fitted to the
original's own activations. It takes only the Gram matrix of what a layer reads: `measure.grams`.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set

import numpy as np

from graphslim.analysis.values import Values
from graphslim.channels.groups import Removal, analyse
from graphslim.channels.notes import Contraction
from graphslim.ir import Graph
from graphslim.ir.families import IDENTITIES, RESHAPES
from graphslim.ir.query import behind
from graphslim.measure.grams import Gram, Reader, grams_of, in_portions, reader_of
from graphslim.measure.places import twins_of
from graphslim.measure.shares import Shares
from graphslim.plans.plan import Plan
from graphslim.rewrite.fold import absorb_shift
from graphslim.support.progress import Tick, silent

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""The weights of the ridge that are tried, as shares of the mean square of what a layer reads."""


class Fitted(NamedTuple):
    """A layer whose weights were fitted.

    Attributes:
        name: its node.
        before, after: the mean square of the error of its sums over the images for tuning, as a
            share of the mean square of the sums, with the weights as they were and as they are.
        penalty: the weight of the ridge; None where the layer was left as it was.
    """

    name: str
    before: float
    after: float
    penalty: Optional[float]


class _Layer(NamedTuple):
    """A layer that lost input channels.

    Attributes:
        constant: the constant that holds its weights.
        readers: the sums that it makes: several where layers share their weights.
        full: its weights in the original, of the outputs that stay; float64 of shape (rows, out).
            Zero for rows whose constant an offset holds already.
        kept: which rows stay, bool of shape (rows,).
        places: for each weight that stays its place in the constant, counted from 1; 0 for weights
            that do not exist, between groups. Shape (rows that stay, out).
    """

    constant: str
    readers: List[Reader]
    full: np.ndarray
    kept: np.ndarray
    places: np.ndarray


class _Solution(NamedTuple):
    """What the weights and the offset of a layer may become.

    Attributes:
        change: of each weight in the rows of the original, where it goes less what it was;
            float64 of shape (rows, out).
        shift: of the offset, float64 of shape (out,).
        penalty: the weight of the ridge; None without one.
    """

    change: np.ndarray
    shift: np.ndarray
    penalty: Optional[float]


def refit(
    original: Graph,
    slim: Graph,
    plan: Plan,
    removal: Removal,
    runner: Graph,
    shares: Shares,
    *,
    seed: int = 0,
    threads: int = 0,
    progress: Tick = silent,
    begun: Sequence[Fitted] = (),
    save: Callable[[List[Fitted]], None] = lambda fitted: None,
) -> List[Fitted]:
    """Fits the weights of layers that lost input channels, and the offsets behind them.

    Left out are layers without a constant of their own for weights, and ops whose rows are not
    known (`reader_of`). A depthwise convolution loses whole channels, and has nothing to make up
    for.

    Args:
        original: the graph as it was.
        slim: the graph without the channels, changed in place.
        plan: what was removed, and which constants were folded.
        removal: the same, in the channels of the original.
        runner: the original as TensorFlow can run it.
        shares: the images.
        seed: of the choice of the positions that are looked at.
        threads: threads within one op; 0 for as many as there are cores.
        progress: called after each layer.
        begun: the layers that `slim` has fitted already, as they were handed to `save`.
        save: called with the layers that are fitted so far, whenever others are to be measured.

    Raises:
        VerifyError: the original does not run.
    """
    layers = _layers(original, slim, plan, removal, runner)
    values = Values(slim, analyse(slim), 0.0)
    fitted: List[Fitted] = []
    for portion in in_portions([layer.readers for layer in layers]):
        if len(fitted) < len(begun):
            # As one portion, since which rows are looked at depends on the layers beside them.
            fitted += begun[len(fitted) : len(fitted) + len(portion)]
            continue
        if fitted:
            save(fitted)
        parts = layers[len(fitted) : len(fitted) + len(portion)]
        readers = [reader for layer in parts for reader in layer.readers]
        learned, tuned = [
            iter(grams_of(runner, readers, images, seed, threads))
            for images in (shares.training, shares.tuning)
        ]
        for layer in parts:
            moments = [
                Gram.mean_of([next(grams) for _ in layer.readers]) for grams in (learned, tuned)
            ]
            fitted.append(_fit(slim, values, layer, *moments))
            progress(len(fitted), len(layers), "least squares")
    return fitted


def _layers(
    original: Graph, slim: Graph, plan: Plan, removal: Removal, runner: Graph
) -> List[_Layer]:
    """The layers of a graph that lost input channels and can be fitted, in order.

    Left out are weights that layers read in different ways, such as transposed in an autoencoder.
    """
    channels = analyse(original)
    sums = {contraction.node: contraction for contraction in analyse(slim).contractions}
    folds = {fold.node: list(fold.indices) for fold in plan.folds}
    layers: Dict[str, _Layer] = {}
    unalike: Set[str] = set()
    for contraction, twin in zip(channels.contractions, twins_of(channels, runner)):
        gone = removal.of(contraction.into)
        left = sums.get(contraction.node)
        reader = reader_of(runner, twin)
        if not gone.any() or contraction.out is None or left is None or reader is None:
            continue
        weights = _constant(original, contraction)
        constant = _constant(slim, left)
        if weights is None or constant is None:
            continue
        places = np.arange(1, slim[constant].attrs["value"].size + 1)
        where = left.matrix(places.reshape(_shape_read(slim, left)))
        numbers = original[weights].attrs["value"].numbers().astype(np.float64)
        full = contraction.matrix(numbers.reshape(_shape_read(original, contraction)))
        full[:, folds.get(contraction.node, []), :] = 0
        full = full[:, :, ~removal.of(contraction.out)]
        layer = _Layer(
            constant,
            [reader],
            full.reshape(-1, full.shape[2]),
            np.tile(~gone, len(full)),
            where.reshape(-1, where.shape[2]),
        )
        if where.shape != (len(full), int((~gone).sum()), full.shape[2]):
            continue
        other = layers.setdefault(constant, layer)
        if other is not layer:
            other.readers.append(reader)
            if not np.array_equal(other.places, layer.places):
                unalike.add(constant)
    return [layer for constant, layer in layers.items() if constant not in unalike]


def _constant(graph: Graph, contraction: Contraction) -> Optional[str]:
    """The constant that is the weights of a sum, in any shape; None where they are computed."""
    port = graph.data_inputs(contraction.node)[contraction.weights]
    port = behind(graph, port, IDENTITIES | RESHAPES)
    node = graph[port.node]
    return node.name if node.op == "Const" and node.attrs["value"].dtype.is_floating else None


def _shape_read(graph: Graph, contraction: Contraction) -> Sequence[Any]:
    """The shape in which a sum reads its weights, which are a constant's in their order."""
    port = graph.data_inputs(contraction.node)[contraction.weights]
    return analyse(graph).fact(port).shape or ()


def _fit(slim: Graph, values: Values, layer: _Layer, learned: Gram, tuned: Gram) -> Fitted:
    """Fits one layer, if that makes its error smaller over the images for tuning."""
    nodes = [reader.contraction.node for reader in layer.readers]
    nothing = np.zeros(layer.full.shape[1])
    has_offset = all(absorb_shift(slim, values, name, nothing) for name in nodes)
    gone = np.where(layer.kept[:, None], 0.0, -layer.full)
    power = float(np.einsum("io,ij,jo->", layer.full, tuned.outer, layer.full)) or 1.0
    as_it_is = _Solution(np.zeros_like(layer.full), nothing, None)
    solutions = [as_it_is, *_solutions(layer, learned, gone, has_offset)]
    errors = [_error(solution, gone, tuned) / power for solution in solutions]
    # A sum that overflowed is no number, and no better than any.
    best = int(np.argmin(np.where(np.isnan(errors), np.inf, errors)))
    if best:
        _store(slim, values, layer, solutions[best])
    return Fitted(nodes[0], errors[0], errors[best], solutions[best].penalty)


def _solutions(layer: _Layer, learned: Gram, gone: np.ndarray, has_offset: bool) -> List[_Solution]:
    """The ridge regressions with all penalties; with an offset, that alone too."""
    square = learned.centred if has_offset else learned.outer
    solutions = []
    exists = np.zeros(layer.full.shape, bool)
    exists[layer.kept] = layer.places > 0
    patterns, pattern_of = np.unique(exists.T, axis=0, return_inverse=True)
    wanted = -(square @ gone)
    for penalty in PENALTIES:
        change = np.zeros_like(layer.full)
        for number, rows in enumerate(patterns):
            columns = np.ravel(pattern_of) == number
            at = np.flatnonzero(rows)
            part = square[np.ix_(at, at)]
            ridge = penalty * max(float(np.trace(part)) / max(1, len(at)), 1e-30)
            solved = np.linalg.solve(part + ridge * np.eye(len(at)), wanted[np.ix_(at, columns)])
            change[np.ix_(at, columns)] = solved
        solutions.append(_Solution(change, np.zeros(layer.full.shape[1]), penalty))
    if not has_offset:
        return solutions
    solutions.append(_Solution(np.zeros_like(layer.full), np.zeros(layer.full.shape[1]), None))
    return [
        solution._replace(shift=-(learned.mean @ (solution.change + gone)))
        for solution in solutions
    ]


def _error(solution: _Solution, gone: np.ndarray, tuned: Gram) -> float:
    """The sum over outputs of the mean squared error of a layer's sums."""
    error = solution.change + gone
    mean = tuned.mean @ error
    squares = np.einsum("io,io->o", error, tuned.outer @ error)
    return float((squares + 2 * mean * solution.shift + solution.shift**2).sum())


def _store(slim: Graph, values: Values, layer: _Layer, solution: _Solution) -> None:
    tensor = slim[layer.constant].attrs["value"]
    numbers = np.array(tensor.numbers(), np.float64).ravel()
    exists = layer.places > 0
    numbers[layer.places[exists] - 1] += solution.change[layer.kept][exists]
    slim.set_attr(layer.constant, "value", tensor.with_numbers(numbers.reshape(tensor.shape)))
    if solution.shift.any():
        for reader in layer.readers:
            absorb_shift(slim, values, reader.contraction.node, solution.shift)
