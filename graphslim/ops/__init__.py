"""What graphslim knows of TensorFlow's ops, a family a file; importing this registers them all."""

from __future__ import annotations

from graphslim.channels.rules import channel_rule, cost_rule, value_rule
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

__all__ = ["channel_rule", "cost_rule", "value_rule"]
