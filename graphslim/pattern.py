"""The vocabulary for declaring block patterns, for passes to import from one place."""

from __future__ import annotations

from graphslim.match.pattern import Chain, OneOf, Op, Param, Pattern, Var, block_pattern
from graphslim.match.vocabulary import (
    ADD,
    act,
    affine_step,
    clip,
    conv,
    dense,
    depthwise,
    global_pool,
    hard_sigmoid,
    maybe,
    norm,
    prelu,
    reshaped,
    sigmoid,
    squeeze_excite,
    swish,
)

__all__ = [
    "ADD",
    "Chain",
    "Op",
    "OneOf",
    "Param",
    "Pattern",
    "Var",
    "act",
    "affine_step",
    "block_pattern",
    "clip",
    "conv",
    "dense",
    "depthwise",
    "global_pool",
    "hard_sigmoid",
    "maybe",
    "norm",
    "prelu",
    "reshaped",
    "sigmoid",
    "squeeze_excite",
    "swish",
]
