"""What a narrowed graph is to imitate: its original's outputs, and the features before them."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Sequence

import numpy as np

from graphslim.channels.facts import channel_axis
from graphslim.channels.groups import Channels, Removal, analyse
from graphslim.errors import GraphslimError
from graphslim.ir import Graph, Port
from graphslim.measure.fidelity import PROBABILITIES, decision_of, logits_of
from graphslim.measure.samples import Examples
from graphslim.runtime import Session
from graphslim.runtime.pupil import Target

FEATURES = 0.3
"""What all features together count, beside 1 for each output."""
_FEW = 64
"""Images over which it is measured how much a tensor varies."""


class Feature(NamedTuple):
    """A tensor that two graphs have, one of them in fewer channels.

    Attributes:
        port: the tensor.
        axis: the axis of its channels.
        kept: the positions along that axis that the narrower graph has, int64 of shape (n,).
    """

    port: Port
    axis: int
    kept: np.ndarray


def features_of(
    channels: Channels, removal: Removal, original: Graph, slim: Graph
) -> List[Feature]:
    """The sums over channels of a network, in the channels that stay.

    Args:
        channels: the channel analysis of the network.
        removal: which of its channels were removed.
        original, slim: the network and what is left of it, as TensorFlow can run them: their ops
            may have been turned to NHWC.
    """
    features = []
    for contraction in channels.contractions:
        name = contraction.node
        if contraction.out is None or name not in original or name not in slim:
            continue
        axis = channel_axis(original[name])
        kept = np.flatnonzero(~removal.of(contraction.out))
        sizes = [analyse(graph).fact(Port(name)).size(axis) for graph in (original, slim)]
        if sizes == [len(contraction.out), len(kept)]:
            features.append(Feature(Port(name), axis, kept))
    return list({feature.port: feature for feature in features}.values())


def targets_of(
    original: Graph, slim: Graph, features: Sequence[Feature], examples: Examples
) -> List[Target]:
    """The tensors to imitate, each with one by how much it varies over the examples as its factor.

    Args:
        original, slim: both graphs, as TensorFlow can run them.
        features: tensors on the way to the outputs.
        examples: inputs.

    Raises:
        GraphslimError: no output varies over the examples.
    """
    logits: Dict[str, bool] = {}
    for output in original.outputs:
        decision = decision_of(original, output)
        is_chosen = decision is not None and decision.kind == PROBABILITIES and decision.axis == -1
        logits[str(logits_of(original, output))] = is_chosen
    inside = {str(feature.port): feature for feature in features if str(feature.port) not in logits}
    variances = _variances(original, [*logits, *inside], examples)
    targets = [
        Target(name, 1 / variances[name] / len(logits), classes=chosen)
        for name, chosen in logits.items()
        if variances[name]
    ]
    if not targets:
        raise GraphslimError(
            "no output of the original varies over these images, so that nothing can be learned",
            examples.about.where,
            "give images of the kind that the network is for",
        )
    used = [name for name in inside if variances[name]]
    for name in used:
        factor = FEATURES / len(used) / variances[name]
        feature = inside[name]
        targets.append(Target(name, factor, feature.kept, feature.axis))
    return targets


def _variances(graph: Graph, names: Sequence[str], examples: Examples) -> Dict[str, float]:
    """By tensor, the variance of all its numbers; 0 for a tensor that holds none."""
    sums: Dict[str, List[float]] = {name: [0.0, 0.0, 0.0] for name in names}
    with Session(graph, optimize=False) as session:
        for feeds, _ in examples.drawn(np.random.RandomState(0), _FEW):
            for name, value in zip(names, session.run(feeds, names)):
                array = np.asarray(value, np.float64) if value.dtype.kind == "f" else np.zeros(0)
                count, total, squares = sums[name]
                sums[name] = [count + array.size, total + array.sum(), squares + (array**2).sum()]
    return {
        name: max(0.0, squares / count - (total / count) ** 2) if count else 0.0
        for name, (count, total, squares) in sums.items()
    }
