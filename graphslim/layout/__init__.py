"""Layouts: a graph that computes in NCHW becomes one that computes the same in NHWC."""

from __future__ import annotations

from graphslim.layout import rules  # noqa: F401  (registers the rules of ops)
from graphslim.layout.walk import needs_nhwc, to_nhwc

__all__ = ["needs_nhwc", "to_nhwc"]
