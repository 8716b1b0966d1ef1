"""What channel rules note of channels: pins, sums and norms over them, numbers that count them."""

from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np

from graphslim.channels.facts import Ids


class Pin(NamedTuple):
    """Channels that may not go, and what forbids it."""

    ids: np.ndarray
    why: str
    node: str


class Contraction(NamedTuple):
    """A place where a sum over channels is taken, with weights that may be constant or not.

    Attributes:
        node: the op.
        data, weights: the indices of its inputs.
        axis: the axis of `data` that is summed over.
        into: ids of the channels summed over, int64 of shape (c_in,).
        out: ids of the channels produced, int64 of shape (c_out,); None where they are not
            followed, and whatever the weights read is needed.
        matrix: turns the weights into shape (taps, c_in, c_out); c_out is 1 where `out` is None.
        uniform: whether every output position sees every tap, so that a constant channel can be
            folded into an offset.
    """

    node: str
    data: int
    weights: int
    axis: int
    into: np.ndarray
    out: Ids
    matrix: Callable[[np.ndarray], np.ndarray]
    uniform: bool


class Statistic(NamedTuple):
    """A norm over channels, or a reduction that is part of one: it runs over those that stay.

    Attributes:
        node: the op; its first input is what is reduced.
        axis: the axis of that input.
        ids: of the axis, int64 of shape (n,).
        keeps: whether the op gives the axis again, as a whole norm in one op does.
    """

    node: str
    axis: int
    ids: np.ndarray
    keeps: bool


class Resize(NamedTuple):
    """A number that counts channels: it is `sign` times how many of `ids` there are.

    Attributes:
        node, slot, place: an element of an input, where the number is read.
        param, element: the element of the constant that it comes from.
        ids: what it counts, int64 of shape (n,).
        sign: -1 for a position that is counted from the end.
    """

    node: str
    slot: int
    place: int
    param: str
    element: int
    ids: np.ndarray
    sign: int


class Renumber(NamedTuple):
    """Input `slot` of `node` is the vector `param`: positions along an axis that has `ids`."""

    node: str
    slot: int
    param: str
    ids: np.ndarray
