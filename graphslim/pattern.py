"""The vocabulary for declaring block patterns, for passes to import from one place."""

from __future__ import annotations

from graphslim.match.activations import (
    ADD,
    act,
    clip,
    fused_activation,
    fused_ops,
    gelu,
    hard_sigmoid,
    mish,
    prelu,
    sigmoid,
    swish,
)
from graphslim.match.pattern import Chain, Ending, OneOf, Op, Param, Pattern, Var, block_pattern
from graphslim.match.vocabulary import (
    affine_step,
    conv,
    dense,
    depthwise,
    global_pool,
    maybe,
    norm,
    reshaped,
    squeeze_excite,
)

__all__ = [
    "ADD",
    "Chain",
    "Ending",
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
    "fused_activation",
    "fused_ops",
    "gelu",
    "global_pool",
    "hard_sigmoid",
    "maybe",
    "mish",
    "norm",
    "prelu",
    "reshaped",
    "sigmoid",
    "squeeze_excite",
    "swish",
]
