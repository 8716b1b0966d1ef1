"""A network of three convolutions, of which the first two can be pruned, and images for it."""

from __future__ import annotations

import numpy as np


def three_layers(first: int = 8, second: int = 4, bias: str = "random 4") -> str:
    """The network as `tiny` reads it.

    Args:
        first, second: the widths that can be pruned.
        bias: that of the first convolution.
    """
    return f"""
        x = input ?,6,6,3
        w = f32[3,3,3,{first}]{{random 1}}
        b = f32[{first}]{{{bias}}}
        conv = Conv2D(x, w)
        biased = BiasAdd(conv, b)
        relu = Relu(biased)
        v = f32[1,1,{first},{second}]{{random 2}}
        next = Conv2D(relu, v)
        gate = Relu(next)
        u = f32[1,1,{second},5]{{random 3}}
        y = Conv2D(gate, u)
    """


def images(count: int = 48, seed: int = 3) -> np.ndarray:
    """Random images for it: float32 of shape (count, 6, 6, 3), from -1 to 1."""
    rng = np.random.RandomState(seed)
    return rng.uniform(-1, 1, (count, 6, 6, 3)).astype(np.float32)
