"""What graphslim knows of TensorFlow's ops, a family a file; importing this registers them all.

What stands above this package takes the tables from here, where they are full.
"""

from __future__ import annotations

from graphslim.channels.rules import (
    CHANNEL_RULES,
    COST_RULES,
    STRUCTURAL,
    VALUE_RULES,
    channel_rule,
    cost_rule,
    value_rule,
)
from graphslim.ops import (  # noqa: F401
    conv,
    elementwise,
    fused,
    gather,
    image,
    join,
    matmul,
    norm,
    pool,
    quant,
    reduce,
    reshape,
    slice,
    sources,
)

__all__ = [
    "CHANNEL_RULES",
    "COST_RULES",
    "STRUCTURAL",
    "VALUE_RULES",
    "channel_rule",
    "cost_rule",
    "value_rule",
]
