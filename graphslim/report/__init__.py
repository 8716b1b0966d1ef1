"""The report: one self-contained page on what a pruning did."""

from graphslim.report.charts import require_library
from graphslim.report.data import Report, collect
from graphslim.report.page import render

__all__ = ["Report", "collect", "render", "require_library"]
