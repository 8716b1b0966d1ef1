"""Whether inputs are like those of training, by the statistics that the first batch norms keep.

A batch norm holds the mean and variance that its channels had in training. A convolution before the
first one is linear: inputs 255 times as large give it channels that vary 255 times as much. Where
batch norms were folded into weights, or never trained, nothing of this is known.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from graphslim.analysis.cautions import Caution, training_norms
from graphslim.analysis.values import Values
from graphslim.channels.facts import channel_axis
from graphslim.errors import RuntimeUnavailable, VerifyError
from graphslim.ir import IDENTITIES, Graph, Node, Port
from graphslim.ir.families import NORM_INPUTS, SUMS
from graphslim.ir.query import in_branch, needed, remove_unread
from graphslim.measure.inputs import RANGES, image_layout
from graphslim.measure.samples import Examples, Runs
from graphslim.measure.verify import runnable
from graphslim.runtime import Session

FAR = 1.5
"""Inputs further than this from those of training cause a caution. Inputs of the right scale were
at 0.1 to 0.8, single ones at 1.1 at most; pixels of 0 to 255 in the place of 0 to 1 are above 100.
"""
NEARER = 0.7, 0.5
"""So do inputs further than the first number, if scaling them to another usual range leaves at most
the second, a share, of that distance. Inputs of 0 to 1 in the place of -1 to 1 are at 1 to 1.2."""
_ENOUGH = 8
"""So many examples are a sample for that."""
_EXAMPLES = 32
"""So many examples are looked at, at most."""
_DEAD = 1e-6
"""A channel whose variance in training was below this share of the largest says nothing."""
_FEWEST = 4
"""A norm of fewer channels says nothing."""


class Norm(NamedTuple):
    """A batch norm that no other stands before, and what its channels were in training.

    Attributes:
        node: the op, or the product that the norm begins with where it is several ops.
        port: what it normalises.
        axis: the axis of the channels.
        mean, deviation: of each channel in training; float64 of shape (channels,).
    """

    node: str
    port: Port
    axis: int
    mean: np.ndarray
    deviation: np.ndarray


class Likeness(NamedTuple):
    """How inputs compare with those of training, at a batch norm.

    Attributes:
        node: the batch norm.
        varies: how many times as much as in training its channels vary: the median over channels.
        apart: how many deviations of training their means are off: the median over channels.
    """

    node: str
    varies: float
    apart: float

    @property
    def distance(self) -> float:
        """How far the inputs are from those of training; 0 for inputs like these."""
        return float(np.hypot(np.log(max(self.varies, 1e-9)), self.apart))


def first_norms(graph: Graph) -> List[Norm]:
    """The batch norms in inference that the inputs reach before any other, with their statistics.

    Norms whose statistics are those that training begins with, 0 and 1, are left out.
    """
    values = Values(graph, at_once=False)
    starts = {norm.node: norm for norm in _norms(graph, values)}
    passed: Dict[str, bool] = {}
    norms = []
    for node in graph.order():
        behind = any(passed[port.node] for port in graph.data_inputs(node) if port.node in passed)
        if node.name in starts and not behind:
            norms.append(starts[node.name])
        passed[node.name] = behind or node.name in starts
    return [norm for norm in norms if not _is_initial(norm)]


def _norms(graph: Graph, values: Values) -> List[Norm]:
    always = needed(graph) - in_branch(graph)
    training = {node.name for node in training_norms(graph)}
    found = []
    for node in graph.order():
        if node.name not in always or node.name in training:
            continue
        if node.op in NORM_INPUTS:
            found.append(_fused(graph, values, node))
        elif node.op == "Rsqrt":
            found.append(_spelled_out(graph, values, node))
    return [norm for norm in found if norm is not None]


def _fused(graph: Graph, values: Values, node: Node) -> Optional[Norm]:
    """A batch norm in one op."""
    inputs = graph.data_inputs(node)
    mean, variance = [_vector(values, inputs[place]) for place in NORM_INPUTS[node.op].statistics]
    return _norm(values, node.name, inputs[0], channel_axis(node), mean, variance)


def _spelled_out(graph: Graph, values: Values, root: Node) -> Optional[Norm]:
    """A batch norm of several ops, x * slope + (offset - mean * slope), by its `Rsqrt`."""
    summed = graph.data_inputs(root)[0]
    if graph[summed.node].op not in SUMS:
        return None
    slopes, mean = [root.name], None
    reads: List[Tuple[str, Port, Port]] = []
    for name in slopes:
        for use in graph.uses_of(Port(name)):
            reader = graph[use.node]
            if reader.op in IDENTITIES or reader.op == "Reshape":
                slopes.append(reader.name)
            elif reader.op == "Mul":
                other = graph.data_inputs(reader)[1 - use.index]
                if values.constant(other) is None:
                    reads.append((reader.name, other, Port(name)))
                elif any(graph[after.node].op == "Sub" for after in graph.uses_of(reader)):
                    mean = _vector(values, other)
                else:
                    slopes.append(reader.name)
    if not reads:
        return None
    name, port, slope = reads[0]
    value = values.constant(slope)
    shape = () if value is None else value.shape
    along = [place - len(shape) for place, size in enumerate(shape) if size > 1]
    axis = along[0] if len(along) == 1 else -1
    return _norm(values, name, port, axis, mean, _vector(values, summed))


def _norm(
    values: Values,
    name: str,
    port: Port,
    axis: int,
    mean: Optional[np.ndarray],
    variance: Optional[np.ndarray],
) -> Optional[Norm]:
    """A norm, where its statistics are known and fit what it normalises."""
    fact = values.channels.fact(port)
    if mean is None or variance is None or not fact.rank:
        return None
    width = fact.size(axis % fact.rank)
    if not width or not len(mean) == len(variance) == width or width < _FEWEST:
        return None
    return Norm(name, port, axis, mean, np.sqrt(np.maximum(variance, 0)))


def _vector(values: Values, port: Port) -> Optional[np.ndarray]:
    """A known constant as a vector; float64."""
    value = values.constant(port)
    return None if value is None else np.asarray(value, np.float64).ravel()


def _is_initial(norm: Norm) -> bool:
    """Whether the statistics are those that training begins with."""
    return not norm.mean.any() and bool(np.allclose(norm.deviation, 1, atol=2e-3))


def cautions_about(graph: Graph, examples: Examples) -> List[Caution]:
    """Cautions about inputs that are not like those of training, in scale or in kind.

    A few of them are run through the first layers. There are none about random inputs, or where
    the graph keeps no statistics, or does not run.

    Args:
        graph: the graph.
        examples: its inputs.
    """
    norms = first_norms(graph)
    if examples.about.kind == "random" or not norms:
        return []
    few = examples.drawn(np.random.RandomState(0), _EXAMPLES)
    first = graph.copy()
    first.outputs = [norm.port for norm in norms]
    remove_unread(first, [node.name for node in graph])
    # What an NHWC twin computes inside is turned; its outputs are not.
    first = runnable(first)
    try:
        worst = _furthest(first, norms, few)
        better = None
        if worst.distance > NEARER[0] and few.count >= _ENOUGH:
            better = _better_range(first, norms, few, worst)
    except (VerifyError, RuntimeUnavailable):
        return []
    if worst.distance <= FAR and better is None:
        return []
    return [_caution(graph, examples, worst, better)]


def _caution(
    graph: Graph, examples: Examples, worst: Likeness, better: Optional[Sequence[str]]
) -> Caution:
    are_images = examples.about.kind == "images"
    if better is not None:
        option = f"with --image-range {better[1]}" if are_images else f"scaled {better[0]}"
        hint = f"{option} they would fit"
    else:
        options = ", with --image-range or --mean and --scale" if are_images else ""
        hint = f"scale them as in training{options}; if they are, give inputs of its kind"
    return Caution(
        f"the inputs are not of the scale or kind that {graph.name} was trained on: what enters "
        f"its batch norm {worst.node} varies {worst.varies:.3g} times as much as in training, and "
        f"its mean is off by {worst.apart:.3g} deviations",
        hint,
        worst.node,
    )


def _better_range(
    graph: Graph, norms: Sequence[Norm], examples: Examples, worst: Likeness
) -> Optional[Tuple[str, str]]:
    """The usual range that inputs should have had, if one fits much better than their own.

    Returns:
        both ranges in words, and the better one as the option `--image-range` takes it.
    """
    preprocessing = examples.about.preprocessing
    runs = [(dict(feeds), count) for feeds, count in examples]
    names = [name for name, array in runs[0][0].items() if _is_image(array)]
    if not names or (preprocessing is not None and not preprocessing.dtype.is_floating):
        return None
    if preprocessing is None:
        own = _range_of([feeds[name] for feeds, _ in runs for name in names])
    else:
        ends = {(low, 255 * s + low) for s, low in zip(preprocessing.slope, preprocessing.offset)}
        own = ends.pop() if len(ends) == 1 else None
    if own is None:
        return None
    results = []
    for low, high in RANGES:
        slope = (high - low) / (own[1] - own[0])
        scaled = [
            (
                {
                    name: (array - own[0]) * slope + low if name in names else array
                    for name, array in feeds.items()
                },
                count,
            )
            for feeds, count in runs
        ]
        results.append(_furthest(graph, norms, scaled).distance)
    best = int(np.argmin(results))
    if results[best] > NEARER[1] * worst.distance:
        return None
    low, high = RANGES[best]
    text = f"from {own[0]:g}..{own[1]:g} to {low:g}..{high:g}"
    return text, f"{low:g},{high:g}"


def _is_image(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and image_layout(array.shape) is not None


def _range_of(arrays: Sequence[np.ndarray]) -> Optional[Tuple[float, float]]:
    """The narrowest usual range that holds all numbers; None if none does."""
    low = min([float(array.min()) for array in arrays])
    high = max([float(array.max()) for array in arrays])
    holding = [(end[1] - end[0], end) for end in RANGES if end[0] <= low and high <= end[1]]
    return min(holding)[1] if holding else None


def _furthest(graph: Graph, norms: Sequence[Norm], runs: Runs) -> Likeness:
    return max(likeness(graph, norms, runs), key=lambda each: each.distance)


def likeness(graph: Graph, norms: Sequence[Norm], runs: Runs) -> List[Likeness]:
    """How inputs compare with those of training, norm by norm.

    Args:
        graph: the graph, as TensorFlow can run it.
        norms: those of it, as `first_norms` gives them.
        runs: the inputs.

    Raises:
        VerifyError: the graph does not run.
    """
    fetches = [str(norm.port) for norm in norms]
    moments = [np.zeros((3, len(norm.mean))) for norm in norms]
    with Session(graph, optimize=False) as session:
        for feeds, _ in runs:
            for norm, sums, value in zip(norms, moments, session.run(feeds, fetches)):
                rows = np.moveaxis(np.asarray(value, np.float64), norm.axis, -1)
                rows = rows.reshape(-1, rows.shape[-1])
                sums += [np.full(rows.shape[1], len(rows)), rows.sum(0), np.square(rows).sum(0)]
    return [_compared(norm, *sums) for norm, sums in zip(norms, moments)]


def _compared(norm: Norm, count: np.ndarray, total: np.ndarray, squares: np.ndarray) -> Likeness:
    mean = total / count
    deviation = np.sqrt(np.maximum(0, squares / count - np.square(mean)))
    alive = norm.deviation**2 > _DEAD * (norm.deviation**2).max()
    varies = deviation[alive] / norm.deviation[alive]
    apart = np.abs(mean - norm.mean)[alive] / norm.deviation[alive]
    return Likeness(norm.node, float(np.median(varies)), float(np.median(apart)))
