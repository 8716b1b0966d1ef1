"""Names that others import, which live in `analysis.probe`."""

from __future__ import annotations

from graphslim.analysis.probe import switches

__all__ = ["switches"]
