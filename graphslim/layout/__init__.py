"""Layouts: a graph that computes in NCHW becomes one that computes the same in NHWC."""

from __future__ import annotations

from graphslim.layout import rules  # noqa: F401  (registers the rules of ops)
from graphslim.layout.visit import LayoutVisit
from graphslim.layout.walk import layout_rule, needs_nhwc, runnable, to_nhwc

__all__ = ["LayoutVisit", "layout_rule", "needs_nhwc", "runnable", "to_nhwc"]
