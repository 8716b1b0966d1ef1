"""The report: one self-contained page on what a pruning did."""

from graphslim.report.charts import require_library
from graphslim.report.data import Report, collect
from graphslim.report.page import render
from graphslim.report.sensitivity import render_curves

__all__ = ["Report", "collect", "render", "render_curves", "require_library"]
