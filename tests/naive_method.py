"""The published method by its own steps: numpy on dicts of arrays, nothing of graphslim.

Written from the description alone (DESIGN 7): a network is a dict of arrays by variable, and a
block says which of them its channels touch.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

Arrays = Dict[str, np.ndarray]
Lists = Dict[str, List[int]]


class Block(NamedTuple):
    """What a block's channels touch: variables with the axis along which the channels lie.

    Attributes:
        convolutions: the scoring layer first.
        vectors: gamma, beta, bias: zeroed and cut.
        moving: moving means and variances: cut alone.
    """

    convolutions: Sequence[Tuple[str, int]]
    vectors: Sequence[str]
    moving: Sequence[str] = ()


def inverted_residual(scope: str) -> Block:
    """As slim names its variables: expand, depthwise and project, each with a batch norm."""
    norms = [f"{scope}/{part}/BatchNorm/" for part in ("expand", "depthwise")]
    return Block(
        [
            (f"{scope}/expand/weights", 3),
            (f"{scope}/depthwise/depthwise_weights", 2),
            (f"{scope}/project/weights", 2),
        ],
        [norm + name for norm in norms for name in ("gamma", "beta")],
        [norm + name for norm in norms for name in ("moving_mean", "moving_variance")],
    )


def squeeze_excite(squeeze: str, excite: str, weights: str, bias: str) -> Block:
    """Two 1x1 convolutions with biases, by their scopes and the names of their variables."""
    return Block([(f"{squeeze}/{weights}", 3), (f"{excite}/{weights}", 2)], [f"{squeeze}/{bias}"])


def with_excitation(block: Block, excitation: Block) -> Block:
    """An inverted residual around an SE block, whose two convolutions have its channels too."""
    (squeeze, _), (excite, _) = excitation.convolutions
    bias = excitation.vectors[0].replace(squeeze.rpartition("/")[0], excite.rpartition("/")[0])
    expand, depthwise, project = block.convolutions
    return Block(
        [expand, depthwise, (squeeze, 2), (excite, 3), project],
        [*block.vectors, bias],
        block.moving,
    )


def filters_to_remove(arrays: Arrays, blocks: Dict[str, Block], threshold: float) -> Lists:
    """By block the filters that go: redundancy above the threshold, a multiple of four of them."""
    found: Lists = {}
    for name, block in blocks.items():
        weights = np.abs(arrays[block.convolutions[0][0]].astype(np.float64))
        mean = weights.mean()
        shares = []
        for filter in range(weights.shape[-1]):
            own = weights[..., filter].ravel().tolist()
            shares.append(sum(one < mean for one in own) / len(own))
        count = sum(share > threshold for share in shares)
        count = {0: count, 1: count - 1, 2: count + 2, 3: count + 1}[count % 4]
        while count >= len(shares):
            count -= 4
        order = sorted(range(len(shares)), key=lambda filter: -shares[filter])
        if count > 0:
            found[name] = sorted(order[:count])
    return found


def at(array: np.ndarray, axis: int, position: int) -> np.ndarray:
    """A view of one position along an axis, with that axis first."""
    return np.moveaxis(array, axis, 0)[position : position + 1]


def zeroed(arrays: Arrays, blocks: Dict[str, Block], lists: Lists) -> Arrays:
    """Soft pruning: filters, depthwise rows, gamma, beta and bias of what goes are set to zero."""
    result = {name: array.copy() for name, array in arrays.items()}
    for name, filters in lists.items():
        touched = [*blocks[name].convolutions, *[(one, 0) for one in blocks[name].vectors]]
        for variable, axis in touched:
            for filter in filters:
                at(result[variable], axis, filter)[...] = 0
    return result


def failed_rate(arrays: Arrays, blocks: Dict[str, Block], lists: Lists) -> float:
    """The share of what was set to zero whose absolute sum is 1e-9 or more, over convolutions."""
    failed = total = 0
    for name, filters in lists.items():
        for variable, axis in blocks[name].convolutions:
            for filter in filters:
                size = np.abs(at(arrays[variable].astype(np.float64), axis, filter)).sum()
                failed, total = failed + (not size < 1e-9), total + 1
    return failed / total if total else 0.0


def stripped(arrays: Arrays, blocks: Dict[str, Block], lists: Lists) -> Arrays:
    """The arrays without what goes: every variable of a block is cut along its channels."""
    result = dict(arrays)
    for name, filters in lists.items():
        block = blocks[name]
        vectors = [(one, 0) for one in (*block.vectors, *block.moving)]
        for variable, axis in [*block.convolutions, *vectors]:
            result[variable] = np.delete(result[variable], filters, axis)
    return result


_EXCITATION = squeeze_excite("block_1/SE/squeeze", "block_1/SE/excite", "weights", "biases")
TRAINED: Dict[str, Block] = {
    "block_0/": inverted_residual("block_0"),
    "block_1": with_excitation(inverted_residual("block_1"), _EXCITATION),
    "block_2/": inverted_residual("block_2"),
    "block_1/SE": _EXCITATION,
}
"""The blocks of the network in `trained`, by scopes as people write them."""
