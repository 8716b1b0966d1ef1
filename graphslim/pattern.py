"""The vocabulary for declaring block patterns, for passes to import from one place."""

from __future__ import annotations

from graphslim.match.pattern import Chain, Op, OneOf, Param, Pattern, Var, block_pattern
from graphslim.match.vocabulary import (
    ADD,
    act,
    affine_step,
    conv,
    dense,
    depthwise,
    global_pool,
    hard_sigmoid,
    maybe,
    norm,
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
    "conv",
    "dense",
    "depthwise",
    "global_pool",
    "hard_sigmoid",
    "maybe",
    "norm",
    "reshaped",
    "sigmoid",
    "squeeze_excite",
    "swish",
]
