"""What graphslim knows of TensorFlow's ops, a family a file; importing this registers them all."""

from __future__ import annotations

from graphslim.ops import conv, elementwise, join, pool, reshape, sources  # noqa: F401
from graphslim.ops.table import channel_rule, cost_rule, value_rule

__all__ = ["channel_rule", "cost_rule", "value_rule"]
